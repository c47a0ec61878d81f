"""A class hands in: what is right gets points, what is wrong a reason, what is hostile nothing; all get graded."""

from __future__ import annotations

import copy
import csv
import json
import sys

import pytest
from handed import HOSTILE, ITEMS, answer, code, source_notebook

from s4kit.classroom import build, sheet
from s4kit.classroom.confine import Limits
from s4kit.classroom.grade import grade
from s4kit.classroom.sandbox import Sandbox
from s4kit.errors import S4Error

BORROWED = "from s4kit.classroom import find\naverage = find('cutmix.average').reference"
QUICK = Limits(seconds=2, call=1, memory=1 << 30, file=1 << 20)


@pytest.fixture
def course(tmp_path):
    folder = tmp_path / "assignments"
    folder.mkdir()
    (folder / "3_cutmix.ipynb").write_text(json.dumps(source_notebook()))
    return folder


def graded(course, tmp_path, handed, jobs=1, **more):
    place = tmp_path / "handed"
    for student, notebook in handed.items():
        (place / student).mkdir(parents=True)
        content = notebook if isinstance(notebook, str) else json.dumps(notebook)
        (place / student / "3_cutmix.ipynb").write_text(content)
    found = grade(place, tmp_path / "out", course, seed=11, jobs=jobs, limits=QUICK, **more)
    with open(found["csv"], newline="", encoding="utf-8") as file:
        return found, {row["student"]: row for row in csv.DictReader(file)}


# ---- building ----


def test_build_writes_three_versions(course, tmp_path):
    found = build.build(tmp_path / "built", course)
    assert found["assignments"] == [{"name": "3_cutmix", "exercises": 4, "points": 8.0}]
    student = sheet.read(tmp_path / "built" / "student" / "3_cutmix.ipynb")
    for cell in student["cells"]:
        assert "SOLUTION" not in sheet.text(cell) and "HIDDEN" not in sheet.text(cell)
        assert not any(body in sheet.text(cell) for _, body, _ in ITEMS.values())
    names: dict = {}
    for cell in student["cells"]:
        if sheet.role(cell).get("solution") and cell["cell_type"] == "code":
            exec(sheet.text(cell), names)
    with pytest.raises(NotImplementedError, match=r"cutmix\.average is not answered yet"):
        names["average"](1, 2, 3)
    solved = sheet.read(tmp_path / "built" / "solution" / "3_cutmix.ipynb")
    assert "SOLUTION" not in json.dumps(solved) and ITEMS["cutmix.average"][1] in json.dumps(solved)
    page = (tmp_path / "built" / "instructor.html").read_text()
    assert "teacher and student swapped" in page and ITEMS["cutmix.average"][1] in page and "<script" not in page


# ---- grading ----

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the confinement of other systems is weaker")


def test_source_gets_full_points_and_student_version_none(course, tmp_path):
    source = source_notebook()
    found, rows = graded(course, tmp_path, {"ada": build.solution(source), "blank": sheet.student(source)})
    assert rows["ada"]["points"] == rows["ada"]["of"] == "6" and rows["ada"]["to_read"] == "2"
    assert rows["blank"]["points"] == "0" and rows["blank"]["to_read"] == "0"
    page = (tmp_path / "out" / "feedback" / "blank-3_cutmix.html").read_text()
    assert page.count("Not answered yet.") == 3 and "Nothing was written." in page
    assert found["ok"] and found["seed"] == 11 and rows["ada"]["seed"] == "11"


@pytest.mark.slow
@needs_linux
def test_a_class_of_right_wrong_and_hostile(course, tmp_path):
    full = build.solution(source_notebook())
    swapped = "def average(teacher, student, decay):\n    return (decay * student + (1 - decay) * teacher).detach()"
    hostile = HOSTILE | {"deletes": f"import shutil\nshutil.rmtree({str(tmp_path)!r})"}
    handed = {
        "right": full,
        "swapped": answer(full, "cutmix.average", swapped),
        "borrows": answer(full, "cutmix.average", BORROWED),
        "not json": "{'cells': [",
        "no cells": "[1, 2]",
        "=cmd()": full,
        **{name: answer(full, "cutmix.average", source) for name, source in hostile.items()},
    }  # fmt: skip
    found, rows = graded(course, tmp_path, handed, jobs=2)
    assert len(rows) == len(handed) and len(found["rows"]) == len(handed)
    got = {name: row["points"] for name, row in rows.items()}
    assert got["right"] == "6" and got["'=cmd()"] == "6", "a name that is a formula is disarmed"
    assert got["swapped"] == "4" and "teacher and student swapped" in rows["swapped"]["mistakes"]
    assert got["borrows"] == "6" and "uses s4kit.classroom" in rows["borrows"]["flags"]
    for name in hostile:
        assert got[name] == "4", f"{name}: {rows[name]}"
    for name in ("not json", "no cells"):
        assert got[name] == "0" and "not a notebook" in rows[name]["error"]
    assert (course / "3_cutmix.ipynb").is_file()
    assert "longer than 2 s" in rows["loops"]["noticed"]
    said = (tmp_path / "out" / "feedback" / "hangs-3_cutmix.html").read_text()
    assert "longer than 1 s" in said and "Right." in said


def test_protected_cells_are_restored_and_lost_marks_found(course, tmp_path):
    source = build.solution(source_notebook())
    tampered = copy.deepcopy(source)
    tampered["cells"][2]["source"] = "raise RuntimeError('changed')"
    removed = copy.deepcopy(source)
    removed["cells"] = [c for c in removed["cells"] if not sheet.role(c).get("grade")]
    bare = copy.deepcopy(source)
    for cell in bare["cells"]:
        cell["metadata"] = {}
    helped = copy.deepcopy(source)
    helped["cells"].insert(3, code("def mix(a, b, w):\n    return w * a + (1 - w) * b"))
    helped = answer(
        helped,
        "cutmix.average",
        "def average(teacher, student, decay):\n    return mix(teacher, student, decay).detach()",
    )
    _, rows = graded(course, tmp_path, {"tampered": tampered, "removed": removed, "bare": bare, "helped": helped})
    assert {name: row["points"] for name, row in rows.items()} == dict.fromkeys(rows, "6")
    assert "restored" in rows["tampered"]["noticed"] and "restored" in rows["removed"]["noticed"]
    assert "found by its name" in rows["bare"]["noticed"]
    assert rows["removed"]["to_read"] == "0"


def test_what_students_write_is_escaped(course, tmp_path):
    full = build.solution(source_notebook())
    full["cells"][-1]["source"] = "<script>alert(1)</script>"
    _, rows = graded(course, tmp_path, {"<b>bold": full})
    pages = list((tmp_path / "out" / "feedback").glob("*.html"))
    page = pages[0].read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "<b>bold" not in page and len(rows) == 1


def test_a_process_that_does_not_start_costs_no_points(course, tmp_path, monkeypatch):
    from s4kit.classroom import sandbox

    monkeypatch.setattr(sandbox, "serve", print)  # ends at once
    _, rows = graded(course, tmp_path, {"ada": build.solution(source_notebook())})
    assert "did not start" in rows["ada"]["error"] and rows["ada"]["of"] == "0"


def test_one_stop_may_be_the_machines(course, tmp_path, monkeypatch):
    """Whoever is stopped once, whether in a call or in a cell, is asked again and loses nothing."""
    stopped = []

    def once(ask):
        def asked(box, name, *given, **more):
            if name not in stopped:
                stopped.append(name)
                raise box._end("the machine had a bad moment")
            return ask(box, name, *given, **more)

        return asked

    monkeypatch.setattr(Sandbox, "call", once(Sandbox.call))
    monkeypatch.setattr(Sandbox, "cell", once(Sandbox.cell))
    _, rows = graded(course, tmp_path, {"ada": build.solution(source_notebook())})
    assert len(stopped) > 5 and rows["ada"]["points"] == "6" and not rows["ada"]["noticed"]


@pytest.mark.slow
@needs_linux
def test_guilty_is_the_cell_that_took_the_time(course, tmp_path):
    """A slow cell uses up the time in which another one, quick and right, is stopped."""
    slow = build.solution(source_notebook())
    slow["cells"].insert(3, code("import time\ntime.sleep(1.5)"))
    for cell in slow["cells"]:
        if sheet.role(cell).get("grade_id") == sheet.grade_id("cutmix.average"):
            cell["source"] += "\nimport time\ntime.sleep(1)"
    _, rows = graded(course, tmp_path, {"ada": slow})
    assert rows["ada"]["points"] == "6" and rows["ada"]["noticed"].count("was stopped: it took longer than 2 s") == 1


def test_bad_folders(course, tmp_path):
    with pytest.raises(S4Error, match="not a folder"):
        grade(tmp_path / "nowhere", tmp_path / "out", course)
    (tmp_path / "empty").mkdir()
    with pytest.raises(S4Error, match="no notebook"):
        grade(tmp_path / "empty", tmp_path / "out", course)
    with pytest.raises(S4Error, match="No assignments"):
        grade(tmp_path / "empty", tmp_path / "out", tmp_path / "empty")
