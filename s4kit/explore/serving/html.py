"""The explorer as ONE self-contained page: works from a file, without a kernel and without a network.

A page may hold names from someone else's run. They travel as JSON in an element that is no script, and reach the page
as text only; a content security policy allows nothing but the two elements (script and style) that the kit wrote, by
their hashes, and no connection to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from ...errors import S4Error
from ..state import State, for_browser
from .script import script, style

LIMIT = 8 * 2**20  # bytes of a page that still goes by e-mail
FRAME = """
html { color-scheme: light dark; }
body { margin: 0; background: var(--jp-layout-color0, #ffffff); }
main { max-width: 1500px; margin: 0 auto; padding: 12px; }
h1 { font: 600 18px/1.3 system-ui, sans-serif; margin: 2px 0 10px; color: #1c1c22; }
@media (prefers-color-scheme: dark) { body { background: #14161a; } h1 { color: #e8e8ea; } }
"""


def save_html(
    path: str | Path, meta: dict[str, Any], packs: Mapping[str, bytes], state: State | None = None, title: str = ""
) -> Path:
    """Write the page.

    Args:
        path: of the page; its folder is made.
        meta: what `pack.Pack.meta` says.
        packs: what `pack.Pack.pack` gives, by key; what is left out is said to be missing when it is asked for.
        state: where the page opens; default: first image, last snapshot, all tracks.
        title: of the page; default: the titles of the tracks.

    Returns:
        Path: of the page.

    Raises:
        S4Error: the page would be larger than 8 MB, or cannot be written.
    """
    text = page(meta, packs, state, title).encode()
    if len(text) > LIMIT:
        raise S4Error(
            f"The page would have {len(text) / 2**20:.1f} MB with {len(meta['images'])} images; {LIMIT >> 20} MB is "
            "the most that mails and course platforms take: choose fewer images or fewer steps."
        )
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    except OSError as error:
        raise S4Error(f"{path} cannot be written: {error.strerror}.") from error
    return path


def page(meta: dict[str, Any], packs: Mapping[str, bytes], state: State | None = None, title: str = "") -> str:
    """The page's text, see `save_html`."""
    if state is None:
        tracks = list(range(len(meta["tracks"])))
        state = State(tracks=tracks, snapshot=len(meta["tracks"][0]["steps"]) - 1)
    title = title or "Pseudo-labels: " + ", ".join(track["title"] for track in meta["tracks"])
    data = "\n".join(
        f'<script type="text/plain" data-pack="{escape(key)}">{base64.b64encode(pack).decode()}</script>'
        for key, pack in packs.items()
    )
    return document(title, vars(state) | {"meta": for_browser(meta)}, "page.js", data)[0]


def document(
    title: str, state: dict[str, Any], entry: str, data: str = "", allowed: str = "", head: str = ""
) -> tuple[str, str]:
    """A page whose script starts with a module of `browser/`, and its content security policy.

    Args:
        state: as JSON in the element "state". data: further elements. allowed: what the policy allows besides the
            page's own script and style. head: further elements of the head.
    """
    code, looks = "\n" + script(entry), FRAME + style()
    policy = (
        f"default-src 'none'; script-src '{_hash(code)}'; style-src '{_hash(looks)}'; base-uri 'none'; "
        f"form-action 'none'{allowed and '; ' + allowed}"
    )
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>{head}
<style>{looks}</style>
</head>
<body>
<main><h1>{escape(title)}</h1>
<div id="explorer"></div>
<noscript>This page draws its pictures with JavaScript; allow it, nothing comes from anywhere else.</noscript></main>
<script type="application/json" id="state">{embedded(state)}</script>
{data}
<script type="module">{code}</script>
</body>
</html>
"""
    return page, policy


def size(packs: Mapping[str, bytes]) -> int:
    """Bytes that packs take in a page; the rest of it is about 100 kB."""
    return sum(4 * ((len(pack) + 2) // 3) + 60 for pack in packs.values())


def embedded(value: Any) -> str:
    """JSON that may stand inside an element: nothing in it can end that element or begin another."""
    text = json.dumps(value)  # ASCII only
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
