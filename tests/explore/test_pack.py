"""What the browser gets: packs that decode to the recorded arrays, and a description that numpy agrees with."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from explored import texts
from matplotlib import colormaps
from toy import toy_task

import s4kit as s4
from s4kit.errors import S4Error
from s4kit.explore import figure, policies
from s4kit.explore.packing.codec import decode, encode
from s4kit.explore.packing.pack import Pack
from s4kit.explore.rim import rim
from s4kit.explore.state import start
from s4kit.explore.view import View
from s4kit.methods import own

FIT = dict(steps=6, batch=2, lr=1e-2, evaluate_every=2, probes=4, progress=False, device="cpu")


def train(folder, name, task, **fit):
    torch.manual_seed(0)
    return s4.fit(s4.methods.create(name, task, net="tiny"), task, out=folder / name, **FIT | fit)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs of a thresholding method, of a co-training one, and of one that warms up."""
    folder, task = tmp_path_factory.mktemp("runs"), toy_task()
    torch.manual_seed(0)
    warm = s4.methods.create("u2pl", task, net="tiny", warmup=0.5)
    return {
        "unimatch": train(folder, "unimatch", task),
        "cps": train(folder, "cps", task),
        "u2pl": s4.fit(warm, task, out=folder / "u2pl", **FIT),
    }


@pytest.fixture(scope="module")
def pack(runs):
    return Pack(list(runs.values()))


def test_packs_decode_to_what_was_encoded():
    rng = np.random.default_rng(0)
    arrays = {
        "odd": rng.integers(0, 256, (3, 5), dtype=np.uint8),
        "entropy": rng.integers(0, 256, (2, 3, 5, 7), dtype=np.uint8),
        "floats": rng.random((2, 3)).astype(np.float32),
        "counts": rng.integers(0, 2**32, 4, dtype=np.uint32),
    }
    data = encode(arrays, note="ü")
    found, header = decode(data)
    assert header["note"] == "ü" and all(np.array_equal(found[n], arrays[n]) for n in arrays)
    assert encode(arrays, note="ü") == data, "the same arrays give the same bytes"
    raw = gzip.decompress(data)
    (length,) = struct.unpack("<I", raw[:4])
    assert length % 4 == 0 and all(a["offset"] % 4 == 0 for a in json.loads(raw[4 : 4 + length])["arrays"])


def test_meta_describes_the_tracks(pack, runs):
    meta = json.loads(json.dumps(pack.meta))
    assert [t["title"] for t in meta["tracks"]] == [
        "unimatch · seed 0",
        "cps · seed 0 · 1 teaches 2",
        "cps · seed 0 · 2 teaches 1",
        "u2pl · seed 0",
    ]
    assert [t["path"] for t in meta["tracks"]] == [6, 2, 2, 2]
    assert meta["tracks"][0]["path_names"] == [p for p in ("pseudo", "second view", "dropped features") for _ in "ab"]
    assert all(t["steps"] == [1, 3, 5] and t["evidence"] == "rule on an eval forward" for t in meta["tracks"])
    assert meta["classes"] == list(toy_task().classes) and len(meta["palette"]) == 4 and len(meta["images"]) == 4
    assert all(image["known"] for image in meta["images"])


def test_single_objects_are_offered_where_a_rule_says_them(tmp_path, pack, monkeypatch):
    class Single(s4.methods.get("unimatch")):
        """Two objects, side by side."""

        def pseudo_labels(self, logits, view, clock):
            found = super().pseudo_labels(logits, view, clock)
            return replace(found, ids=(1000 * (torch.arange(32) // 12)).expand_as(found.label))

    monkeypatch.setitem(own.OWN, "single", Single)
    run = train(tmp_path, "single", toy_task(), steps=2)
    single = Pack([run])
    assert [track["objects"] for track in single.meta["tracks"]] == [True]
    assert not any(track["objects"] for track in pack.meta["tracks"]) and "object" not in pack.maps(0, 0)
    arrays, _ = decode(single.pack("track/0/1"))
    assert arrays["object"].shape == (1, 32, 32) and (arrays["object"] == np.arange(32) // 12).all()
    view = View([run])
    row = view._row(0, start(view.meta, 0.5, {}))
    pixels, inside = figure.outlined(row, view.meta["palette"]), (row.objects > 0) & row.valid
    edge = np.isin(np.arange(32), (11, 12, 23, 24)) & (row.objects >= 0)
    assert np.array_equal(rim(row.objects), edge)
    assert (pixels[inside & edge] == np.array(view.meta["palette"])[row.label[inside & edge]]).all()
    filled = colormaps["cividis"](row.confidence, bytes=True)[..., :3]
    assert (pixels[inside & ~edge] == filled[inside & ~edge]).all() and (np.ptp(pixels[~inside], axis=1) == 0).all()
    assert "objects" in [text.get_text() for text in texts(view.figure(start(view.meta, 0.5, {})))]


def test_quality_is_that_of_the_policies(pack, runs):
    for t, track in enumerate(pack.meta["tracks"]):
        for k in range(4):
            scene, maps = pack.first.image(k), pack.maps(t, k)
            truth, valid = scene["truth"], scene["valid"]
            for s in range(3):
                at = {name: values[s] for name, values in maps.items()}
                kept = policies.kept("own", 0, at, valid)
                numbers = policies.numbers(kept, at["label"], truth, valid, 4)
                every = policies.numbers(valid > 0, at["label"], truth, valid, 4)
                bias = policies.confirmed(maps["label"][: s + 1], maps["weight"][: s + 1], truth, valid)
                assert track["quality"][s][k] == {
                    "coverage": numbers["coverage"],
                    "precision": numbers["precision"],
                    "accuracy": every["precision"],
                    "bias": int((bias >= 2).sum()),
                }


def test_quality_agrees_with_the_runs_table(pack, runs):
    """`pseudo.csv` is written by the engine, on tensors; accuracy there is over all probe images."""
    for t, track in enumerate(pack.meta["tracks"]):
        table = [row for row in pack.tracks[t].run.pseudo() if row["name"] == track["name"]]
        known = [((pack.first.image(k)["valid"] > 0) & (pack.first.image(k)["truth"] != 255)).sum() for k in range(4)]
        for s, row in enumerate(table):
            mean = np.average([q["accuracy"] for q in track["quality"][s]], weights=known)
            assert row["step"] == track["steps"][s] and row["accuracy"] == pytest.approx(mean, abs=1e-9)


def test_image_and_track_packs_are_the_snapshots(pack, runs):
    for t, track in enumerate(pack.tracks):
        arrays, _ = decode(pack.pack(f"track/{t}/2"))
        arrays = {"confidence": arrays["prob"][:, 0]} | arrays
        for s, step in enumerate(track.steps):
            stored = track.snapshots.read(step, track.name, 2)
            assert arrays.keys() == stored.keys()
            assert all(np.array_equal(arrays[name][s], stored[name]) for name in stored)
    scene, _ = decode(pack.pack("image/3"))
    assert all(np.array_equal(scene[name], values) for name, values in pack.first.image(3).items())


def test_path_packs_are_the_recorded_ways(pack):
    track = pack.tracks[0]
    arrays, header = decode(pack.pack("path/0/3"))
    assert header["name"] == "second view" and arrays["present"].tolist() == [1, 1, 1]
    assert arrays["weak"].shape == (1, 32, 32, 3)
    for s, step in enumerate(track.steps):
        stored = track.snapshots.path(step, "second view", 1)
        assert all(np.array_equal(arrays[name][s], stored[name]) for name in ("label", "weight"))
        assert np.abs(arrays["loss"][s] / 255 * header["loss_max"] - stored["loss"]).max() <= header["loss_max"] / 500
        for name in ("weak", "mixed"):
            assert np.array_equal(arrays[name][s if len(arrays[name]) > 1 else 0], stored[name])


def test_steps_without_a_path_are_marked(pack):
    """U2PL warms up on labelled images alone: its first snapshot has no unlabelled term."""
    arrays, header = decode(pack.pack("path/3/0"))
    assert arrays["present"].tolist() == [0, 1, 1]
    assert (arrays["label"][0] == 255).all() and not arrays["weight"][0].any() and not arrays["loss"][0].any()
    assert header["loss_max"] > 0 and arrays["loss"].max() == 255


def test_the_summary_gives_the_curve_of_all_images(pack):
    for t in range(4):
        arrays, _ = decode(pack.pack(f"summary/{t}"))
        for level in (0, 90, 128):
            kept = right = 0
            for k in range(4):
                scene, maps = pack.first.image(k), pack.maps(t, k)
                at = {name: values[-1] for name, values in maps.items()} | {"prob": maps["prob"][-1, 0]}
                mask = policies.kept("fixed", level, at, scene["valid"])
                numbers = policies.numbers(mask, at["label"], scene["truth"], scene["valid"], 4)
                kept, right = kept + numbers["known"], right + numbers["right"]
            assert arrays["total"][-1, :, level:].sum() == kept and arrays["right"][-1, :, level:].sum() == right
        truth = np.concatenate([pack.first.image(k)["truth"][pack.first.image(k)["valid"] > 0] for k in range(4)])
        assert arrays["truth_count"].tolist() == [int((truth == c).sum()) for c in range(4)]


@pytest.mark.parametrize(
    "key", ["", "image", "image/4", "image/-1", "track/0", "track/9/0", "path/3/2", "summary/x", "../config.json", None]
)
def test_other_keys_are_refused(pack, key):
    with pytest.raises(S4Error, match="nothing under"):
        pack.pack(key)


def test_a_part_of_images_and_steps(runs):
    part = Pack([runs["cps"]], images=[3, 1], steps=[1, 5])
    whole = Pack([runs["cps"].path])
    assert [i["id"] for i in part.meta["images"]] == [whole.meta["images"][k]["id"] for k in (3, 1)]
    assert part.meta["tracks"][0]["steps"] == [1, 5]
    one, two = decode(part.pack("track/1/0"))[0], decode(whole.pack("track/1/3"))[0]
    assert all(np.array_equal(one[name], two[name][[0, 2]]) for name in one)
    with pytest.raises(S4Error, match="no probe image 4"):
        Pack([runs["cps"]], images=[4])
    with pytest.raises(S4Error, match="no snapshot at these steps; it has 1, 3, 5"):
        Pack([runs["cps"]], steps=[2])


def test_runs_that_do_not_fit_are_told_apart(runs, tmp_path):
    other = train(tmp_path, "fixmatch", toy_task(seed=3, classes=5), steps=2)
    with pytest.raises(S4Error, match=r"side by side: their classes differ .*class_4"):
        Pack([runs["cps"], other])
    fewer = train(tmp_path, "cutmix", toy_task(), steps=2, probes=2)
    with pytest.raises(S4Error, match="their probe images differ"):
        Pack([runs["cps"], fewer])
    with pytest.raises(S4Error, match="at least one run"):
        Pack([])


def test_two_runs_of_one_set_up_are_told_apart_by_their_folders(runs):
    titles = [t["title"] for t in Pack([runs["unimatch"], runs["unimatch"]]).meta["tracks"]]
    assert titles == ["unimatch · seed 0 · unimatch"] * 2
    assert [t.title for t in Pack([runs["unimatch"]], titles=["mine"]).tracks] == ["mine"]
