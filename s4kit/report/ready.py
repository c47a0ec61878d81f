"""`ready`: the versions a notebook runs on in one line, and in words what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import platform

from .doctor import NEEDED, numbers

WIDGETS = {"ipywidgets": (7, 7), "anywidget": (0, 9)}  # knobs; the explorer
SHOWN = ("torch", *WIDGETS)


def ready() -> None:
    """Print the versions of what a notebook needs, and what to do where one is missing or too old."""
    from .. import __version__

    versions = {name: _version(name) for name in (*NEEDED, *WIDGETS)}
    shown = [f"{name} {versions[name]}" for name in SHOWN if versions[name]]
    print(" · ".join([f"s4kit {__version__}", f"Python {platform.python_version()}", *shown]))
    for name, least in (NEEDED | WIDGETS).items():
        wanted = ".".join(map(str, least))
        if not versions[name]:
            what = "knobs and the explorer stay pictures" if name in WIDGETS else "the kit needs it"
            print(f"{name} is not installed: {what}. Mend: pip install '{name}>={wanted}', then restart the kernel.")
        elif numbers(versions[name]) < least:
            print(
                f"{name} {versions[name]} is older than {wanted}, the oldest that the kit is tested with. "
                f"Mend: pip install -U {name}, then restart the kernel."
            )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
