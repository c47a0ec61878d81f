"""The assignments: form, what is handed out, what is handed in right, and the mistakes that students make."""

from __future__ import annotations

import copy
import csv
import json
import re
import sys
from html import escape
from pathlib import Path
from typing import Any

import pytest
import torch
from explored import train_runs
from handed import HOSTILE, answer

import s4kit as s4
from s4kit.classroom import Exercise, Reading, all_exercises, build, find, runs, sheet
from s4kit.classroom.check import check, judge_reading
from s4kit.classroom.confine import Limits
from s4kit.classroom.grade import grade
from s4kit.explore.state import State
from s4kit.explore.view import View
from s4kit.walk import setup_cell

FOLDER = Path(__file__).parents[2] / "notebooks" / "assignments"
FILES = sorted(FOLDER.glob("[1-6]_*.ipynb"))
TOPICS = {file.stem.partition("_")[2] for file in FILES}
READINGS = [one for key, one in all_exercises().items() if isinstance(one, Reading) and key.partition(".")[0] in TOPICS]
ITALIC = re.compile(r"\\mathit\{(.*?)\}")


def keys_of(notebook: dict[str, Any]) -> list[str]:
    return [item.key for item in sheet.items(notebook) if not item.text]


def topic(file: Path) -> str:
    return file.stem.partition("_")[2]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request) -> Path:
    return request.param


@pytest.fixture
def source(file) -> dict[str, Any]:
    return sheet.read(file)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Runs of a few seconds on the squares, in place of the real small ones: CPS has two tracks."""
    folders = train_runs(tmp_path_factory.mktemp("small"), "fixmatch", "cps")
    opened = {name: s4.open_run(folder) for name, folder in folders.items()}
    return lambda method="fixmatch": opened["cps" if method == "cps" else "fixmatch"]


# ---- form ----


def test_all_six_are_there():
    assert [file.stem[0] for file in FILES] == list("123456")


def test_every_exercise_of_the_topic_is_asked_once(file, source):
    known = [key for key in all_exercises() if key.partition(".")[0] == topic(file)]
    assert sorted(keys_of(source)) == sorted(known)
    items = sheet.items(source)
    assert 6 <= len(items) <= 10 and all(item.points >= 1 for item in items)
    assert sum(item.text for item in items) == 1, "one free text"
    assert sum(isinstance(find(key), Reading) for key in known) == 1, "one reading"


def test_marks_are_nbgraders(source):
    names = [sheet.role(cell)["grade_id"] for cell in source["cells"] if sheet.role(cell)]
    assert len(names) == len(set(names)) and all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)
    for cell in source["cells"]:
        about = sheet.role(cell)
        if about:
            assert about["schema_version"] == 3 and about["task"] is False
            assert {type(about[name]) for name in ("grade", "solution", "locked")} == {bool}
            assert ("points" in about) == about["grade"] and about["locked"] != about["solution"]
    nbgrader = pytest.importorskip("nbgrader.nbgraderformat", reason="nbgrader is not installed")
    import nbformat

    nbgrader.MetadataValidator().validate_nb(nbformat.from_dict(source))
    nbformat.validate(nbformat.from_dict(source))


def test_cells_are_as_the_grader_and_nbgrader_need_them(source):
    cells = {sheet.role(cell)["grade_id"]: sheet.text(cell) for cell in source["cells"] if sheet.role(cell)}
    order = [sheet.role(cell).get("grade_id") for cell in source["cells"]]
    for key in keys_of(source):
        name, answer = sheet.grade_id(key), cells[sheet.grade_id(key)]
        test = cells[f"{name}-test"]
        assert order.index(f"{name}-test") == order.index(name) + 1
        assert answer.count("### BEGIN SOLUTION") == answer.count("### END SOLUTION") == 1
        shown = sheet.HIDDEN.sub("", test).strip()
        given = key.partition(".")[2]
        if isinstance(find(key), Reading):
            assert shown == f's4.check({given}, "{key}", run)'
            assert given in sheet.defined(answer)
        else:
            prototype = find(key).prototype
            assert answer.startswith(f'def {prototype}:\n    """')
            assert shown == f's4.check({prototype.partition("(")[0]}, "{key}")'
        hidden = sheet.HIDDEN.search(test)[0]
        assert f"report = s4.check({given if isinstance(find(key), Reading) else prototype.partition('(')[0]}" in hidden
        assert "\nassert report, report\n" in hidden


def test_words_around_the_cells(file, source):
    texts = [sheet.text(cell) for cell in source["cells"]]
    code = [cell for cell in source["cells"] if cell["cell_type"] == "code"]
    assert len(code) <= 30 and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert [sheet.text(c) for c in code if "setup" in sheet.tags(c)] == [setup_cell.setup_cell()]
    points = sum(item.points for item in sheet.items(source))
    assert f"**Points:** {points:g}." in texts[0] and re.search(r"\*\*Time:\*\* about \d+ minutes", texts[0])
    lesson = re.search(r"\]\((\.\./\d\d_\w+\.ipynb)\)", texts[0])[1]
    assert (FOLDER / lesson).is_file()
    for item in sheet.items(source):
        answer = sheet.grade_id(item.key)
        at = next(k for k, cell in enumerate(source["cells"]) if sheet.role(cell).get("grade_id") == answer)
        asked = next(text for text in reversed(texts[:at]) if text.startswith("## "))
        plural = "s" if item.points > 1 else ""
        assert f"*{item.points:g} point{plural}, " in asked and re.search(r", \d+ minutes", asked)
        assert item.text or "<details><summary>Hint</summary>" in asked
        if not item.text and isinstance(find(item.key), Exercise):
            plain = ITALIC.sub(r"\1", asked).replace("\\_", "_").replace("\\", "")
            given = find(item.key).prototype.partition("(")[2].rstrip(")").split(", ")
            assert "$$" in asked and not [name for name in given if name not in plain], item.key


def test_the_reading_asks_for_the_run_that_the_grader_opens(source):
    reading = next(find(key) for key in keys_of(source) if isinstance(find(key), Reading))
    ran = "\n".join(sheet.text(cell) for cell in source["cells"] if "run" in sheet.tags(cell))
    assert f'small_run("{reading.run}")' in ran and "s4.explore(run" in ran


# ---- handed out, handed in ----


def test_nothing_of_a_solution_is_handed_out(source):
    student = sheet.student(source)
    assert "SOLUTION" not in json.dumps(student) and "HIDDEN" not in json.dumps(student)
    for cell, whole in zip(student["cells"], source["cells"]):
        about = sheet.role(cell)
        if not about.get("solution"):
            continue
        if cell["cell_type"] == "markdown":
            assert sheet.text(cell) == "*Write here.*"
            continue
        key = about["grade_id"].replace("-", ".", 1)
        body = re.search(r"### BEGIN SOLUTION\n(.*?)\s*### END", sheet.text(whole), re.S)[1]
        assert body not in sheet.text(cell) and "# Your code here." in sheet.text(cell)
        names: dict[str, Any] = {}
        with pytest.raises(NotImplementedError, match=f"{key} is not answered yet"):
            exec(sheet.text(cell), names)
            names[find(key).prototype.partition("(")[0]](*[None] * find(key).prototype.count(",") + [None])


def solved(source: dict[str, Any], small: Any) -> dict[str, Any]:
    """The source with the number that can be read in the cheap run."""
    new = copy.deepcopy(source)
    for cell in new["cells"]:
        key = sheet.role(cell).get("grade_id", "").replace("-", ".", 1)
        if key in all_exercises() and isinstance(find(key), Reading):
            one = find(key)
            cell["source"] = f"{key.partition('.')[2]} = {one.reads(small(one.run))}"
    return new


def mistaken(source: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The source with the likeliest mistake in place of every function that has one, and the mistakes' names by key."""
    new, made = copy.deepcopy(source), {}
    for cell in new["cells"]:
        key = sheet.role(cell).get("grade_id", "").replace("-", ".", 1)
        one = all_exercises().get(key)
        if isinstance(one, Exercise) and one.mistakes:
            name = one.prototype.partition("(")[0]
            cell["source"] = f"from s4kit.classroom import find\n{name} = find({key!r}).mistakes[0].answer"
            made[key] = one.mistakes[0].name
    return new, made


@pytest.mark.slow
def test_full_points_none_and_the_mistakes_by_name(tmp_path, small, monkeypatch):
    monkeypatch.setattr(runs, "small_run", small)
    made: dict[str, dict[str, str]] = {}
    for file in FILES:
        source = sheet.read(file)
        wrong, made[file.stem] = mistaken(solved(source, small))
        for who, notebook in {"ada": solved(source, small), "blank": sheet.student(source), "bob": wrong}.items():
            place = tmp_path / "handed" / f"{who}-{file.stem}"
            place.mkdir(parents=True)
            (place / file.name).write_text(json.dumps(notebook))
    found = grade(tmp_path / "handed", tmp_path / "out", FOLDER, seed=5, limits=Limits(seconds=60, call=30))
    assert len(found["rows"]) == 3 * len(FILES)
    points = {row["student"]: (row["points"], row["of"]) for row in found["rows"]}
    for file in FILES:
        full, of = points[f"ada-{file.stem}"]
        assert full == of > 0 and points[f"blank-{file.stem}"] == (0, of) and points[f"bob-{file.stem}"][0] < of
    assert not any(row["error"] for row in found["rows"])
    assert not any(row["flags"] for row in found["rows"] if row["student"].startswith("ada"))
    with open(found["csv"], newline="", encoding="utf-8") as table:
        said = {row["student"]: row["mistakes"] for row in csv.DictReader(table)}
    for file in FILES:
        wanted = {f"{key}: {name}" for key, name in made[file.stem].items()}
        assert len(wanted) >= 5 and wanted <= set(said[f"bob-{file.stem}"].split("; "))
        page = (tmp_path / "out" / "feedback" / f"bob-{file.stem}-{file.stem}.html").read_text()
        assert all(escape(find(key).mistakes[0].words) in page for key in made[file.stem])


def used(notebook: dict[str, Any], key: str) -> bool:
    """Whether another answer of the notebook calls this one, so that its mistake costs both."""
    name = find(key).prototype.partition("(")[0]
    others = [c for c in notebook["cells"] if sheet.role(c).get("solution") and c["cell_type"] == "code"]
    return any(f"{name}(" in sheet.text(c).replace(f"def {name}(", "") for c in others)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the confinement of other systems is weaker")
def test_a_class_of_sixty(tmp_path, small, monkeypatch):
    """One run over sixty: who is right has all points, one wrong answer costs its own, hostile ones get nothing."""
    monkeypatch.setattr(runs, "small_run", small)
    handed: dict[str, tuple[str, dict[str, Any], float]] = {}
    for file in FILES:
        right = solved(sheet.read(file), small)
        full = sum(item.points for item in sheet.items(right) if not item.text)
        handed[f"right {file.stem}"] = (file.name, right, full)
        handed[f"blank {file.stem}"] = (file.name, sheet.student(sheet.read(file)), 0)
        alone = [key for key in keys_of(right) if isinstance(find(key), Exercise) and not used(right, key)]
        usual = [(key, i) for i in range(3) for key in alone if i < len(find(key).mistakes)]
        for key, i in usual[: 7 if file.stem.startswith("3") else 6]:
            name = find(key).prototype.partition("(")[0]
            code = f"from s4kit.classroom import find\n{name} = find({key!r}).mistakes[{i}].answer"
            points = next(item.points for item in sheet.items(right) if item.key == key)
            share = check(find(key).mistakes[i].answer, key, seed=5).share
            handed[f"{key} {i}"] = (file.name, answer(right, key, code), full - points * (1 - share))
    right = solved(sheet.read(FOLDER / "3_cutmix.ipynb"), small)
    full = sum(item.points for item in sheet.items(right) if not item.text)
    for name, code in HOSTILE.items():
        handed[name] = ("3_cutmix.ipynb", answer(right, "cutmix.average", code), full - 2)
    for name in ("torn", "empty"):
        handed[name] = ("3_cutmix.ipynb", None, 0)
    assert len(handed) == 60
    for who, (name, notebook, _) in handed.items():
        place = tmp_path / "handed" / who
        place.mkdir(parents=True)
        (place / name).write_text(json.dumps(notebook)[: -20 if who == "torn" else None] if notebook else "")
    limits = Limits(seconds=3, call=2, memory=1 << 30, file=1 << 20)
    found = grade(tmp_path / "handed", tmp_path / "out", FOLDER, seed=5, jobs=2, limits=limits)
    got = {row["student"]: row["points"] for row in found["rows"]}
    assert got == pytest.approx({who: points for who, (_, _, points) in handed.items()})


# ---- one's own loss in a training ----


@pytest.mark.slow
def test_the_functions_of_the_third_assignment_train_as_the_kits_method(tmp_path, monkeypatch):
    from s4kit.methods.consistency.cutmix import CutMix
    from s4kit.methods.own import OWN

    monkeypatch.setenv("S4KIT_RUNS", str(tmp_path))
    monkeypatch.setattr(runs, "STEPS", 2)
    monkeypatch.setitem(OWN, "own_cutmix", CutMix)  # and forget it afterwards
    monkeypatch.setitem(CutMix.recipes["scenes"]["method"], "tau", 0.15)  # sure from the start: the term counts
    names: dict[str, Any] = {"s4": s4}
    for cell in build.solution(sheet.read(FOLDER / "3_cutmix.ipynb"))["cells"]:
        mark = sheet.role(cell).get("grade_id", "")
        if cell["cell_type"] == "code" and "setup" not in sheet.tags(cell) and not mark.endswith("-test"):
            exec(sheet.text(cell).replace("s4.plots.curves(", "dict("), names)
        if mark == "cutmix-given_own":
            break
    mine, kits = ([(row["x"], row["u"], row["loss"]) for row in names[of].metrics()] for of in ("mine", "run"))
    assert mine == [pytest.approx(row, rel=1e-4) for row in kits] and mine[-1][1] > 0
    teachers = [names[of].load()[0].teacher.state_dict().values() for of in ("mine", "run")]
    assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in zip(*teachers))


# ---- readings ----


@pytest.mark.parametrize("one", READINGS, ids=lambda one: one.key)
def test_a_reading_is_judged(one, small):
    run = small(one.run)
    right = one.reads(run)
    assert judge_reading(right, one, run).passed
    assert judge_reading(right + 0.9 * one.tolerance, one, run).passed
    for other, words in one.mistakes:
        value = other(run)
        said = judge_reading(value, one, run)
        if abs(value - right) > one.tolerance:
            earlier = [w for f, w in one.mistakes if abs(f(run) - value) <= one.tolerance]
            assert said.share == 0 and said.findings[0].mistake in earlier and words in earlier
    far = judge_reading(right + 123.4, one, run)
    assert "too large" in far.findings[0].words and f"{right:.2f}" not in far.findings[0].words


def test_a_share_for_percent_is_named(small):
    one = next(reading for reading in READINGS if reading.key == "u2pl.certain")
    right = one.reads(small())
    assert right > 2 * one.tolerance
    assert judge_reading(right / 100, one, small()).findings[0].mistake == "a share for percent"


def test_a_reading_is_what_the_explorer_shows(small):
    own = View(small("cps"))
    first, second = (own.maps(t, State(1, 2, tracks=[t]))["label"] for t in (0, 1))
    valid = own.scene(State(1, 2))["valid"] > 0
    assert find("cps.apart").reads(small("cps")) == pytest.approx(100 * (first != second)[valid].mean())
    kept = own.maps(0, State(1, 2, tracks=[0]))["prob"][0][valid] >= round(0.95 * 255)
    assert runs.numbers(small("cps"), 0.95, image=1)["coverage"] == pytest.approx(kept.mean())
