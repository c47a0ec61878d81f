"""What a check of `s4kit diagnose` found."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "unknown"


@dataclass
class Finding:
    """One check: its level, the figures it rests on, and what to do ("" where all is well)."""

    check: str
    level: str
    figures: str
    advice: str = ""
