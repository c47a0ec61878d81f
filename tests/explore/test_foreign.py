"""Runs that cannot be shown, and runs from somebody else: nothing in them is executed or believed."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from explored import held, texts

import s4kit as s4
from s4kit.cli import main
from s4kit.explore.state import start
from s4kit.explore.view import View


def test_runs_that_do_not_fit_together_are_told_apart(runs, tmp_path):
    other = shutil.copytree(runs["cps"], tmp_path / "other")
    change(other, ids=["elsewhere", *index(other)["ids"][1:]])
    with pytest.raises(s4.S4Error, match=r"probe images.*elsewhere"):
        View([runs["fixmatch"], other])
    change(other, ids=index(runs["cps"])["ids"], classes=["a", "b", "c", "d"])
    with pytest.raises(s4.S4Error, match="classes"):
        View([runs["fixmatch"], other])


def test_titles_tell_runs_of_the_same_kind_apart(runs, tmp_path):
    twin = shutil.copytree(runs["cps"], tmp_path / "twin")
    titles = [track["title"] for track in View([runs["cps"], twin]).meta["tracks"]]
    assert len(set(titles)) == 4 and "twin" in titles[2]
    assert View({"old": runs["fixmatch"], "new": twin}).meta["tracks"][2]["title"] == "new · 2 teaches 1"


def test_a_run_without_snapshots_says_so(runs, tmp_path):
    copy = shutil.copytree(runs["fixmatch"], tmp_path / "copy")
    (copy / "probes" / "index.json").unlink()
    with pytest.raises(s4.S4Error, match=r"index\.json is missing"):
        View(copy)


# ---- runs from somebody else ----


def index(run: Path) -> dict:
    return json.loads((run / "probes" / "index.json").read_text())


def change(run: Path, **fields) -> None:
    (run / "probes" / "index.json").write_text(json.dumps(index(run) | fields))


def opened(run: Path) -> None:
    """All that opening a run reads."""
    view = View(run)
    view.png(start(view.meta, 0.5, {}))
    for t, track in enumerate(view.meta["tracks"]):
        view.data.pack(f"track/{t}/0")
        for k in range(track["path"]):
            view.data.pack(f"path/{t}/{k}")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("file", ["images.npz", "0000005.npz", "0000005_path.npz"])
def test_pickles_in_arrays_are_not_opened(runs, tmp_path, file):
    copy, sprung = shutil.copytree(runs["fixmatch"], tmp_path / "copy"), tmp_path / "sprung"
    with np.load(copy / "probes" / file) as arrays:
        names = arrays.files
    trap = np.array([Trap(sprung)], dtype=object)
    np.savez(copy / "probes" / file, **dict.fromkeys(names, trap))
    with pytest.raises(s4.S4Error, match="damaged"):
        opened(copy)
    assert not sprung.exists()


def test_other_shapes_types_and_labels_are_refused(runs, tmp_path):
    for number, wrong in enumerate(
        (np.zeros((32, 33), np.uint8), np.zeros((32, 32), np.float64), np.full((32, 32), 200, np.uint8))
    ):
        copy = shutil.copytree(runs["fixmatch"], tmp_path / f"copy{number}")
        file = copy / "probes" / "0000005.npz"
        with np.load(file) as arrays:
            changed = dict(arrays) | {f"pseudo/{k}/label": wrong for k in range(5)}
        np.savez(file, **changed)
        with pytest.raises(s4.S4Error, match=r"0000005\.npz"):
            opened(copy)


def test_a_bomb_is_refused_before_it_is_unpacked(runs, tmp_path):
    import tracemalloc

    copy = shutil.copytree(runs["fixmatch"], tmp_path / "copy")
    file = copy / "probes" / "0000005.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (1 << 14, 1 << 14)})
    with zipfile.ZipFile(file) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, head.getvalue() + bytes(1 << 28) if name == "pseudo/0/weight.npy" else data)
    del members
    tracemalloc.start()
    with pytest.raises(s4.S4Error, match="damaged"):
        opened(copy)
    assert tracemalloc.get_traced_memory()[1] < 1 << 27
    tracemalloc.stop()


@pytest.mark.parametrize(
    "fields",
    [
        {"height": 10**9, "width": 10**9},
        {"height": -1},
        {"height": "x"},
        {"classes": []},
        {"classes": ["c"] * 300, "palette": [[0, 0, 0]] * 300},
        {"palette": [[0, 0]]},
        {"palette": [[999, 0, 0]] * 4},
        {"ids": []},
        {"ids": 7},
        {"version": 99},
    ],
)
def test_an_absurd_index_is_refused(runs, tmp_path, fields):
    copy = shutil.copytree(runs["fixmatch"], tmp_path / "copy")
    change(copy, **fields)
    with pytest.raises(s4.S4Error, match=r"index\.json"):
        opened(copy)


HOSTILE = ['</script><img src=x onerror="alert(1)">', "$\\frac{", "_hidden", "${alert(1)}`'\""]


def test_hostile_names_are_only_names(runs, tmp_path, capsys):
    copy = shutil.copytree(runs["fixmatch"], tmp_path / "copy")
    change(copy, classes=HOSTILE, ids=[*HOSTILE, "../../up"])
    path = tmp_path / "e.html"
    assert main(["explore", str(copy), "--html", str(path), "--png", str(tmp_path / "e.png")]) == 0
    text = path.read_text()
    assert "<img" not in text and text.count("</script>") == text.count("<script")
    state, _ = held(path)
    assert state["meta"]["classes"] == HOSTILE
    view = View(copy)
    words = [t.get_text().strip("\u200a") for t in texts(view.figure(start(view.meta, 0.5, {})))]
    assert set(HOSTILE) <= set(words)
