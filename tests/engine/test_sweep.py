"""Stages that look at whole images first: what they keep, what rides along, and a kill at any moment."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from toy import toy_task

import s4kit as s4
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.engine import Settings, checkpoint, stages
from s4kit.engine.sweep import Sweep, passing
from s4kit.engine.training import Training
from s4kit.errors import S4Error
from s4kit.methods import Clock, Losses, Method, PseudoLabels, Stage
from s4kit.methods.parts.losses import ce, pixel_ce
from s4kit.nets import evaluating, make
from s4kit.views import Stream, ViewPlan, draw_step, render, weak

SETTINGS = dict(batch=2, lr=1e-2, optimiser="sgd", evaluate_every=50, checkpoint_every=2, probes=2, device="cpu")
CPU = torch.device("cpu")


class Rounds(Method):
    """Labels, then two rounds on its own labels: of half the images, of all; the network begins anew in each."""

    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", maps=("label",)))

    def __init__(self, task, net: str = "tiny") -> None:
        super().__init__()
        self.student, self.task = make(net, task), task
        self.register_buffer("often", torch.ones(len(task.unlabelled), dtype=torch.long))
        self.register_buffer("noise", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(task.num_classes, dtype=torch.long))

    def stages(self):
        return [
            Stage("labels", views=ViewPlan(x=Stream("labelled")), losses=self.start),
            Stage("half", prepare=self.half, restart=(self.student,)),
            Stage("all", prepare=self.label, restart=(self.student,)),
        ]

    def sampling(self, task):
        return {"unlabelled": self.often}

    def half(self, sweep: Sweep) -> None:
        means = {}
        for row, view in sweep.over("unlabelled"):
            assert bool((view.label == VOID).all()) and view.weak.shape == (1, 3, 40, 40)
            means[row] = float(sweep.scores(self.student, view).max(1).values.mean()) + float(torch.rand(()))
        means = sweep.gather(means)
        assert list(means) == sorted(self.task.unlabelled)
        order = sorted(means, key=means.get)[: len(means) // 2]
        self.often.copy_(torch.tensor([2 * (row in order) for row in self.task.unlabelled]))
        self.label(sweep, order)

    def label(self, sweep: Sweep, rows=None) -> None:
        self.sums.zero_()
        for row, view in sweep.over("unlabelled", rows, maps=("label",)):
            label = sweep.scores(self.student, view).argmax(1)[0]
            self.sums += torch.bincount(label.flatten(), minlength=len(self.sums))
            sweep.keep("label", row, label)
        sweep.sum(self.sums)
        self.noise.copy_(torch.rand(()) if rows is None else self.noise)
        if rows is None:
            self.noise.zero_()
            self.often.fill_(1)

    def start(self, batch, clock: Clock) -> Losses:
        return Losses(x=ce(self.student(batch.x.weak), batch.x.label))

    def teach(self, view):
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits, view, clock):
        label = view.maps.get("label", torch.full_like(view.label, VOID))
        known = (label != VOID).float()
        return PseudoLabels(label.where(known > 0, 0), known, known, view.valid)

    def losses(self, batch, clock: Clock) -> Losses:
        u = batch.u
        target = self.pseudo_labels(None, u, clock)
        z = self.student(u.weak)
        losses = self.start(batch, clock).add("u", pixel_ce(z, target, over="valid"))
        return losses.see(weak=u.weak, mixed=u.weak, target=target, student=z)


def made(task, seed: int = 0) -> Rounds:
    torch.manual_seed(seed)
    return Rounds(task)


@pytest.fixture(scope="module")
def task():
    return toy_task(n_unlabelled=6)


@pytest.fixture(scope="module")
def straight(task, tmp_path_factory):
    out = tmp_path_factory.mktemp("rounds") / "run"
    return s4.fit(made(task), task, steps=9, out=out, progress=False, **SETTINGS)


def state(run) -> dict:
    return checkpoint.load(run.path / "last.pt")["method"]


def maps(run) -> dict[str, bytes]:
    return {str(f.relative_to(run.path)): f.read_bytes() for f in sorted((run.path / "store").rglob("*.png"))}


def same(a, b) -> bool:
    one, two = state(a), state(b)
    return all(torch.equal(one[k], two[k]) for k in one) and maps(a) == maps(b)


def test_labels_of_each_round_are_kept_and_shown(task, straight):
    files = [name.split("/") for name in maps(straight)]
    assert sorted({f[1] for f in files}) == ["1", "2"] and sum(f[1] == "1" for f in files) == 3
    assert {int(f[3][:7]) for f in files if f[1] == "2"} == set(task.unlabelled)
    kept = Kept(str(straight.path / "store"), 2)
    row = task.unlabelled[0]
    assert kept.read("label", row).shape == (40, 40) and kept.read("other", row) is None
    assert Kept(kept.root, 0).read("label", row) is None and not Kept(kept.root, 0).names()
    first = {int(f[3][:7]) for f in files if f[1] == "1"}
    old = [r for r in task.unlabelled if Kept(kept.root, 1).read("label", r) is None]
    assert len(first) == 3 and set(old) == set(task.unlabelled) - first
    # a snapshot behind each stage, the last two of kept labels
    steps = straight.snapshots().steps["pseudo"]
    assert steps == [2, 5, 8] and [row["step"] for row in straight.evaluations()] == [2, 5, 8]
    shown = [straight.snapshots().read(step, "pseudo", k)["weight"] for step in steps for k in range(2)]
    assert shown[0].max() == shown[1].max() == 0 and all((shown[k] == 255).any() for k in (4, 5))
    assert straight.config["stages"] == [
        {"name": name, "first": 3 * k, "steps": 3} for k, name in enumerate(("labels", "half", "all"))
    ]


def test_the_network_begins_anew_and_the_first_round_sees_its_half_twice(task, tmp_path):
    seen, began = [], []
    method = made(task)
    initial = {k: v.clone() for k, v in method.student.state_dict().items()}
    losses = method.losses

    def watched(batch, clock):
        if clock.step == 0:
            began.append(
                all(torch.equal(v, initial[k]) for k, v in method.student.state_dict().items() if "num" not in k)
            )
        seen.append((clock.stage, batch.u.index.tolist()))
        return losses(batch, clock)

    method.losses = watched
    s4.fit(method, task, steps=9, out=tmp_path / "r", progress=False, **SETTINGS | {"probes": 0})
    assert began == [True, True, True, True], "in the rehearsal and in the first step of either round"
    rows = [r for stage, index in seen for r in index if stage == 1]
    assert 0 < len(set(rows)) <= 3 < len({r for stage, index in seen for r in index if stage == 2})


class Killed(Exception):
    pass


@pytest.mark.parametrize("when", ["before", "inside", "behind"])
def test_a_kill_at_any_moment_changes_nothing(when, task, straight, tmp_path, monkeypatch):
    """At the turn to the last round: before its pass, in its middle with maps half written, right behind it."""
    method, out = made(task), tmp_path / "r"
    settings = Settings(steps=9, **SETTINGS)
    if when == "inside":
        keep = Sweep.keep

        def dying(self, name, row, values):
            keep(self, name, row, values)
            if self._kept.stage == 2 and row == task.unlabelled[3]:
                method.sums.fill_(77)
                raise Killed

        monkeypatch.setattr(Sweep, "keep", dying)
    if when == "before":
        monkeypatch.setattr("s4kit.engine.training.prepare", lambda t, i: kill() if i == 2 else stages.prepare(t, i))
    if when == "behind":
        step = Training._step
        monkeypatch.setattr(Training, "_step", lambda t, *a: kill() if t.index == 2 else step(t, *a))

    with pytest.raises(Killed):
        Training(method, task, settings, out, False, False).run()
    monkeypatch.undo()
    assert checkpoint.load(out / "last.pt")["step"] == 6
    if when != "before":
        assert (out / "store/2/label").is_dir()
    resumed = s4.fit(made(task, seed=99), task, steps=9, out=out, resume=True, progress=False, **SETTINGS)
    assert same(straight, resumed)
    for file in ("metrics.csv", "evaluations.csv", "pseudo.csv"):
        assert (straight.path / file).read_text() == (resumed.path / file).read_text()


def kill():
    raise Killed


def test_resuming_behind_the_pass_does_not_repeat_it(task, straight, tmp_path, monkeypatch):
    out, step = tmp_path / "r", Training._step
    monkeypatch.setattr(Training, "_step", lambda t, *a: kill() if t.done == 5 else step(t, *a))
    with pytest.raises(Killed):
        Training(made(task), task, Settings(steps=9, **SETTINGS), out, False, False).run()
    monkeypatch.undo()
    assert checkpoint.load(out / "last.pt")["step"] == 4
    passes = []
    over = Sweep.over
    monkeypatch.setattr(Sweep, "over", lambda self, *a, **k: passes.append(self._kept.stage) or over(self, *a, **k))
    resumed = s4.fit(made(task, seed=99), task, steps=9, out=out, resume=True, progress=False, **SETTINGS)
    assert same(straight, resumed) and passes == [2]


def test_ctrl_c_in_the_middle_of_a_pass_leaves_a_run_that_goes_on(task, straight, tmp_path, monkeypatch):
    out, keep = tmp_path / "r", Sweep.keep

    def asking(self, name, row, values):
        keep(self, name, row, values)
        if self._kept.stage == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Sweep, "keep", asking)
    run = s4.fit(made(task), task, steps=9, out=out, progress=False, **SETTINGS)
    assert run.interrupted and len(list((out / "store/2/label").iterdir())) == 1
    monkeypatch.undo()
    assert same(straight, s4.fit(made(task), task, steps=9, out=out, resume=True, progress=False, **SETTINGS))


def test_maps_go_through_the_geometry_as_labels_do(task, tmp_path):
    kept = Kept(str(tmp_path), 0)
    for row in task.labelled[1:]:
        kept.write("own", row, task.train.read(row).label.numpy())
    plan = ViewPlan(x=Stream("labelled", weak(scale=(0.5, 2.0)), maps=("own", "none")))
    batch = render(draw_step(replace(task, kept=kept), plan, 8, 0, 0, 0), plan)
    x = batch.x
    known = x.index != task.labelled[0]
    assert torch.equal(x.maps["own"][known], x.label[known]) and bool((x.label[known] != VOID).any())
    assert bool((x.maps["own"][~known] == VOID).all()) and bool((x.maps["none"] == VOID).all())
    kept.write("own", task.labelled[0], np.zeros((3, 3), np.uint8))
    with pytest.raises(S4Error, match="the image"):
        draw_step(replace(task, kept=kept), plan, 8, 0, 0, 0)
    with pytest.raises(S4Error, match="uint8"):
        kept.write("own", 0, np.zeros((3, 3), np.int64))


def test_a_stage_whose_map_was_never_kept_is_refused(task, tmp_path):
    method = made(task)
    method.stages = lambda: [Stage("all")]
    with pytest.raises(S4Error, match="no `prepare` has kept"):
        s4.fit(method, task, steps=2, out=tmp_path / "r", progress=False, **SETTINGS)
    method.often.zero_()
    method.stages = lambda: [Stage("labels", views=ViewPlan(x=Stream("labelled")), losses=method.start)]
    with pytest.raises(S4Error, match="leaves out all images"):
        s4.fit(method, task, steps=2, out=tmp_path / "s", progress=False, **SETTINGS)


def test_the_list_of_both_is_repeated_and_restricted(task):
    from s4kit.engine.settings import sampled

    often = torch.tensor([2] * len(task.labelled) + [0, 1] * 3)
    assert task.rows("all") == (*task.labelled, *task.unlabelled)
    rows = sampled(task, {"all": often}).rows("all")
    assert sorted(rows) == sorted([*task.labelled, *task.labelled, *task.unlabelled[1::2]])


def test_whole_images_come_with_any_number_of_workers(task):
    alone = list(passing(task, Stream("all"), (0, 9, 13), CPU, workers=0))
    shared = list(passing(task, Stream("all"), (0, 9, 13), CPU, workers=2))
    assert [row for row, _ in alone] == [row for row, _ in shared] == [0, 9, 13]
    for (_, a), (_, b) in zip(alone, shared):
        assert torch.equal(a.weak, b.weak) and torch.equal(a.label, b.label)
    assert torch.equal(alone[0][1].label[0], task.train.read(0).label.long()), "a labelled image has its label"
    assert bool((alone[1][1].label == VOID).all())


def test_what_is_kept_is_on_the_disk_and_nothing_else_is_waited_for(task, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    kept = Kept(str(tmp_path / "store"), 0)
    sweep = Sweep(task, Stream("all"), kept, 0, CPU, "fp32")
    for row in (3, 5, 3):
        sweep.keep("own", row, torch.zeros(4, 4))
    sweep.settle()
    files = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    assert len(synced) == 5 and set(synced) == {path.stat().st_ino for path in files}


def test_ids_are_kept_as_they_are_and_all_else_as_bytes(task, tmp_path):
    kept = Kept(str(tmp_path), 0)
    sweep = Sweep(task, Stream("all"), kept, 0, CPU, "fp32")
    for row, dtype in enumerate((torch.int32, torch.long, torch.float32, torch.bool, torch.uint8)):
        sweep.keep("any", row, torch.ones(3, 4, dtype=dtype))
        assert kept.read("any", row).dtype == (np.int32 if dtype == torch.int32 else np.uint8)
    sweep.keep("any", 0, torch.full((3, 4), 70_001, dtype=torch.int32))
    assert (kept.read("any", 0) == 70_001).all()


def test_optimisers_go_on_where_a_stage_says_so(task, tmp_path):
    momenta = []

    class Going(Rounds):
        fresh = False

        def stages(self):
            first = Stage("labels", views=ViewPlan(x=Stream("labelled")), losses=self.start)
            return [first, Stage("all", prepare=self.label, fresh=self.fresh)]

    for fresh in (True, False):
        torch.manual_seed(0)
        method = Going(task)
        method.fresh = fresh
        out = tmp_path / str(fresh)
        s4.fit(method, task, steps=4, out=out, progress=False, **SETTINGS | {"probes": 0})
        held = checkpoint.load(out / "last.pt")["optimisers"]["main"]["state"]
        momenta.append(torch.cat([s["momentum_buffer"].flatten() for s in held.values()]))
    assert not torch.equal(*momenta)


def two(rank: int, folder: str) -> None:
    task = toy_task(n_unlabelled=6)
    torch.manual_seed(0)
    method = Rounds(task, net="tiny(norm='group')")
    s4.fit(method, task, steps=3, out=Path(folder) / "two", progress=False, **SETTINGS | {"batch": 1})
    buffers = torch.cat([b.flatten().double() for b in method.buffers()])
    torch.save(buffers, Path(folder) / f"buffers_{rank}.pt")


@pytest.mark.slow
def test_two_ranks_keep_what_one_does(task, tmp_path):
    ranks.both(two, str(tmp_path))
    torch.manual_seed(0)
    method = Rounds(task, net="tiny(norm='group')")
    alone = s4.fit(method, task, steps=3, out=tmp_path / "one", accumulate=2, progress=False, **SETTINGS | {"batch": 1})
    assert same(alone, s4.open_run(tmp_path / "two"))
    assert torch.equal(*(torch.load(tmp_path / f"buffers_{rank}.pt", weights_only=True) for rank in (0, 1)))
