"""The engine: fit, evaluate, checkpoints, several processes. It knows no method by name."""

from .evaluate import evaluate
from .fit import fit
from .protocols import PROTOCOLS, Protocol, protocol
from .query import query
from .run import Run, open_run
from .scores import AnyScores, Scores
from .settings import Settings
from .windows import sliding, whole

__all__ = [
    "PROTOCOLS",
    "AnyScores",
    "Protocol",
    "Run",
    "Scores",
    "Settings",
    "evaluate",
    "fit",
    "open_run",
    "protocol",
    "query",
    "sliding",
    "whole",
]
