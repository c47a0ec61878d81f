"""Scores as a list of names and shares: how it is printed, and shown in a notebook."""

from __future__ import annotations

from html import escape
from typing import ClassVar


class Listed:
    """Base of scores that are shown a class a line, in percent; a dash where a class is nowhere.

    Attributes:
        unit: what stands above the numbers.
    """

    unit: ClassVar[str]

    def _lines(self) -> list[tuple[str, float]]:
        """Names, and shares in [0, 1] or NaN; classes first, means behind them."""

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self._lines())
        return "\n".join(f"{n:<{width}}  {'   —' if v != v else f'{100 * v:5.1f}'}" for n, v in self._lines())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td style='text-align:left'>{escape(name)}</td><td>{'—' if v != v else f'{100 * v:.1f}'}</td></tr>"
            for name, v in self._lines()
        )
        return f"<table><tr><th style='text-align:left'>class</th><th>{self.unit}</th></tr>{cells}</table>"
