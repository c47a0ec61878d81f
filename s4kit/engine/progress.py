"""What a person sees during training: a progress bar in the terminal, curves as well in a notebook."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A bar with the loss terms and the last mIoU; in a notebook, curves below it."""

    def __init__(self, method: Any, steps: int, show: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self.scores: list[tuple[int, float]] = []
        self.bar = self.display = None
        if not show:
            return
        from tqdm.auto import tqdm

        self.bar = tqdm(total=steps, desc=getattr(method, "name", "training"), unit="step", file=sys.stderr)
        if "ipykernel" in sys.modules:
            from IPython.display import display

            self.display = display(display_id=True)

    def update(self, rows: list[dict[str, Any]], score: float | None) -> None:
        """Take newly recorded rows of `metrics.csv` and the last validation mIoU."""
        if self.bar is None:
            return
        self.bar.update(rows[-1]["step"] + 1 - self.bar.n)
        shown = {k: f"{v:.3f}" for k, v in rows[-1].items() if k not in ("step", "stage", "lr")}
        if score is not None:
            shown["mIoU"] = f"{100 * score:.1f}"
        self.bar.set_postfix(shown, refresh=False)
        self.rows += rows
        if score is not None and (not self.scores or self.scores[-1][1] != score):
            self.scores.append((rows[-1]["step"], score))
        if self.display is not None:
            self._draw()

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        steps = [row["step"] for row in self.rows]
        for name in self.rows[-1]:
            if name in ("step", "stage", "lr"):
                continue
            axis, style = (right, "--") if name.startswith("kept_") else (left, "-")
            axis.plot(steps, [row.get(name) for row in self.rows], style, lw=1, label=name)
        if self.scores:
            right.plot(*zip(*self.scores), "o-", color="black", label="val mIoU")
        left.set(title="loss terms", xlabel="step")
        right.set(title="val mIoU and share of kept pixels", xlabel="step", ylim=(0, 1))
        for axis in (left, right):
            if axis.lines:
                axis.legend(fontsize=7, frameon=False)
        self.display.update(figure)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
