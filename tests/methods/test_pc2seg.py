"""What a correct PC2Seg shows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from s4kit.methods import Clock
from s4kit.methods.contrastive.pc2seg import draw_negatives, other_class, pixel_contrast

LATE = Clock(50, 100)


def test_negatives_are_of_other_images_and_as_probable_as_they_are_of_other_classes() -> None:
    p = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 1]), 3).float()
    image, anchor = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([1, 3])
    weight = other_class(p, anchor, image)
    assert weight.tolist() == [[0, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0]]
    index, real = draw_negatives(weight, 3)
    assert real.sum(1).tolist() == [1, 2]
    assert index[0][real[0]].tolist() == [3] and set(index[1][real[1]].tolist()) == {1, 2}
    even = other_class(torch.full((6, 4), 0.25), anchor, image)
    torch.testing.assert_close(even[0], torch.tensor([0, 0, 0, 0.75, 0.75, 0.75]))


def test_draws_follow_the_weights() -> None:
    torch.manual_seed(0)
    index, _ = draw_negatives(torch.tensor([[1.0, 2.0, 0.0, 5.0]]).expand(20_000, -1), 1)
    found = index.flatten().bincount(minlength=4) / 20_000
    assert found.tolist() == pytest.approx([0.125, 0.25, 0, 0.625], abs=0.015)


def test_alike_features_cost_the_logarithm_of_their_number() -> None:
    ones = F.normalize(torch.ones(3, 5), dim=1)
    real = torch.tensor([[True] * 4, [True, False, False, True], [False] * 4])
    found = pixel_contrast(ones, ones, ones[:, None].expand(-1, 4, -1), real, 0.07)
    torch.testing.assert_close(found, torch.tensor([math.log(5), math.log(3), 0.0]))


def test_the_contrast_by_loops(build) -> None:
    method = build("pc2seg", anchors=50, negatives=3, temperature=0.5)
    torch.manual_seed(0)
    own, weak = (F.normalize(torch.randn(2, 5, 3, 3), dim=1).requires_grad_() for _ in range(2))
    p, valid, uniform = torch.randn(2, 4, 3, 3).softmax(1), torch.ones(2, 3, 3), torch.rand(18, 18)
    valid[1, 2] = 0
    torch.manual_seed(5)
    loss = method.contrast(own, weak, p, valid, uniform)
    torch.manual_seed(5)
    drawn = torch.rand(2, 9).topk(9, dim=1).indices
    flat = [t.permute(0, 2, 3, 1).flatten(0, 2) for t in (own, weak, p)]
    known, each = valid.flatten(), []
    for n, i in enumerate([int(k) + 9 * b for b in range(2) for k in drawn[b]]):
        if not known[i]:
            continue
        keys = {}
        for j in range(18):
            if i // 9 != j // 9 and known[j]:
                gumbel = -math.log(-math.log(float(uniform[n, j])))
                keys[j] = math.log(1 - float(flat[2][i] @ flat[2][j])) + gumbel
        best = sorted(keys, key=keys.get)[-3:]
        e = [torch.exp(flat[0][i] @ flat[1][j] / 0.5) for j in (i, *best)]
        each.append(-torch.log(e[0] / sum(e)))
    torch.testing.assert_close(loss, sum(each) / len(each))


def test_equal_views_cost_nothing_in_label_space_and_one_image_has_no_contrast(build, draw) -> None:
    method = build("pc2seg").eval()
    batch = draw(method)
    batch.u.strong = [batch.u.weak]
    losses = method.losses(batch, LATE)
    assert losses["u"][0] < 1e-10 and losses["contrast"][0] > 0
    assert method.losses(draw(method, batch=1), LATE)["contrast"][0] == 0


def test_only_the_strong_view_learns(build, draw) -> None:
    method = build("pc2seg").train()
    g_w = F.normalize(torch.randn(2, 8, 4, 4), dim=1).requires_grad_()
    g_s = F.normalize(torch.randn(2, 8, 4, 4), dim=1).requires_grad_()
    method.contrast(g_s, g_w.detach(), torch.randn(2, 4, 8, 8).softmax(1), torch.ones(2, 8, 8)).backward()
    assert g_s.grad.abs().sum() > 0
    losses = method.losses(draw(method), LATE)
    assert losses["u"][0] <= 2
    (grad,) = torch.autograd.grad(losses["contrast"][0], method.student.heads["project"].weight)
    assert grad.abs().sum() > 0
