"""Recordings: kept without weights, opened at once, beside one's own runs; those that are shipped are of this kit."""

from __future__ import annotations

import json
import linecache
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import s4kit as s4
from s4kit import methods
from s4kit.cli import main
from s4kit.engine import images
from s4kit.errors import S4Error
from s4kit.methods import own
from s4kit.report import setup
from s4kit.report.comparing.compare import difference
from s4kit.walk import against, profiles, recordings

FIT = {"steps": 4, "evaluate_every": 2, "checkpoint_every": 2, "probes": 2}
SHIPPED = sorted(recordings.SHIPPED.glob("*/*/config.json"))
NAMED = sorted(recordings.SHIPPED.glob("*/named/*/config.json"))


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    with pytest.MonkeyPatch.context() as set_here:
        set_here.setenv("S4KIT_RUNS", str(tmp_path_factory.mktemp("runs")))
        opened = s4.lesson("test", "scenes", quiet=True)
        opened.train("cutmix", "cutmix", fit=FIT)
        opened.train("cutmix", "an experiment", fit=FIT, tau=0.5)
        opened.references(**FIT)
        yield opened


@pytest.fixture(scope="module")
def kept(lesson, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("recordings")
    assert main(["record", str(lesson.folder), "--out", str(out)]) == 0
    return out


def test_a_recording_is_the_run_without_its_weights(lesson, kept):
    names = {folder.name for folder in (kept / "scenes").iterdir()}
    assert names == {f"{name}-seed0" for name in ("cutmix", "supervised", "supervised_strong", "all_labels")}
    assert not list(kept.rglob("*.pt")) and not (kept / "scenes/supervised-seed0/probes").exists()
    [run] = recordings.recorded("scenes", ["cutmix"], kept)["cutmix"]
    trained = lesson.runs("cutmix")["cutmix"]
    assert run.last["miou"] == pytest.approx(trained.last["miou"], abs=1e-5)
    assert [row["step"] for row in run.metrics()] == [row["step"] for row in trained.metrics()]
    assert run.config == trained.config and run.snapshots().steps == trained.snapshots().steps
    assert s4.explore({"recorded": run}).numbers()["recorded"]["coverage"] is not None


def test_references_and_curves_take_recordings_instead_of_training(lesson, kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recordings, "SHIPPED", kept)
    monkeypatch.setenv("S4KIT_RUNS", str(tmp_path))
    settings = profiles.TABLE["test", "scenes"]
    own = {**settings.fit, **FIT}
    monkeypatch.setitem(profiles.TABLE, ("test", "scenes"), replace(settings, fit=own))
    fresh = s4.lesson("test", "scenes", quiet=True)
    found = fresh.references()
    assert list(found) == list(setup.REFERENCES) and not fresh.folder.exists()
    fresh.train("cutmix")
    labels = fresh.curves("cutmix").axes[0].get_legend_handles_labels()[1]
    assert set(labels) == {*setup.REFERENCES, "cutmix", "cutmix, recorded"}
    capsys.readouterr()
    fresh.verdict("cutmix")
    said = capsys.readouterr().out
    assert re.search(r"cutmix ends at [\d.]+ % mIoU: [+-][\d.]+ points from supervised and [+-]", said)
    assert list(fresh.recorded("cutmix", "nothing")) == ["cutmix"]
    assert "Recorded, not trained now: cutmix (1 seed); 4 steps, batch 2" in capsys.readouterr().out
    assert not recordings.fits(fresh.recorded("cutmix")["cutmix"][0], fresh.settled(steps=5))


def test_an_experiment_is_opened_by_the_arguments_that_would_train_it(lesson, tmp_path, monkeypatch, capsys):
    assert main(["record", str(lesson.folder), "--out", str(tmp_path / "kept"), "--named", "an experiment"]) == 0
    assert not list(tmp_path.rglob("*_path.npz")) and not list(tmp_path.rglob("*.pt"))
    assert [folder.name for folder in (tmp_path / "kept/scenes/named").iterdir()] == ["an_experiment"]
    monkeypatch.setattr(recordings, "SHIPPED", tmp_path / "kept")
    monkeypatch.setenv("S4KIT_RUNS", str(tmp_path))
    fresh = s4.lesson("test", "scenes", quiet=True)
    capsys.readouterr()
    run = fresh.open("cutmix", "an experiment", fit=FIT, tau=0.5)
    assert "a recording, not trained now" in capsys.readouterr().out and not fresh.folder.exists()
    assert list(fresh.recorded()) == [], "a recording of its own, no row of the table"
    assert fresh.runs("an experiment")["an experiment"] is run and fresh.runs() == {}
    assert len(run.snapshots().steps["pseudo"]) == 2 and fresh.explore("an experiment") is not None
    with pytest.raises(S4Error, match=r"last\.pt"):
        run.load()
    other = fresh.open("cutmix", "an experiment", fit=FIT, tau=0.6)  # of that there is none: it is trained
    assert other.config["options"]["tau"] == 0.6 and list(fresh.runs()) == ["an experiment"]
    capsys.readouterr()
    assert fresh.open("cutmix", "an experiment", fit=FIT, tau=0.5).path == run.path, "the run here is another one"
    assert fresh.open("cutmix", "an experiment", fit=FIT, tau=0.6).path == other.path
    assert "already trained here" in capsys.readouterr().out


def test_no_shipped_name_needs_quotes():
    plain = re.compile(r"[\w.=+-]+")
    assert NAMED and all(plain.fullmatch(part.name) for part in recordings.SHIPPED.rglob("*"))


class Ended:
    """A run that ended somewhere."""

    def __init__(self, miou: float) -> None:
        self.score, self.column, self.last = "mIoU", "miou", {"miou": miou}


def words(run: float, supervised: float, strong: float, full: float, capsys, seeds: dict | None = None) -> str:
    ends = zip(setup.REFERENCES, (supervised, strong, full))
    recorded = {name: [Ended(v) for v in values] for name, values in (seeds or {}).items()}
    against.verdict("cutmix", Ended(run), {name: Ended(end) for name, end in ends}, recorded)
    return capsys.readouterr().out


def test_a_verdict_says_what_its_numbers_say(capsys):
    said = words(0.8, 0.6, 0.7, 0.9, capsys)
    assert "+20.0 points from supervised and +10.0 points from supervised_strong." in said and "67 % of the gap" in said
    assert "have not helped it past supervised_strong" in words(0.65, 0.6, 0.7, 0.9, capsys)
    said = words(0.5, 0.6, 0.7, 0.9, capsys)
    assert "nothing of the gap is closed" in said and "-20.0 points from supervised_strong" in said
    assert "no head-room" in words(0.8, 0.9, 0.7, 0.9, capsys)
    seeds = {"cutmix": [0.79, 0.81], "supervised": [0.6, 0.6], "supervised_strong": [0.7, 0.7]}
    assert "Recorded with 2 seeds: 80.0 ± 1.4 %, +20.0" in words(0.8, 0.6, 0.7, 0.9, capsys, seeds)


def test_what_cannot_be_recorded(lesson, tmp_path):
    with pytest.raises(S4Error, match="holds no finished run of a method"):
        recordings.record(tmp_path)
    with pytest.raises(S4Error, match="holds no finished run 'nothing'"):
        recordings.record(lesson.folder, tmp_path, named=["an experiment", "nothing"])
    lesson.train("fixmatch", "fixmatch", fit=FIT | {"steps": 6})
    with pytest.raises(S4Error, match="are no comparison: steps is 6"):
        recordings.record(lesson.folder, tmp_path)


def test_a_table_of_several_seeds(kept):
    table = recordings.table(recordings.recorded("scenes", base=kept))
    assert [row[0] for row in table.rows] == ["supervised", "supervised_strong", "all labels", "cutmix"]
    assert table.head[1:3] == ("seeds", "mIoU last") and table.rows[0][1] == 1


# ---- those that the kit ships ----


@cache
def loaded(arguments: str):
    return s4.load(**json.loads(arguments))


def test_what_is_shipped_is_small():
    assert sum(file.stat().st_size for file in recordings.SHIPPED.rglob("*") if file.is_file()) < 15e6


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.parent.name)
def test_a_shipped_recording_opens_and_is_of_the_lesson_as_it_is(file):
    run, data = s4.open_run(file.parent), file.parent.parent.name
    config = run.config
    assert run.metrics() and run.last["step"] == config["fit"]["steps"] - 1 and 0.05 < run.last["miou"] < 1
    assert not re.search(r'"/|\\\\', json.dumps(config)), "a path of a machine"
    chosen = profiles.setup_of(profiles.profile("cpu", data), data, config["method"], {}, {}, {})
    if config["task"]["labelled"] == "all":
        chosen = setup.all_labels(chosen)
    task = loaded(json.dumps(chosen.task))
    assert difference(setup.settle(chosen, task), config["fit"]["seed"], file.parent, task) == ""
    assert config["method"] in methods.names() and (file.parent / images.FILE).is_file()
    if (file.parent / "probes").is_dir():
        snapshots = run.snapshots()
        assert all(len(steps) > 1 for steps in snapshots.steps.values())
        assert snapshots.image(len(snapshots) - 1)["image"].any()


@pytest.mark.parametrize("file", NAMED, ids=lambda file: file.parent.name)
def test_a_shipped_experiment_is_one_that_a_page_opens(file, monkeypatch):
    """Of the class that the page defines, and with its settings: else the page would train what it says to open."""
    run, name = s4.open_run(file.parent), file.parent.name
    config, data = run.config, file.parents[2].name
    assert run.last["step"] == config["fit"]["steps"] - 1 and not list(file.parent.rglob("*_path.npz"))
    assert not re.search(r'"/|\\\\', json.dumps(config)), "a path of a machine"
    monkeypatch.setattr(own, "OWN", dict(own.OWN))
    monkeypatch.setattr(methods, "OWN", own.OWN)
    if config["code"]:
        define(config["method"])
    asked = {key: value for key, value in config["options"].items() if key != "net" or name.startswith("08")}
    fit = config["fit"] if name.startswith("08") else {}
    chosen = profiles.setup_of(profiles.profile("cpu", data), data, config["method"], config["task"], asked, fit)
    task = loaded(json.dumps(chosen.task))
    assert difference(setup.settle(chosen, task), 0, file.parent, task) == ""


def define(method: str) -> None:
    """Register a method as its page does: the cells with classes, up to the end of the class that is asked for."""
    for page in sorted((Path(__file__).parents[2] / "notebooks").glob("0*.ipynb")):
        cells = ["".join(cell["source"]) for cell in json.loads(page.read_text())["cells"]]
        names: dict = {"s4": s4, "DATA": "scenes"}
        for source in (cell for cell in cells if "@s4.methods.register(" in cell):
            source = re.split(r"\n\w+ = lesson\.", source)[0] + "\n"
            linecache.cache[source[:60]] = (len(source), None, source.splitlines(keepends=True), source[:60])
            exec(compile(source, source[:60], "exec"), names)
            if f'"{method}"' in source:
                return
    raise AssertionError(f"no page defines {method}")
