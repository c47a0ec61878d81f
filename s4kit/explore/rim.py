"""The outlines of single objects."""

from __future__ import annotations

import numpy as np


def rim(ids: np.ndarray) -> np.ndarray:
    """(h, w) bool, pixels that touch one of another object, or of none, above, below or beside them."""
    found = np.zeros(ids.shape, bool)
    down, right = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found
