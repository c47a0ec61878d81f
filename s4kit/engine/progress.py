"""What a person sees during training: a progress bar in the terminal, curves as well in a notebook."""

from __future__ import annotations

import io
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
        self._draw(rows[0]["step"], score)

    def close(self, step: int, score: float | None) -> None:
        """The end: after `step` steps, with the last validation mIoU."""
        if self.bar is not None:
            self._draw(step, score)
            self.bar.close()

    def _draw(self, step: int, score: float | None) -> None:
        if score is not None and (not self.scores or self.scores[-1][1] != score):
            self.scores.append((step, score))
        if self.display is not None and self.rows:
            from IPython.display import Image

            self.display.update(Image(curves(self.rows, self.scores, self.bar.total)))


def curves(rows: list[dict[str, Any]], scores: list[tuple[int, float]], steps: int) -> bytes:
    """A PNG: the loss terms, running means over their raw course, beside the kept shares and the validation mIoU."""
    from matplotlib.figure import Figure
    from seaborn import color_palette, despine

    figure = Figure(figsize=(9, 2.8), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    names = [name for name in rows[-1] if name not in ("step", "stage", "lr")]
    for name, colour in zip(names, color_palette("colorblind", len(names))):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        axis = right if name.startswith("kept_") else left
        axis.plot(*zip(*points), color=colour, lw=0.6, alpha=0.3)
        axis.plot(*zip(*_running_means(points, max(1, len(points) // 40))), color=colour, lw=1.6, label=name)
    if scores:
        right.plot(*zip(*scores), "o-", color="black", lw=2, ms=4, label="val mIoU")
    left.set(title="loss terms", xlabel="step", xlim=(0, steps))
    right.set(title="val mIoU, share of kept pixels", xlabel="step", xlim=(0, steps), ylim=(0, 1.02))
    for axis in (left, right):
        if axis.lines:
            axis.legend(fontsize=8, frameon=False)
    despine(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _running_means(points: list[tuple[int, float]], window: int) -> list[tuple[int, float]]:
    """Means over the last `window` points."""
    means, total = [], 0.0
    for k, (step, value) in enumerate(points):
        total += value - (points[k - window][1] if k >= window else 0.0)
        means.append((step, total / min(k + 1, window)))
    return means
