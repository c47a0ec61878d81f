"""What the engine promises for every method: killed and resumed, watched or not, a training ends in the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy import by_kind, tiny, toy_for

import s4kit as s4
from s4kit.data.task import Task
from s4kit.engine import Run, Settings, checkpoint
from s4kit.engine.training import Training
from s4kit.methods import Method

STEPS = 5
SETTINGS = dict(batch=2, lr=1e-2, optimiser="sgd", evaluate_every=3, checkpoint_every=2, device="cpu")
CUT = 3  # behind a checkpoint and an evaluation, so that rows after the last checkpoint must be cut


def build(name: str, seed: int) -> tuple[Method, Task]:
    task = toy_for(s4.methods.get(name))
    torch.manual_seed(seed)
    return s4.methods.create(name, task, **tiny(name, task)), task


def steps_of(method: Method) -> int:
    """Every stage has one."""
    return max(STEPS, len(method.stages()))


def fit(name: str, out: Path, seed: int = 0, **options) -> Run:
    method, task = build(name, seed)
    return s4.fit(method, task, steps=steps_of(method), out=out, progress=False, **SETTINGS | options)


def assert_same(one: Run, two: Run, *tables: str) -> None:
    a, b = (checkpoint.load(run.path / "last.pt")["method"] for run in (one, two))
    assert a.keys() == b.keys() and not [key for key in a if not torch.equal(a[key], b[key])]
    for name in tables:
        a, b = (run.path / f"{name}.csv" for run in (one, two))
        assert a.exists() == b.exists() and (not a.exists() or a.read_text() == b.read_text()), name


class Killed(Exception):
    pass


class Short(Training):
    def _between_steps(self, clock):
        super()._between_steps(clock)
        if self.done == CUT:
            self._flush()
            raise Killed


def cut_and_resumed(name: str, out: Path, **options) -> Run:
    method, task = build(name, 0)
    settings = Settings(steps=steps_of(method), **SETTINGS | options)
    with pytest.raises(Killed):
        Short(method, task, settings, out, False, False).run()
    return fit(name, out, seed=99, resume=True, **options)


@pytest.mark.parametrize("name", by_kind(s4.methods.names()))
def test_resume_is_bit_exact_and_watching_changes_nothing(name, tmp_path):
    """Watched and never stopped it ends as where nobody looks and it is killed."""
    watched, cut = fit(name, tmp_path / "watched", probes=2), cut_and_resumed(name, tmp_path / "cut", probes=0)
    assert_same(watched, cut, "metrics", "evaluations")


@pytest.mark.parametrize(
    "name", ["fixmatch", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cps", "u2pl", "st"))]
)
def test_what_is_watched_goes_on(name, tmp_path):
    straight, cut = fit(name, tmp_path / "straight", probes=2), cut_and_resumed(name, tmp_path / "cut", probes=2)
    assert_same(straight, cut, "metrics", "evaluations", "pseudo")
    assert straight.snapshots().steps == cut.snapshots().steps
