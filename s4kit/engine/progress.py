"""What a person sees during training: a progress bar in the terminal, one picture with live curves in a notebook."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

NOT_TERMS = ("step", "stage", "lr")  # columns of metrics.csv that are no curves
INSIDE = 6  # curves whose names find room among them
SHARE = 0.05  # of the time may go into drawing


class Progress:
    """The training's course: `update` with new rows, `close` at the end. `score` is the name of the headline score.

    In a terminal a bar with the loss terms and the last score, on stderr; in a notebook one display that holds the
    curves, with the bar's words as their title.
    """

    def __init__(self, method: Any, steps: int, show: bool, score: str = "mIoU") -> None:
        self.name, self.steps, self.score = getattr(method, "name", "training"), steps, score
        self.rows: list[dict[str, Any]] = []
        self.scores: list[tuple[int, float]] = []
        self.bar = self.display = None
        self.began = self.drawn = time.perf_counter()
        self.pause = 0.5  # seconds until the next picture
        if not show:
            return
        if "ipykernel" in sys.modules:
            from IPython.display import display

            self.display = display({"text/plain": f"{self.name}: begins"}, raw=True, display_id=True)
        else:
            from tqdm import tqdm

            self.bar = tqdm(total=steps, desc=self.name, unit="step", file=sys.stderr)

    def update(self, rows: list[dict[str, Any]], score: float | None) -> None:
        """Take newly recorded rows of `metrics.csv` and the last validation score."""
        if self.bar is not None:
            self.bar.update(rows[-1]["step"] + 1 - self.bar.n)
            shown = {k: f"{v:.3f}" for k, v in rows[-1].items() if k not in NOT_TERMS}
            if score is not None:
                shown[self.score] = f"{100 * score:.1f}"
            self.bar.set_postfix(shown, refresh=False)
        if self.display is not None:
            self.rows += rows
            self._score(rows[0]["step"], score)
            if time.perf_counter() - self.drawn > self.pause:
                self._draw()

    def passing(self, stage: str, done: int, of: int) -> None:
        """Tell how far the pass over whole images before a stage has come."""
        words = f"before {stage!r}: image {done} of {of}"
        if self.bar is not None:
            self.bar.set_postfix_str(words, refresh=False)
            self.bar.update(0)
        if self.display is not None and time.perf_counter() - self.drawn > 2:
            self.drawn = time.perf_counter()
            self.display.update({"text/plain": f"{self.name}, {words}"}, raw=True)

    def close(self, step: int, score: float | None) -> None:
        """The end: after `step` steps, with the last validation score."""
        if self.bar is not None:
            self.bar.close()
        if self.display is not None:
            self._score(step, score)
            if self.rows:
                self._draw()

    def _score(self, step: int, score: float | None) -> None:
        if score is not None and (not self.scores or self.scores[-1][1] != score):
            self.scores.append((step, score))

    def _draw(self) -> None:
        began = time.perf_counter()
        picture = curves(self.rows, self.scores, self.steps, self._words(), self.score)
        self.display.update({"image/png": picture, "text/plain": self._words()}, raw=True)
        self.drawn = time.perf_counter()
        self.pause = max(self.pause, (self.drawn - began) / SHARE)

    def _words(self) -> str:
        """ "cutmix: step 120 of 350, 40 s so far, about 75 s to go"; no times once it is done."""
        first, done = self.rows[0]["step"], self.rows[-1]["step"] + 1
        words = f"{self.name}: step {done} of {self.steps}"
        if done >= self.steps:
            return words
        spent = time.perf_counter() - self.began
        left = spent / max(1, done - first) * (self.steps - done)
        return f"{words}, {spent:.0f} s so far, about {left:.0f} s to go"


def curves(
    rows: list[dict[str, Any]], scores: list[tuple[int, float]], steps: int, title: str = "", score: str = "mIoU"
) -> bytes:
    """A PNG: the loss terms, running means over their raw course; the kept shares, where there are pseudo-labels; the
    validation score in percent, on an axis that shows its changes."""
    from matplotlib.figure import Figure
    from seaborn import despine

    names = [name for name in rows[-1] if name not in NOT_TERMS]
    kept = [name for name in names if name.startswith("kept_")]
    terms = [name for name in names if name not in kept]
    if len(terms) == 2:
        terms.remove("loss")  # the sum of one term
    figure = Figure(figsize=(12 if kept else 9, 2.9), layout="constrained", dpi=100)
    left, *middle, right = figure.subplots(1, 3 if kept else 2)
    _means(left, {name: _column(rows, name) for name in terms}, _colours(len(terms)))
    left.set(title="loss terms")
    for axis in middle:
        shares = {name.removeprefix("kept_"): _column(rows, name, 100) for name in kept}
        _means(axis, shares, _colours(len(terms) + len(kept))[len(terms) :])
        axis.set(title="pixels trained on, %", ylim=(0, 102))
    if scores:
        points = [(step, 100 * value) for step, value in scores]
        right.plot(*zip(*points), "o-", color="black", lw=2, ms=4, clip_on=False)
        right.annotate(f"{points[-1][1]:.1f}", points[-1], xytext=(0, 6), textcoords="offset points", ha="center")
        low, high = min(y for _, y in points), max(y for _, y in points)
        right.set(ylim=(max(0, low - 5), min(100, high + 5)))
    right.set(title=f"validation {score}, %")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    for axis in (left, *middle, right):
        axis.set(xlabel="step", xlim=(0, steps))
    despine(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _column(rows: list[dict[str, Any]], name: str, scale: float = 1.0) -> list[tuple[int, float]]:
    return [(row["step"], scale * row[name]) for row in rows if row.get(name) is not None]


def _colours(count: int) -> Any:
    """As many as the safe ones are (10), those that the colour-blind tell apart; else as many hues."""
    from seaborn import color_palette

    return color_palette("colorblind" if count <= 10 else "husl", count)


def _means(axis: Any, curves: dict[str, list[tuple[int, float]]], colours: Any) -> None:
    """Each curve faint, its running mean over it."""
    for (name, points), colour in zip(curves.items(), colours):
        axis.plot(*zip(*points), color=colour, lw=0.6, alpha=0.3)
        axis.plot(*zip(*running_means(points, max(1, len(points) // 40))), color=colour, lw=1.6, label=name)
    if len(curves) > INSIDE:
        axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), borderaxespad=0.0)
    elif curves:
        axis.legend(fontsize=8, frameon=False)


def running_means(points: list[tuple[int, float]], window: int) -> list[tuple[int, float]]:
    """(step, mean over the last `window` points) of (step, value) points."""
    means, total = [], 0.0
    for k, (step, value) in enumerate(points):
        total += value - (points[k - window][1] if k >= window else 0.0)
        means.append((step, total / min(k + 1, window)))
    return means
