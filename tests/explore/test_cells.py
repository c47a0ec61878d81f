"""Counts over all probe images: each figure again, image by image, with the arithmetic of one image."""

from __future__ import annotations

import numpy as np
import pytest
from probe_packs import make

import s4kit as s4
from s4kit.explore import policies
from s4kit.explore.packing import cells
from s4kit.explore.packing.codec import decode
from s4kit.explore.state import start
from s4kit.explore.view import View


@pytest.fixture(scope="module")
def made():
    return make(40, 56)


@pytest.fixture(scope="module")
def found(made):
    return made.cells(0)


@pytest.mark.parametrize("kept", [True, False])
def test_confusion_is_the_sum_over_the_images(made, found, kept):
    for s in range(5):
        wanted = 0
        for k, scene in enumerate(made.scenes):
            maps = made.at(0, k, s)
            mask = policies.kept("own" if kept else "fixed", 0, maps, scene["valid"])
            wanted = wanted + policies.confusion(maps["label"], scene["truth"], mask, 6)
        assert np.array_equal(found.confusion(s, kept), wanted) and wanted.sum()


def test_classes_are_those_of_all_images_as_one(made, found):
    joined = {name: np.concatenate([scene[name] for scene in made.scenes]) for name in ("truth", "valid")}
    for s in range(5):
        label, weight = (np.concatenate([made.at(0, k, s)[name] for k in range(3)]) for name in ("label", "weight"))
        mask = (weight > 0) & (joined["valid"] > 0)
        wanted = policies.numbers(mask, label, joined["truth"], joined["valid"], 6)
        rows = found.by_class(s)
        assert [row["share"] for row in rows] == wanted["share"]
        assert [row["precision"] for row in rows] == wanted["class_precision"]
        assert [row["coverage"] for row in rows] == wanted["class_coverage"]
        for c, row in enumerate(rows):
            of_label = (label == c) & (joined["valid"] > 0)
            assert row["kept_share"] == policies.ratio((of_label & mask).sum(), of_label.sum())
            known = (joined["truth"] != 255) & (joined["valid"] > 0)
            assert row["presence"] == pytest.approx((joined["truth"][known] == c).mean())


def test_a_cell_leads_to_its_images(made, found):
    s, truth, label = 1, 2, 1
    matrix = found.confusion(s, kept=False)
    assert matrix[truth, label], "boxes are taken for discs in these scenes"
    listed = found.images_of(s, truth, label, kept=False)
    assert sum(n for _, n in listed) == matrix[truth, label]
    assert [n for _, n in listed] == sorted((n for _, n in listed), reverse=True)
    for k, n in listed:
        scene, maps = made.scenes[k], made.at(0, k, s)
        assert n == ((scene["truth"] == truth) & (maps["label"] == label) & (scene["valid"] > 0)).sum()
    missed = found.images_of(s, truth, None, kept=False)
    assert sum(n for _, n in missed) == matrix[truth].sum() - matrix[truth, truth]
    taken = found.images_of(s, None, label, kept=False)
    assert sum(n for _, n in taken) == matrix[:, label].sum() - matrix[label, label]
    assert found.images_of(s, 0, 0, kept=False) and 2 not in dict(found.images_of(s, 0, 0)), "no truth, no mistake"


def test_starving_is_dated_back_to_where_it_began():
    truth = np.zeros((10, 20), np.uint8)
    truth[:, :4] = 1
    weights = np.full((4, 10, 20), 255, np.uint8)
    weights[1, :, :4] = 0  # once, then not
    weights[3, :, :4] = 0
    weights[3, 0, 0] = 255
    labels = np.broadcast_to(truth, weights.shape)
    known = cells.count(2, 1, 4, lambda k: (truth, np.ones_like(truth), labels, weights))
    assert known.starves_since() == [None, 3]
    rows = known.by_class(3)
    assert rows[1]["coverage"] == 1 / 40 and rows[1]["presence"] == 40 / 200 and rows[0]["share"] == 160 / 161
    weights[2, :, :4] = 0
    known = cells.count(2, 1, 4, lambda k: (truth, np.ones_like(truth), labels, weights))
    assert known.starves_since() == [None, 1], "at steps 1, 2 and 3 without a break"
    shown = repr(cells.table(known, 3, ["sky", "pole"], [9, 19, 29, 39], "one image"))
    assert "pole" in shown and shown.splitlines()[-2].split()[-1] == "19" and "step 39" in shown
    hidden = np.full_like(truth, 255)
    unknown = cells.count(2, 1, 4, lambda k: (hidden, np.ones_like(truth), labels, weights))
    assert unknown.starves_since() == [None, None] and unknown.by_class(3)[1]["kept_share"] == 1 / 40
    assert unknown.by_class(3)[1]["coverage"] is None


def test_a_run_sends_its_table(runs):
    view = View([runs["fixmatch"], runs["cps"]])
    pack = view.data
    for t in range(3):
        arrays, header = decode(pack.pack(f"cells/{t}"))
        known = pack.cells(t)
        assert header["ids"] == s4.open_run(runs["fixmatch"]).snapshots().ids
        assert all(np.array_equal(arrays[name], getattr(known, name)) for name in arrays)
        assert header["kinds"] == ["unlabelled"] * 5
        some = known.only([1, 4])
        apart = np.stack([known.only([k]).confusion(2, kept=False) for k in (1, 4)]).sum(0)
        assert np.array_equal(some.confusion(2, kept=False), apart) and apart.sum()
        shown = view.classes(t, start(view.meta, 0.9, {}))
        assert len(shown) == 4 and "5 unlabelled images at step 5" in shown.note
        assert int(arrays["every"].sum()) == 3 * 5 * 32 * 32 and (np.diff(known.place) > 0).all()
