"""What a correct PseudoSeg shows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency.pseudoseg import fuse
from s4kit.methods.parts.present import present_in
from s4kit.nets import AttentionCam, grad_cam
from s4kit.views import cut_out

MIDDLE = Clock(50, 100)


def softmax(values: list[float]) -> list[float]:
    parts = [math.exp(v - max(values)) for v in values]
    return [p / sum(parts) for p in parts]


def test_fusion_by_loops():
    g = torch.Generator().manual_seed(0)
    a, b = 3 * torch.randn(2, 4, 3, 5, generator=g), torch.randn(2, 4, 3, 5, generator=g)
    q, values = fuse(a, b, 0.5), [*a.flatten().tolist(), *b.flatten().tolist()]
    s = 1 / math.sqrt(sum(v * v for v in values) / len(values))
    for i, y, x in np.ndindex(2, 3, 5):
        p = [softmax([s * v for v in z[i, :, y, x].tolist()]) for z in (a, b)]
        squares = [((j + k) / 2) ** 2 for j, k in zip(*p)]
        assert q[i, :, y, x].tolist() == pytest.approx([v / sum(squares) for v in squares], rel=1e-4)


def test_a_common_factor_falls_out_and_one_source_is_its_scaled_softmax():
    a, b = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    assert torch.allclose(fuse(a, b, 0.5), fuse(30 * a, 30 * b, 0.5), atol=1e-5)
    assert torch.allclose(fuse(a, a, 1.0), (a / a.square().mean().sqrt()).softmax(1), atol=1e-5)
    assert fuse(a, b, 0.5).amax(1).mean() > fuse(a, b, 1.0).amax(1).mean()


def test_grad_cam_is_the_gradient_of_the_classifier():
    torch.manual_seed(0)
    high, head = torch.rand(2, 6, 4, 5, requires_grad=True), torch.nn.Linear(6, 3)
    present = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    logits, maps = head(high.mean((2, 3))), grad_cam(high, head.weight, present)
    for k in range(3):
        (grad,) = torch.autograd.grad(logits[:, k].sum(), high, retain_graph=True)
        cam = (grad.mean((2, 3), keepdim=True) * high).sum(1).relu() * present[:, k, None, None]
        top = cam.amax((1, 2), keepdim=True)
        assert torch.allclose(maps[:, k], torch.where(top > 0, cam / top, 0.0), atol=1e-5)
    assert not maps.requires_grad and maps.amax() <= 1 and maps[0, 1].abs().max() == 0


@pytest.mark.parametrize("background", [True, False])
def test_attention_by_loops(background):
    torch.manual_seed(0)
    head = AttentionCam(9, 4, background, dim=5).eval()
    high, mid, maps = torch.randn(1, 6, 3, 2), torch.randn(1, 3, 6, 4), torch.rand(1, 4 - background, 3, 2)
    valid = torch.ones(1, 3, 2, dtype=torch.bool)
    valid[0, 2, 1] = False
    found = []
    head.mix.register_forward_hook(lambda _, given, out: found.append(given[0]))
    head(high, mid, maps, valid)
    small = torch.nn.functional.interpolate(mid, (3, 2), mode="bilinear", align_corners=True)
    column = torch.cat([high, small], 1)[0].flatten(1)
    key, query = ((c.weight.flatten(1) @ column).detach() for c in (head.key, head.query))
    usable = [i for i in range(6) if valid.flatten()[i]]
    for i in usable:
        share = softmax([float(query[:, i] @ key[:, j]) / 5**0.5 for j in usable])
        carried = sum(p * maps[0].flatten(1)[:, j] for p, j in zip(share, usable)) + maps[0].flatten(1)[:, i]
        ours = found[0][0].flatten(1)[:, i]
        if background:
            assert ours[0].item() == pytest.approx(2 - carried.max().item(), rel=1e-4)
        assert ours[int(background) :].tolist() == pytest.approx(carried.tolist(), rel=1e-4)


def test_who_learns_from_what(build, draw):
    method = build("pseudoseg").train()
    batch, net = draw(method), method.student
    attention, classes = net.heads["attention"], net.heads["classes"]

    def learned(name: str) -> set[str]:
        method.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        method.losses(batch, MIDDLE)[name][0].backward()
        parts = {"backbone": net.backbone, "decoder": net.decoder, "attention": attention, "classes": classes}
        moved = lambda part: sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None)  # noqa: E731
        return {k for k, part in parts.items() if moved(part) > 0}

    assert learned("x") == {"backbone", "decoder"} == learned("u")
    assert learned("x_attention") == {"attention"}
    assert learned("x_classes") == {"backbone", "classes"}


def test_the_hole_and_padding_change_nothing(build, draw):
    method = build("pseudoseg").eval()
    batch = draw(method)
    u, hole = batch.u, torch.zeros(2, 32, 32, dtype=torch.bool)
    hole[:, 3:20, 5:25] = True
    u.masks, u.valid[0, 30:] = [hole], 0
    losses = method.losses(batch, MIDDLE)
    mixed, target = losses.seen["mixed"], losses.seen["target"]
    with torch.no_grad():
        z = method.student(mixed).log_softmax(1).double()
        q = method.probabilities(method.teach(replace(u, valid=u.valid * ~hole))).double()
    total, n = 0.0, 0
    for b, y, x in np.ndindex(2, 32, 32):
        if u.valid[b, y, x] > 0 and not hole[b, y, x]:
            total -= float(q[b, :, y, x] @ z[b, :, y, x])
            n += 1
    assert losses["u"][0].item() == pytest.approx(total / n, rel=1e-4) and target.valid.sum() == n
    assert torch.equal(mixed[:, :, 4, 6], method.student.mean[:, :, 0, 0].expand(2, 3))
    assert torch.equal(mixed[:, :, 0, 0], u.strong[0][:, :, 0, 0])


def test_the_attention_does_not_look_at_the_hole(build, draw):
    method = build("pseudoseg").eval()
    batch, usable = draw(method), []
    hole = torch.zeros(2, 32, 32, dtype=torch.bool)
    hole[:, 10:24, 10:32] = True
    batch.u.masks = [hole]
    method.student.heads["attention"].register_forward_pre_hook(lambda _, given: usable.append(given[3]))
    method.losses(batch, MIDDLE)
    labelled, weak = usable
    assert labelled.all() and batch.u.valid.all()
    assert weak.tolist() == [[[True, True], [True, False]]] * 2, "cells of 16 pixels, read at their first one"


def test_tags_of_an_image():
    label = torch.tensor([[[0, 2], [255, 2]], [[255, 255], [255, 255]]])
    assert present_in(label, 4).tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


def test_without_a_background_every_class_has_a_map(build, draw):
    method = build("pseudoseg", background=False, hard=True, tau=0.3).train()
    losses = method.losses(draw(method), MIDDLE)
    assert method.student.heads["classes"].out_channels == 4 and losses.total.isfinite()
    assert set(losses.seen["target"].soft.unique().tolist()) == {0.0, 1.0}


def test_the_hole_has_its_size():
    boxes = np.concatenate([cut_out(0.25).draw(np.random.default_rng(i), 64) for i in range(500)])
    top, left, height, width = boxes.T
    assert (top + height <= 64).all() and (left + width <= 64).all() and max(height.max(), width.max()) == 16
    assert (height[(top > 0) & (top + height < 64)] == 16).all() and min(height.min(), width.min()) >= 8
