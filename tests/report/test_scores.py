"""Scores by name: whatever shows a run says which score it is, and never holds it against another one."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from toy import toy_task

from s4kit.classroom import ten_minutes
from s4kit.engine import open_run
from s4kit.engine.records import Table, numbers, read
from s4kit.engine.scores import by_class, each, one_score
from s4kit.errors import S4Error
from s4kit.explore import gallery, plots
from s4kit.explore.gallery import listing
from s4kit.report import pictures, setup
from s4kit.report.comparing import figures, page
from s4kit.report.diagnosing.diagnose import diagnose, show
from s4kit.report.reproducing import reported, train
from s4kit.report.setup import Setup
from s4kit.walk import against, folders, recordings


def scored_anew(run: Path, out: Path, score: str, classes: bool = False) -> Path:
    """A copy of a run as if it had been scored by something else, which says something of each class or does not."""
    shutil.copytree(run, out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"score": score}))
    rows = numbers(read(out / "evaluations.csv"))
    table = Table(out / "evaluations.csv")
    table.clear()
    for row in rows:
        of = {f"{score.lower()}_{name}": value for name, value in by_class("mIoU", row).items()} if classes else {}
        table.append([{"step": row["step"], "predictor": row["predictor"], score.lower(): row["miou"]} | of])
    return out


@pytest.fixture(scope="module")
def found(run, tmp_path_factory):
    """The same training by mIoU; by AP, which says nothing of classes; by AP with that of each class."""
    base = tmp_path_factory.mktemp("scored")
    plain, whole = scored_anew(run, base / "plain", "AP"), scored_anew(run, base / "whole", "AP", classes=True)
    return open_run(run), open_run(plain), open_run(whole)


def test_a_run_says_which_score_it_has(found, tmp_path):
    miou, ap, whole = found
    assert (miou.score, miou.column, ap.score, ap.column) == ("mIoU", "miou", "AP", "ap")
    assert ap.course == miou.course and ap.last["ap"] == miou.last["miou"] and "miou" not in ap.last | ap.best
    assert not ap.by_class() and whole.by_class() == miou.by_class() and miou.by_class()
    assert [each(score) for score in ("mIoU", "PartIoU", "AP")] == ["IoU", "IoU", "AP"]
    old = Path(shutil.copytree(miou.path, tmp_path / "old"))
    config = json.loads((old / "config.json").read_text())
    del config["score"]
    (old / "config.json").write_text(json.dumps(config))
    assert open_run(old).score == "mIoU" and open_run(old).last == miou.last


def work(**runs):
    return [(Setup("fixmatch", run.config["task"], title=name), 0, run.path) for name, run in runs.items()]


def test_two_scores_are_never_shown_together(found):
    miou, ap, _ = found
    both = {"one": miou, "other": ap}
    said = r"one.* is scored by mIoU, other.* by AP: such numbers are not held against each other"
    for together in (figures.beside, plots.curves, plots.iou_bars):
        with pytest.raises(S4Error, match=said):
            together(both)
    with pytest.raises(S4Error, match="scored by"):
        plots.curves([miou, ap])  # as if they were two seeds
    with pytest.raises(S4Error, match=said):
        figures.collect(work(**both))
    with pytest.raises(S4Error, match="scored by"):
        against.verdict("fixmatch", ap, dict.fromkeys(setup.REFERENCES, miou), {})
    with pytest.raises(S4Error, match="scored by"):
        recordings.table({"fixmatch": [miou], "supervised": [ap]})
    assert one_score({"a": "AP", "b": "AP"}) == "AP" and one_score({}) == ""


def test_tables_and_curves_of_another_score_bear_its_name(found, capsys):
    _, ap, _ = found
    table = figures.beside({"mine": ap})
    assert table.head[1:3] == ("AP last", "AP best") and table.rows[0][1] == f"{100 * ap.last['ap']:.1f}"
    assert plots.curves(ap).axes[0].get_title() == "validation AP, %"
    assert "AP" in folders.end_of(ap) and "mIoU" not in folders.end_of(ap)
    setup.say(setup.summary(ap))
    assert f"val AP {100 * ap.last['ap']:.1f} at the end" in capsys.readouterr().out
    against.verdict("fixmatch", ap, dict.fromkeys(setup.REFERENCES, ap), {})
    assert "% AP: +0.0 points from supervised" in capsys.readouterr().out
    assert "AP last" in recordings.table({"fixmatch": [ap]}).head
    told = figures.said_of_rounds("st", [{"name": "round 1", "steps": 6, "ap": 0.5}], "AP")
    assert told.startswith("st: AP at the end of each stage (its steps): round 1 50.0 (6).")


def test_what_is_shown_by_class(found):
    miou, ap, whole = found
    bars = plots.iou_bars({"mine": whole})
    assert bars.axes[0].get_xlabel() == "AP, %"
    assert len(bars.axes[0].get_yticklabels()) == len(whole.by_class()) + 1
    with pytest.raises(S4Error, match="AP says nothing of single classes"):
        plots.iou_bars(ap)
    checks = {run: {f["check"]: f for f in diagnose(run.path)["findings"]} for run in found}
    assert "classes recognised" in checks[miou] and "classes recognised" not in checks[ap]
    assert "AP" in checks[whole]["classes recognised"]["figures"]
    assert "AP at the end" in checks[ap]["last and best"]["figures"]
    assert "mIoU" not in show(diagnose(ap.path))


def test_the_page_of_a_comparison_says_what_it_does_not_show(found, tmp_path, monkeypatch):
    _, ap, whole = found
    assert pictures.by_class_maps(toy_task())
    monkeypatch.setattr(pictures, "by_class_maps", lambda task: False)
    for run, has in ((ap, False), (whole, True)):
        out = tmp_path / run.path.name
        out.mkdir()
        jobs = work(fixmatch=run)
        page.write_report(out, figures.collect(jobs), jobs)
        text = (out / "report.html").read_text()
        assert "AP last" in text and "mIoU" not in text and "AP is no score of class maps" in text
        assert "<h2>AP per class</h2>" in text and ("AP says nothing of single classes" in text) is not has
        assert (out / "curves.png").is_file() and not (out / "grid.png").exists()
    with pytest.raises(S4Error, match="AP is no score of class maps"):
        pictures.predictions(ap, [0], ap.task())


def test_corrections_are_judged_by_the_runs_own_score(found, tmp_path, monkeypatch):
    _, _, whole = found
    monkeypatch.setattr(setup, "train", lambda chosen, out: whole)
    table = ten_minutes.what_it_brought(whole, ten_minutes.Labelled(tmp_path, (), 0, 0.0), tmp_path)
    assert [row[0] for row in table.rows] == ["AP", *whole.by_class()] and {row[3] for row in table.rows} == {"+0.0"}


ROW = {"dataset": "cityscapes", "split": "1/8", "backbone": "ResNet-50", "crop": None, "kind": "readme"}
ROWS = (
    ROW | {"name": "unimatch", "miou": 76.4, "source": "a/b README.md"},
    ROW | {"name": "unimatch", "score": "AP", "ap": 31.2, "source": "c/d README.md"},
)


def test_reported_numbers_stand_with_those_of_their_score(found, monkeypatch):
    _, ap, _ = found
    literature = import_module("s4kit.report.reproducing.literature")
    for module in (literature, reported, listing):
        monkeypatch.setattr(module, "entries", lambda: ROWS)
    table = literature.literature(data="cityscapes")
    assert table.head[5] == "mIoU" and [row[5] for row in table.rows] == ["76.4"]
    table = literature.literature(data="cityscapes", score="AP")
    assert table.head[5] == "AP" and [row[5] for row in table.rows] == ["31.2"]
    with pytest.raises(S4Error, match="What is listed here is AP, mIoU, not Hits"):
        literature.literature(data="cityscapes", score="Hits")
    rows = reported.reported("unimatch", "cityscapes", "1_8", "resnet50", 801)
    assert [row.row["source"] for row in rows] == ["a/b README.md"]
    row, _ = listing.headline("unimatch", "cityscapes")
    assert row["miou"] == 76.4
    shown = listing._details(next(of for of in gallery.page().rows if of["name"] == "unimatch"))
    assert shown.count("<table") == 2 and ">AP<" in shown and ">mIoU<" in shown
    asked = type("Asked", (), {"rows": rows, "recipe": {"selection": "last"}, "changed": []})
    outcome = train.outcome(asked, ap)
    assert outcome["score"] == "AP" and outcome["difference"] is None is outcome["reported_best"]
