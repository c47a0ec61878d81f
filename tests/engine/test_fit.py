"""fit: what it leaves behind, exact resuming, and clear stops."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import tiny, toy_arrays, toy_task

import s4kit as s4
from s4kit import preemption
from s4kit.data.sources import MemorySource
from s4kit.engine import checkpoint
from s4kit.errors import S4Error
from s4kit.methods import Losses

SMALL = dict(
    batch=2, lr=1e-2, optimiser="sgd", evaluate_every=4, checkpoint_every=3, probes=2, progress=False, device="cpu"
)


def method(name: str, task, seed: int = 0, **options):
    torch.manual_seed(seed)
    return s4.methods.create(name, task, **tiny(name, task) | options)


def state(run) -> dict:
    return checkpoint.load(run.path / "last.pt")["method"]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def task():
    return toy_task()


def test_a_run_leaves_config_metrics_scores_probes_and_checkpoints(task, tmp_path):
    run = s4.fit(method("fixmatch", task, tau=0.3), task, steps=8, out=tmp_path / "run", **SMALL)
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(8))
    assert {"loss", "lr", "x", "u", "kept_target"} <= rows[0].keys()
    assert all(abs(row["loss"] - 0.5 * (row["x"] + row["u"])) < 1e-5 for row in rows)
    assert [row["step"] for row in run.evaluations()] == [3, 7]
    assert [row["step"] for row in run.pseudo()] == [3, 7]
    assert run.snapshots().steps == {"pseudo": [3, 7]} and run.snapshots().read(7, "pseudo", 1)["label"].shape == (
        32,
        32,
    )
    assert run.config["method"] == "fixmatch" and run.config["fit"]["steps"] == 8
    assert 0 <= run.last["miou"] <= run.best["miou"] <= 1
    assert (run.path / "timing.csv").exists() and "seconds" not in (run.path / "metrics.csv").read_text()
    reopened = s4.open_run(run.path)
    scores = reopened.evaluate(task=task)["student"]
    assert scores.miou == pytest.approx(run.last["miou"], abs=1e-6)


def test_the_unlabelled_batch_and_accumulation(task, tmp_path):
    seen = []
    m = method("fixmatch", task)
    losses = m.losses
    m.losses = lambda batch, clock: seen.append((len(batch.x), len(batch.u))) or losses(batch, clock)
    s4.fit(m, task, steps=1, out=tmp_path / "r", unlabelled_batch=4, accumulate=2, **SMALL)
    assert set(seen) == {(2, 4)} and len(seen) == 2 + 1 + 1  # the rehearsal, and what the explorer shows


def test_workers_do_not_change_the_run(task, tmp_path):
    runs = [s4.fit(method("fixmatch", task), task, steps=4, out=tmp_path / str(w), workers=w, **SMALL) for w in (0, 2)]
    assert same(state(runs[0]), state(runs[1]))


def test_every_image_is_seen_once_per_epoch(task):
    from s4kit.views.sampling import pick

    stream = s4.methods.get("fixmatch").views["u"]
    for epoch in range(3):
        rows = [pick(task, stream, "u", 0, 0, epoch * 16 + k) for k in range(16)]
        assert sorted(rows) == list(task.unlabelled)


def test_unlabelled_labels_never_reach_a_step(task):
    from s4kit.views import draw_step, render

    m = method("fixmatch", task)
    batch = render(draw_step(task, m.views, 4, 0, 0, 0), m.views)
    assert (batch.u.label == 255).all() and not batch.u.labelled.any()
    assert (batch.x.label != 255).any() and batch.x.labelled.all()


def test_learning_rate_follows_the_batch_and_says_so(task, tmp_path, capsys):
    run = s4.fit(method("supervised", task), task, steps=2, out=tmp_path / "r", reference_batch=8, **SMALL)
    assert run.config["fit"]["lr"] == pytest.approx(SMALL["lr"] * 2 / 8)
    assert "scaled by 2/8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 9}, "--batch 8"),
        ({"steps": None}, "how long"),
        ({"optimiser": "sdg"}, "sgd"),
        ({"precision": "half"}, "precision"),
        ({"learning_rate": 1}, "Did you mean"),
        ({"schedule": "cosin"}, "schedule"),
        ({"device": "cuda"}, "CUDA"),
        ({"device": "gpu"}, "There is no device"),
        ({"steps": -5}, "forwards"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"unlabelled_batch": 0}, "unlabelled_batch must be at least 1"),
        ({"workers": "many"}, "workers"),
        ({"resume": True, "out": None}, "out=FOLDER"),
    ],
)
def test_bad_settings_are_named(task, tmp_path, change, words):
    if change == {"device": "cuda"} and torch.cuda.is_available():
        pytest.skip("there is a GPU here, so asking for it is no mistake")
    arguments = SMALL | {"steps": 2} | change
    with pytest.raises(S4Error, match=words):
        s4.fit(method("supervised", task), task, **{"out": tmp_path / "r"} | arguments)


def test_a_loss_that_is_not_finite_names_step_term_and_images(task, tmp_path):
    m = method("supervised", task)
    m.losses = lambda batch, clock: Losses(x=m.student(batch.x.weak).mean() * (float("nan") if clock.step == 2 else 1))
    m.losses.__name__ = "losses"
    with pytest.raises(S4Error, match=r"'(x|loss)' is nan at step 2 \(images x: train_\d, train_\d") as error:
        s4.fit(m, task, steps=4, out=tmp_path / "r", **SMALL)
    assert "learning rate" in str(error.value)
    rows = s4.open_run(tmp_path / "r").metrics()
    assert [row["step"] for row in rows] == [0, 1, 2] and rows[2]["loss"] != rows[2]["loss"]  # the NaN is on record


def test_a_folder_with_a_run_is_not_overwritten(task, tmp_path):
    s4.fit(method("supervised", task), task, steps=1, out=tmp_path / "r", **SMALL)
    with pytest.raises(S4Error, match="already holds a run"):
        s4.fit(method("supervised", task), task, steps=1, out=tmp_path / "r", **SMALL)


def test_damaged_checkpoint_and_missing_run(task, tmp_path):
    run = s4.fit(method("supervised", task), task, steps=1, out=tmp_path / "r", **SMALL)
    file = run.path / "last.pt"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(S4Error, match=r"last\.pt is damaged"):
        run.load(task=task)
    file.unlink()
    with pytest.raises(S4Error, match="There is no checkpoint"):
        run.load(task=task)
    with pytest.raises(S4Error, match="holds no run"):
        s4.open_run(tmp_path)


def test_a_checkpoint_cannot_carry_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, ("true",))

    torch.save({"method": Evil()}, tmp_path / "last.pt")
    with pytest.raises(S4Error, match="more than tensors"):
        checkpoint.load(tmp_path / "last.pt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to play a full disk")
def test_full_disk_keeps_the_old_checkpoint(tmp_path):
    file = tmp_path / "last.pt"
    checkpoint.save(file, {"step": 1})

    def write(_):
        with open("/dev/full", "wb") as full:
            torch.save({"step": torch.zeros(10_000)}, full)

    with pytest.raises(S4Error, match="disk is full"):
        checkpoint.write_atomic(file, write)
    assert checkpoint.load(file)["step"] == 1 and list(tmp_path.iterdir()) == [file]


LONG = dict(evaluate_every=40, checkpoint_every=5, threads=1)
CHILD = """
import sys, torch
sys.path.insert(0, {tests!r})
from toy import toy_task
import s4kit as s4
task = toy_task()
torch.manual_seed({seed})
m = s4.methods.create("mean_teacher", task, net="tiny")
s4.fit(m, task, steps={steps}, out={out!r}, resume={resume}, **{settings!r})
"""


def child(out: Path, resume: bool, seed: int = 0, steps: int = 120) -> list[str]:
    given = dict(tests=str(Path(__file__).parents[1]), settings=SMALL | LONG)
    return [sys.executable, "-c", CHILD.format(out=str(out), resume=resume, seed=seed, steps=steps, **given)]


@pytest.mark.slow
def test_kill_9_at_a_random_moment_then_resume_is_bit_exact(task, tmp_path):
    s4.fit(method("mean_teacher", task), task, steps=120, out=tmp_path / "a", **SMALL | LONG)
    process = subprocess.Popen(child(tmp_path / "b", False), stderr=subprocess.DEVNULL)
    while not (tmp_path / "b" / "last.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.load(tmp_path / "b" / "last.pt")["step"] < 120
    subprocess.run(child(tmp_path / "b", True, seed=7), check=True, capture_output=True)
    for file in ("metrics.csv", "evaluations.csv", "pseudo.csv"):
        assert (tmp_path / "a" / file).read_text() == (tmp_path / "b" / file).read_text()
    assert same(*(checkpoint.load(tmp_path / r / "last.pt")["method"] for r in "ab"))


@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_run(task, tmp_path):
    process = subprocess.Popen(child(tmp_path / "r", False, steps=100_000), stderr=subprocess.PIPE)
    while not (tmp_path / "r" / "last.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, process.stderr.read()
    run = s4.open_run(tmp_path / "r")
    done = checkpoint.load(run.path / "last.pt")["step"]
    assert len(run.metrics()) == done > 0
    run.load(task=task)


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_a_preempted_training_saves_leaves_with_its_status_and_goes_on(number, task, tmp_path, monkeypatch):
    """Told in its second step, between two checkpoints; resumed it ends as one that nobody told."""
    told = SMALL | {"steps": 5, "checkpoint_every": 4}
    before = [signal.getsignal(n) for n in preemption.SIGNALS]
    s4.fit(method("fixmatch", task), task, out=tmp_path / "a", **told)
    one = method("fixmatch", task)
    monkeypatch.setattr(one, "after_step", lambda clock: clock.step == 1 and os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as left:
        s4.fit(one, task, out=tmp_path / "b", **told)
    assert left.value.code == preemption.STATUS and "saved after 2 steps" in left.value.words
    assert checkpoint.load(tmp_path / "b" / "last.pt")["step"] == 2
    assert [signal.getsignal(n) for n in preemption.SIGNALS] == before
    s4.fit(method("fixmatch", task), task, out=tmp_path / "b", resume=True, **told)
    assert same(*(checkpoint.load(tmp_path / r / "last.pt")["method"] for r in "ab"))


def test_config_is_json_and_names_versions(task, tmp_path):
    run = s4.fit(method("supervised", task), task, steps=1, out=tmp_path / "r", **SMALL)
    assert json.loads((run.path / "config.json").read_text())["versions"]["torch"] == torch.__version__


class Broken(MemorySource):
    """Its last images cannot be read, as if their files had been cut off."""

    broken: tuple[int, ...] = ()

    def read(self, row, label=True):
        if row in self.broken:
            raise S4Error(f"{self.ids[row]}.png is truncated; fetch it again.")
        return super().read(row, label)


def breaking(task, rows, part="train"):
    source = Broken(*toy_arrays(24), 4, [f"image_{i}" for i in range(24)])
    source.broken = rows
    return replace(task, **{part: source})


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_broken_labelled_or_validation_file_stops_before_the_training(task, tmp_path, part):
    with pytest.raises(S4Error, match=r"image_2\.png is truncated"):
        s4.fit(method("supervised", task), breaking(task, (2,), part), steps=4, out=tmp_path / "r", **SMALL)
    assert not (tmp_path / "r" / "metrics.csv").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_in_mid_training_is_named_and_loses_nothing(task, tmp_path, workers):
    bad = breaking(task, (23,))
    with pytest.raises(S4Error, match=r"^image_23\.png is truncated") as error:
        s4.fit(method("fixmatch", task), bad, steps=40, out=tmp_path / "r", workers=workers, **SMALL)
    assert "Traceback" not in str(error.value)
    assert not multiprocessing.active_children(), "whoever keeps the error keeps no worker waiting"
    done = checkpoint.load(tmp_path / "r" / "last.pt")["step"]
    assert done == len(s4.open_run(tmp_path / "r").metrics()) > 0


def test_a_task_without_unlabelled_images_is_for_supervised_only(task, tmp_path):
    alone = replace(task, unlabelled=())
    with pytest.raises(S4Error, match="learns from unlabelled images"):
        s4.fit(method("fixmatch", alone), alone, steps=2, out=tmp_path / "r", **SMALL)
    s4.fit(method("supervised", alone), alone, steps=2, out=tmp_path / "s", **SMALL)


def test_curves_in_a_notebook_are_a_picture():
    from s4kit.engine.progress import curves, running_means

    rows = [{"step": k, "stage": 0, "lr": 0.1, "loss": 1.0 / (k + 1), "kept_u": k / 50} for k in range(50)]
    assert curves(rows, [(20, 0.4), (40, 0.5)], 100).startswith(b"\x89PNG")
    assert running_means([(0, 2.0), (1, 4.0), (2, 6.0)], 2) == [(0, 2.0), (1, 3.0), (2, 5.0)]


def test_names_of_many_curves_stand_beside_them_each_in_a_colour_of_its_own():
    from matplotlib.figure import Figure

    from s4kit.engine.progress import _colours, _means

    for count, beside in ((4, False), (11, True)):
        axis = Figure().subplots()
        _means(axis, {f"term {k}": [(0, 1.0), (1, 0.5)] for k in range(count)}, _colours(count))
        anchor = axis.get_legend().get_bbox_to_anchor().transformed(axis.transAxes.inverted())
        assert bool(anchor.x0 > 0.9) is beside and len({line.get_color() for line in axis.lines}) == count


def test_resume_where_nothing_is_yet_starts_and_a_killed_start_leaves_nothing(task, tmp_path):
    run = s4.fit(method("supervised", task), task, steps=3, out=tmp_path / "r", resume=True, **SMALL)
    assert len(run.metrics()) == 3
    (run.path / "last.pt").unlink()  # as if killed before the first checkpoint
    again = s4.fit(method("supervised", task), task, steps=2, out=tmp_path / "r", **SMALL)
    assert [row["step"] for row in again.metrics()] == [0, 1] and again.config["fit"]["steps"] == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to play a full disk")
def test_a_full_disk_under_the_tables_is_told(task, tmp_path):
    from s4kit.engine.records import Table

    table = Table(tmp_path / "metrics.csv")
    table.append([{"step": 0}])
    table.path = Path("/dev/full")
    with pytest.raises(S4Error, match="/dev/full could not be written: the disk is full"):
        table.append([{"step": 1}])


def test_a_broken_label_of_an_unlabelled_image_does_not_matter(task, tmp_path):
    class Half(Broken):
        def read(self, row, label=True):
            return super().read(row, label) if label else MemorySource.read(self, row, label)

    source = Half(*toy_arrays(24), 4, [f"image_{i}" for i in range(24)])
    source.broken = tuple(range(8, 24))
    s4.fit(method("fixmatch", task), replace(task, train=source), steps=4, out=tmp_path / "r", **SMALL)


def test_scores_print_as_a_table(task):
    from s4kit.engine import evaluate

    net = method("supervised", task).student
    assert "mIoU" in repr({"student": evaluate(net, task)}) and "tensor" not in repr(evaluate(net, task))


def test_broken_weights_never_become_a_checkpoint(task, tmp_path):
    m = method("supervised", task)

    def spoil(clock):
        if clock.step == 4:
            next(m.parameters()).data.fill_(float("nan"))

    m.after_step = spoil
    with pytest.raises(S4Error, match=r"After step \d some weights are not finite|is nan at step"):
        s4.fit(m, task, steps=9, out=tmp_path / "r", **SMALL | {"evaluate_every": 100, "checkpoint_every": 1})
    assert checkpoint.load(tmp_path / "r" / "last.pt")["step"] == 4


def test_betas_reach_the_optimiser(task, tmp_path):
    """Of `adam` the set-up may say the decays of both moments; also after a run is read back from JSON."""
    settings = SMALL | {"optimiser": "adam", "betas": (0.9, 0.99)}
    s4.fit(method("supervised", task), task, steps=3, out=tmp_path / "run", **settings)
    run = s4.fit(method("supervised", task), task, steps=3, out=tmp_path / "run", resume=True, **settings)
    (group,) = {
        tuple(group["betas"]) for group in checkpoint.load(run.path / "last.pt")["optimisers"]["main"]["param_groups"]
    }
    assert group == (0.9, 0.99)


def test_nesterovs_momentum_reaches_the_optimiser(task, tmp_path):
    plain, ahead = (
        s4.fit(method("supervised", task), task, steps=3, out=tmp_path / str(n), **SMALL | {"nesterov": n})
        for n in (False, True)
    )
    assert not same(state(plain), state(ahead))
