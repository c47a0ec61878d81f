"""Weak labels of an image, read off its mask: which classes are in it, and a box around each region of a class."""

from __future__ import annotations

import numpy as np

from ..data.task import VOID
from .geometry import Window

KINDS = ("tags", "boxes")
MOST = 64  # boxes of an image
SPECK = 16  # pixels: smaller regions have no box


def said_of(label: np.ndarray | None, what: str, classes: int, window: Window, crop: int) -> np.ndarray:
    """Tags of a stored mask (H, W), or the boxes that a crop of it shows, see `moved`; of no mask all tags, no box."""
    if label is None:
        label = np.full((1, 1), VOID, np.uint8)
        return np.ones(classes, np.float32) if what == "tags" else moved(boxes_of(label), window, label.shape, crop)
    return tags_of(label, classes) if what == "tags" else moved(boxes_of(label), window, label.shape, crop)


def tags_of(label: np.ndarray, classes: int) -> np.ndarray:
    """(C,) float32: 1 for the classes that a mask (H, W) holds."""
    return (np.bincount(label.ravel(), minlength=VOID + 1)[:classes] > 0).astype(np.float32)


def boxes_of(label: np.ndarray) -> np.ndarray:
    """(K, 5) int64 of a mask (H, W): class, top, left, bottom, right of each 4-connected region, the largest first.

    Bottom and right are behind the last pixel; at most `MOST` boxes, none for regions below `SPECK` pixels.
    """
    names, found = regions(label), []
    for name, size in enumerate(np.bincount(names.ravel())):
        if size >= SPECK:
            found.append((size, name))
    boxes = []
    for _, name in sorted(found, reverse=True):
        rows, columns = np.nonzero(names == name)
        c = int(label[rows[0], columns[0]])
        if c != VOID:
            boxes.append((c, rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
    return np.array(boxes[:MOST], np.int64).reshape(-1, 5)


def regions(label: np.ndarray) -> np.ndarray:
    """(H, W) number of the 4-connected region of equal labels that a pixel lies in, counted from 0."""
    height, width = label.shape
    starts = np.ones(label.shape, bool)
    starts[:, 1:] = label[:, 1:] != label[:, :-1]
    runs = np.cumsum(starts.ravel()).reshape(height, width) - 1  # of equal pixels in a row
    parent = list(range(int(runs[-1, -1]) + 1))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    touching = label[1:] == label[:-1]
    for above, below in np.unique(np.stack([runs[:-1][touching], runs[1:][touching]], 1), axis=0).tolist():
        a, b = root(above), root(below)
        parent[max(a, b)] = min(a, b)
    roots = np.array([root(run) for run in range(len(parent))])
    return np.unique(roots, return_inverse=True)[1].reshape(-1)[runs]


def moved(boxes: np.ndarray, window: Window, size: tuple[int, int], crop: int) -> np.ndarray:
    """The boxes (K, 5) of a stored image of `size` = (H, W) in the pixels of a crop; (`MOST`, 5), class 255 = none.

    What lies outside of the crop is cut off; a box of which nothing is left goes.
    """
    out = np.full((MOST, 5), VOID, np.int64)
    out[:, 1:] = 0
    scale = np.array([window.height / size[0], window.width / size[1]] * 2)
    corner = np.array([window.top, window.left] * 2)
    places = np.clip(np.rint(boxes[:, 1:] * scale - corner), 0, crop).astype(np.int64)
    if window.flip:
        places = np.stack([places[:, 0], crop - places[:, 3], places[:, 2], crop - places[:, 1]], 1)
    shown = (places[:, 2] > places[:, 0]) & (places[:, 3] > places[:, 1])
    found = np.concatenate([boxes[:, :1], places], 1)[shown]
    out[: len(found)] = found
    return out
