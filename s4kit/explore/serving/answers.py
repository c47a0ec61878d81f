"""What a page asks for, and the answer: the same from a notebook's kernel and from the local server."""

from __future__ import annotations

from typing import Any

from ..state import check
from ..view import View

PACKS = ("need", "full")
KINDS = (*PACKS, "correct", "corrections", "embedding")


def known(asked: Any) -> bool:
    """Whether it is a question at all."""
    return isinstance(asked, dict) and asked.get("kind") in KINDS


def respond(view: View, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes | None, Exception | None]:
    """The answer to a message of the page, the bytes that go with it, and what went wrong: that is said there, where
    somebody waits for it.

    {"kind": "need", "key"}: a pack, see `Pack.pack`. {"kind": "full", "image", "track"}: a whole image, `View.full`.
    What else it may ask, see `View.answer`: a dict under "answer"; the number of the question goes back with it.
    """
    if asked["kind"] in PACKS:
        about = {name: asked[name] for name in ("key", "image", "track") if name in asked}
        about["kind"] = "full" if asked["kind"] == "full" else "pack"
    else:
        about = {"kind": "answer", "number": asked.get("number")}
    try:
        if asked["kind"] == "full":
            return about, _full(view, asked), None
        if asked["kind"] == "need":
            return about, view.data.pack(asked.get("key")), None
        return about | {"answer": view.answer(asked)}, None, None
    except Exception as error:
        return about | {"error": str(error) or type(error).__name__}, None, error


def _full(view: View, asked: dict[str, Any]) -> bytes:
    image = check(view.meta, {}, "image", asked.get("image"))
    (track,) = check(view.meta, {}, "tracks", asked.get("track"))
    return view.full(image, track)
