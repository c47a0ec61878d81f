"""Marks that a person gives to images of a run: `RUN/tags.json`, ids by tag."""

from __future__ import annotations

import json
from typing import Any

from ..errors import S4Error
from .checkpoint import write_atomic
from .run import Run

FILE = "tags.json"
LONGEST = 60  # letters of a tag


def read(run: Run) -> dict[str, list[str]]:
    """The ids by tag; {} before the first.

    Raises:
        S4Error: the file is damaged.
    """
    file = run.path / FILE
    if not file.is_file():
        return {}
    try:
        return {str(tag): [str(id) for id in ids] for tag, ids in json.loads(file.read_text("utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise S4Error(f"{file} is damaged ({error}): mend or delete it.") from error


def mark(run: Run, tag: Any, ids: Any, on: bool = True) -> dict[str, list[str]]:
    """Give images a tag, or take it away; returns all tags.

    Raises:
        S4Error: the tag is no short text, or the ids are no texts.
    """
    if not isinstance(tag, str) or not 0 < len(tag.strip()) <= LONGEST:
        raise S4Error(f"tag={tag!r}: give a text of 1 to {LONGEST} letters.")
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise S4Error("ids: give a list of ids.")
    found, tag = read(run), tag.strip()
    there, named = dict.fromkeys(found.get(tag, [])), dict.fromkeys(ids)
    kept = list(there | named) if on else [id for id in there if id not in named]
    found = {name: held for name, held in (found | {tag: kept}).items() if held}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    write_atomic(run.path / FILE, lambda file: file.write(text.encode()))
    return found
