"""Phases whose length is a share, and those that are counted in passes over a list."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import engine, methods
from s4kit.engine.settings import Settings, pass_steps, resolve
from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.lengths import passes, share_out, steps_of

EACH = {"labelled": 3, "unlabelled": 40}


def test_words_and_shares():
    assert passes("5 labelled epochs") == (5, "labelled") and passes("1 epoch") == passes("1 unlabelled epoch")
    assert passes("2.5 epochs").steps(EACH) == 100 and passes(0.5) is None
    assert steps_of(0.25, 1000, EACH) == 250 and steps_of("5 labelled epochs", 1000, EACH) == 15
    assert steps_of("12 epochs", 1000, EACH) == 480 and steps_of("12 epochs", 600, EACH) == 300  # at most half
    for wrong in ("5", "five epochs", "5 epochs of u", "-1 epochs", ""):
        with pytest.raises(S4Error, match="5 labelled epochs"):
            passes(wrong)


def test_what_is_counted_is_taken_out_first():
    assert share_out(["5 labelled epochs", 1.0], 1000, EACH) == [15, 985]
    assert share_out(["5 labelled epochs", 1.0, 3.0], 1015, EACH) == [15, 250, 750]
    assert share_out([0.0625, 1.0], 1700, EACH) == [100, 1600]
    assert share_out([1.0, "5 labelled epochs"], 100, EACH) == [85, 15]


@pytest.mark.parametrize("steps", [4, 30, 600])
def test_a_short_run_meets_every_phase(steps):
    for lengths in (
        ["100 epochs", 1.0],
        ["1 labelled epoch", "100 epochs", 1.0],
        ["10 epochs", "30 epochs"],
        [1.0, 9.0],
    ):
        parts = share_out(lengths, steps, EACH)
        assert min(parts) >= 1 and sum(parts) == steps
    assert share_out(["100 epochs", 1.0], 600, EACH) == [300, 300]
    assert share_out(["10 epochs", "30 epochs"], 600, EACH) == [150, 450]  # nothing else is there


def test_the_clock_tells_them():
    clock = Clock(20, 1000, 40, labelled_steps=3)
    assert clock.since("5 labelled epochs") == 5 and clock.since("1 epoch") == -20 and clock.since(0.01) == 10


def test_epochs_and_what_comes_before_them():
    task = toy_task()
    each = pass_steps(task, Settings(1, batch=4))
    assert each == {"labelled": -(-len(task.labelled) // 4), "unlabelled": -(-len(task.unlabelled) // 4)}
    chosen = resolve(task, None, 3, "5 labelled epochs", None, {"batch": 4, "device": "cpu"})
    assert chosen.steps == 3 * each["unlabelled"] + 5 * each["labelled"]
    assert resolve(task, 7, None, "5 labelled epochs", None, {"batch": 4}).steps == 7


def test_several_processes_and_micro_batches_share_a_pass(monkeypatch):
    task = toy_task().with_(labelled=range(92), unlabelled=range(1000))
    one = [pass_steps(task, Settings(1, **given)) for given in ({"batch": 32}, {"batch": 8, "accumulate": 4})]
    monkeypatch.setattr(engine.settings.distributed, "world", lambda: 4)
    assert [pass_steps(task, Settings(1, batch=8)), *one] == 3 * [{"labelled": 3, "unlabelled": 32}]
    assert pass_steps(task, Settings(1, batch=8, unlabelled_batch=16)) == {"labelled": 3, "unlabelled": 16}


@pytest.mark.slow
def test_a_run_with_such_a_stage_goes_on_where_it_was_stopped(tmp_path):
    """Bit for bit, from within the warm-up and from behind it; the warm-up's rate is constant."""
    task, given = toy_task(), {"batch": 4, "lr": 0.01, "progress": False, "probes": 0, "workers": 0, "device": "cpu"}
    given |= {"epochs": 1, "before": "2 labelled epochs", "optimiser": "sgd", "checkpoint_every": 1}

    def train(folder, stop=None, resume=False):
        torch.manual_seed(0)
        method = methods.create("psmt", task, net="tiny", warm_up="2 labelled epochs", ramp_up="1 epoch", decay=0.9)
        if stop is not None:
            after, count = method.after_step, iter(range(99))

            def interrupted(clock):
                after(clock)
                if next(count) == stop:
                    raise RuntimeError("killed")

            method.after_step = interrupted
        return engine.fit(method, task, out=folder, resume=resume, **given), method

    run, whole = train(tmp_path / "whole")
    rates = [row["lr"] for row in run.metrics()]
    each = pass_steps(task, Settings(1, batch=4))
    start = 2 * each["labelled"]
    assert len(rates) == start + each["unlabelled"]
    assert rates[: start + 1] == [0.01] * (start + 1) and rates[-1] < rates[start]
    for stop in (start - 1, start + 1):
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path / f"at-{stop}", stop)
        _, method = train(tmp_path / f"at-{stop}", resume=True)
        assert all(torch.equal(v, whole.state_dict()[k]) for k, v in method.state_dict().items())
