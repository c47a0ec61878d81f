"""The explorer from Python: traits, figure, page, picture, full resolution, and runs from somebody else."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import s4kit as s4
from s4kit.cli import main
from s4kit.explore import figure, page, policies
from s4kit.explore.pack import Pack, decode
from s4kit.explore.state import start
from s4kit.explore.view import View


@pytest.fixture
def widget(runs):
    """An explorer over both runs: FixMatch's one pseudo-label and CPS' two."""
    pytest.importorskip("anywidget", reason="anywidget is not installed: no widget to test")
    return s4.explore([str(runs["fixmatch"]), s4.open_run(runs["cps"])])


def by_hand(run: Path, name: str, step: int, k: int) -> dict[str, np.ndarray]:
    """The maps of one image, from the reader alone."""
    snapshots = s4.open_run(run).snapshots()
    return snapshots.image(k) | snapshots.read(step, name, k)


# ---- traits ----


def test_it_opens_on_the_last_snapshot_of_all_tracks_at_the_runs_own_threshold(widget):
    state = widget.state
    assert (state.image, state.snapshot, state.threshold, state.policy) == (0, 2, 0.4, "own")
    assert state.tracks == [0, 1, 2] and state.hidden == [] and state.selection == {}
    assert [t["name"] for t in widget.meta["tracks"]] == ["pseudo", "1 teaches 2", "2 teaches 1"]
    assert widget.meta["kernel"] is True


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("threshold", 1.5, ["1.5", "0 to 1"]),
        ("threshold", "high", ["'high'", "0 to 1"]),
        ("threshold", float("nan"), ["nan", "0 to 1"]),
        ("image", 5, ["5", "0 to 4"]),
        ("image", True, ["True"]),
        ("snapshot", 3, ["3", "0 to 2"]),
        ("policy", "percentile", ["'percentile'", "entropy"]),
        ("tracks", [], ["track"]),
        ("tracks", [3], ["3", "0 to 2"]),
        ("hidden", ["sky"], ["'sky'", "0 to 3"]),
        ("selection", {"kind": "circle"}, ["circle", "pixel"]),
        ("selection", {"kind": "pixel", "x": 3}, ["x and y"]),
        ("selection", {"kind": "bin", "bin": 10}, ["10", "0 to 9"]),
    ],
)
def test_a_value_out_of_range_is_refused_in_words_and_changes_nothing(widget, name, value, words):
    import traitlets

    before = widget.state
    with pytest.raises(s4.S4Error) as refused:
        setattr(widget, name, value)
    assert isinstance(refused.value, traitlets.TraitError)
    assert all(word in str(refused.value) for word in words)
    assert widget.state == before
    if name != "selection" and not isinstance(value, float):
        with pytest.raises(s4.S4Error):
            s4.explore(s4.open_run(widget._view.runs[0].path), **{name: value})


def test_traits_are_set_and_observed(widget):
    heard = []
    widget.observe(lambda change: heard.append((change["name"], change["new"])))
    widget.threshold, widget.image, widget.hidden = 0.25, -1, (2, 1, 2)
    widget.policy = "adaptive"
    widget.selection = {"kind": "pixel", "x": np.int64(3), "y": 4}
    assert heard == [
        ("threshold", 0.25),
        ("image", 4),
        ("hidden", [2, 1]),
        ("policy", "adaptive"),
        ("selection", {"kind": "pixel", "x": 3, "y": 4}),
    ]
    json.dumps(widget.get_state(["hidden", "selection", "image"]))  # plain types: they go to the browser


def test_what_the_browser_sets_is_checked_too(widget):
    import traitlets

    widget.set_state({"threshold": 0.5, "tracks": [2], "snapshot": 0})
    assert (widget.threshold, widget.tracks, widget.snapshot) == (0.5, [2], 0)
    with pytest.raises(traitlets.TraitError):
        widget.set_state({"tracks": "all", "snapshot": 1})
    assert (widget.tracks, widget.snapshot) == ([2], 0)


def test_unknown_names_and_odd_runs_are_answered_in_words(runs):
    with pytest.raises(s4.S4Error, match="policy"):
        s4.explore(runs["cps"], polcy="fixed")
    for odd in (5, [5], None):
        with pytest.raises(s4.S4Error, match="list of them"):
            View(odd)
    with pytest.raises(s4.S4Error, match="at least one"):
        View([])


# ---- data for the browser ----


def asked(widget, content: dict) -> tuple[dict, list[bytes]]:
    sent = []
    widget.send = lambda message, buffers=None: sent.append((message, buffers or []))
    widget._handle_custom_msg(content, [])
    (found,) = sent
    return found


def test_packs_come_when_the_browser_needs_them(widget, runs):
    message, (data,) = asked(widget, {"kind": "need", "key": "track/1/3"})
    assert message == {"kind": "pack", "key": "track/1/3"}
    arrays, _ = decode(data)
    maps = by_hand(runs["cps"], "1 teaches 2", 5, 3)
    for name in ("label", "weight", "entropy", "prob", "top"):
        np.testing.assert_array_equal(arrays[name][-1], maps[name])


@pytest.mark.parametrize("key", ["../../etc/passwd", "track/0", "image/99", "image/-1", None, {"a": 1}, "__class__/1"])
def test_a_key_that_is_none_is_answered_in_words(widget, key):
    message, buffers = asked(widget, {"kind": "need", "key": key})
    assert message["key"] == key and "nothing under" in message["error"] and not buffers


def test_full_resolution_is_the_whole_file_through_the_last_weights(widget, runs):
    message, (data,) = asked(widget, {"kind": "full", "image": 1, "track": 2})
    assert (message["kind"], message["image"], message["track"]) == ("full", 1, 2)
    arrays, _ = decode(data)
    method, task = s4.open_run(runs["cps"]).load("last", device="cpu")
    sample = task.train.read(task.train.ids.index(widget.meta["images"][1]["id"]))
    assert arrays["image"].shape == (40, 40, 3)  # the files; the probe crop is 32
    np.testing.assert_array_equal(arrays["image"], sample.image.permute(1, 2, 0))
    np.testing.assert_array_equal(arrays["truth"], sample.label)
    logits = method.net2(sample.image[None].float() / 255)
    np.testing.assert_array_equal(arrays["label"][0], logits.argmax(1)[0])
    np.testing.assert_allclose(arrays["prob"][0, 0], 255 * logits.softmax(1).amax(1)[0].detach(), atol=0.51)


def test_full_resolution_says_what_it_lacks(runs, tmp_path):
    copy = shutil.copytree(runs["fixmatch"], tmp_path / "copy")
    (copy / "last.pt").unlink()
    with pytest.raises(s4.S4Error, match="no checkpoint"):
        View(copy).full(0, 0)


# ---- figure and picture ----


@pytest.mark.parametrize("policy", policies.POLICIES)
def test_the_figure_shows_and_says_what_numpy_finds(runs, policy):
    view = View(runs["cps"])
    maps = by_hand(runs["cps"], "2 teaches 1", 3, 2)
    real, p = maps["valid"] > 0, maps["prob"][0]
    level = int(np.median(p[real]))
    given = {"policy": policy, "threshold": level / 255, "image": 2, "snapshot": 1, "tracks": [1]}
    state = start(view.meta, 0.5, given)
    if policy == "own":
        kept = real & (maps["weight"] > 0)
    elif policy == "fixed":
        kept = real & (p >= level)
    elif policy == "entropy":
        limit = np.sort(maps["entropy"][real])[int(np.ceil(level * real.sum() / 255)) - 1]
        kept = real & (maps["entropy"] <= limit)
    else:
        means = {c: p[real & (maps["label"] == c)].mean() for c in np.unique(maps["label"][real])}
        levels = {c: np.floor(level * mean / max(means.values()) + 0.5) for c, mean in means.items()}
        kept = real & (p >= np.vectorize(lambda c: levels.get(c, 256))(maps["label"]))
    np.testing.assert_array_equal(view.kept(1, state), kept)
    right = (maps["label"] == maps["truth"])[kept & (maps["truth"] != 255)]
    assert kept.any() and (policy == "own" or not kept[real].all()) and not right.all()
    words = " ".join(text.get_text() for text in texts(view.figure(state)))
    assert f"{100 * kept.sum() / real.sum():.1f} % of the pixels" in words
    assert f"{100 * right.mean():.1f} % of these are right" in words
    assert "step 3" in words and "2 teaches 1" in words and view.meta["images"][2]["id"] in words


def texts(fig) -> list:
    from matplotlib.text import Text

    return fig.findobj(Text)


def test_the_figures_error_panel_tells_kept_from_rejected_and_right_from_wrong(runs):
    view = View(runs["fixmatch"])
    state = start(view.meta, 0.5, {"policy": "fixed", "threshold": 0.5, "hidden": [1]})
    maps = by_hand(runs["fixmatch"], "pseudo", 5, 0)
    pixels = figure.outcomes(view._row(0, state))
    known = (maps["truth"] != 255) & (maps["valid"] > 0) & (maps["label"] != 1)
    for (outcome, colour), kept, right in zip(figure.OUTCOMES.items(), (1, 1, 0, 0), (1, 0, 1, 0)):
        wanted = known & ((maps["prob"][0] >= 128) == kept) & ((maps["label"] == maps["truth"]) == right)
        np.testing.assert_array_equal((pixels == colour).all(-1), wanted, err_msg=outcome)


def test_a_picture_rides_along_and_follows_the_state(widget):
    def picture():
        data = widget._repr_mimebundle_()[0]
        assert "application/vnd.jupyter.widget-view+json" in data
        return base64.b64decode(data["image/png"])

    first = picture()
    assert Image.open(io.BytesIO(first)).size[0] > 600 and len(first) < 200_000
    widget.policy, widget.threshold = "fixed", 0.99
    assert picture() != first


def test_few_colours_move_none_of_them_far(runs):
    view, raw = View(runs["fixmatch"]), io.BytesIO()
    state = start(view.meta, 0.5, {})
    fig = view.figure(state)
    fig.savefig(raw, format="png", dpi=90, facecolor=fig.get_facecolor())
    true, few = (np.asarray(Image.open(io.BytesIO(b)).convert("RGB"), int) for b in (raw.getvalue(), view.png(state)))
    assert abs(true - few).max() <= 16


def test_selections_are_marked_where_they_are(runs):
    view = View(runs["fixmatch"])
    scene = view.scene(start(view.meta, 0.5, {}))
    maps = by_hand(runs["fixmatch"], "pseudo", 5, 0)
    real = scene["valid"] > 0
    wanted = {
        "pixel": ({"x": 4, "y": 9}, np.outer(np.arange(32) == 9, np.arange(32) == 4)),
        "confusion": ({"truth": 1, "label": 0}, real & (maps["truth"] == 1) & (maps["label"] == 0)),
        "bin": ({"bin": 3}, real & (10 * maps["prob"][0].astype(int) // 255 == 3)),
    }
    for kind, (where, pixels) in wanted.items():
        state = start(view.meta, 0.5, {"selection": {"kind": kind, **where}})
        np.testing.assert_array_equal(view._row(0, state).marked, pixels)
        assert view.png(state)


# ---- the page, from Python and from the shell ----


def held(path: Path) -> tuple[dict, dict[str, bytes]]:
    """The state and the packs of a page."""
    import re

    text = path.read_text()
    state = json.loads(re.search(r'id="state">(.*?)</script>', text, re.S)[1])
    return state, {k: base64.b64decode(v) for k, v in re.findall(r'data-pack="(.*?)">(.*?)</script>', text, re.S)}


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
    assert {f"summary/{t}" for t in range(3)} <= packs.keys()
    for t, track in enumerate(state["meta"]["tracks"]):
        assert len(track["path_names"]) == track["path"] == sum(key.startswith(f"path/{t}/") for key in packs) > 0


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
        ([], "--html"),
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
        keys = [key for k in images for key in (f"image/{k}", f"track/0/{k}")]
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


# ---- runs that cannot be shown ----


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
