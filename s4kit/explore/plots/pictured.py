"""A step as pictures: what items of any kind look like is for the look of their stream to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ...data.task import VOID
from ...nets import box_map
from ...views.looks import Look

LABELS, ASKED = "gives the label", "asked where framed"  # titles of tiles
SIDE = 200  # of pictures of what has no size of its own


def of_batch(batch: Any, look: Look) -> Any:
    """The streams of a batch as pictures; of images they are that."""
    found = {}
    for name, views in batch.items():
        at = look.bind(views.weak, SIDE)
        strong = [look.bind(view, SIDE).pictures(view) for view in views.strong]
        maps = {"label": at.maps(views.label, VOID), "valid": at.maps(views.valid)}
        found[name] = replace(views, weak=at.pictures(views.weak), strong=strong, **maps)
    return type(batch)(found)


def of_path(path: dict[str, Any], look: Look) -> dict[str, Any]:
    """What was handed out of one path, as pictures: what is trained on lies on what the student saw."""
    at = {key: look.bind(path[key], SIDE) for key in ("weak", "mixed") if path.get(key) is not None}
    on = at.get("mixed", at.get("weak"))
    maps = {key: on.maps(path[key]) for key in ("student", "loss") if key in path}
    target = {"target": path["target"].map(on.maps)} if "target" in path else {}
    return path | {key: view.pictures(path[key]) for key, view in at.items()} | maps | target


def framed(method: Any, batch: Any, classes: int) -> dict[int, tuple[str, Tensor]]:
    """By the `data_ptr` of the images where a person has said something of them, (B, H, W) bool, and the tile's title:
    inside of the boxes that the method is told, or in the regions that it has asked for."""
    found, background = {}, getattr(method, "background", False)
    for stream in batch.values():
        if stream.boxes is not None:
            maps = box_map(stream.boxes, classes, stream.weak.shape[-2:], background)
            found[stream.weak.data_ptr()] = LABELS, maps[:, int(background) :].amax(1) > 0
        elif "asked" in stream.maps:
            found[stream.weak.data_ptr()] = ASKED, stream.maps["asked"] == 1
    return found


def frames(method: Any, batch: Any) -> dict[int, Tensor]:
    """By the `data_ptr` of the images those of the same clips that come with them, (B, 3, H, W)."""
    beside = {name: stream.of for name, stream in method.views.items() if getattr(stream, "other", False)}
    return {batch[of].weak.data_ptr(): batch[name].weak for name, of in beside.items() if name in batch}
