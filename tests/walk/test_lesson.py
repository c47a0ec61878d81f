"""Lessons: one task, one protocol, runs that are opened, continued or put aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import s4kit as s4
from s4kit.data.objects import MaskEvaluation
from s4kit.errors import S4Error
from s4kit.methods.consistency.fixmatch import FixMatch
from s4kit.methods.own import OWN
from s4kit.walk import folders, places, profiles
from s4kit.walk.index import comparable

FIT = {"steps": 4, "evaluate_every": 2, "checkpoint_every": 2, "probes": 2}


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    monkeypatch.setenv("S4KIT_RUNS", str(tmp_path))
    return s4.lesson("test", "scenes", quiet=True)


def test_it_says_where_it_is(lesson, capsys):
    print(s4.lesson("test", "scenes"))
    said = capsys.readouterr().out
    assert "profile test" in said and "7 classes" in said and "$S4KIT_RUNS/lesson-test-scenes" in said
    with pytest.raises(S4Error, match=r"PROFILE 'cpi'.*cpu"):
        s4.lesson("cpi")
    with pytest.raises(S4Error, match="DATA = 'coco'"):
        s4.lesson("cpu", "coco")


def test_the_runs_of_the_walk_are_found_from_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.delenv("S4KIT_RUNS", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "runs/walk/runs/lesson-test-scenes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert s4.lesson("test", "scenes", quiet=True).folder == Path("../runs/walk/runs/lesson-test-scenes")
    Path("runs/lesson-test-scenes").mkdir(parents=True)  # own runs come first
    assert s4.lesson("test", "scenes", quiet=True).folder == Path("runs/lesson-test-scenes")


def test_a_batch_is_the_same_every_time_and_of_the_methods_own_views(lesson):
    method, one = lesson.batch("unimatch", n=3)
    again, two = lesson.batch("unimatch", n=3)
    assert set(one) == {"x", "u", "v"} and len(one.u) == 3 and len(one.u.strong) == 2
    assert all(torch.equal(one[name].weak, two[name].weak) for name in one)
    assert all(torch.equal(a, b) for a, b in zip(method.state_dict().values(), again.state_dict().values()))
    assert (one.u.label == 255).all() and (one.x.label != 255).any()


def test_a_method_meets_data_of_its_kind(lesson):
    assert lesson.task_of("fixmatch") is lesson.task
    assert isinstance(lesson.task_of("noisy_boundaries").evaluation, MaskEvaluation)
    assert lesson.task_of("ssda_dual_mix").more["domain"].protocol.endswith("of plain")


def test_the_images_to_judge_by_are_those_that_runs_watch(lesson):
    watched, truth = lesson.probe(2)
    assert len(watched.weak) == len(truth) == 2 and (truth != 255).any() and (watched.label == 255).all()
    seen = lesson.train("supervised", fit=FIT, name="mine").snapshots()
    assert [lesson.task.train.ids[row] for row in watched.index.tolist()] == seen.ids[:2]


def test_labelled_images_and_those_of_val_are_seen_as_the_unlabelled_ones(lesson):
    for of, source, rows in (("labelled", lesson.task.train, lesson.task.labelled), ("val", lesson.task.val, [0, 1])):
        views, truth = lesson.probe(2, of=of)
        assert len(views.weak) == len(truth) == 2 and views.weak.shape[-2:] == truth.shape[-2:]
        for row, crop in zip(rows, truth):
            whole = source.read(row).label.long()
            top, left = ((a - b) // 2 for a, b in zip(whole.shape, crop.shape))
            assert torch.equal(crop, whole[top:, left:][: crop.shape[0], : crop.shape[1]])


def test_a_run_is_trained_once_then_opened(lesson, capsys):
    run = lesson.train("cutmix", fit=FIT, tau=0.5, name="mine")
    weights = (run.path / "last.pt").stat().st_mtime_ns
    capsys.readouterr()
    again = lesson.train("cutmix", fit=FIT, tau=0.5, name="mine")
    assert "already trained" in capsys.readouterr().out
    assert again.path == run.path and (run.path / "last.pt").stat().st_mtime_ns == weights
    assert run.config["options"]["tau"] == 0.5 and run.last["step"] == 3


def test_a_method_whose_recipe_has_its_own_crop_is_opened_again_too(tmp_path, monkeypatch, capsys):
    from dataclasses import replace

    from s4kit.methods.consistency.cutmix import CutMix

    own = replace(profiles.TABLE["test", "scenes"], equal=False)
    monkeypatch.setitem(profiles.TABLE, ("test", "scenes"), own)
    monkeypatch.setitem(CutMix.recipes, "scenes", {"task": {"crop": 32}})
    monkeypatch.setenv("S4KIT_RUNS", str(tmp_path))
    lesson = s4.lesson("test", quiet=True)
    run = lesson.train("cutmix", "a", fit=FIT)
    assert run.config["task"]["crop"] == 32 != lesson.task.crop
    lesson.train("cutmix", "a", fit=FIT)
    assert "already trained" in capsys.readouterr().out


def test_another_set_up_under_the_same_name_puts_the_old_run_aside(lesson, capsys):
    lesson.train("supervised", "a", fit=FIT)
    second = lesson.train("supervised", "a", fit=FIT, tau=0.7)
    assert "another set-up (tau" in capsys.readouterr().out
    assert second.config["options"]["tau"] == 0.7
    assert "tau" not in s4.open_run(second.path.with_name("a~1")).config["options"]
    assert list(lesson.runs()) == ["a"]


def test_an_unfinished_run_goes_on(lesson, monkeypatch, capsys):
    import os
    import signal

    from s4kit.methods.baselines.supervised import Supervised

    with monkeypatch.context() as ctrl_c:
        stop = lambda self, clock: clock.step == 1 and os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
        ctrl_c.setattr(Supervised, "after_step", stop)
        assert lesson.train("supervised", fit=FIT, name="cut").interrupted
    assert lesson.runs() == {}
    with pytest.raises(S4Error, match="no finished run 'cut'"):
        lesson.runs("cut")
    assert not lesson.train("supervised", fit=FIT, name="cut").interrupted
    assert "goes on" in capsys.readouterr().out and list(lesson.runs()) == ["cut"]


def test_runs_are_named_by_what_differs(lesson):
    run = lesson.train("supervised", task={"seed": 3, "labelled": 4}, fit=FIT, seed=1)
    assert run.path.name.startswith("supervised split=3 labelled=4") and run.path.name.endswith("seed=1")
    assert run.config["task"]["seed"] == 3 and run.config["fit"]["seed"] == 1
    assert folders.run_name("cutmix", 0, None, None, {"net": "a/b (c)"}) == "cutmix net=a-b--c-"


def test_the_table_measures_from_the_baselines(lesson):
    for name in ("supervised", "cutmix"):
        lesson.train(name, name, fit=FIT)
    table = lesson.table()
    assert table.head[:4] == ("run", "mIoU last", "mIoU best", "vs supervised")
    last = {row[0]: float(row[1]) for row in table.rows}
    assert table.rows[0][3] is None and float(table.rows[1][3]) == pytest.approx(
        last["cutmix"] - last["supervised"], abs=0.11
    )
    assert "<table>" in table._repr_html_() and "cutmix" in repr(table)


def test_the_lines_to_hold_against(lesson):
    found = lesson.references(**FIT)
    assert list(found) == ["supervised", "supervised_strong", "all labels"]
    bound = found["all labels"]
    assert bound.config["method"] == "supervised" and len(bound.task().labelled) == len(lesson.task.train)
    assert bound.config["fit"]["steps"] == found["supervised"].config["fit"]["steps"]
    assert "gap closed" in lesson.table().head
    assert len({chosen.name for chosen, *_ in comparable(lesson.folder)}) == 3
    nothing_hidden = s4.lesson("test", "scenes", quiet=True, labelled="all")
    nothing_hidden.folder = lesson.folder.with_name("all")
    assert list(nothing_hidden.references(**FIT)) == ["supervised", "supervised_strong"]


@pytest.mark.slow
def test_a_further_method_in_a_comparison_costs_only_its_own_training(lesson, capfd):
    found = lesson.compare("supervised", tau=0.3)
    began = (found["opened"]["supervised"].path / "config.json").stat().st_mtime_ns
    found = lesson.compare("supervised", "fixmatch", tau=0.3)
    assert [row["method"] for row in found["methods"]] == list(found["opened"]) == ["supervised", "fixmatch"]
    assert (found["opened"]["supervised"].path / "config.json").stat().st_mtime_ns == began
    assert found["opened"]["fixmatch"].config["options"] == {"net": "tiny", "tau": 0.3}
    said = capfd.readouterr()
    assert "1 are there with this set-up" in said.out and said.err == ""
    assert "$S4KIT_RUNS/lesson-test-scenes/compare/report.html" in found["table"]


@pytest.mark.slow
def test_a_class_that_has_changed_is_compared_anew(lesson, monkeypatch):
    monkeypatch.setitem(OWN, "mine", type("Mine", (FixMatch,), {"note": "first"}))
    before = lesson.compare("mine")["opened"]["mine"].config["code"]
    monkeypatch.setitem(OWN, "mine", type("Mine", (FixMatch,), {"note": "second"}))
    after = lesson.compare("mine")["opened"]["mine"]
    assert after.config["code"] != before and after.path.with_name("mine-seed0~1").is_dir()


def test_predictions_are_a_figure(lesson):
    lesson.train("supervised", fit=FIT, name="supervised")
    assert len(lesson.predictions("supervised", images=2).axes) == 2 * 3


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("data", profiles.DATA)
def test_every_profile_plans_every_method_of_the_walk(profile, data):
    chosen = profiles.profile(profile, data)
    setups = [
        profiles.setup_of(chosen, data, m, {}, {}, {}) for m in ("supervised", "cutmix", "cps", "u2pl", "unimatch")
    ]
    if chosen.equal:
        assert all(p.task == setups[0].task and p.fit == setups[0].fit for p in setups)
        assert len({p.options["net"] for p in setups}) == 1
    elif data in ("voc", "cityscapes"):
        assert all("imagenet" in p.options["net"] for p in setups)
        assert len({str(p.fit) for p in setups}) > 1


def test_a_network_that_is_asked_for_is_that_of_the_training():
    chosen = profiles.profile("cpu", "scenes")
    plain, asked = (
        profiles.setup_of(chosen, "scenes", "fixmatch", {}, own, {})
        for own in ({"tau": 0.5}, {"tau": 0.5, "net": "tiny"})
    )
    assert plain.options["net"] != "tiny" and asked.options == {"net": "tiny", "tau": 0.5}
    assert (asked.task, asked.fit) == (plain.task, plain.fit)


def test_on_colab_runs_and_data_go_to_the_mounted_drive(tmp_path, monkeypatch):
    import sys
    from types import ModuleType

    monkeypatch.setattr(places, "DRIVE", tmp_path / "MyDrive")
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.delenv("S4KIT_RUNS", raising=False)
    monkeypatch.delenv("S4KIT_DATA", raising=False)
    before = s4.lesson("test", "scenes", quiet=True)
    assert "mount your Drive" in str(before) and before.folder.parts[0] == "runs"
    (tmp_path / "MyDrive").mkdir()
    lesson = s4.lesson("test", "scenes", quiet=True)
    assert lesson.folder == tmp_path / "MyDrive" / "s4kit" / "lesson-test-scenes"
    import os

    assert os.environ["S4KIT_DATA"] == str(tmp_path / "MyDrive" / "s4kit" / "data")
    assert "mount" not in str(lesson)
