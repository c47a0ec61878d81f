"""A step as pictures: what items of any kind look like is for the look of their stream to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...data.task import VOID
from ...views.looks import Look

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
