"""What a correct USCS shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency.uscs import Mean, checkerboard, merged, sureness
from s4kit.nets import Features, make

MIDDLE = Clock(50, 100)


def test_the_checkerboard_has_no_equal_neighbours():
    board = checkerboard(torch.zeros(7, 9))
    assert (board[1:] != board[:-1]).all() and (board[:, 1:] != board[:, :-1]).all()
    assert board.sum() == 31 and board[0, 1]
    a, b = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 4, 6)
    found = merged(Features((a,)), Features((b,))).low
    for r, c in np.ndindex(4, 6):
        assert torch.equal(found[..., r, c], (a if (r + c) % 2 else b)[..., r, c])


def test_a_pair_of_one_image_is_that_image(build, draw):
    method = build("uscs").eval()
    image = draw(method).u.weak
    for a, b in zip(method.pair(image, image), method.same(image)):
        assert torch.allclose(a, b, atol=1e-6)
    other = image.flip(0)
    assert not torch.allclose(method.pair(image, other)[0], method.pair(other, image)[0], atol=1e-4)
    z_0, z_1 = method.same(image)
    assert torch.allclose(Mean(method.student)(image), (z_0 + z_1) / 2)


def test_weights_by_loops():
    torch.manual_seed(0)
    z = 2 * torch.randn(2, 5, 4, 6)
    found = sureness(z, 0.5)
    for b in range(2):
        h = [[-sum(p * math.log(p) for p in z[b, :, r, c].softmax(0).tolist()) for c in range(6)] for r in range(4)]
        low, high = min(map(min, h)), max(map(max, h))
        for r, c in np.ndindex(4, 6):
            v = 1 - (h[r][c] - low) / (high - low)
            assert found[b, r, c].item() == pytest.approx(1 if v >= 0.5 else v / 0.5, abs=1e-5)
        assert found[b].min() == 0 and found[b].max() == 1
    assert (sureness(torch.zeros(1, 3, 2, 2), 0.5) == 1).all(), "one entropy everywhere"
    assert (sureness(z, 1e-9) > 0.99).float().mean() > 0.9, "no plateau to fall from: the plain mean"


@pytest.mark.parametrize("different", [0.0, 1.1])
def test_a_step_by_loops(different, build, draw):
    method = build("uscs", different=different).eval()
    batch = draw(method, batch=3)
    torch.manual_seed(5)
    losses = method.losses(batch, MIDDLE)
    torch.manual_seed(5)
    orders = [torch.randperm(3), torch.randperm(3)]
    with torch.no_grad():
        z = method.same(batch.u.weak)

    def mix(t, k):
        return torch.stack([torch.where(batch.u.masks[k][i], t[orders[k][i]], t[i]) for i in range(3)])

    k = 1 if different else 0
    u_0, u_1, z_1, z_0 = mix(batch.u.weak, 0), mix(batch.u.weak, k), mix(z[1], 0), mix(z[0], k)
    q = method.pair(u_0, u_1) if different else method.same(u_0)
    expected = 0
    for answer, teacher in ((q[0], z_1), (q[1], z_0)):
        w, nll = sureness(teacher, 0.5), -answer.log_softmax(1).gather(1, teacher.argmax(1)[:, None])[:, 0]
        expected += (w * nll).sum() / w.sum()
    assert losses["u"][0].item() == pytest.approx(expected.item(), rel=1e-5)
    x, y = batch.x.weak, batch.x.label
    o = method.pair(x[:3], x[3:]) if different else method.same(x[:3])
    for name, z_x, label in (("x0", o[0], y[:3]), ("x1", o[1], y[3:] if different else y[:3])):
        assert losses[name][0].item() == pytest.approx(
            torch.nn.functional.cross_entropy(z_x, label, ignore_index=255).item(), rel=1e-5
        )


def test_heads_learn_from_each_other_alone(build, draw):
    """Head 0 has a gradient through q_0 against Y_1; nothing flows into weights and labels."""
    method = build("uscs", different=1.1).train()
    losses = method.losses(draw(method), MIDDLE)
    for name in ("0 teaches 1", "1 teaches 0"):
        target = losses.seen[f"{name}/target"]
        assert not target.weight.requires_grad and target.weight.min() >= 0 and target.weight.max() == 1


def test_each_head_learns_its_own_image(build, draw):
    method = build("uscs", different=1.1).train()
    batch = draw(method, batch=1)
    batch.x.label[0], batch.x.label[1] = 1, 2
    optimiser = torch.optim.AdamW(method.parameters(), lr=5e-3)
    for _ in range(30):
        optimiser.zero_grad()
        losses = method.losses(batch, MIDDLE)
        (losses["x0"][0] + losses["x1"][0]).backward()
        optimiser.step()
    first, second = method.pair(batch.x.weak[:1], batch.x.weak[1:])
    assert (first.argmax(1) == 1).float().mean() > 0.95 and (second.argmax(1) == 2).float().mean() > 0.95


def test_the_second_head_is_cheap(task):
    net = make("resnet50c(weights='none', decoder_convs=1)", 21)
    head = sum(p.numel() for p in net.decoder.branch().parameters())
    whole = sum(p.numel() for p in net.parameters())
    assert head == pytest.approx(0.706e6, rel=0.01) and (whole + head) / (2 * whole) == pytest.approx(0.51, abs=0.005)
