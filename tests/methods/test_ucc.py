"""What a correct UCC shows: each equation by loops, who learns from whom, what is pasted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.cotraining.ucc import NAMES, OwnDecoder, answers, doubted, draw_donor_mask, draw_donors
from s4kit.nets import make

MIDDLE = Clock(50, 100)


def step(method, batch, seed=0):
    torch.manual_seed(seed)
    return method.losses(batch, MIDDLE)


def probabilities(logits):
    z = logits.detach().double().numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("uncertainty", ["strong", "constant", "weak", "none"])
def test_the_unlabelled_terms_by_loops(uncertainty, build, draw):
    method = build("ucc", uncertainty=uncertainty, cutmix=False, chance=1.0).eval()
    batch = draw(method)
    batch.u.valid[:, :9] = 0
    with torch.no_grad():
        method.q.copy_(torch.tensor([0.9, 0.1, 0.5, 0.2]))
    losses = step(method, batch)
    mixed = losses.seen["mixed"]
    at_all, on_weak = ([probabilities(z) for z in answers(method.student, v)] for v in (mixed, batch.u.weak))
    pasted = (mixed != batch.u.strong[0]).any(1).numpy()
    assert 0 < pasted.mean() < 1
    for a, b in ((0, 1), (1, 0)):  # taught and teaching head
        target = losses.seen[f"{b + 1} teaches {a + 1}/target"]
        total, pixels = 0.0, 0
        for i, y, x in np.ndindex(*pasted.shape):
            if not (pasted[i, y, x] or batch.u.valid[i, y, x]):
                continue
            label = int(target.label[i, y, x])
            if not pasted[i, y, x]:
                assert label == on_weak[b][i, :, y, x].argmax()
            looked = on_weak if uncertainty == "weak" else at_all
            teacher, learner = looked[b][i, :, y, x], looked[a][i, :, y, x]
            var = 0.0 if pasted[i, y, x] or uncertainty == "none" else (teacher * np.log(teacher / learner)).sum()
            total += np.exp(-var) * -np.log(at_all[a][i, label, y, x]) + (var if uncertainty == "strong" else 0)
            pixels += 1
        assert losses[f"by{b + 1}"][0].item() == pytest.approx(total / pixels, rel=1e-4)


def test_the_supervised_terms_and_the_confidences_by_loops(build, draw):
    method = build("ucc", pasted=0, momentum=0.9).eval()
    batch = draw(method)
    batch.x.label[batch.x.label == 2] = 255
    with torch.no_grad():
        method.q.copy_(torch.tensor([0.3, 0.1, 0.7, 0.2]))
    losses = step(method, batch)
    p = [probabilities(z) for z in answers(method.student, batch.x.weak)]
    label = batch.x.label.numpy()
    of_class = {c: [] for c in range(4)}
    for i, y, x in np.ndindex(*label.shape):
        if label[i, y, x] != 255:
            of_class[label[i, y, x]].append([q[i, label[i, y, x], y, x] for q in p])
    wanted = [
        0.9 * old + 0.1 * np.mean(of_class[c]) if of_class[c] else old for c, old in enumerate((0.3, 0.1, 0.7, 0.2))
    ]
    assert not of_class[2] and np.allclose(method.q.numpy(), wanted, rtol=1e-5)
    every = np.array([p for pixels in of_class.values() for p in pixels])
    for k in (0, 1):
        assert losses[f"x{k + 1}"][0].item() == pytest.approx(-np.log(every[:, k]).mean(), rel=1e-5)


def test_without_its_modules_it_is_cross_pseudo_supervision_on_one_encoder(build, draw):
    method = build("ucc", uncertainty="none", pasted=0, cutmix=False).eval()
    batch = draw(method)
    batch.u.strong[0] = batch.u.weak
    z = answers(method.student, batch.u.weak)
    losses = step(method, batch)
    ce = torch.nn.functional.cross_entropy
    for a, b in ((0, 1), (1, 0)):
        pixels = ce(z[a], z[b].argmax(1), reduction="none")[batch.u.valid > 0]
        torch.testing.assert_close(losses[f"by{b + 1}"][0], pixels.mean())


def test_equal_heads_have_no_doubt(build, draw):
    found = []
    for uncertainty in ("strong", "none"):
        method = build("ucc", uncertainty=uncertainty).eval()
        second = method.student.heads["second"]
        second.decoder.load_state_dict(method.student.decoder.state_dict())
        losses = step(method, draw(method))
        torch.testing.assert_close(losses["by1"][0], losses["by2"][0])
        found.append(losses["by1"][0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("heads", ["decoder", "classifier"])
def test_who_learns_from_what(heads, build, draw):
    method = build("ucc", heads=heads, uncertainty="none").train()
    net = method.student
    first, second = list(net.decoder.parameters()), list(net.heads["second"].parameters())
    encoder = list(net.backbone.parameters())

    def reached(term, parameters):
        grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        return [g is not None and bool(g.abs().sum() > 0) for g in grads]

    batch = draw(method)
    losses = step(method, batch)
    assert all(reached(losses["by1"][0], second)) and any(reached(losses["by1"][0], encoder))
    assert any(reached(losses["by1"][0], first)) == (heads == "classifier"), "shared: what makes the fused map"
    assert not any(reached(losses["by1"][0], list(net.decoder.classifier.parameters())))
    assert all(reached(losses["by2"][0], first)) and not any(reached(losses["by2"][0], second))
    for method.uncertainty, both in (("strong", True), ("constant", False)):
        losses = step(method, batch)
        assert any(reached(losses["by1"][0], list(net.decoder.classifier.parameters()))) == both


def test_doubt_lowers_a_pixel_and_never_pays():
    one = torch.ones(1, 1, 1)
    target = PseudoLabels(one.long(), one, one, one)
    far = torch.full((1, 1, 1), 3.0)
    weights, terms = [], []
    for var in (0.0, 0.5, float(np.log(3)), 2.0):
        doubt = torch.full((1, 1, 1), var, requires_grad=True)
        term, cost = doubted(far, doubt, target, through=True)
        term.backward()
        weights.append(cost.item() / 3)
        terms.append(term.item())
        assert doubt.grad.item() == pytest.approx(1 - 3 * np.exp(-var), abs=1e-6)
    assert weights[0] == 1 and weights == sorted(weights, reverse=True)
    assert min(terms) == terms[2] == pytest.approx(1 + np.log(3))


def test_rare_confidence_is_pasted_more_often_from_images_that_show_it():
    torch.manual_seed(0)
    label = torch.tensor([[[0, 0], [1, 255]], [[2, 2], [2, 0]], [[0, 2], [255, 0]]])
    q, n = torch.tensor([0.9, 0.2, 0.0, 0.5]), 20_000
    k, j = draw_donors(q, torch.tensor([0, 1, 2]), label, n)
    share = torch.bincount(k, minlength=4) / n
    wanted = np.exp(1 - q.numpy()[:3]) / np.exp(1 - q.numpy()[:3]).sum()
    assert np.allclose(share[:3], wanted, atol=0.012) and share[3] == 0
    assert (k == 1).any() and (j[k == 1] == 0).all()
    of_two = torch.bincount(j[k == 2], minlength=3) / (k == 2).sum()
    assert of_two[0] == 0 and abs(of_two[1] - 0.5) < 0.03
    none = draw_donors(q, torch.tensor([3]), label, 50)
    assert (none[0] == 3).all() and draw_donor_mask(label[none[1]], none[0], 1.0).all(), "nobody shows it: unchanged"


def test_the_same_donors_go_to_both_sets_with_their_labels(build, draw):
    method = build("ucc", cutmix=False, chance=1.0).train()
    batch = draw(method)
    for view in batch.values():  # tell who is who: labelled 0.1, unlabelled 0.2, donors 0.5
        level = 0.5 if view is batch.p else 0.1 if view is batch.x else 0.2
        view.weak.fill_(level)
        view.strong = [torch.full_like(view.weak, level + 0.05) for _ in view.strong]
    seen_x = []
    handle = method.student.backbone.register_forward_pre_hook(lambda _, given: seen_x.append(given[0]))
    losses = step(method, batch)
    handle.remove()
    image = seen_x[1] * method.student.std + method.student.mean  # after u's labelling, before the mixed images
    in_x, in_u = (image[:, 0] > 0.3), (losses.seen["mixed"][:, 0] > 0.4)
    assert torch.equal(in_x, in_u) and 0 < in_x.float().mean() < 1
    assert torch.allclose(losses.seen["mixed"][:, 0][in_u], torch.tensor(0.55)), "the donors' strong view"
    for name in NAMES:
        target = losses.seen[f"{name}/target"]
        for i in range(2):
            where = in_u[i]
            assert any(torch.equal(target.label[i][where], y[where]) for y in batch.p.label)
            assert len(target.label[i][where].unique()) <= 1 and (target.confidence[i][where] == 1).all()
    none = build("ucc", cutmix=False, chance=0.0)
    assert torch.equal(step(none, batch).seen["mixed"], batch.u.strong[0])


def test_the_second_head_is_another_draw_of_the_first(build, task):
    own = build("ucc").student
    assert isinstance(own.heads["second"], OwnDecoder)
    a, b = own.decoder.classifier.weight, own.heads["second"].decoder.classifier.weight
    assert a.shape == b.shape and not torch.equal(a, b)
    count = sum(p.numel() for p in own.parameters())
    plain, decoder = (sum(p.numel() for p in part.parameters()) for part in (make("tiny", task), own.decoder))
    assert count == plain + decoder
    image = torch.rand(1, 3, 32, 32)
    mean = build("ucc").eval().predictors()["mean"]
    torch.testing.assert_close(mean(image), sum(answers(mean.net, image)) / 2)


def test_the_unlabelled_terms_rise(build, draw):
    method = build("ucc", ramp=0.5, weight=2.0).train()
    batch = draw(method)
    for progress, factor in ((0, np.exp(-5)), (25, np.exp(-1.25)), (60, 1.0)):
        torch.manual_seed(0)
        losses = method.losses(batch, Clock(progress, 100))
        assert losses["by1"][1] == losses["by2"][1] == pytest.approx(2 * factor)


def test_what_cannot_be_chosen_is_said(build):
    for options, words in (
        ({"uncertainty": "kl"}, "strong, constant, weak, none"),
        ({"heads": "encoder"}, "decoder, classifier"),
        ({"exclude": range(4)}, "leaves no class"),
    ):
        with pytest.raises(S4Error, match=words):
            build("ucc", **options)
