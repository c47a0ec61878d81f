"""What a correct TCC shows: both levels by loops, who teaches whom, and what the class-aware maps do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock, Optim
from s4kit.methods.cotraining.tcc import NAMES, apart, beside, class_centres, likeness
from s4kit.nets import make

LATE = Clock(80, 100)


def step(method, batch, clock=LATE):
    torch.manual_seed(0)
    return method.losses(batch, clock)


def padded(method, draw):
    batch = draw(method)
    batch.u.valid[:, :8] = 0
    return batch


def answers(method, image):
    return [net.decode(net.encode(image), image.shape[-2:]) for net in (method.net1, method.net2)]


def loops_of_centres(features, label):
    """Per image and class, pixel by pixel."""
    found = features.copy()
    for b, y, x in np.ndindex(*label.shape):
        if label[b, y, x] != 255:
            found[b, :, y, x] = features[b][:, label[b] == label[b, y, x]].mean(1)
    return found


@pytest.mark.parametrize("form", ["cosine", "centre"])
def test_the_class_aware_term_by_loops(form, build, draw):
    method = build("tcc", form=form, width=5).eval()
    batch = padded(method, draw)
    losses = step(method, batch)
    maps = []
    for net, d in zip((method.net1, method.net2), answers(method, batch.u.weak)):
        features = net.heads["common"](d.embedding) if form == "centre" else d.embedding
        f = features.detach().double().numpy()
        assert d.logits.shape[-1] == 4 * f.shape[-1] == 32
        label = torch.where(batch.u.valid > 0, d.logits.argmax(1), 255).numpy()[:, ::4, ::4]  # nearest: the first of 4
        centre = loops_of_centres(f, label)
        lengths = np.linalg.norm(f, axis=1) * np.linalg.norm(centre, axis=1)
        maps.append(centre if form == "centre" else ((f * centre).sum(1) / np.maximum(lengths, 1e-12))[:, None])
    inside = (batch.u.valid.numpy() > 0)[:, ::4, ::4]
    squares = ((maps[0] - maps[1]) ** 2).mean(1)[inside]
    assert losses["cf"][0].item() == pytest.approx(2 * squares.mean(), rel=1e-4) and squares.mean() > 0


@pytest.mark.parametrize("conflict", [0.0, 0.5])
def test_the_crossed_predictions_by_loops(conflict, build, draw):
    method = build("tcc", conflict=conflict).eval()
    batch = padded(method, draw)
    with torch.no_grad():
        method.net1.decoder.classifier.weight.mul_(20)  # so that the two agree on some pixels only
    p, q = (d.logits.double().softmax(1).detach().numpy() for d in answers(method, batch.u.weak))
    costs, agreed = [], []
    for b, y, x in np.ndindex(*batch.u.valid.shape):
        if batch.u.valid[b, y, x]:
            one, two = p[b, :, y, x], q[b, :, y, x]
            agreed.append(one.argmax() == two.argmax())
            both_ways = (two * np.log(two / one)).sum() + (one * np.log(one / two)).sum()
            costs.append((1 if agreed[-1] else conflict) * both_ways)
    losses = step(method, batch)
    assert 0 < np.mean(agreed) < 1
    assert losses["cd"][0].item() == pytest.approx(np.mean(costs), rel=1e-4)


def test_reduced_it_is_cross_pseudo_supervision_between_two_architectures(build, draw):
    method = build("tcc", hard=True, conflict=1.0, feature=0.0, ramp=0.0).eval()
    batch = padded(method, draw)
    first, second = (d.logits for d in answers(method, batch.u.weak))
    ce, valid = torch.nn.functional.cross_entropy, batch.u.valid > 0
    wanted = ce(first, second.argmax(1), reduction="none")[valid].mean()
    wanted = wanted + ce(second, first.argmax(1), reduction="none")[valid].mean()
    losses = step(method, batch)
    torch.testing.assert_close(losses["cd"][0], wanted)
    torch.testing.assert_close(
        losses.total,
        wanted + sum(ce(net(batch.x.weak), batch.x.label, ignore_index=255) for net in method.students),
    )


def test_equal_students_have_nothing_to_teach(build, draw):
    method = build("tcc", other="tiny").eval()
    method.net2.load_state_dict(method.net1.state_dict())
    losses = step(method, draw(method))
    assert losses["cf"][0] == 0 and losses["cd"][0].abs() < 1e-6


def test_who_teaches_does_not_learn_of_it(build, draw):
    a, b = (torch.rand(2, 1, 3, 3, requires_grad=True) for _ in range(2))
    apart(a, b, torch.ones(2, 3, 3)).backward()
    assert b.grad is None and torch.allclose(a.grad, 2 * (a - b).detach() / 18)
    method = build("tcc", conflict=1.0).eval()
    batch = draw(method)
    losses = step(method, batch)
    one, two = (d.logits.log_softmax(1) for d in answers(method, batch.u.weak))
    taught = (two.detach().exp() * (two.detach() - one)).sum(1)[batch.u.valid > 0].mean()  # the transformer teaches
    weight = method.net1.decoder.classifier.weight
    (found,) = torch.autograd.grad(losses["cd"][0], weight)
    (wanted,) = torch.autograd.grad(taught, weight)
    torch.testing.assert_close(found, wanted)


def test_what_the_class_aware_map_does_not_depend_on():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(2, 6, 5, 7, generator=g)
    label = torch.randint(0, 3, (2, 5, 7), generator=g)  # class 3 is nowhere
    label[0, 0] = 255
    s = likeness(features, label, 4)
    assert s.shape == (2, 1, 5, 7) and s.isfinite().all() and torch.allclose(s[0, 0, 0], torch.ones(7))
    torch.testing.assert_close(likeness(features * 30, label, 4), s)
    renamed = torch.tensor([3, 0, 1, 2])[label.clamp(max=3)].where(label != 255, 255)
    torch.testing.assert_close(likeness(features, renamed, 4), s)
    alone = class_centres(features, torch.ones_like(label), 4)
    torch.testing.assert_close(alone, features.mean((2, 3), keepdim=True).expand_as(features))
    assert torch.equal(class_centres(features, label, 4)[1], class_centres(features[1:], label[1:], 4)[0]), "per image"


def test_gradients_pass_through_the_centres():
    features = torch.randn(1, 3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([[[0, 0, 1], [1, 1, 255]]])
    assert torch.autograd.gradcheck(lambda f: likeness(f, label, 2), features.requires_grad_())


def test_labels_of_the_weak_view_teach_the_strong_one(build, draw):
    method = build("tcc", strong=True, hard=True).eval()
    batch = draw(method)
    losses = step(method, batch)
    assert torch.equal(losses.seen["mixed"], batch.u.strong[0])
    for name, d in zip(NAMES, answers(method, batch.u.weak)):
        assert torch.equal(losses.seen[f"{name}/target"].label, d.logits.argmax(1))


def test_both_terms_rise_and_each_student_has_its_optimiser(build, draw):
    method = build("tcc", ramp=0.5, feature=2.0, weight=3.0).eval()
    batch = draw(method)
    for progress, factor in ((0, np.exp(-5)), (25, np.exp(-1.25)), (60, 1.0)):
        losses = step(method, batch, Clock(progress, 100))
        assert losses["cf"][1] == pytest.approx(2 * factor) and losses["cd"][1] == pytest.approx(3 * factor)
    specs = method.optimisers(Optim([], 1e-2, head=1.0))
    cnn, transformer = specs["cnn"], specs["transformer"]
    assert (cnn.kind, cnn.lr, cnn.nets) == ("sgd", 1e-2, [method.net1])
    assert (transformer.kind, transformer.lr, transformer.head) == ("adamw", 6e-5, 10.0)
    assert transformer.nets == [method.net2] and not transformer.decay_norms


def test_the_students(task, build):
    assert beside("tiny").startswith("mit_tiny(") and beside("resnet18").startswith("mit_b0(weights='none'")
    assert "norm='group'" in beside("resnet18(freeze_bn=True, norm='group')")
    assert type(build("tcc").net2.decoder) is type(make("mit_tiny", task).decoder)
    for options, words in (({"form": "map"}, "cosine, centre"), ({"net": "tiny(decoder='psp')"}, "decoder='psp'")):
        with pytest.raises(S4Error, match=words):
            build("tcc", **options)
