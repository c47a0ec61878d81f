"""Who takes part in a contrast, step after step: the points of all snapshots in one frame, to be compared.

Each snapshot has principal axes of its own, which may be turned or mirrored from one to the next without meaning
anything; they are turned back as far as the classes allow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from ...methods.parts.roles import ROLES
from .tracks import Track

SMALL = ("role", "label", "own", "image")


def over_time(track: Track, name: str) -> tuple[dict[str, ndarray], dict[str, Any]]:
    """The arrays and the header of "roles/{t}/{c}", see `Pack.pack`."""
    recorded = [step if step in track.snapshots.role_steps[name] else None for step in track.steps]
    found = [None if step is None else track.snapshots.roles(step, name) for step in recorded]
    there = [one for one in found if one is not None]
    points = [one[0] for one in there]
    counts = [0 if one is None else len(one[0]["role"]) for one in found]
    arrays = {field: np.concatenate([p[field] for p in points]) for field in SMALL}
    arrays |= {field: _joined(points, field) for field in ("pixel", "cosine")}
    arrays["place"] = framed(points)
    arrays["start"] = np.cumsum([0, *counts]).astype(np.uint32)
    last, pictures = there[0][1], []
    for one in found:  # a step without a contrast has the pictures of the one before
        last = last if one is None else one[1]
        pictures.append(last)
    images = _stacked(pictures)
    arrays["images"] = images[:1] if (images == images[0]).all() else images
    share = [None if one is None else round(float(one[0]["share"][0]), 3) for one in found]
    return arrays, {"name": name, "share": share, "roles": list(ROLES)}


def framed(points: list[dict[str, ndarray]]) -> ndarray:
    """(N, 2) float32 places of the points of all snapshots in [0, 1], on one scale, the longer side full."""
    turned_ones: list[ndarray] = []
    before: dict[tuple[int, int], ndarray] = {}
    for one in points:
        place = one["place"].astype(np.float32)
        if before:
            place = place @ turn(means(place, one), before)
        turned_ones.append(place)
        before = means(place, one)
    place = np.concatenate(turned_ones)
    low, high = place.min(0), place.max(0)
    return ((place - (low + high) / 2) / max(float((high - low).max()), 1e-6) + 0.5).astype(np.float32)


def means(place: ndarray, points: dict[str, ndarray]) -> dict[tuple[int, int], ndarray]:
    """{(role, class): (2,)} the middle of the `place` (n, 2) of each class in each part."""
    kinds = points["role"].astype(int) * 256 + points["label"]
    return {divmod(int(kind), 256): place[kinds == kind].mean(0) for kind in np.unique(kinds)}


def turn(now: dict[tuple[int, int], ndarray], before: dict[tuple[int, int], ndarray]) -> ndarray:
    """(2, 2): the turn or mirroring that brings places nearest to those before (orthogonal Procrustes)."""
    both = sorted(now.keys() & before.keys())
    if len(both) < 2:
        return np.eye(2, dtype=np.float32)
    here, there = (np.stack([of[kind] for kind in both]) for of in (now, before))
    left, _, right = np.linalg.svd(here.T @ there)
    return (left @ right).astype(np.float32)


def _joined(points: list[dict[str, ndarray]], field: str) -> ndarray:
    return np.concatenate([p[field] for p in points]).astype(np.float32)


def _stacked(pictures: list[ndarray]) -> ndarray:
    """(T, B, h, w, 3): a step with fewer pictures than others has black ones."""
    most = max(len(images) for images in pictures)
    return np.stack([np.pad(images, [(0, most - len(images))] + [(0, 0)] * 3) for images in pictures])
