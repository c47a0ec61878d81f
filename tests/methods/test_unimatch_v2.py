"""What a correct UniMatch V2 shows."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock
from s4kit.nets import Features
from s4kit.nets.perturb import complementary

MIDDLE = Clock(50, 100)


def test_channels_by_loops():
    torch.manual_seed(0)
    drawn, kept = torch.randint(0, 2, (3, 5)).float(), torch.tensor([False, True, False])
    factors = complementary(drawn, kept)
    for b in range(3):
        for c in range(5):
            first = 1 if kept[b] else 2 if drawn[b, c] else 0
            assert factors[b, c] == first and factors[3 + b, c] == 2 - first


def test_dropped_features_are_the_clean_ones_on_average(build):
    method = build("unimatch_v2")
    torch.manual_seed(0)
    clean = Features((torch.rand(8, 6, 2, 2), torch.rand(8, 6, 2, 2)))
    low, high = zip(*(method.share_channels(clean).levels for _ in range(4000)))
    assert (torch.stack(low).mean(0) - clean.low).abs().max() < 0.05
    for a, b in zip(low[:50], high[:50]):
        assert torch.allclose(a / clean.low, b / clean.high), "levels of one width share a draw"
    assert all(
        torch.equal((a / clean.low)[:4].sum((1, 2, 3)) == 24, (a / clean.low)[4:].sum((1, 2, 3)) == 24)
        for a in low[:50]
    )
    for a in low[:50]:
        spared = torch.tensor([torch.equal(x, y) for x, y in zip(a, clean.low)])
        assert spared[:4].sum() >= 2 and torch.equal(spared[:4], spared[4:])


def test_without_boxes_and_dropout_it_is_fixmatch_with_two_views(build, draw):
    method = build("unimatch_v2", tau=0.0).eval()
    batch = draw(method, batch=4)
    batch.u.masks = [torch.zeros_like(m) for m in batch.u.masks]
    method.share_channels = lambda features: features
    losses = method.losses(batch, MIDDLE)
    y = method.teacher(batch.u.weak).argmax(1)
    expected = torch.zeros(())
    for s in batch.u.strong:
        nll = -method.student(s).log_softmax(1).gather(1, y[:, None])[:, 0]
        expected = expected + (nll * batch.u.valid).sum() / batch.u.valid.sum() / 4
    expected = (
        expected + torch.nn.functional.cross_entropy(method.student(batch.x.weak), batch.x.label, ignore_index=255) / 2
    )
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_partner_is_the_flipped_batch(build, draw):
    method = build("unimatch_v2")
    batch = draw(method, batch=4)
    batch.u.masks = [torch.ones_like(m) for m in batch.u.masks]
    seen = method.losses(batch, MIDDLE).seen
    own = method.pseudo_labels(method.teach(batch.u), batch.u, MIDDLE)
    for path, strong in zip(("", "second view/"), batch.u.strong):
        assert torch.equal(seen[f"{path}mixed"], strong.flip(0))
        assert torch.equal(seen[f"{path}target"].label, own.label.flip(0))


def test_the_teacher_starts_as_the_student(build):
    method = build("unimatch_v2", decay=0.9)
    for step, same in ((0, True), (1, False)):
        with torch.no_grad():
            for p in method.student.parameters():
                p.add_(0.1)
        method.after_step(Clock(step, 100))
        pairs = list(zip(method.teacher.parameters(), method.student.parameters()))
        assert all(torch.allclose(t, s) for t, s in pairs) == same
        assert not any(t.requires_grad for t, _ in pairs)


@pytest.mark.parametrize("crop", [28, 33])
@pytest.mark.parametrize("lock", [False, True])
def test_a_step_on_a_transformer(crop, lock, build, draw):
    method = build("unimatch_v2", net="dinov2_tiny", lock_backbone=lock, tau=0.0).train()
    losses = method.losses(draw(method, crop=crop), MIDDLE)
    losses.total.backward()
    method.after_step(MIDDLE)
    assert losses.total.isfinite()
    for name, p in method.student.named_parameters():
        assert (p.grad is None) == (lock and name.startswith("backbone")), name
    assert method.predictors()["teacher"](torch.rand(1, 3, 33, 40)).shape[-2:] == (33, 40)
