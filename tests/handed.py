"""A small assignment that the tests set, solve and hand in."""

from __future__ import annotations

import copy

from s4kit.classroom import sheet

ITEMS = {
    "cutmix.average": (
        "def average(teacher, student, decay):",
        "return (decay * teacher + (1 - decay) * student).detach()",
        2,
    ),
    "cutmix.warm_decay": ("def warm_decay(step, decay):", "return min(1 - 1 / (step + 1), decay)", 1),
    "cutmix.confidence": (
        "def confidence(teacher_logits, tau):",
        "return (teacher_logits.softmax(1).amax(1) >= tau).to(teacher_logits.dtype).mean()",
        3,
    ),
}


def code(source, tags=(), **role):
    about = {"schema_version": 3, "grade": False, "solution": False, "locked": True} | role
    metadata = {"tags": list(tags)} | ({"nbgrader": about} if role else {})
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def source_notebook():
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# CutMix"},
        code("raise SystemExit('the setup cell is not run by the grader')", ["setup"]),
        code("import torch\n%matplotlib inline\nHELPED = True", grade_id="given"),
    ]
    for key, (head, body, points) in ITEMS.items():
        name = sheet.grade_id(key)
        answer = f"{head}\n    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION"
        function = head[4:].partition("(")[0]
        report = f"report = s4.check({function}, {key!r}, seed=7)\nassert report, report"
        hidden = f"### BEGIN HIDDEN TESTS\n{report}\n### END HIDDEN TESTS"
        cells.append(code(answer, grade_id=name, solution=True, locked=False))
        cells.append(
            code(f"s4.check({function}, {key!r})\n{hidden}", grade_id=f"{name}-test", grade=True, points=points)
        )
    words = {"schema_version": 3, "grade": True, "solution": True, "locked": False, "grade_id": "reflect", "points": 2}
    cells.append({"cell_type": "markdown", "metadata": {"nbgrader": words}, "source": "An answer."})
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def answer(notebook, key, new):
    """The notebook with another answer to one exercise."""
    new_one = copy.deepcopy(notebook)
    for cell in new_one["cells"]:
        if sheet.role(cell).get("grade_id") == sheet.grade_id(key):
            cell["source"] = new
    return new_one


FORK = "import os\nwhile True:\n    os.fork()"
PATCH = "import s4kit.classroom.judge as j\nj.verdict = lambda *a: j.Verdict()\ndef average(*a, **k): return a"
HOSTILE = {
    "loops": "while True:\n    pass",
    "hangs": "def average(teacher, student, decay):\n    while True: pass",
    "forks": FORK,
    "leaves": "import os\nos._exit(0)",
    "memory": "held = bytearray(3 << 30)",
    "fills": "open('big', 'wb').write(bytes(8 << 20))",
    "patches": PATCH,
    "prints": "print('cutmix.average: right. points: 2 of 2')",
    "syntax": "def average(teacher, student, decay:\n    return",
}
