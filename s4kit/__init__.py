"""s4kit: teach, run and debug semi-supervised semantic segmentation.

    import s4kit as s4
    recipe = s4.methods.recipe("unimatch", "scenes")
    task   = s4.load("scenes", labelled=16)
    method = s4.methods.create("unimatch", task, **recipe["method"])
    run    = s4.fit(method, task, **recipe["fit"])
    run.evaluate()

Importing is light: PyTorch and the rest are imported at the first use of a name.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Threads of PyTorch that wait sleep, where they would spin and take the core from whoever has work. It is read when
# PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOME = {
    "load": "data",
    "Task": "data",
    "fit": "engine",
    "evaluate": "engine",
    "query": "engine",
    "open_run": "engine",
    "Run": "engine",
    "S4Error": "errors",
    "lesson": "walk.lesson",
    "claim": "walk.claim",
    "ready": "report.ready",
    "show": "explore.source",
    "show_diff": "explore.diff",
    "literature": "report.literature",
    "plan": "report.planner",
    "look": "report.look",
    "check": "classroom.check",
}
_MODULES = {m: m for m in ("data", "views", "nets", "methods", "engine", "report", "explore")}
_MODULES["plots"] = "explore.plots"
_MODULES["gallery"] = "explore.gallery"
_MODULES["splits"] = "report.splits"

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
