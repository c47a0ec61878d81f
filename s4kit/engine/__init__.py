"""The engine: fit, evaluate, checkpoints, several processes. It knows no method by name."""

from .evaluate import Scores, evaluate, sliding, whole
from .fit import fit
from .protocols import PROTOCOLS, Protocol, protocol
from .run import Run, open_run
from .settings import Settings

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Run",
    "Scores",
    "Settings",
    "evaluate",
    "fit",
    "open_run",
    "protocol",
    "sliding",
    "whole",
]
