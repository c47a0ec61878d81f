"""What comes after training: comparing, diagnosing, predicting, and the benchmarks. Imported by nothing to its left."""

from importlib import import_module
from typing import Any

_HOME = {
    "compare": "comparing.compare",
    "diagnose": "diagnosing.diagnose",
    "doctor": "doctor",
    "predict_files": "predict",
    "bench": "benchmarking.bench",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module = import_module(f"{__name__}.{_HOME[name]}")
        globals()[name] = found = getattr(module, name)  # the function, not the module of the same name
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
