"""The same sources work with the real nbgrader: handed out, handed in, graded, returned."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from handed import ITEMS, answer, source_notebook

from s4kit.classroom import build, sheet

ROOT = Path(__file__).parents[2]
SETUP = "import s4kit as s4\nimport torch"


def nbgrader(*arguments: str, course: Path) -> str:
    """Run a command of nbgrader in a course; its words."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    settings = {"PYTHONPATH": str(ROOT), "PATH": path, "OMP_NUM_THREADS": "1", "JUPYTER_CONFIG_DIR": str(course)}
    command = [sys.executable, "-m", "nbgrader", *arguments, f"--CourseDirectory.root={course}"]
    done = subprocess.run(command, cwd=course, env=os.environ | settings, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def autograde(course: Path, nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command within this process, so that the kernels of all students are forks."""
    from nbgrader.apps import AutogradeApp

    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(course))
    monkeypatch.chdir(course)
    app = AutogradeApp()
    app.initialize(["3_cutmix", "--create", f"--CourseDirectory.root={course}"])
    with nursery.used():
        app.start()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nbgrader") is None, reason="nbgrader is not installed (pip install 's4kit[nbgrader]')")
def test_from_source_to_feedback(tmp_path, nursery, monkeypatch):
    source = source_notebook()
    source["cells"][1]["source"] = SETUP
    source["metadata"] = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    made = tmp_path / "assignments"
    made.mkdir()
    (made / "3_cutmix.ipynb").write_text(json.dumps(source))
    build.build(tmp_path / "built", made)
    course = tmp_path / "built" / "nbgrader"
    nbgrader("generate_assignment", "3_cutmix", "--create", course=course)
    released = sheet.read(course / "release" / "3_cutmix" / "3_cutmix.ipynb")
    assert not any(body in sheet.text(cell) for cell in released["cells"] for _, body, _ in ITEMS.values())
    assert "seed=7" not in json.dumps(released), "hidden tests stay hidden"
    solved = released
    for key, (head, body, _) in ITEMS.items():
        solved = answer(solved, key, f"{head}\n    {body}")
    wrong = answer(solved, "cutmix.warm_decay", "def warm_decay(step, decay):\n    return decay")
    for student, notebook in {"ada": solved, "bob": wrong, "eve": released}.items():
        place = course / "submitted" / student / "3_cutmix"
        place.mkdir(parents=True)
        (place / "3_cutmix.ipynb").write_text(json.dumps(notebook))
    autograde(course, nursery, monkeypatch)
    with sqlite3.connect(course / "gradebook.db") as book:
        rows = book.execute(
            "SELECT submitted_assignment.student_id, SUM(grade.auto_score) FROM grade "
            "JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id "
            "JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id GROUP BY 1"
        ).fetchall()
    assert dict(rows) == {"ada": 6.0, "bob": 5.0, "eve": 0.0}
    nbgrader("generate_feedback", "3_cutmix", course=course)
    page = (course / "feedback" / "bob" / "3_cutmix" / "3_cutmix.html").read_text()
    assert "cutmix.warm_decay: not yet" in page
