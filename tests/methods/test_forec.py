"""What a correct FOrec shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency.forec import objects_on_ground
from s4kit.methods.parts import losses as parts

MIDDLE = Clock(50, 100)


def test_without_weight_it_is_its_host_bit_for_bit(build, draw):
    """Neither the random stream nor the batch statistics notice the drawing."""
    method, host = build("forec", weight=0.0, tau=0.3).train(), build("fixmatch", tau=0.3).train()
    batch, after = draw(method), []
    for m in (method, host):
        torch.manual_seed(0)
        losses = m.losses(batch, MIDDLE)
        losses.total.backward()
        after.append((losses.total, torch.rand(3), dict(m.student.named_parameters()), dict(m.student.named_buffers())))
    assert torch.equal(after[0][0], after[1][0]) and torch.equal(after[0][1], after[1][1])
    assert all(torch.equal(after[0][2][k].grad, p.grad) for k, p in after[1][2].items())
    assert all(torch.equal(after[0][3][k], b) for k, b in after[1][3].items())


def test_the_target_by_loops():
    image, objects, valid = torch.rand(2, 3, 4, 5), (torch.rand(2, 4, 5) < 0.5).float(), torch.ones(2, 4, 5)
    valid[1, 2:] = 0
    found = objects_on_ground(image, objects, valid)
    for b, y, x in np.ndindex(2, 4, 5):
        ground = image[b][:, valid[b] > 0].mean(1)
        expected = image[b, :, y, x] if objects[b, y, x] else ground
        assert torch.allclose(found[b, :, y, x], expected)
    assert torch.equal(objects_on_ground(image, torch.ones_like(valid), valid), image)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_drawing_loss_by_loops(balanced, build, draw):
    method = build("forec", background=(0,), tau=0.3, balanced=balanced)
    batch = draw(method)
    x, u = batch.x, batch.u
    x.label[0, :3], u.valid[1, :, :5], x.valid[1, -4:] = 255, 0, 0
    x.label[1, -4:] = 255
    own = method.pseudo_labels(3 * torch.randn(2, 4, 32, 32), u, MIDDLE)
    drawn = torch.rand(4, 3, 32, 32)
    sums, counts = {True: 0.0, False: 0.0}, {True: 0, False: 0}
    for i, (view, k) in enumerate([(x, 0), (x, 1), (u, 0), (u, 1)]):
        ground = view.weak[k][:, view.valid[k] > 0].mean(1)
        for r, c in np.ndindex(32, 32):
            if (view is x and x.label[k, r, c] == 255) or view.valid[k, r, c] == 0:
                continue
            thing = bool(
                x.label[k, r, c] != 0 if view is x else own.label[k, r, c] != 0 and own.confidence[k, r, c] >= 0.3
            )
            wanted = view.weak[k, :, r, c] if thing else ground
            sums[thing] += (drawn[i, :, r, c] - wanted).abs().mean().item()
            counts[thing] += 1
    assert min(counts.values()) > 50
    each = [sums[t] / counts[t] for t in (True, False)]
    expected = sum(each) / 2 if balanced else sum(sums.values()) / sum(counts.values())
    assert method.drawing_loss(drawn, x, u, own, MIDDLE).item() == pytest.approx(expected, rel=1e-4)


def test_all_is_drawn_at_first_and_where_there_is_no_background(build, draw):
    batch = draw(build("forec"))
    drawn, own = torch.rand(4, 3, 32, 32), build("forec").pseudo_labels(torch.randn(2, 4, 32, 32), batch.u, MIDDLE)
    batch.x.label.fill_(0)
    early, plain, late = (
        build("forec", background=background, start=0.1).drawing_loss(drawn, batch.x, batch.u, own, Clock(step, 100))
        for background, step in (((0,), 9), (None, 50), ((0,), 10))
    )
    assert torch.equal(early, plain) and not torch.equal(late, plain)
    image = torch.cat([batch.x.weak, batch.u.weak])
    valid = torch.cat([batch.x.valid, batch.u.valid])
    assert torch.allclose(plain, parts.pixel_mean((drawn - image).abs().mean(1), valid, valid, over="valid"))


def test_drawing_is_learnt_and_teaches_the_encoder(build, draw):
    method = build("forec").train()
    batch = draw(method)
    optimiser = torch.optim.AdamW(method.parameters(), lr=5e-3)
    history = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = method.losses(batch, MIDDLE)["reconstruction"][0]
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for p in method.student.backbone.stages[0].parameters())
        assert all(p.grad is None for p in method.student.decoder.parameters())
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < 0.6 * history[0]
