"""What students really hand in: code that looks like magic, cells of the wrong kind, odd files; nothing is lost."""

from __future__ import annotations

import copy
import csv
import io
import json
import zipfile

import pytest
from handed import answer, code, source_notebook

from s4kit.classroom import build, sheet
from s4kit.classroom.feedback import _page_name
from s4kit.classroom.grade import counting
from s4kit.classroom.intake import handed_in
from s4kit.classroom.magics import cut, plain
from s4kit.classroom.marks import Graded, Mark
from s4kit.classroom.restore import restored
from s4kit.classroom.shell import run
from s4kit.errors import S4Error

SOURCE = source_notebook()
FULL = build.solution(SOURCE)
AVERAGE = "def average(teacher, student, decay):\n    return (decay * teacher + (1 - decay) * student).detach()"
KEPT = [
    "x = (7\n     % 4)",
    "x = 7 \\\n  % 4",
    "x = [\n    5\n    # it's (\n    % 3,\n    True\n    != False,\n]",
    's = """\n%not magic\n!nor this\n?nor that\n"""',
    "s = '''a\n% b''' + 'it\\'s (' + r'\\'\nt = \"%d\" % 3",
    "d = {'a': 3}\nb = d['a'] != 3  # really?",
]


@pytest.mark.parametrize("written", KEPT)
def test_python_stays_as_it_is(written):
    assert plain(written) == written and not cut(written)


@pytest.mark.parametrize(
    ("written", "run", "lost"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1", ["%matplotlib inline"]),
        ("if True:\n    !ls\nx = (1)\ncount?\nx.y??\n?x", "if True:\n    pass\nx = (1)\npass\npass\npass", 4),
        ("!pip install \\\n    this\nx = 1", "pass\n\nx = 1", 2),
        ("files = !ls\ntook = %timeit -o f()", "files = None\ntook = None", 2),
        ("%time x = 1", "x = 1", []),
        ("%%time\nx = 1", "pass\nx = 1", ["%%time"]),
        ("%%bash\nls (", "\n", 2),
    ],
)
def test_magics_go_and_lines_keep_their_place(written, run, lost):
    assert plain(written) == run and (cut(written) == lost if isinstance(lost, list) else len(cut(written)) == lost)
    compile(plain(written), "cell", "exec")


def at(notebook, name):
    return next(k for k, cell in enumerate(notebook["cells"]) if sheet.role(cell).get("grade_id") == name)


def changed(name, **parts):
    """The full solution with one cell changed; `metadata={}` is a mark that was lost."""
    new = copy.deepcopy(FULL)
    new["cells"][at(new, name)] |= parts
    return new


def texts_of(notebook):
    _, texts, noticed = restored(SOURCE, notebook)
    return texts["reflect"], "; ".join(noticed)


def answer_of(notebook):
    parts, _, noticed = restored(SOURCE, notebook)
    return [part.code for part in parts if part.key == "cutmix.average"], "; ".join(noticed)


def test_an_untouched_solution_is_found_without_a_word():
    assert answer_of(FULL) == ([AVERAGE], "") and texts_of(FULL) == ("An answer.", "")


def test_an_answer_in_a_cell_that_became_text_is_read_as_code():
    for lost in ({}, {"metadata": {}}):
        found, noticed = answer_of(
            changed("cutmix-average", cell_type="markdown", source=f"```python\n{AVERAGE}\n```", **lost)
        )
        assert found[0].strip() == AVERAGE and "had become markdown" in noticed


def test_an_answer_below_its_untouched_cell_counts():
    blank = sheet.student(SOURCE)
    blank["cells"].insert(at(blank, "cutmix-average") + 1, code(AVERAGE))
    found, noticed = answer_of(blank)
    assert found == [AVERAGE] and "the answer was found in cell 5" in noticed
    both = changed("cutmix-average")
    both["cells"].insert(at(both, "cutmix-average") + 1, code("def average(*all): return 0"))
    found, noticed = answer_of(both)
    assert found == [AVERAGE, "def average(*all): return 0"] and "2 answer cells" in noticed


def test_what_is_cut_from_an_answer_is_said_and_shown():
    new = answer(FULL, "cutmix.average", f"{AVERAGE}\naverage?")
    parts, _, noticed = restored(SOURCE, new)
    assert parts[1].code == f"{AVERAGE}\npass" and parts[1].written.endswith("average?")
    assert noticed == ["cutmix.average: only Jupyter understands `average?`; left out"]


def test_texts_are_recovered_from_code_cells_from_below_and_without_marks():
    said, noticed = texts_of(changed("reflect", cell_type="code", source="The teacher is an average."))
    assert said == "The teacher is an average." and "had become code" in noticed
    said, noticed = texts_of(changed("reflect", metadata={}, source="My own words."))
    assert said == "My own words." and "had no mark" in noticed
    below = changed("reflect", source=sheet.BLANK)
    below["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "Below it."})
    below["cells"].append(code("and in a code cell, too"))
    said, noticed = texts_of(below)
    assert said == "Below it.\n\nand in a code cell, too" and "found in cell" in noticed
    parts, _, _ = restored(SOURCE, below)
    assert not any("code cell, too" in part.code for part in parts)
    assert texts_of(sheet.student(SOURCE)) == ("", "")


def test_answers_to_another_assignment_are_named():
    new = copy.deepcopy(FULL)
    new["cells"].append(code("def other(): pass", grade_id="metrics-iou", solution=True))
    assert "metrics-iou belongs to no exercise here" in answer_of(new)[1]


# ---- files ----


def old(notebook):
    """As nbformat 3."""
    cells = [
        {"cell_type": "code", "input": [sheet.text(c)], "metadata": c["metadata"], "outputs": []}
        if c["cell_type"] == "code"
        else {"cell_type": "heading", "level": 1, "source": sheet.text(c), "metadata": c["metadata"]}
        for c in notebook["cells"]
    ]
    return {"nbformat": 3, "worksheets": [{"cells": cells}], "metadata": {}}


def zipped(**files):
    store = io.BytesIO()
    with zipfile.ZipFile(store, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return store.getvalue()


def test_every_folder_has_a_row_and_what_can_be_read_is_read(tmp_path):
    whole, place = json.dumps(FULL), tmp_path / "handed"
    written = {
        "upper/3_cutmix.IPYNB": whole.encode(),
        "mail/3_cutmix.ipynb.txt": whole.encode(),
        "bom/3_cutmix.ipynb": whole.encode("utf-8-sig"),
        "wide/3_cutmix.ipynb": whole.encode("utf-16"),
        "old/3_cutmix.ipynb": json.dumps(old(FULL)).encode(),
        "zip/mine.zip": zipped(**{"a__3_cutmix.ipynb": whole, "__MACOSX__._x.ipynb": "no"}),
        "class.zip": zipped(**{"eve__3.ipynb": whole, "bob__3.ipynb": whole}),
        "damaged/mine.zip": b"PK no archive",
        "report/report.pdf": b"%PDF",
        "loose.ipynb": whole.encode(),
        "notes.txt": b"?",
        ".ipynb_checkpoints/loose.ipynb": b"",
        "out/grades.csv": b"",
    }
    for name, content in written.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    (place / "empty").mkdir()
    (place / "linked").mkdir()
    (place / "linked" / "a.ipynb").symlink_to(place / "loose.ipynb")
    found = {one.student: one for one in handed_in(place, place / "out")}
    read = {"upper", "mail", "bom", "wide", "old", "zip", "eve", "bob", "loose"}
    assert {name for name, one in found.items() if one.data is not None} == read
    for name in read:
        assert answer_of(found[name].notebook())[0] == [AVERAGE], name
    assert found["mail"].stem == found["upper"].stem == "3_cutmix" and found["eve"].file == "class.zip: eve/3.ipynb"
    errors = {name: one.error for name, one in found.items() if name not in read}
    assert set(errors) == {"damaged", "report", "notes", "empty", "linked"}
    assert "it holds report.pdf" in errors["report"] and "cannot be read" in errors["damaged"]
    assert errors["empty"] == "the folder is empty" and "a link" in errors["linked"]


def test_nothing_handed_in_is_an_error_that_names_what_is_there(tmp_path):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "a.py").write_text("")
    with pytest.raises(S4Error, match=r"no notebook.*it holds a\.py"):
        handed_in(tmp_path)


# ---- rows and pages ----


def test_a_page_for_each_row_and_the_best_one_counts(tmp_path):
    (tmp_path / "assignments").mkdir()
    (tmp_path / "assignments" / "3_cutmix.ipynb").write_text(json.dumps(SOURCE))
    wrong = answer(FULL, "cutmix.average", "def average(*all): return 0")
    for place, notebook in {"p p/a": FULL, "p_p/a": wrong, "ada/a (1)": wrong, "ada/a": FULL}.items():
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"{place}.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "in" / "none").mkdir()
    run("grade", [str(tmp_path / "in"), str(tmp_path / "out")], str(tmp_path / "assignments"), "1")
    with open(tmp_path / "out" / "grades.csv", newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len({row["page"] for row in rows.values()}) == len(rows) == 5
    for name, row in rows.items():
        page = (tmp_path / "out" / "feedback" / row["page"]).read_text()
        assert f"<title>{row['student']}:" in page and f"<b>{row['points']}</b>" in page and name in page
    assert {name: row["points"] for name, row in rows.items() if "p" in name[:3]} == {
        "p p/a.ipynb": "6",
        "p_p/a.ipynb": "4",
    }
    assert [rows[f"ada/{name}.ipynb"]["counts"] for name in ("a", "a (1)")] == ["yes", "no"]
    assert "2 notebooks were handed in for it; ada/a.ipynb counts" in rows["ada/a (1).ipynb"]["noticed"]
    assert rows["none/"]["error"] == "the folder is empty" and rows["none/"]["points"] == "0"


def test_page_names_differ_where_file_systems_do_not():
    taken: set[str] = set()
    students = ["Ada", "ada", "a/b", "a b", "a_b", "x" * 200, "x" * 201, "\u00e9", "e\u0301", "ada"]
    names = [_page_name(Graded(student, "1_metrics", []), taken) for student in students]
    assert len({name.casefold() for name in names}) == len(names) and all(len(name) < 150 for name in names)


def test_the_better_of_two_counts_whichever_came_first():
    item = sheet.Item("cutmix.average", 2)
    two = [Graded("ada", "3", [Mark(item, points)], file=f"{points}") for points in (1.0, 2.0)]
    counting([*two, other := Graded("bob", "3", [])])
    assert [one.counts for one in two] == [False, True] and other.counts and not other.noticed
