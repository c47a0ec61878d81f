"""`claim`: the only place of a notebook where measured numbers stand in words."""

from __future__ import annotations

from typing import Any


def claim(sentence: str, *values: Any, **named: Any) -> None:
    """Say a sentence about measured values: `claim("CutMix ends {:+.1f} points higher.", 100 * (a - b))`.

    The numbers come from the run at hand, so the sentence is true of it. Words that depend on the outcome are values,
    too: `claim("It is {} by {:.1f} points.", "better" if d > 0 else "worse", abs(d))`.
    """
    said = sentence.format(*values, **named)
    try:
        from IPython import get_ipython
        from IPython.display import Markdown, display
    except ImportError:
        print(said)
        return
    if get_ipython() is None:
        print(said)
    else:
        display(Markdown(f"> **Measured here.** {said}"))
