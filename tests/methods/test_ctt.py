"""CTT's exchanged teachers, banks and contrasts (parity with the release: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.cotraining.ctt import NAMES
from s4kit.methods.parts import contrast as parts
from s4kit.methods.parts.banks import Queues, surest
from s4kit.methods.parts.contrast import bank_contrast

CLOCK = Clock(3, 10)


def full(method) -> None:
    """Banks that are full of rows which tell the classes apart."""
    generator = torch.Generator().manual_seed(0)
    for bank in (method.bank1, method.bank2):
        bank.rows.copy_(torch.randn(bank.rows.shape, generator=generator))
        bank.rows[-1] = 0
        bank.count.copy_(bank.capacity)


def test_students_learn_from_the_other_ones_teacher(build, draw) -> None:
    method = build("ctt", mix=False, colour=False, contrast=0.0).train()
    for k, teacher in enumerate(method.teachers):
        teacher.decoder.classifier.bias.data[k] += 100.0  # teacher 1 says 0, teacher 2 says 1
    losses = method.losses(draw(method), CLOCK)
    assert (losses.seen[f"{NAMES[0]}/target"].label == 1).all() and (losses.seen[f"{NAMES[1]}/target"].label == 0).all()
    losses["u1"][0].backward()
    assert all(p.grad is None or not p.grad.any() for net in (method.net2, *method.teachers) for p in net.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.net1.parameters())
    label = [
        y.label[0, 0, 0].item()
        for y in method.pseudo_labels(method.teach(draw(method).u), draw(method).u, CLOCK).values()
    ]
    assert label == [1, 0], "the explorer shows the same"


def test_each_teacher_follows_its_own_student(build) -> None:
    method = build("ctt")
    for student, value in zip(method.students, (1.0, 3.0)):
        student.decoder.classifier.bias.data.fill_(value)
    for i, decay in ((0, 0.0), (1, 0.5), (500, 0.99)):
        before = [t.decoder.classifier.bias.data.clone() for t in method.teachers]
        method.after_step(Clock(i, 1000))
        for teacher, old, value in zip(method.teachers, before, (1.0, 3.0)):
            assert torch.allclose(teacher.decoder.classifier.bias, decay * old + (1 - decay) * value)


def test_equal_pairs_learn_equal_things(build, draw) -> None:
    method = build("ctt", mix=False, colour=False, net="tiny(norm='group')").train()
    method.net2.load_state_dict(method.net1.state_dict())
    for teacher in method.teachers:
        teacher.load_state_dict(method.net1.state_dict())
    full(method)
    method.bank2.load_state_dict(method.bank1.state_dict())
    losses = method.losses(draw(method), CLOCK)
    for term in ("x", "u", "high", "low"):
        torch.testing.assert_close(losses[f"{term}1"][0], losses[f"{term}2"][0])
    assert losses["high1"][0] > 0


@pytest.mark.parametrize("peers", [False, True])
def test_the_contrast_by_loops(peers: bool, monkeypatch) -> None:
    monkeypatch.setattr(parts, "AT_ONCE", 7)  # in parts, the last one smaller
    g = torch.Generator().manual_seed(0)
    z = torch.randn(24, 5, generator=g, dtype=torch.float64, requires_grad=True)
    bank, peer = torch.randn(4, 3, 5, generator=g).double(), torch.randn(24, 5, generator=g).double()
    label, use = torch.randint(0, 4, (24,), generator=g), torch.rand(24, generator=g) < 0.7
    label[:3], ready = 255, torch.tensor([True, True, True, False])
    found = bank_contrast(z, label, use, bank, ready, 0.3, peer if peers else None)
    unit = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (z.detach().numpy(), bank.numpy(), peer.numpy())]
    classes = []
    for c in range(3):  # the last class is not ready: neither anchors nor negatives
        values = []
        for i in np.flatnonzero((label == c).numpy() & use.numpy()):
            down = sum(np.exp(unit[0][i] @ b / 0.3) for k in range(3) if k != c for b in unit[1][k])
            ups = [np.exp(unit[0][i] @ b / 0.3) for b in ([unit[2][i]] if peers else unit[1][c])]
            values.append(np.mean([-np.log(up / (up + down)) for up in ups]))
        if values:
            classes.append(np.mean(values))
    assert found.item() == pytest.approx(np.mean(classes), rel=1e-9)
    assert torch.autograd.gradcheck(
        lambda t: bank_contrast(t, label, use, bank, ready, 0.3, peer if peers else None), z, atol=1e-6
    )


def test_nothing_ready_or_one_class_alone_is_zero_with_a_gradient() -> None:
    z, label = torch.randn(6, 5, requires_grad=True), torch.tensor([0, 0, 1, 1, 255, 2])
    use, bank = torch.ones(6, dtype=torch.bool), torch.randn(3, 4, 5)
    for ready in ([False] * 3, [True, False, False]):
        loss = bank_contrast(z, label, use, bank, torch.tensor(ready), 0.1)
        (grad,) = torch.autograd.grad(loss, z)
        assert loss == 0 and not grad.any() and grad.isfinite().all()


def test_the_contrast_falls_as_a_pixel_moves_to_its_class() -> None:
    bank = torch.eye(3)[:, None].expand(-1, 4, -1)
    near, far = torch.tensor([[1.0, 0.1, 0.0]]), torch.tensor([[0.1, 1.0, 0.0]])
    given = (torch.tensor([0]), torch.tensor([True]), bank, torch.ones(3, dtype=torch.bool), 0.1)
    assert bank_contrast(near, *given) < 1e-3 < bank_contrast(far, *given)


def test_the_surest_come_first_and_few_keep_their_order() -> None:
    features, score = torch.arange(8.0)[:, None], torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.5, 0.6])
    offered = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 1], [0] * 8]) > 0
    new, number = surest(features, score, offered, 3)
    assert number.tolist() == [3, 2, 0]
    assert new[0, :, 0].tolist() == [1.0, 3.0, 2.0] and new[1, 1:, 0].tolist() == [5.0, 7.0]
    queues = Queues([2, 4, 4], 1)
    queues.append(new, number)
    assert queues.take(0, torch.arange(2))[:, 0].tolist() == [3.0, 2.0], "the oldest made room"
    assert queues.full.tolist() == [True, False, False]


def test_banks_take_a_few_right_and_sure_labelled_pixels(build, draw) -> None:
    method = build("ctt", held=10).train()
    batch = draw(method)
    batch.x.label.fill_(2)
    batch.x.label[:, :16] = 0
    for teacher in method.teachers:
        teacher.decoder.classifier.bias.data[2] += 100.0  # all pixels are class 2, and sure
    for _ in range(3):
        method.losses(batch, CLOCK)
    assert method.bank1.count.tolist() == method.bank2.count.tolist()
    most = max(20 // method.labelled, 2)
    assert method.bank1.count.tolist() == [0, 0, min(10, 3 * most), 0]


def test_both_contrasts_teach_the_student_alone_once_the_banks_are_full(build, draw) -> None:
    method = build("ctt", held=6, sure=0.3, mix=False, colour=False).train()
    batch = draw(method)
    early = method.losses(batch, CLOCK)
    assert all(early[f"{name}{k}"][0] == 0 for name in ("high", "low") for k in (1, 2))
    full(method)
    before = [bank.rows.clone() for bank in (method.bank1, method.bank2)]
    losses = method.losses(batch, CLOCK)
    assert losses["high1"][0] > 0 and not any(bank.rows.requires_grad for bank in (method.bank1, method.bank2))
    losses["high1"][0].backward()
    assert method.net1.backbone.stages[0][0][0].weight.grad.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for p in method.net2.parameters())
    assert [b.shape for b in before] == [b.rows.shape for b in (method.bank1, method.bank2)]


def test_unsure_pixels_learn_from_a_surer_peer(build, draw) -> None:
    method = build("ctt", held=6, sure=0.9, mix=False, colour=False, tau=0.0).train()
    full(method)
    method.net2.decoder.classifier.bias.data[1] += 100.0  # sure of everything, and surer than network 1
    losses = method.losses(draw(method), CLOCK)
    assert losses["low1"][0] > 0 and losses["low2"][0] == 0
    losses["low1"][0].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.net2.parameters()), "the peer is only looked at"


def test_without_contrast_there_are_no_banks_and_other_networks_may_differ(build, draw) -> None:
    method = build("ctt", contrast=0.0, other="tiny(decoder_channels=24)").train()
    assert not hasattr(method, "bank1") and method.losses(draw(method), CLOCK).total.isfinite()
    with pytest.raises(S4Error, match="16 and 24 channels"):
        build("ctt", other="tiny(decoder_channels=24)")
    with pytest.raises(S4Error, match="no weighting"):
        build("ctt", weighting="shares")
