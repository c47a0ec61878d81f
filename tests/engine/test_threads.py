"""The number of threads of a training: chosen by timing, said once, kept by what is resumed. No clock decides here."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from toy import toy_task

import s4kit as s4
from s4kit.engine import checkpoint, threads
from s4kit.engine.training import Training
from s4kit.errors import S4Error

STEPS = 6
SMALL = dict(
    batch=2, lr=1e-2, optimiser="sgd", evaluate_every=6, checkpoint_every=3, probes=0, progress=False, device="cpu"
)


@pytest.fixture(scope="module")
def task():
    return toy_task(n_val=2)


@pytest.fixture
def machine(monkeypatch):
    """A machine that nobody has told how many threads to use, with two of them."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "WORTH", STEPS)
    threads._say.cache_clear()
    with threads.on(2):
        yield
        assert torch.get_num_threads() == 2, "as many as before"


def takes(monkeypatch, seconds: dict[int, float]) -> list[int]:
    """Let passes take so many seconds by the number of threads; the numbers that were tried are noted."""
    tried = []

    def clock(run, count):
        tried.append(count)
        return seconds[count]

    monkeypatch.setattr(threads, "_seconds", clock)
    return tried


def train(task, out, steps=STEPS, resume=False, **settings) -> tuple[s4.engine.Run, list[int]]:
    """The run, and the number of threads of each of its steps."""
    torch.manual_seed(0)
    method = s4.methods.create("supervised", task, net="tiny")
    seen = []
    method.after_step = lambda clock: seen.append(torch.get_num_threads())
    return s4.fit(method, task, steps=steps, out=out, resume=resume, **(SMALL | settings)), seen


def test_one_thread_where_two_are_no_faster_and_it_is_said_once(task, tmp_path, machine, monkeypatch, capsys):
    tried = takes(monkeypatch, {2: 1.0, 1: 1.05})
    for name in ("a", "b"):
        run, seen = train(task, tmp_path / name)
        assert set(seen) == {1} and len(seen) == STEPS
        assert checkpoint.load(run.path / "last.pt")["threads"] == 1
    assert tried == [2, 1, 2, 1]
    assert capsys.readouterr().err.count("Training on 1 of 2 threads") == 1


def test_all_threads_where_they_are_faster(task, tmp_path, machine, monkeypatch, capsys):
    takes(monkeypatch, {2: 1.0, 1: 1.7})
    assert set(train(task, tmp_path / "run")[1]) == {2}
    assert not capsys.readouterr().err


def test_halves_until_it_gets_slower(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    tried = takes(monkeypatch, {16: 2.0, 8: 1.0, 4: 1.08, 2: 1.2, 1: 0.1})
    assert threads.choose(lambda: None) == 4  # 2 takes a fifth more than 8, the fastest of those that were tried
    assert tried == [16, 8, 4, 2]


def test_timing_leaves_no_trace_and_what_is_resumed_keeps_its_number(task, tmp_path, machine, monkeypatch):
    train(task, tmp_path / "plain", threads=1)
    passes = itertools.count()

    def clock(run, count):
        run()
        next(passes)
        return count

    monkeypatch.setattr(threads, "_seconds", clock)
    train(task, tmp_path / "run")
    assert next(passes) == 2
    _same(tmp_path / "plain", tmp_path / "run")
    stopped = []

    def stop(training, clock):
        between(training, clock)
        training.stop = training.done == 3 and not stopped.append(1)

    between = Training._between_steps
    monkeypatch.setattr(Training, "_between_steps", stop)
    train(task, tmp_path / "again")
    monkeypatch.setattr(Training, "_between_steps", between)
    takes(monkeypatch, {})  # nothing is timed any more
    _, seen = train(task, tmp_path / "again", resume=True)
    assert set(seen) == {1} and len(seen) == STEPS - 3
    _same(tmp_path / "plain", tmp_path / "again")


def _same(a, b) -> None:
    a, b = (checkpoint.load(folder / "last.pt")["method"] for folder in (a, b))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("settings", ({"threads": 2}, {"steps": STEPS - 1}))
def test_what_is_said_or_not_worth_it_is_not_timed(task, tmp_path, machine, monkeypatch, settings):
    takes(monkeypatch, {})
    assert set(train(task, tmp_path / "run", **settings)[1]) == {2}


def test_omp_num_threads_says_it(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads.free(torch.device("cpu"), 1000) == (torch.get_num_threads() > 1)
    assert not threads.free(torch.device("cuda"), 1000)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not threads.free(torch.device("cpu"), 1000)


@pytest.mark.parametrize("value", ("many", 0, -1, 1.5))
def test_a_number_of_threads_is_a_number(task, tmp_path, value):
    with pytest.raises(S4Error, match="threads is 'auto' or a number"):
        train(task, tmp_path / "run", threads=value)


def test_waiting_threads_sleep():
    code = "import os, sys; import s4kit; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    env = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    for given, policy in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        found = subprocess.run([sys.executable, "-c", code], env=env | given, capture_output=True, text=True)
        assert found.stdout.split() == [policy, "False"], found.stderr
