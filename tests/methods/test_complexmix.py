"""What the reconstructed ComplexMix shows."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency import complexmix
from s4kit.methods.parts.masks import block_mask, class_mask, draw_block_mask
from s4kit.views import rasterise
from s4kit.views.boxes import area_boxes

MIDDLE = Clock(50, 100)
GENERATOR = torch.Generator().manual_seed(0)


def patches(count: int = 4, side: int = 48, classes: int = 9) -> torch.Tensor:
    """Labels in patches of 6 x 6 pixels."""
    small = torch.randint(0, classes, (count, side // 6, side // 6), generator=torch.Generator().manual_seed(3))
    return small.repeat_interleave(6, 1).repeat_interleave(6, 2)


def test_one_block_is_classmix_or_cutmix():
    label, uniform = patches(), torch.rand(4, 9, generator=GENERATOR)
    rng = np.random.default_rng(0)
    boxes = torch.from_numpy(
        area_boxes(rng.random((4, 1)), rng.random((4, 1)), rng.random((4, 1, 2)), (48, 48), (0.5, 0.5))
    )
    kinds = torch.tensor([True, False, True, False])
    mask = block_mask(label, 1, kinds, uniform, boxes)
    assert torch.equal(mask[kinds], class_mask(label, uniform)[kinds])
    assert torch.equal(mask[~kinds], rasterise(boxes, (48, 48))[~kinds])


@pytest.mark.parametrize(("side", "blocks"), [(48, 4), (49, 3), (33, 4)])
def test_every_block_follows_its_own_rule(side, blocks):
    """Block by block, cut out by hand: classes are inside or outside as a whole, or the mask is the block's box."""
    label = patches(2, 54)[:, :side, :side]
    n, edge = 2 * blocks**2, -(-side // blocks)
    kinds, uniform = torch.rand(n, generator=GENERATOR) < 0.5, torch.rand(n, 9, generator=GENERATOR)
    rng = np.random.default_rng(1)
    table = area_boxes(rng.random((n, 1)), rng.random((n, 1)), rng.random((n, 1, 2)), (edge, edge), (0.5, 0.5))
    mask = block_mask(label, blocks, kinds, uniform, torch.from_numpy(table))
    for number in range(n):
        image, row, column = number // blocks**2, number // blocks % blocks, number % blocks
        here = (image, slice(row * edge, (row + 1) * edge), slice(column * edge, (column + 1) * edge))
        inside, part = mask[here], label[here]
        if kinds[number]:
            found = part.unique().tolist()
            chosen = [c for c in found if inside[part == c].any()]
            assert len(chosen) == len(found) // 2 and all(inside[part == c].all() for c in chosen)
        else:
            top, left, h, w = table[number, 0]
            expected = torch.zeros(edge, edge, dtype=torch.bool)
            expected[top : top + h, left : left + w] = True
            assert torch.equal(inside, expected[: inside.shape[0], : inside.shape[1]])


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_about_half_of_the_pixels(blocks):
    torch.manual_seed(0)
    random.seed(0)
    masks = torch.cat([draw_block_mask(patches(8), 9, blocks) for _ in range(20)])
    assert masks.float().mean().item() == pytest.approx(0.45, abs=0.1)


def test_more_blocks_more_borders():
    """With one class everywhere only the boxes are left."""
    label, borders = torch.zeros(8, 48, 48).long(), []
    for blocks in (1, 2, 4, 8):
        torch.manual_seed(0)
        random.seed(0)
        masks = torch.cat([draw_block_mask(label, 9, blocks) for _ in range(20)])
        borders.append(
            (masks[:, 1:] != masks[:, :-1]).sum().item() + (masks[:, :, 1:] != masks[:, :, :-1]).sum().item()
        )
        assert masks.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert borders == sorted(borders) and borders[-1] > 2 * borders[0]


def test_equal_images_keep_their_target(build, draw):
    method = build("complexmix", colour=False).eval()
    batch = draw(method)
    for name in ("weak", "valid"):
        setattr(batch.u, name, getattr(batch.u, name)[:1].repeat(2, *[1] * (getattr(batch.u, name).dim() - 1)))
    seen = method.losses(batch, MIDDLE).seen
    rule = method.pseudo_labels(method.teach(batch.u), batch.u, MIDDLE)
    assert torch.equal(seen["mixed"], batch.u.weak) and torch.equal(seen["target"].label, rule.label)


def slow(z, t_u, mask, valid, tau) -> float:
    """The unlabelled term, pixel by pixel."""
    terms, sure = [], []
    for b, y, x in np.ndindex(*mask.shape):
        source = b if mask[b, y, x] else (b + 1) % len(mask)
        q = t_u[source, :, y, x].softmax(0)
        terms.append(float(valid[source, y, x]) * float(-z[b, :, y, x].log_softmax(0)[int(q.argmax())]))
        sure.append(float(q.max() >= tau))
    return float(np.mean(terms) * np.mean(sure))


def test_the_term_by_loops(build, draw, monkeypatch):
    method = build("complexmix", colour=False).eval()
    batch = draw(method)
    mask = torch.rand(2, 32, 32, generator=GENERATOR) < 0.5
    monkeypatch.setattr(complexmix, "draw_block_mask", lambda *_: mask)
    batch.u.valid[0, :5] = 0
    with torch.no_grad():
        t_u = method.teacher(batch.u.weak).double()
        method.tau = t_u.softmax(1).amax(1).median().item()
        losses = method.losses(batch, MIDDLE)
        z = method.student(torch.where(mask[:, None], batch.u.weak, batch.u.weak.flip(0))).double()
    assert losses["u"][0].item() == pytest.approx(slow(z, t_u, mask, batch.u.valid, method.tau), rel=3e-3)
