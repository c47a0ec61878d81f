"""What a threshold would keep, and how right that is: integer arithmetic on the stored levels.

The explorer's JavaScript computes the same; both follow these definitions to the last pixel, so that the numbers on the
page are those of numpy. In all of them `level` is the threshold in 0..255 (slider 0..1 times 255) and maps are uint8 of
one image at one snapshot: label, weight, prob (of the most likely class), entropy, truth (255 = unknown), valid (0 =
padding).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import S4Error

POLICIES = ("own", "fixed", "entropy", "adaptive")
VOID = 255
BINS = 10


def kept(policy: str, level: int, maps: dict[str, ndarray], valid: ndarray) -> ndarray:
    """Which pixels a policy trains on.

    own       the method's recorded rule: weight > 0; the level does not act
    fixed     prob >= level
    entropy   the share level/255 of the valid pixels that has the lowest entropy: all up to the smallest entropy level
              at which the share is reached (ties are kept); none at level 0
    adaptive  prob >= the level of the pixel's class: level * m_c / m, rounded half up, where m_c is the mean prob of
              the valid pixels labelled c and m the largest m_c; so the surest class has the full level

    Args:
        policy: its name. level: 0..255. maps: label, weight, prob, entropy. valid: (h, w).

    Returns:
        (h, w) bool, False on padding.

    Raises:
        S4Error: no such policy.
    """
    real = valid > 0
    if policy == "own":
        return real & (maps["weight"] > 0)
    if policy == "fixed":
        return real & (maps["prob"] >= level)
    if policy == "entropy":
        return real & (maps["entropy"] <= entropy_limit(level, maps["entropy"][real]))
    if policy == "adaptive":
        levels = class_levels(level, maps["label"][real], maps["prob"][real])
        return real & (maps["prob"] >= levels[maps["label"]])
    raise S4Error(f"There is no policy {policy!r}: {', '.join(POLICIES)}.")


def entropy_limit(level: int, entropy: ndarray) -> int:
    """The smallest level e of entropies 0..255, of any shape, with 255 * #(entropy <= e) >= level * #pixels; -1 for
    level 0 or no pixel."""
    if level == 0 or entropy.size == 0:
        return -1
    reached = 255 * np.bincount(entropy, minlength=256).cumsum() >= level * entropy.size
    return int(reached.argmax())


def class_levels(level: int, label: ndarray, prob: ndarray) -> ndarray:
    """(256,) int: the threshold of each label; a label without pixels has the full level.

    Sums and counts are whole numbers, and the quotient is rounded from them (beyond 2**53 on large maps: BigInt in
    JavaScript): floor((2 * level * s_c * n + n_c * s) / (2 * n_c * s)) with s / n the largest mean s_c / n_c.
    """
    counts = [int(n) for n in np.bincount(label, minlength=256)]
    sums = [int(s) for s in np.bincount(label, weights=prob, minlength=256)]
    s, n = 0, 1
    for s_c, n_c in zip(sums, counts):
        if n_c and s_c * n > s * n_c:
            s, n = s_c, n_c
    found = ((2 * level * s_c * n + n_c * s) // (2 * n_c * s) if n_c and s else level for s_c, n_c in zip(sums, counts))
    return np.array(list(found))


def numbers(mask: ndarray, label: ndarray, truth: ndarray, valid: ndarray, classes: int) -> dict[str, Any]:
    """Coverage, precision and class balance of the kept pixels of one image.

    Args:
        mask: (h, w) bool, the kept pixels. label, truth: (h, w) classes, 255 = unknown. valid: (h, w), 0 on padding.

    Returns:
        valid, kept, known (kept with known truth), right: counts of pixels; coverage = kept / valid; precision = right
        / known; and per class share (of the kept labels), class_precision (of the pixels that got this label) and
        class_coverage (of the pixels that truly are of it). None stands for a share of nothing.
    """
    real, known = valid > 0, truth != VOID
    labels = np.bincount(label[mask], minlength=classes)
    judged = np.bincount(label[mask & known], minlength=classes)
    right = np.bincount(label[mask & known & (label == truth)], minlength=classes)
    found = np.bincount(truth[mask & known], minlength=classes)
    there = np.bincount(truth[real & known], minlength=classes)
    return {
        "valid": int(real.sum()),
        "kept": int(mask.sum()),
        "known": int(judged.sum()),
        "right": int(right.sum()),
        "coverage": ratio(mask.sum(), real.sum()),
        "precision": ratio(right.sum(), judged.sum()),
        "share": [ratio(n, labels.sum()) for n in labels],
        "class_precision": [ratio(n, of) for n, of in zip(right, judged)],
        "class_coverage": [ratio(n, of) for n, of in zip(found, there)],
    }


def ratio(part: Any, of: Any) -> float | None:
    """part / of; None over nothing."""
    return int(part) / int(of) if of > 0 else None


def confirmed(labels: ndarray, weights: ndarray, truth: ndarray, valid: ndarray) -> ndarray:
    """Confirmation bias: for how long each pixel has been taught the same mistake.

    Args:
        labels, weights: (T, h, w) of all snapshots up to now, in order. truth, valid: (h, w).

    Returns:
        (h, w) int: the number of snapshots, consecutive and back from the last one, at which the pixel was kept by the
        own rule, wrong, and had the label that it has now. A value of 2 or more is a confirmed mistake.
    """
    taught = (weights > 0) & (labels != truth) & (labels == labels[-1]) & (truth != VOID) & (valid > 0)
    return np.logical_and.accumulate(taught[::-1]).sum(0)


def bias_counts(labels: ndarray, weights: ndarray, truth: ndarray, valid: ndarray) -> list[int]:
    """Confirmed mistakes (pixels with `confirmed` >= 2) at each of the T snapshots: labels and weights (T, h, w), truth
    and valid (h, w)."""
    wrong = (weights > 0) & (labels != truth) & (truth != VOID) & (valid > 0)
    again = wrong[1:] & wrong[:-1] & (labels[1:] == labels[:-1])
    return [0, *again.sum((1, 2)).tolist()]


def reliability(confidence: ndarray, label: ndarray, truth: ndarray, mask: ndarray) -> list[dict[str, Any]]:
    """Reliability diagram: does a pixel of confidence 0.8 have the right label in 80 of 100 cases?

    Args:
        confidence, label, truth: maps. mask: which pixels (valid ones, or kept ones); those of unknown truth are out.

    Returns:
        One dict for each of ten bins; bin k holds the levels with min(9, 10 * level // 255) = k: count, confidence (the
        mean, in [0, 1]) and accuracy, None in an empty bin.
    """
    used = mask & (truth != VOID)
    place = bins(confidence[used])
    count = np.bincount(place, minlength=BINS)
    sure = np.bincount(place, weights=confidence[used], minlength=BINS).astype(np.int64)
    right = np.bincount(place[label[used] == truth[used]], minlength=BINS)
    return [
        {"count": int(n), "confidence": ratio(s, 255 * n), "accuracy": ratio(r, n)}
        for n, s, r in zip(count, sure, right)
    ]


def bins(confidence: ndarray) -> ndarray:
    """The bin 0..9 of each level 0..255, of any shape."""
    return np.minimum(BINS - 1, 10 * confidence.astype(np.int64) // 255)


def confusion(label: ndarray, truth: ndarray, mask: ndarray, classes: int) -> ndarray:
    """(C, C) pixels of true class (row) and label (column) inside the mask, unknown truth left out."""
    used = mask & (truth != VOID)
    places = truth[used].astype(np.int64) * classes + label[used]
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def disagreement(labels: ndarray, valid: ndarray) -> ndarray:
    """(h, w) int: number of different labels that K pseudo-labels (K, h, w) give to a pixel, less one; 0 on padding."""
    ordered = np.sort(labels, axis=0)
    return (ordered[1:] != ordered[:-1]).sum(0) * (valid > 0)


def ranking(quality: list[dict[str, Any]], by: str = "accuracy") -> list[int]:
    """Images from the worst to the best by a field of `pack`'s quality; those without a value come last.

    By "bias" the most comes first, by coverage, precision or accuracy the least; ties keep their order.
    """
    sign = -1 if by == "bias" else 1
    return sorted(range(len(quality)), key=lambda k: (quality[k][by] is None, sign * (quality[k][by] or 0)))
