"""What a correct S4MC shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.consistency.s4mc import EIGHT, FOUR, margin, refine
from s4kit.methods.parts.losses import upweighted_ce

MIDDLE = Clock(50, 100)


def slow_refine(p, joint, beta, around, best):
    """The union with the best neighbours, pixel by pixel and class by class."""
    out = p.copy()
    classes, height, width = p.shape
    for c, y, x in np.ndindex(classes, height, width):
        seen = []
        for dy, dx in FOUR if around == 4 else EIGHT:
            inside = 0 <= y + dy < height and 0 <= x + dx < width
            seen.append(p[c, y + dy, x + dx] if inside else 0.0)
        for n in sorted(seen, reverse=True)[:best]:
            a = out[c, y, x]
            out[c, y, x] = a + beta * n - beta * max(a * n, a * joint[c])
    return out


@pytest.mark.parametrize(("around", "best"), [(4, 1), (8, 1), (8, 3)])
def test_refinement_by_loops(around, best):
    p, joint = torch.randn(2, 4, 5, 6).double().softmax(1), torch.rand(4).double()
    found = refine(p, joint, 0.6, around, best)
    for b in range(2):
        assert np.allclose(found[b].numpy(), slow_refine(p[b].numpy(), joint.numpy(), 0.6, around, best))


def test_inside_an_area_of_one_class_nothing_changes():
    p = torch.zeros(1, 3, 6, 6)
    p[:, 1] = 1
    assert torch.allclose(refine(p, torch.full((3,), 0.9), 0.6)[..., 1:-1, 1:-1], p[..., 1:-1, 1:-1])


def test_a_lonely_pixel_loses_margin_and_one_among_its_like_does_not():
    p = torch.full((1, 2, 5, 5), 0.5)
    p[:, 0], p[:, 1] = 0.9, 0.1
    p[0, :, 2, 2] = torch.tensor([0.1, 0.9])
    m = margin(refine(p, torch.full((2,), 0.98), 0.6))
    assert m[0, 2, 2] < m[0, 1, 1] - 0.3


def test_without_neighbours_the_kept_share_is_the_schedules(build):
    method = build("s4mc", beta=0.0)
    z = torch.randn(2, 4, 32, 32)
    view = type("View", (), {"valid": torch.ones(2, 32, 32)})
    for progress, share in ((0, 0.6), (50, 0.8)):
        kept = method.pseudo_labels((z, z), view, Clock(progress, 100)).weight.mean()
        assert kept == pytest.approx(share, abs=2e-3)


def test_refinement_says_what_is_kept_and_not_the_label(build):
    method = build("s4mc", joint=[0.9] * 4)
    z, judge = torch.randn(1, 4, 9, 9), torch.randn(1, 4, 9, 9)
    view = type("View", (), {"valid": torch.ones(1, 9, 9)})
    target = method.pseudo_labels((z, judge), view, Clock(0, 100))
    assert torch.equal(target.label, z.argmax(1))
    p = judge.softmax(1)
    g = np.percentile(margin(p).numpy(), 40)
    expected = margin(torch.from_numpy(slow_refine(p[0].numpy(), [0.9] * 4, method.beta, 4, 1))[None]) > g
    assert torch.equal(target.weight > 0, expected) and 0 < target.weight.mean() < 1


def test_neighbours_are_counted_on_labels(build):
    method = build("s4mc")
    label = torch.tensor([[[0, 0, 1], [0, 0, 1], [255, 2, 1]]])
    same, every = np.ones(4), np.ones(4)
    for y, x in np.ndindex(3, 3):
        for dy, dx in FOUR:
            if 0 <= y + dy < 3 and 0 <= x + dx < 3 and 255 not in (label[0, y, x], label[0, y + dy, x + dx]):
                every[label[0, y, x]] += 1
                same[label[0, y, x]] += label[0, y, x] == label[0, y + dy, x + dx]
    method.count(label)
    assert torch.equal(method.joint, torch.ones(4)), "it counts from the next step on, for all ranks alike"
    method.after_step(Clock(0, 100))
    assert np.allclose(method.joint.numpy(), same / every)
    given = build("s4mc", joint=[0.5, 0.6, 0.7, 0.8])
    given.count(label)
    given.after_step(Clock(0, 100))
    assert torch.allclose(given.joint, torch.tensor([0.5, 0.6, 0.7, 0.8]))
    with pytest.raises(S4Error, match="3 numbers for 4 classes"):
        build("s4mc", joint=[1, 1, 1])


def test_the_teacher_judges_the_mixed_batch_in_train_mode_after_labelling_in_eval_mode(build, draw):
    method = build("s4mc").train()
    modes, encode = [], method.teacher.encode

    def watched(image, start=None):
        modes.append((method.teacher.training, len(image)))
        return encode(image, start)

    method.teacher.encode = watched
    losses = method.losses(draw(method), MIDDLE)
    losses.total.backward()
    assert modes == [(False, 2), (True, 4)]
    assert all(p.grad is None for p in method.teacher.parameters())
    modes.clear()
    assert method.losses(draw(method), Clock(0, 100))["u"][0] == 0 and modes == [(True, 2)]


def test_few_kept_pixels_raise_the_loss(build):
    """As released: BHW / n times a mean over n pixels."""
    method, z = build("s4mc"), torch.randn(1, 4, 8, 8)
    view = type("View", (), {"valid": torch.ones(1, 8, 8)})
    target = method.pseudo_labels((z, z), view, MIDDLE)
    kept = target.weight > 0
    ce = torch.nn.functional.cross_entropy(z, target.label, reduction="none")
    expected = ce[kept].mean() * kept.numel() / kept.sum()
    assert upweighted_ce(z, target).item() == pytest.approx(expected.item(), rel=1e-5)
