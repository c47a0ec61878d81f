"""FST: what the steps ahead leave behind, and what they do not (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.selftraining.fst import put
from s4kit.nets import ema, warm
from s4kit.views import Batch

LATE = Clock(500, 1000)


def flat(net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def stepper(method, batch, rate: float = 0.1, clock=LATE):
    """`update` of plain gradient descent; `update.starts` has the student before each evaluation."""
    optimiser = torch.optim.SGD(method.student.parameters(), rate)

    def update(losses) -> None:
        update.starts.append(flat(method.student))
        update.teachers.append(flat(method.teacher))
        optimiser.zero_grad()
        losses(batch, clock).total.backward()
        optimiser.step()

    update.starts, update.teachers = [], []
    return update


@pytest.mark.parametrize("wide", [False, True])
def test_the_real_step_begins_where_the_student_was(wide, build, draw) -> None:
    method = build("fst", wide=wide, ahead=2).train()
    batch, before = draw(method), flat(method.student)
    update = stepper(method, batch)
    method.step(update, LATE)
    assert len(update.starts) == 3 and torch.equal(update.starts[-1], before)
    ahead = update.starts[1]
    assert torch.equal(ahead, before) if wide else not torch.equal(ahead, before)
    assert not any(p.requires_grad for p in method.teacher.parameters())
    streams = {"x", "u", "x1", "u1", "x2", "u2"} if wide else {"x", "u"}
    assert set(method.views) == streams


def test_without_steps_ahead_it_is_a_mean_teacher(build, draw) -> None:
    method, other = build("fst", ahead=0).train(), build("fst", ahead=0).train()
    batch = draw(method)
    method.step(stepper(method, batch), LATE)
    stepper(other, batch)(other.losses)
    ema(other.teacher, other.student, warm(0.99, 500), buffers="none")
    assert torch.equal(flat(method.student), flat(other.student))
    assert torch.equal(flat(method.teacher), flat(other.teacher))


def test_at_rate_zero_the_future_is_the_present(build, draw) -> None:
    method = build("fst", decay=0.5).train()
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(1.0)
    s, t = flat(method.student), flat(method.teacher)
    method.step(stepper(method, draw(method), rate=0.0), LATE)
    torch.testing.assert_close(flat(method.teacher), s + 0.5**5 * (t - s))
    assert torch.equal(flat(method.student), s)


def test_the_wide_teacher_averages_the_students_of_several_batches(build, draw) -> None:
    method = build("fst", wide=True, ahead=2, decay=0.5).train()
    batch, now = draw(method), [p.detach().clone() for p in method.student.parameters()]
    teacher, futures = flat(method.teacher), []
    for k in (1, 2):
        put(method.student, now)
        stepper(method, Batch(x=batch[f"x{k}"], u=batch[f"u{k}"]))(method.losses)
        futures.append(flat(method.student))
    put(method.student, now)
    method = build("fst", wide=True, ahead=2, decay=0.5).train()
    update = stepper(method, batch)
    method.step(update, LATE)
    torch.testing.assert_close(update.teachers[-1], 0.5 * teacher + 0.25 * sum(futures), atol=1e-5, rtol=1e-4)


def test_the_loss_is_weighted_up_where_pixels_are_dropped(build, draw) -> None:
    method = build("fst", drop=80.0).train()
    batch = draw(method)
    target = method.losses(batch, LATE).seen["target"]
    share = float((target.weight > 0).float().mean())
    assert 0.75 < share < 0.81
    mixing = build("fst", mixing=1.0)
    torch.manual_seed(1)
    seen = mixing.train().losses(draw(mixing), LATE).seen
    assert not torch.equal(seen["mixed"], seen["weak"])
