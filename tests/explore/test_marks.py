"""What was marked, taken out: a table, CSV, masks."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import s4kit as s4
from s4kit.engine import open_run, tags
from s4kit.errors import S4Error
from s4kit.explore import corrections
from s4kit.explore.marks import COLUMNS, marked
from s4kit.explore.state import start
from s4kit.explore.view import View

MARKS = [
    {"tag": "blurred, \"soft\"", "image": 1, "track": 0, "snapshot": 2, "selection": {}},
    {"tag": "pole", "image": -1, "track": 1, "snapshot": 0, "selection": {"kind": "confusion", "truth": 0, "label": 1}},
    {"tag": "pole", "image": 0, "track": 0, "snapshot": -1, "selection": {"kind": "pixel", "x": 3, "y": 5}},
]  # fmt: skip


@pytest.fixture(scope="module")
def view(runs):
    return View([str(runs["fixmatch"]), str(runs["cps"])])


def test_marks_are_listed_and_saved(view, tmp_path):
    marks = start(view.meta, 0.9, {"marks": MARKS}).marks
    found = marked(view, marks)
    ids = [view.meta["images"][k]["id"] for k in (1, 4, 0)]
    assert found.ids == ids and [one.step for one in found] == [5, 1, 5]
    scene, maps = view.data.first.image(4), view.data.maps(1, 4)
    cell = (scene["truth"] == 0) & (maps["label"][0] == 1)
    assert found[0].mask is None and np.array_equal(found[1].mask, cell) and found[2].pixels == 1
    file = found.save(tmp_path / "marked")
    rows = list(csv.DictReader(file.open()))
    assert tuple(rows[0]) == COLUMNS and [row["id"] for row in rows] == ids and rows[0]["tag"] == MARKS[0]["tag"]
    assert rows[1]["pixels"] == str(cell.sum()) and rows[1]["what"] == "confusion 0 1" and rows[0]["mask"] == ""
    assert np.array_equal(np.array(Image.open(file.parent / rows[1]["mask"])), cell)
    point = np.argwhere(np.array(Image.open(file.parent / rows[2]["mask"])))
    assert point.tolist() == [[5, 3]] and len(list(file.parent.iterdir())) == 3
    assert "pole" in repr(found) and "&quot;soft&quot;" in found._repr_html_()


def test_tags_of_the_runs_are_marks_too(runs, tmp_path):
    folder = shutil.copytree(runs["fixmatch"], tmp_path / "run")
    view = View(folder)
    tags.mark(open_run(folder), "later", ["train/train_3", "train/train_4"])
    found = marked(view, [])
    assert [(one.id, one.tag, one.step) for one in found] == [
        ("train/train_3", "later", None), ("train/train_4", "later", None)]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tag": " "}, "1 to 60"),
        ({"tag": 5}, "1 to 60"),
        ({"image": 9}, "image"),
        ({"track": 9}, "track"),
        ({"snapshot": 3}, "snapshot"),
        ({"selection": {"kind": "x"}}, "kind"),
        ({"more": 1}, "list of dicts"),
    ],
)
def test_marks_that_mean_nothing_are_refused(view, change, words):
    with pytest.raises(S4Error, match=words):
        start(view.meta, 0.9, {"marks": [MARKS[0] | change]})


def test_the_widget_says_what_is_marked_and_takes_a_painted_file(widget, runs, tmp_path):
    widget.marks = MARKS
    assert len(widget.marked()) == 3 and widget.marks[1]["image"] == 4
    html = widget.save_html(tmp_path / "e.html", images=[1, 0], steps=[1, 5])
    from explored import held

    assert [one["image"] for one in held(html)[0]["marks"]] == [0, 1] and held(html)[0]["marks"][0]["snapshot"] == 1
    meta = widget._view.meta
    asked = {"kind": "correct", "image": 0, "track": 0, "at": 0, "rest": "void", "painted": [[7, 2, 1]]}
    asked |= {"id": meta["images"][3]["id"], "track": meta["tracks"][0]["title"], "step": 5, "full": False}
    file = tmp_path / "label.json"
    file.write_text(json.dumps(asked))
    assert corrections.offered(meta, file) == {"image": 3, "track": 0, "at": 2, "rest": "void", "painted": [[7, 2, 1]]}
    done = widget.correct(file)
    assert done["id"] == asked["id"] and done["painted"] == 2
    shutil.rmtree(runs["fixmatch"] / "corrections")
    for wrong in ({"id": "x"}, {"track": "x"}, {"step": 2}):
        with pytest.raises(s4.S4Error, match="no image"):
            widget.correct(asked | wrong)
    with pytest.raises(s4.S4Error, match="no label of a page"):
        widget.correct(tmp_path / "none.json")
