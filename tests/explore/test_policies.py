"""Policies and what comes of them, against slow definitions on fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from s4kit.errors import S4Error
from s4kit.explore import policies

CLASSES = 4


def scene(seed=0, side=13, classes=CLASSES):
    """Maps of one image: coarse levels, so that ties are common; some padding, some unknown truth."""
    rng = np.random.default_rng(seed)
    shape = (side, side + 2)
    maps = {
        "label": rng.integers(0, classes, shape, dtype=np.uint8),
        "weight": rng.integers(0, 2, shape, dtype=np.uint8) * 255,
        "prob": (rng.integers(4, 16, shape) * 17).astype(np.uint8),
        "entropy": (rng.integers(0, 12, shape) * 20).astype(np.uint8),
    }
    truth = np.where(rng.random(shape) < 0.6, maps["label"], rng.integers(0, classes, shape)).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 255
    valid = (rng.random(shape) < 0.9).astype(np.uint8)
    return maps, truth, valid


def slowly(policy, level, maps, valid):
    """`policies.kept`, pixel by pixel, with the slider as the fraction level/255."""
    t, places = Fraction(level, 255), list(zip(*np.nonzero(valid)))
    keep = np.zeros(valid.shape, bool)
    if policy == "own":
        chosen = [at for at in places if maps["weight"][at] > 0]
    elif policy == "fixed":
        chosen = [at for at in places if Fraction(int(maps["prob"][at]), 255) >= t]
    elif policy == "entropy":
        limit = -1
        while t > 0 and sum(maps["entropy"][at] <= limit for at in places) < t * len(places):
            limit += 1
        chosen = [at for at in places if maps["entropy"][at] <= limit]
    else:
        of = {c: [int(maps["prob"][at]) for at in places if maps["label"][at] == c] for c in range(CLASSES)}
        means = {c: Fraction(sum(values), len(values)) for c, values in of.items() if values}
        least = {c: math.floor(level * mean / max(means.values()) + Fraction(1, 2)) for c, mean in means.items()}
        chosen = [at for at in places if maps["prob"][at] >= least[maps["label"][at]]]
    for at in chosen:
        keep[at] = True
    return keep


@pytest.mark.parametrize("policy", policies.POLICIES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_policies_are_their_definitions_to_the_pixel(policy, seed):
    maps, _, valid = scene(seed)
    for level in (0, 1, 60, 127, 128, 200, 254, 255):
        assert np.array_equal(policies.kept(policy, level, maps, valid), slowly(policy, level, maps, valid)), level


def test_the_ends_of_the_slider():
    maps, _, valid = scene()
    everything, nothing = valid > 0, np.zeros(valid.shape, bool)
    assert np.array_equal(policies.kept("fixed", 0, maps, valid), everything)
    assert np.array_equal(policies.kept("entropy", 255, maps, valid), everything)
    assert np.array_equal(policies.kept("entropy", 0, maps, valid), nothing)
    assert np.array_equal(policies.kept("adaptive", 0, maps, valid), everything)
    for policy in policies.POLICIES:
        assert np.array_equal(policies.kept(policy, 128, maps, np.zeros_like(valid)), nothing)
    with pytest.raises(S4Error, match="no policy 'best'"):
        policies.kept("best", 0, maps, valid)


def test_adaptive_thresholds_are_lower_for_unsure_classes_and_exact_on_large_maps():
    label = np.repeat(np.array([0, 1], np.uint8), 2_000_000)
    prob = np.where(label == 0, 250, 125).astype(np.uint8)
    levels = policies.class_levels(251, label, prob)
    assert levels[0] == 251 and levels[1] == 126  # 125.5, rounded up
    assert policies.class_levels(255, np.zeros(3, np.uint8), np.zeros(3, np.uint8))[0] == 255


def test_numbers_are_counts():
    maps, truth, valid = scene(3)
    mask = policies.kept("fixed", 140, maps, valid)
    found = policies.numbers(mask, maps["label"], truth, valid, CLASSES)
    places = list(zip(*np.nonzero(mask)))
    known = [at for at in places if truth[at] != 255]
    right = [at for at in known if truth[at] == maps["label"][at]]
    assert (found["kept"], found["known"], found["right"]) == (len(places), len(known), len(right))
    assert found["coverage"] == len(places) / int(valid.sum()) and found["precision"] == len(right) / len(known)
    for c in range(CLASSES):
        named = [at for at in places if maps["label"][at] == c]
        judged = [at for at in named if truth[at] != 255]
        true = [at for at in zip(*np.nonzero(valid)) if truth[at] == c]
        assert found["share"][c] == len(named) / len(places)
        assert found["class_precision"][c] == sum(truth[at] == c for at in judged) / len(judged)
        assert found["class_coverage"][c] == sum(bool(mask[at]) for at in true) / len(true)
    empty = policies.numbers(np.zeros_like(mask), maps["label"], truth, valid, CLASSES)
    assert empty["coverage"] == 0 and empty["precision"] is None and empty["share"] == [None] * CLASSES


def bias_slowly(labels, weights, truth, valid):
    value = np.zeros(truth.shape, int)
    for at in zip(*np.nonzero((valid > 0) & (truth != 255))):
        for s in reversed(range(len(labels))):
            wrong = labels[s][at] != truth[at] and labels[s][at] == labels[-1][at]
            if not (wrong and weights[s][at] > 0):
                break
            value[at] += 1
    return value


def test_confirmed_mistakes_are_counted_back_from_now():
    rng = np.random.default_rng(5)
    _, truth, valid = scene(5)
    labels = rng.integers(0, 2, (6, *truth.shape), dtype=np.uint8)
    weights = (rng.random(labels.shape) < 0.8).astype(np.uint8)
    counts = policies.bias_counts(labels, weights, truth, valid)
    for now in range(6):
        found = policies.confirmed(labels[: now + 1], weights[: now + 1], truth, valid)
        assert np.array_equal(found, bias_slowly(labels[: now + 1], weights[: now + 1], truth, valid))
        assert counts[now] == (found >= 2).sum()
    assert counts[0] == 0 and max(counts) > 0 and found.max() > 2


def test_a_mistake_that_changes_its_label_or_is_rejected_starts_anew():
    truth, valid = np.zeros((1, 4), np.uint8), np.ones((1, 4), np.uint8)
    labels = np.array([[[1, 1, 2, 1]], [[1, 1, 1, 1]], [[1, 1, 1, 0]]], np.uint8)
    weights = np.array([[[1, 1, 1, 1]], [[1, 0, 1, 1]], [[1, 1, 1, 1]]], np.uint8)
    assert policies.confirmed(labels, weights, truth, valid).tolist() == [[3, 1, 2, 0]]
    assert policies.bias_counts(labels, weights, truth, valid) == [0, 2, 2]


def test_reliability_has_ten_bins_over_pixels_of_known_truth():
    maps, truth, valid = scene(7)
    confidence = np.random.default_rng(1).integers(0, 256, truth.shape).astype(np.uint8)
    confidence[0, :3] = (0, 25, 255)
    found = policies.reliability(confidence, maps["label"], truth, valid > 0)
    for k, row in enumerate(found):
        inside = [
            at
            for at in zip(*np.nonzero((valid > 0) & (truth != 255)))
            if min(9, math.floor(Fraction(10 * int(confidence[at]), 255))) == k
        ]
        assert row["count"] == len(inside)
        assert row["confidence"] == pytest.approx(np.mean([confidence[at] / 255 for at in inside]))
        assert row["accuracy"] == pytest.approx(np.mean([maps["label"][at] == truth[at] for at in inside]))
    none = policies.reliability(confidence, maps["label"], truth, np.zeros(truth.shape, bool))
    assert none == [{"count": 0, "confidence": None, "accuracy": None}] * 10


def test_confusion_rows_are_truth():
    maps, truth, valid = scene(8)
    found = policies.confusion(maps["label"], truth, valid > 0, CLASSES)
    for a in range(CLASSES):
        for b in range(CLASSES):
            assert found[a, b] == ((truth == a) & (maps["label"] == b) & (valid > 0)).sum()


def test_disagreement_counts_different_labels():
    labels = np.array([[[0, 1, 2, 3]], [[0, 1, 1, 2]], [[0, 2, 0, 2]]], np.uint8)
    assert policies.disagreement(labels, np.array([[1, 1, 1, 0]])).tolist() == [[0, 1, 2, 0]]


def test_ranking_puts_the_worst_first_and_the_unknown_last():
    quality = [{"accuracy": a, "bias": b} for a, b in ((0.5, 3), (None, 0), (0.2, 9), (0.5, 3))]
    assert policies.ranking(quality) == [2, 0, 3, 1]
    assert policies.ranking(quality, "bias") == [2, 0, 3, 1]
