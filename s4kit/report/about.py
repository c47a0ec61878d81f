"""`s4kit methods NAME`: a method in words, from its card to what is to be said of its release."""

from __future__ import annotations

import inspect
from typing import Any

from .listing import PARITY


def about(name: str) -> dict[str, Any]:
    """Print a method's card, idea, docstring, release and for what it has recipes; the same by name.

    Raises:
        S4Error: no such method.
    """
    from .. import methods

    method, card = methods.get(name), methods.get(name).card
    said, release = inspect.getdoc(method) or "", methods.release(name)
    published = f"{card.authors}, {card.venue} {card.year}" + (f", arXiv {card.arxiv}" if card.arxiv else "")
    lines = [
        f"{name}: {methods.idea(name)}",
        "",
        f"paper      {card.title} ({published})",
        f"code       {card.code or 'none that is known'}",
        f"family     {card.family}" + (f"; extends {', '.join(card.extends)}" if card.extends else ""),
        f"checked    {card.parity}: {PARITY[card.parity]}",
        f"recipes    {', '.join(method.recipes) or 'none'}",
    ]
    lines += [f"note       {card.note}"] * bool(card.note)
    print("\n".join([*lines, "", said, *(("", "The release", "", release) if release else ())]))
    row = next(row for row in methods.table() if row["name"] == name)
    return row | {"recipes": list(method.recipes), "words": said, "release": release}
