"""What a correct RML shows: rectification, prototypes and crossing by loops, and that the students never meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.cotraining.rml import NAMES, Says, second
from s4kit.methods.parts.prototypes import Prototypes, behind
from s4kit.nets import DPT

MIDDLE = Clock(50, 100)
INF = float("inf")


def step(method, batch, clock=MIDDLE):
    torch.manual_seed(0)
    return method.losses(batch, clock)


def founded(method, seed=0):
    """With prototypes of the scale of the features."""
    g = torch.Generator().manual_seed(seed)
    for prototypes in method.prototypes:
        prototypes.mean.copy_(torch.rand(prototypes.mean.shape, generator=g))
        prototypes.moves.fill_(3)
    return method


def evidence(classes=4, dim=5, size=(3, 4), seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *size, generator=g)
    return Says(logits, logits, torch.rand(2, dim, *size, generator=g))


def test_rectification_by_loops(build, draw):
    method = build("rml", temperature=0.3)
    method.prototypes1, method.prototypes2 = Prototypes(4, 5), Prototypes(4, 5)
    founded(method).prototypes2.moves[1] = 0  # no prototype: as near as the nearest
    says = evidence(seed=1), evidence(seed=2)
    view = draw(method).u
    view.valid = torch.ones(2, 3, 4)
    found, rectified = method.pseudo_labels(says, view, MIDDLE), method.probabilities(says)
    for k, name in enumerate(NAMES):
        eta = method.prototypes[k].mean.double().numpy()
        for b, y, x in np.ndindex(2, 3, 4):
            p = says[k].logits[b, :, y, x].double().softmax(0).numpy()
            d = np.sqrt(((says[k].features[b, :, y, x].double().numpy() - eta) ** 2).sum(1))
            if k == 1:
                d[1] = d[[0, 2, 3]].min()
            w = np.exp(-(d - d.min()) / 0.3)
            w /= w.sum()
            r = w * p / (w * p).sum()
            assert np.allclose(rectified[name][b, :, y, x].numpy(), r, rtol=1e-4, atol=1e-6)
            assert found[name].label[b, y, x] == r.argmax() and np.isclose(found[name].confidence[b, y, x], r.max())


def test_extremes_of_the_temperature(build, draw):
    method = build("rml")
    method.prototypes1, method.prototypes2 = Prototypes(4, 5), Prototypes(4, 5)
    says = evidence(seed=1), evidence(seed=2)
    p = [s.logits.softmax(1) for s in says]
    for a, b in zip(method.rectified(says), p):
        assert torch.equal(a, b), "no prototype yet: nothing is rectified"
    founded(method).temperature = INF
    for a, b in zip(method.rectified(says), p):
        assert torch.equal(a, b)
    method.temperature = 1e-6
    for r, s, prototypes in zip(method.rectified(says), says, method.prototypes):
        apart = (s.features[:, None] - prototypes.mean[:, :, None, None]).norm(dim=2)
        assert torch.equal(r.argmax(1), apart.argmin(1))
    on_two = Says(torch.zeros(1, 4, 1, 1), torch.zeros(1, 4, 1, 1), method.prototypes1.mean[2].view(1, -1, 1, 1))
    method.temperature = 1.0
    assert method.rectified((on_two, on_two))[0].argmax() == 2, "on the prototype, with an undecided teacher"


def test_prototypes_image_by_image():
    g = torch.Generator().manual_seed(0)
    features = torch.rand(3, 5, 6, 7, generator=g)
    label = torch.randint(0, 3, (3, 6, 7), generator=g)  # nobody is class 3
    label[1][label[1] == 1] = 0  # image 1 without class 1
    label[0, :2] = 255
    label[2][label[2] == 2] = 255
    label[2, 0, :4] = 2  # too few
    mine = Prototypes(4, 5)
    start = torch.rand(4, 5, generator=g)
    mine.mean.copy_(start)
    mine.moves.copy_(torch.tensor([2.0, 2, 2, 2]))
    mine.follow(features, label, 0.999, least=10)
    wanted, moved = start.numpy().astype(np.float64), set()
    for b in range(3):
        for c in range(4):
            own = features[b].numpy()[:, (label[b] == c).numpy()]
            if own.shape[1] >= 10:
                wanted[c] = 0.999 * wanted[c] + 0.001 * own.mean(1)
                moved.add(c)
    assert moved == {0, 1, 2} and (label[2] == 2).sum() < 10
    assert np.allclose(mine.mean.numpy(), wanted, atol=2e-6) and mine.moves.tolist() == [3, 3, 3, 2]
    assert torch.equal(mine.mean[3], start[3]), "a class that nobody is taken for does not move"


def test_prototypes_begin_with_the_labelled_means():
    features, label = torch.rand(2, 5, 4, 4), torch.randint(0, 2, (2, 4, 4))
    mine = Prototypes(3, 5)
    rounds = [features, features + 1, features + 2]
    for f in rounds[:2]:
        mine.learn(f, label, decay=0.4)
    wanted = 0.6 * (rounds[1].permute(1, 0, 2, 3)[:, label == 0]).mean(1)
    wanted += 0.4 * (rounds[0].permute(1, 0, 2, 3)[:, label == 0]).mean(1)
    torch.testing.assert_close(mine.mean[0], wanted)
    slow = Prototypes(3, 5)
    for f in rounds:
        slow.learn(f, label, decay=0.999)
    torch.testing.assert_close(slow.mean[1], (features.permute(1, 0, 2, 3)[:, label == 1]).mean(1) + 1)
    assert slow.moves.tolist() == [3, 3, 0] and (slow.mean[2] == 0).all()
    far = behind(features, slow.mean, slow.moves > 0)
    assert torch.equal(far[:, 2], torch.zeros_like(far[:, 2])) and (far.amin(1) == 0).all()


@pytest.mark.parametrize("soft", [False, True])
def test_the_unlabelled_terms_by_loops(soft, build, draw):
    method = founded(build("rml", soft=soft, drop=0.0)).eval()
    batch = draw(method)
    batch.u.masks = [torch.zeros_like(m) for m in batch.u.masks]
    batch.u.masks[0][:, :9, :20] = True
    batch.u.valid[:, :, :5] = 0
    r = method.probabilities(method.teach(batch.u))
    tau = method.tau = torch.cat([one.amax(1) for one in r.values()]).median().item()
    losses, rejected = step(method, batch), 0
    for k, net in enumerate(method.students):
        teacher = r[f"{2 - k} teaches {k + 1}"]
        m = batch.u.masks[k][:, None]
        image = torch.where(m, batch.u.strong[k].flip(0), batch.u.strong[k])
        target = torch.where(m, teacher.flip(0), teacher)
        valid = torch.where(m[:, 0], batch.u.valid.flip(0), batch.u.valid)
        log_p = net(image).log_softmax(1)
        costs = []
        for b, y, x in np.ndindex(*valid.shape):
            q = target[b, :, y, x]
            if valid[b, y, x] and q.max() >= tau:
                costs.append(-(q @ log_p[b, :, y, x]).item() if soft else -log_p[b, q.argmax(), y, x].item())
        rejected += int(valid.sum()) - len(costs)
        assert losses[f"u{k + 1}"][0].item() == pytest.approx(np.mean(costs), rel=1e-4)
        wanted = torch.nn.functional.cross_entropy(net(batch.x.weak), batch.x.label, ignore_index=255)
        torch.testing.assert_close(losses[f"x{k + 1}"][0], wanted)
    assert rejected > 0


def test_the_students_never_meet(build, draw):
    method = founded(build("rml")).train()
    batch = draw(method)
    losses = step(method, batch)
    first, other = list(method.net1.parameters()), list(method.net2.parameters())
    for term, own, foreign in (("u1", first, other), ("u2", other, first)):
        grads = torch.autograd.grad(losses[term][0], [*own, *foreign], retain_graph=True, allow_unused=True)
        assert any(g is not None for g in grads[: len(own)]) and all(g is None for g in grads[len(own) :])
    again = founded(build("rml")).train()
    for p in again.net2.parameters():
        p.data += 1.0
    assert torch.equal(step(again, batch)["u1"][0], losses["u1"][0]), "student 2 says nothing to student 1"
    for p in again.teacher2.parameters():
        p.data += torch.rand_like(p)
    assert not torch.equal(step(again, batch)["u1"][0], losses["u1"][0])


def test_teachers_follow_their_own_student(build, draw):
    method = build("rml", decay=0.9).train()
    before = method.teacher1.decoder.classifier.weight.clone()
    for net in method.students:
        net.decoder.classifier.weight.data += 1.0
        net.backbone.stages[0][0][1].running_mean += 2.0
    method.after_step(Clock(99, 100, stage=1))
    torch.testing.assert_close(method.teacher1.decoder.classifier.weight, before + 0.1)
    for teacher, net in zip(method.teachers, method.students):
        a, b = (n.backbone.stages[0][0][1].running_mean for n in (teacher, net))
        assert torch.equal(a, b), "statistics are copied"
    method.after_step(Clock(99, 100, stage=0))
    assert torch.equal(method.teacher2.decoder.classifier.weight, method.net2.decoder.classifier.weight)


def test_the_warm_up_founds_the_prototypes(build, draw):
    method = build("rml", drop=0.0).train()
    warm_up, train = method.stages()
    assert (warm_up.length, train.length) == (0.1, 1.0) and len(build("rml", warm_up=0.0).stages()) == 1
    batch = draw(method)
    losses = warm_up.losses(batch, Clock(0, 10))
    assert set(losses) == {"x1", "x2"}
    shown = {int(c) for c in batch.x.label.unique()} - {255}
    for prototypes in method.prototypes:
        assert {c for c in range(4) if prototypes.moves[c] > 0} <= shown and prototypes.moves.sum() > 0


def test_noise_is_in_the_students_alone(build, draw):
    method = build("rml", drop=0.5).train()
    batch = draw(method)
    first, again = (method.noisy(method.net1, batch.x.weak).logits for _ in range(2))
    assert not torch.equal(first, again)
    one, two = (method.teach(batch.u)[0].logits for _ in range(2))
    assert torch.equal(one, two)


def test_the_second_architecture(task, build):
    method = build("rml")
    assert method.net1.decoder.reduce is not None and method.net2.decoder.reduce is None
    named = build("rml", other="tiny(decoder_channels=24)")
    assert named.net2.decoder.embedding_channels == 24 == named.prototypes2.mean.shape[1]
    assert isinstance(second("dinov2_tiny", task).decoder, DPT), "no second decoder for it: the same network"
    with pytest.raises(S4Error, match="Leave decoder='psp' out"):
        build("rml", net="tiny(decoder='psp')")
