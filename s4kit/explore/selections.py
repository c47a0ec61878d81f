"""What can be selected in the explorer: each kind with the ranges of its numbers, and the pixels that it marks.

`browser/selections/` says the same in the browser, with words. A new kind is an entry here, and a file there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.task import VOID
from . import policies

Maps = Mapping[str, np.ndarray]
Then = Callable[[int], Maps]


@dataclass(frozen=True)
class Kind:
    """A kind of selection.

    Attributes:
        fields: its whole numbers, each with what it counts: "width", "height", "classes", "bins" or "steps".
        mask: of (selection, scene, maps, then) the pixels that it marks, (h, w) bool; scene and maps as `View.scene`
            and `View.maps` give them; then gives the maps of the track at another snapshot, by its index.
    """

    fields: Mapping[str, str]
    mask: Callable[[Mapping[str, Any], Maps, Maps, Then], np.ndarray]


def _pixel(at: Mapping[str, Any], scene: Maps, maps: Maps, then: Then) -> np.ndarray:
    found = np.zeros(scene["truth"].shape, bool)
    found[at["y"] : at["y"] + 1, at["x"] : at["x"] + 1] = True  # none where a smaller picture does not have it
    return found


def _confusion(cell: Mapping[str, Any], scene: Maps, maps: Maps, then: Then) -> np.ndarray:
    known = (scene["valid"] > 0) & (scene["truth"] != VOID)
    return known & (scene["truth"] == cell["truth"]) & (maps["label"] == cell["label"])


def _truth(of: Mapping[str, Any], scene: Maps, maps: Maps, then: Then) -> np.ndarray:
    return (scene["valid"] > 0) & (scene["truth"] == of["truth"])


def _bin(of: Mapping[str, Any], scene: Maps, maps: Maps, then: Then) -> np.ndarray:
    return (scene["valid"] > 0) & (policies.bins(maps["prob"][0]) == of["bin"])


def _change(of: Mapping[str, Any], scene: Maps, maps: Maps, then: Then) -> np.ndarray:
    before = then(of["since"])["label"]
    return (scene["valid"] > 0) & (before == of["from"]) & (maps["label"] == of["to"])


SELECTIONS = {
    "pixel": Kind({"x": "width", "y": "height"}, _pixel),
    "confusion": Kind({"truth": "classes", "label": "classes"}, _confusion),
    "bin": Kind({"bin": "bins"}, _bin),
    "change": Kind({"from": "classes", "to": "classes", "since": "steps"}, _change),
    "truth": Kind({"truth": "classes"}, _truth),
}


def limits(meta: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """{kind: {field: how many values it has, counted from 0}} for what `Pack.meta` describes."""
    counts = {"width": meta["width"], "height": meta["height"], "classes": len(meta["classes"]), "bins": policies.BINS}
    counts["steps"] = max(len(track["steps"]) for track in meta["tracks"])
    return {name: {field: counts[of] for field, of in kind.fields.items()} for name, kind in SELECTIONS.items()}


def mask(selection: Mapping[str, Any], scene: Maps, maps: Maps, then: Then) -> np.ndarray | None:
    """(h, w) bool: the pixels of a selection; None without one."""
    return SELECTIONS[selection["kind"]].mask(selection, scene, maps, then) if selection else None
