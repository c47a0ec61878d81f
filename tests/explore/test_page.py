"""The explorer as a page and a picture: from the shell and from Python, and what is chosen to fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from explored import by_hand, held
from PIL import Image

import s4kit as s4
from s4kit.cli import main
from s4kit.explore.packing.codec import decode
from s4kit.explore.packing.pack import Pack
from s4kit.explore.serving import page
from s4kit.explore.state import start
from s4kit.explore.view import View


def test_the_shell_writes_page_and_picture_of_the_chosen_part(runs, tmp_path, capsys):
    html, png = tmp_path / "new" / "e.html", tmp_path / "e.png"
    both = [str(runs["cps"]), str(runs["fixmatch"])]
    argv = ["explore", *both, "--html", str(html), "--png", str(png), "--images", "3,1", "--steps", "1,5", "--json"]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == [3, 1] and found["steps"] == [1, 5] and found["size"] == html.stat().st_size
    assert Image.open(png).size[0] > 600
    state, packs = held(html)
    ids = s4.open_run(runs["cps"]).snapshots().ids
    assert [image["id"] for image in state["meta"]["images"]] == [ids[3], ids[1]] and found["shown"] == ids[3]
    assert [track["steps"] for track in state["meta"]["tracks"]] == [[1, 5]] * 3 and state["snapshot"] == 1
    assert "kernel" not in state["meta"]
    arrays, _ = decode(packs["track/1/0"])
    np.testing.assert_array_equal(arrays["label"][0], by_hand(runs["cps"], "2 teaches 1", 1, 3)["label"])
    assert state["meta"]["left_out"] == [ids[k] for k in (0, 2, 4)]
    for t in range(3):  # over all of the run's images, which are more than the page holds
        there = decode(Pack([runs["cps"], runs["fixmatch"]], steps=[1, 5]).pack(f"summary/{t}"))
        arrays, header = decode(packs[f"summary/{t}"])
        np.testing.assert_array_equal(arrays["total"], there[0]["total"])
        assert header["images"] == there[1]["images"] == 5
    for t, track in enumerate(state["meta"]["tracks"]):
        assert len(track["path_names"]) == track["path"] == sum(key.startswith(f"path/{t}/") for key in packs) > 0


@pytest.mark.slow
def test_the_shell_needs_no_notebook_packages(runs, tmp_path):
    code = (
        "import sys; sys.modules.update(anywidget=None, ipywidgets=None, IPython=None)\n"
        "from s4kit.cli import main\n"
        f"assert main(['explore', {str(runs['fixmatch'])!r}, '--html', 'e.html', '--png', 'e.png']) == 0\n"
        f"import s4kit\ntry: s4kit.explore({str(runs['fixmatch'])!r})\n"
        "except s4kit.S4Error as error: print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=_with_path(root)
    )
    assert done.returncode == 0, done.stderr
    assert "5 of 5 images" in done.stdout and "pip install 's4kit[notebooks]'" in done.stdout
    assert (tmp_path / "e.html").stat().st_size < 8e6


def _with_path(root: Path) -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(root)}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--html", "x.html", "--images", "7"], "0 to 4"),
        (["--html", "x.html", "--images", "a"], "--images"),
        (["--html", "x.html", "--steps", "2"], "1, 3, 5"),
        (["--html", "x.html", "--images", ""], "images=[]"),
        (["--png", "/proc/x.png"], "/proc/x.png"),
    ],
)
def test_mistakes_at_the_shell_are_answered_in_words(runs, tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    assert main(["explore", str(runs["cps"]), *argv]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_opens_where_the_widget_stands(widget, tmp_path, capsys):
    widget.image, widget.snapshot, widget.tracks = 4, 1, [2, 0]
    widget.policy, widget.threshold, widget.selection = "fixed", 0.3, {"kind": "bin", "bin": 4}
    path = widget.save_html(tmp_path / "e.html", images=[1, 4], steps=[3, 5])
    assert "2 of 5 images (1, 4: as asked)" in capsys.readouterr().out
    state, _ = held(path)
    assert (state["image"], state["snapshot"], state["tracks"]) == (1, 0, [2, 0])
    assert (state["policy"], state["threshold"], state["selection"]) == ("fixed", 0.3, {"kind": "bin", "bin": 4})


def test_a_small_budget_keeps_the_shown_and_the_worst_image_and_thins_steps(runs, tmp_path, monkeypatch):
    view = View(runs["fixmatch"])
    order = page.ranked(view)
    accuracy = [view.meta["tracks"][0]["quality"][-1][k]["accuracy"] for k in order]
    assert accuracy == sorted(accuracy)
    shown, worst, best = order[2], order[0], order[-1]
    state = start(view.meta, 0.5, {"image": shown})
    monkeypatch.setattr(page, "PATHS", 0.0)

    def saved_in(images: list[int], steps: list[int] | None, extra: int = 1) -> page.Saved:
        """What is chosen where exactly these images at these steps fit."""
        data = Pack(view.runs, steps=steps)
        keys = ["cells/0", "story/0", *(key for k in images for key in (f"image/{k}", f"track/0/{k}"))]
        monkeypatch.setattr(page, "BUDGET", page.html.size({key: data.pack(key) for key in keys}) + extra)
        return view.save_html(tmp_path / "e.html", state)

    saved = saved_in([shown, worst, best], None)
    assert (saved.images, saved.steps, saved.paths) == (sorted([shown, worst, best]), [1, 3, 5], 0)
    assert saved_in([shown, worst], None).images == sorted([shown, worst])  # three snapshots are few already
    monkeypatch.setattr(page, "FEW", 2)
    assert saved_in([shown, worst], None, extra=-1).steps == [1, 5]
    assert saved_in([shown], [1, 5]).images == [shown]
    monkeypatch.setattr(page, "BUDGET", 10)
    with pytest.raises(s4.S4Error, match="Not even one image"):
        view.save_html(tmp_path / "none.html", state)
    assert not (tmp_path / "none.html").exists()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_every_beginning_of_the_order_is_spread(count):
    order = page.spread(count)
    assert sorted(order) == list(range(count)) and order[0] == 0
    for some in range(2, count + 1):
        gaps = np.diff(sorted(order[:some]))
        assert gaps.max() <= 2 * max(1, -(-(count - 1) // (some - 1))), order
