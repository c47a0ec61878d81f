"""What a correct ReCo shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods import Clock, PseudoLabels, create
from s4kit.methods.contrastive.reco import Forward
from s4kit.methods.parts.contrast import Draws
from s4kit.views import draw_zoom, warp

CLOCK = Clock(5, 10)


def forward(seed: int = 0) -> Forward:
    torch.manual_seed(seed)
    return Forward(3 * torch.randn(2, 4, 6, 7), torch.randn(2, 5, 6, 7, requires_grad=True))


def labels(label: Tensor, confidence: float = 1.0) -> PseudoLabels:
    sure = torch.full(label.shape, confidence)
    return PseudoLabels(label.where(label != VOID, 0), sure, sure, (label != VOID).float())


def test_anchors_are_the_hard_pixels(task) -> None:
    own, label = forward(), torch.randint(0, 4, (2, 6, 7))
    p = own.logits.softmax(1).gather(1, label[:, None])[:, 0]
    for hard in (0.0, 0.3, 1.01):
        method = create("reco", task, net="tiny", hard=hard, queries=400, negatives=2)
        loss = method.contrast([own], label, labels(label[:0]))
        (grad,) = torch.autograd.grad(loss, own.z)
        touched = grad.abs().sum(1) > 0
        assert torch.equal(touched, p < hard), "400 draws of some 20 pixels meet every one"
        assert (loss == 0) == (hard == 0.0)


def test_only_the_drawn_anchors_get_a_gradient(task) -> None:
    own, label = forward(1), torch.randint(0, 4, (2, 6, 7))
    method = create("reco", task, net="tiny", hard=1.01, queries=2, negatives=3)
    draws = Draws(torch.tensor([[0, 1], [2, 2], [0, 3], [1, 0]]), torch.randint(0, 84, (4, 6)))
    (grad,) = torch.autograd.grad(method.contrast([own], label, labels(label[:0]), draws), own.z)
    of = [(label.flatten() == k).nonzero()[:, 0][ranks] for k, ranks in enumerate(draws.anchors)]
    touched = (grad.permute(0, 2, 3, 1).reshape(-1, 5).abs().sum(1) > 0).nonzero()[:, 0]
    assert set(touched.tolist()) == set(torch.cat(of).tolist())


def test_unlabelled_pixels_need_confidence_to_belong(task) -> None:
    own_x, own_u = forward(2), forward(3)
    label = torch.randint(0, 4, (2, 6, 7))
    method = create("reco", task, net="tiny", hard=1.01, queries=300, negatives=2)
    for confidence, reached in ((0.69, False), (0.71, True)):
        loss = method.contrast([own_x, own_u], label, labels(label, confidence))
        (grad,) = torch.autograd.grad(loss, own_u.z, allow_unused=True)
        assert bool(grad.abs().sum() > 0) == reached


def test_images_are_weighed_by_their_share_of_sure_pixels(build, draw) -> None:
    method = build("reco")
    view = draw(method).u
    view.valid[:, :, 20:] = 0
    logits = torch.zeros(2, 4, 32, 32)
    logits[0, 1] = 10
    logits[1, 2, :16] = 10
    found = method.pseudo_labels(logits, view, CLOCK)
    assert (found.weight[0] == 1).all() and (found.weight[1] == 0.5).all()
    assert (method.pseudo_labels(torch.zeros(2, 4, 32, 32), view, CLOCK).weight == 0).all()


def test_the_teacher_labels_in_train_mode_and_keeps_its_own_statistics(build, draw) -> None:
    method = build("reco").train()
    means = [m.running_mean.clone() for m in method.teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    method.losses(draw(method), CLOCK)
    moved = [m.running_mean for m in method.teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    head = method.teacher.heads["projection"][0][1].running_mean
    assert sum(not torch.equal(a, b) for a, b in zip(means, moved)) == len(means) - 1
    assert (head == 0).all(), "its representation is not asked for"
    for p in method.student.parameters():
        p.data.fill_(0.5)
    method.after_step(Clock(0, 10))
    assert all((p == 0.5).all() for p in method.teacher.parameters())


@pytest.mark.parametrize("scale", [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0)])
def test_zoom_resizes_and_cuts(scale: tuple[float, float]) -> None:
    torch.manual_seed(0)
    row, column = (t.float() for t in torch.meshgrid(torch.arange(21), torch.arange(31), indexing="ij"))
    map = torch.stack([row, column, torch.ones(21, 31)])[None].expand(3, -1, -1, -1)
    found = warp(map, draw_zoom(map, scale))
    inside = found[:, 2] > 0.999
    if scale[0] <= 1:
        wanted = (row <= 20 * scale[0] + 1e-3) & (column <= 30 * scale[0] + 1e-3)
        assert torch.equal(inside, wanted.expand_as(inside)), "what is smaller lies in the upper left corner"
        torch.testing.assert_close(
            found[:, :2][inside[:, None].expand(-1, 2, -1, -1)].view(3, 2, -1),
            (map[:, :2] / scale[0])[inside[:, None].expand(-1, 2, -1, -1)].view(3, 2, -1),
        )
        return
    assert inside.all()
    assert torch.allclose(found[:, 0].diff(dim=1), torch.tensor(0.5), atol=1e-4)
    assert torch.allclose(found[:, 1].diff(dim=2), torch.tensor(0.5), atol=1e-4)
    corners = found[:, :2, 0, 0]
    assert (corners >= -1e-4).all() and (corners <= torch.tensor([10.0, 15.0]) + 1e-3).all() and corners.std() > 1
