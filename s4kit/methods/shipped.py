"""Which methods the kit has: a file each, in the folder of its family."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def files() -> dict[str, str]:
    """Modules of the kit's methods by name."""
    found, here = {}, Path(__file__).parent
    for path in sorted(here.glob("*/*.py")):
        if path.parent.name != "parts" and not path.stem.startswith("_"):
            found[path.stem] = f"{__package__}.{path.parent.name}.{path.stem}"
    return found
