"""What makes a step fast on a GPU, as far as a CPU can tell: no waiting, reading ahead, translated networks."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from toy import toy_arrays, toy_task

import s4kit as s4
from s4kit.data.sources import MemorySource
from s4kit.engine import Settings, checkpoint, optimise, training
from s4kit.engine.distributed import Whole
from s4kit.methods import Clock, Optim
from s4kit.nets.compiled import compile_nets
from s4kit.report.verify import fake
from s4kit.views import draw_step, render

SMALL = dict(batch=2, lr=1e-2, optimiser="sgd", probes=2, progress=False, device="cpu")


def method(name: str, task):
    torch.manual_seed(0)
    return s4.methods.create(name, task, net="tiny")


@pytest.mark.parametrize("name", ["supervised", "cutmix", "cps", "u2pl", "unimatch"])
def test_a_whole_step_of_the_engine_never_asks_the_device(name):
    """Rates, micro-batches, backward, clipping, the optimiser's step, `after_step`, the measures to be read later."""
    task = toy_task()
    one = method(name, task)
    batch = render(draw_step(task, one.views, 2, 0, 0, 0), one.views)
    with fake.no_values():
        engine = training.Training.__new__(training.Training)
        engine.method, engine.device, engine.precision = fake.move(one), fake.DEVICE, "float32"
        engine.chosen = Settings(steps=10, accumulate=2, clip=1.0, seed=0)
        engine.inner = engine.call = Whole(one)
        engine.scaler = torch.amp.GradScaler("cpu", enabled=False)
        engine.specs = one.optimisers(Optim([], 1e-2, clip=1.0))
        engine.optimisers = optimise.build(engine.specs)
        engine.stages, noted = [(None, 0, 10)], []
        engine.record = SimpleNamespace(note=lambda *given: noted.append(given))
        stage = SimpleNamespace(losses=None)
        engine._step(stage, [batch.map(fake.on_device)] * 2, Clock(5, 10))
        ((_, step, _, measured),) = noted
        assert step == 5 and len(measured) == 2
        assert all(value.device == fake.DEVICE and value.dim() == 0 for row in measured for value in row.values())


class Noted(MemorySource):
    """Notes what was read, and by which process."""

    def read(self, row, label=True):
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")
        return super().read(row, label)


def test_the_next_batch_is_read_while_a_step_computes(tmp_path, monkeypatch):
    source = Noted(*toy_arrays(24), 4)
    source.log, each = tmp_path / "read", 6  # images a step: 2 each of x, u and v
    task = replace(toy_task(), train=source)
    step, ahead = training.Training._step, []

    def by_workers() -> int:
        return sum(int(line) != os.getpid() for line in source.log.read_text().split())

    def watched(self, stage, batches, clock):
        until = time.monotonic() + 60
        while by_workers() < each * min(4, clock.step + 2) and time.monotonic() < until:
            time.sleep(0.02)  # the step computes
        ahead.append(by_workers())
        step(self, stage, batches, clock)

    monkeypatch.setattr(training.Training, "_step", watched)
    s4.fit(method("fixmatch", task), task, steps=4, out=tmp_path / "run", workers=1, **SMALL | {"probes": 0})
    assert len(ahead) == 4 and all(count >= each * min(4, k + 2) for k, count in enumerate(ahead))


@pytest.mark.slow
def test_compiled_training_keeps_numbers_names_and_resumes(tmp_path, monkeypatch):
    """With the translation left to PyTorch's own kernels, so that the numbers must be the same to the last bit."""
    monkeypatch.setattr(training, "compile_nets", functools.partial(compile_nets, backend="eager"))
    torch._dynamo.reset()
    task = toy_task()
    every = dict(steps=4, evaluate_every=4, checkpoint_every=2, **SMALL | {"probes": 0})

    class Killed(Exception):
        pass

    class Short(training.Training):
        def _between_steps(self, clock):
            super()._between_steps(clock)
            if self.done == 2:
                raise Killed

    plain = s4.fit(method("supervised", task), task, out=tmp_path / "plain", **every)
    given = {k: v for k, v in every.items() if k != "progress"}
    with pytest.raises(Killed):
        Short(method("supervised", task), task, Settings(compile=True, **given), tmp_path / "cut", False, False).run()
    again = s4.fit(method("supervised", task), task, out=tmp_path / "cut", resume=True, compile=True, **every)
    a, b = (checkpoint.load(run.path / "last.pt")["method"] for run in (plain, again))
    assert a.keys() == b.keys() and not any("_orig_mod" in key for key in b)
    for key in a:
        torch.testing.assert_close(b[key], a[key], rtol=0, atol=0, msg=key)
    assert again.config["fit"]["compile"] is True and plain.config["fit"]["compile"] is False
    torch._dynamo.reset()
