"""What `s4kit verify` has measured of GPUs, kept in the user's cache folder: later plans go by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...data.fetching.cache import cache_folder
from ...engine.checkpoint import write_atomic
from ...errors import S4Error

FILE = "gpus.json"


def where() -> Path | None:
    """The file: in $S4KIT_CACHE, by default ~/.cache/s4kit; None where that is off or cannot be written."""
    folder = cache_folder()
    return folder / FILE if folder else None


def kept() -> dict[str, dict[str, Any]]:
    """The figures by the card's name; {} where nothing was measured or the file cannot be read."""
    file = where()
    try:
        return json.loads(file.read_text()) if file else {}
    except (OSError, json.JSONDecodeError):
        return {}


def keep(card: dict[str, Any]) -> Path | None:
    """Add a card's figures, in place of earlier ones of the same name; None where nothing can be kept."""
    file = where()
    if file is None:
        return None
    content = json.dumps(kept() | {card["name"]: card}, indent=1) + "\n"
    try:
        write_atomic(file, lambda opened: opened.write(content.encode()))
    except S4Error:
        return None
    return file
