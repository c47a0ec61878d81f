"""The explorer from Python: traits, data for the browser, full resolution, figure, picture."""

from __future__ import annotations

import base64
import io
import json
import shutil

import numpy as np
import pytest
from explored import by_hand, texts
from PIL import Image

import s4kit as s4
from s4kit.explore import figure, policies
from s4kit.explore.packing.codec import decode
from s4kit.explore.state import start
from s4kit.explore.view import View

# ---- traits ----


def test_it_opens_on_the_last_snapshot_of_all_tracks_at_the_runs_own_threshold(widget):
    state = widget.state
    assert (state.image, state.snapshot, state.threshold, state.policy) == (0, 2, 0.4, "own")
    assert state.tracks == [0, 1, 2] and state.hidden == [] and state.selection == {}
    assert [t["name"] for t in widget.meta["tracks"]] == ["pseudo", "1 teaches 2", "2 teaches 1"]
    assert widget.meta["kernel"] is True


def test_numbers_are_there_from_python(widget, runs):
    widget.policy, widget.threshold, widget.image, widget.tracks = "fixed", 0.35, 1, [2]
    maps = by_hand(runs["cps"], "2 teaches 1", 5, 1)
    kept = (maps["valid"] > 0) & (maps["prob"][0] >= 89)
    (found,) = widget.numbers().values()
    assert found["kept"] == kept.sum() > 0 and found["coverage"] == kept.sum() / (maps["valid"] > 0).sum()
    assert found["right"] == (kept & (maps["label"] == maps["truth"]) & (maps["truth"] != 255)).sum()
    assert (
        repr(widget)
        == "Explorer of fixmatch · seed 0, cps · seed 0 · 1 teaches 2, cps · seed 0 · 2 teaches 1: 5 images"
    )


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


def test_the_figures_error_panel_tells_kept_from_rejected_and_right_from_wrong(runs):
    view = View(runs["fixmatch"])
    state = start(view.meta, 0.5, {"policy": "fixed", "threshold": 0.5, "hidden": [1]})
    maps = by_hand(runs["fixmatch"], "pseudo", 5, 0)
    palette = view.meta["palette"]
    pixels = figure.errors(view._row(0, state), palette)
    known = (maps["truth"] != 255) & (maps["valid"] > 0) & (maps["label"] != 1)
    for (outcome, colour), kept, right in zip(figure.colours_of(palette).items(), (1, 1, 0, 0), (1, 0, 1, 0)):
        wanted = known & ((maps["prob"][0] >= 128) == kept) & ((maps["label"] == maps["truth"]) == right)
        np.testing.assert_array_equal((pixels == colour).all(-1), wanted, err_msg=outcome)


def test_a_picture_goes_before_the_widget_and_follows_the_state(widget, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **how: shown.append(data))

    def picture():
        shown.clear()
        widget._ipython_display_()
        still, live = shown
        assert "application/vnd.jupyter.widget-view+json" in live and "image/png" not in live
        assert widget.meta["still"] in still["text/html"] and still["image/png"] in still["text/html"]
        return base64.b64decode(still["image/png"])

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
