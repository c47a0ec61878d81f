"""Grids of images, label maps and shares; views of a batch; pseudo-labels beside what they are made of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ...data.task import VOID, Task
from ...errors import S4Error
from ...report.pictures import LINE, colour, legend
from ...report.plots import Picture, figure

SHARES = "cividis"
FINE = 80  # pixels: label maps are drawn with at least as many
RIGHT, WRONG, REJECTED = (0, 114, 178), (213, 94, 0), (214, 216, 222)  # of `pseudo`'s last column


def grid(
    rows: Sequence[Sequence[Any]],
    task: Task | None = None,
    titles: Sequence[str] = (),
    notes: Sequence[str] = (),
    size: float = 1.7,
    named: bool = False,
) -> Picture:
    """Pictures in rows and columns.

    Args:
        rows: of pictures, each an array or a tensor: an image (H, W, 3) or (3, H, W), uint8 or float in [0, 1]; a label
            map (H, W) of whole numbers, 255 = void; a share (H, W), float in [0, 1] or bool. None leaves a gap.
        task: for the colours and the legend of label maps.
        titles: above the columns. notes: at the left of the rows.
        size: width of a picture in inches.
        named: name the classes of the task also where no label map is shown, as below overlays.

    Raises:
        S4Error: a label map, but no task; or something that is no picture.
    """
    cells = [[_array(cell) for cell in row] for row in rows]
    columns = max(len(row) for row in cells)
    shapes = [cell.shape[:2] for row in cells for cell in row if cell is not None]
    tall = size * max(height / width for height, width in shapes)
    labels = task is not None and (named or any(_is_label(cell) for row in cells for cell in row))
    shares = any(_is_share(cell) for row in cells for cell in row)
    lines = _legend_lines(task, columns, size) if labels else 0
    fig = figure((columns * size + (0.9 if shares else 0.1), len(cells) * (tall + 0.06) + 0.32 + LINE * lines))
    axes = fig.subplots(len(cells), columns, squeeze=False)
    shown = None
    for line, row in enumerate(cells):
        for axis, cell in zip(axes[line], [*row, *[None] * (columns - len(row))]):
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(cell is not None and cell.dtype == bool)  # a mask may be white to its rim
            axis.spines[:].set(color="#999", linewidth=0.6)
            drawn = _draw(axis, cell, task)
            shown = drawn if _is_share(cell) else shown
        if line < len(notes):
            axes[line][0].set_ylabel(notes[line], fontsize=9)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    if labels:
        legend(fig, task, lines)
    if shown is not None:
        fig.colorbar(shown, ax=axes, fraction=0.03, pad=0.01, aspect=25, ticks=[0, 0.5, 1])
    return fig


def _legend_lines(task: Task, columns: int, size: float) -> int:
    """How many lines the legend takes below pictures of that width in all; a name takes about 1.25 inches."""
    return -(-(task.num_classes + 1) // max(2, int(columns * size / 1.25)))


def _array(cell: Any) -> np.ndarray | None:
    """A picture as an array: (H, W, 3) or (H, W)."""
    if cell is None:
        return None
    values = cell.detach().cpu().numpy() if isinstance(cell, Tensor) else np.asarray(cell)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise S4Error(f"A picture is (H, W, 3), (3, H, W) or (H, W); got {tuple(values.shape)}.")
    return values


def _is_label(cell: np.ndarray | None) -> bool:
    return cell is not None and cell.ndim == 2 and cell.dtype.kind in "iu"


def _is_share(cell: np.ndarray | None) -> bool:
    return cell is not None and cell.ndim == 2 and cell.dtype.kind == "f"


def _draw(axis: Any, cell: np.ndarray | None, task: Task | None) -> Any:
    if cell is None:
        return None
    if _is_label(cell):
        if task is None:
            raise S4Error("A label map needs its task for the colours: give task=...")
        fine = -(-FINE // max(cell.shape))  # the stripes of void are to be stripes on a coarse map, too
        cell = cell.astype(np.uint8).repeat(fine, 0).repeat(fine, 1)
        return axis.imshow(colour(cell, task.palette), interpolation="nearest")
    if cell.ndim == 2:
        return axis.imshow(
            cell, cmap=SHARES if cell.dtype.kind == "f" else "gray", vmin=0, vmax=1, interpolation="nearest"
        )
    return axis.imshow(cell if cell.dtype == np.uint8 else cell.clip(0, 1), interpolation="nearest")


def overlay(
    images: Sequence[Any],
    labels: Sequence[Any],
    task: Task,
    alpha: float = 0.6,
    kept: Sequence[Any] | None = None,
    titles: Sequence[str] = (),
) -> Picture:
    """Label maps laid over their images; void, and what is not `kept`, shows the bare image in grey.

    Args:
        images: n images; a tensor (n, 3, H, W) will do. labels: n label maps. kept: n masks. titles: n words.
        task: whose colours are taken.
        alpha: 0 shows the image alone, 1 the labels alone.
    """
    masks = [None] * len(images) if kept is None else kept
    shown = [blend(image, label, task, alpha, mask) for image, label, mask in zip(images, labels, masks)]
    fig = grid([shown], titles=titles, size=2.0)
    lines = _legend_lines(task, len(shown), 2.0)
    fig.set_figheight(fig.get_figheight() + LINE * lines)
    legend(fig, task, lines)
    return fig


def blend(image: Any, label: Any, task: Task, alpha: float = 0.6, kept: Any = None) -> np.ndarray:
    """One image with its label map over it, (H, W, 3) float in [0, 1], see `overlay`; for `grid`.

    Args:
        image: (3, H, W), of uint8 or in [0, 1]. label: (H, W), 255 = void. task: whose colours are taken.
        alpha: 0 shows the image alone, 1 the label alone. kept: (H, W), what is not is grey; None = all.
    """
    ground, label = _unit(_array(image)), _array(label).astype(np.uint8)
    on = (label != VOID) & (True if kept is None else _array(kept) > 0)
    grey = np.repeat(ground.mean(2, keepdims=True), 3, 2) * 0.6 + 0.35
    return np.where(on[..., None], (1 - alpha) * ground + alpha * colour(label, task.palette) / 255, grey)


def _unit(image: np.ndarray) -> np.ndarray:
    return image / 255 if image.dtype == np.uint8 else image.clip(0, 1)


def views(
    batch: Any, task: Task, seen: dict[str, Any] | None = None, n: int = 3, only: Sequence[str] | None = None
) -> Picture:
    """What a step gets: of each stream the weak view, the label where it may be seen, strong views and boxes.

    Args:
        batch: a `Batch`, as `lesson.batch` gives it.
        seen: `Losses.seen` of a step on this batch: shown instead, with the weak views they were made of.
        n: examples of each stream.
        only: titles of the columns to show, in this order; a stream's name stands for all of it.

    Raises:
        S4Error: `only` names no column.
    """
    columns = dict(_columns(batch))
    if seen:
        columns = {title: values for title, values in columns.items() if title.endswith(("weak", "label"))}
        columns |= {name: _picture(name, value) for name, value in seen.items() if name != "weak"}
    if only:
        wanted = [title for word in only for title in columns if title == word or title.split(":")[0] == word]
        unknown = [word for word in only if not any(t == word or t.split(":")[0] == word for t in columns)]
        if unknown:
            raise S4Error(f"There is no column {unknown[0]!r}; there are: {', '.join(columns)}.")
        columns = {title: columns[title] for title in wanted}
    amount = min(n, max(len(values) for values in columns.values()))
    rows = [[values[k] if k < len(values) else None for values in columns.values()] for k in range(amount)]
    size = max(0.85, min(1.7, 11 / len(columns)))
    titles = [textwrap.fill(title.replace("/", " / "), int(9.5 * size)) for title in columns]
    return grid(rows, task, titles, size=size)


def _columns(batch: Any) -> Iterator[tuple[str, Tensor]]:
    for name, stream in batch.items():
        yield f"{name}: weak", stream.weak
        if bool(stream.labelled.all()):
            yield f"{name}: label", stream.label
        for what, several in (("strong", stream.strong), ("box", stream.masks)):
            for k, values in enumerate(several, 1):
                yield f"{name}: {what} {k}" if len(several) > 1 else f"{name}: {what}", values


def _picture(name: str, value: Any) -> Tensor:
    """What `Losses.see` was given, to be shown: images as they are, logits as their labels, losses relative to the
    largest; of a `PseudoLabels` its labels, void where they are not trained on."""
    if not isinstance(value, Tensor):
        return value.label.masked_fill((value.weight <= 0) | (value.valid <= 0), VOID)
    if name.split("/")[-1] == "loss":
        value = value.mean(1) if value.ndim == 4 else value
        return value / value.max().clamp(min=1e-12)
    return value.argmax(1) if value.ndim == 4 and value.shape[1] != 3 else value


def pseudo(images: Any, labels: Any, task: Task, truth: Any = None, n: int = 3) -> Picture:
    """A method's pseudo-labels: image, label, confidence, what is kept and, with the truth, which of it is right.

    Args:
        images: (B, 3, H, W) in [0, 1]. labels: the `PseudoLabels` of them. task: whose colours are taken.
        truth: (B, H, W), 255 where unknown; the last column is then blue where kept and right, orange where kept and
            wrong, grey where rejected.
    """
    rows = []
    for k in range(min(n, len(images))):
        label, kept = _array(labels.label[k]), (_array(labels.weight[k]) > 0) & (_array(labels.valid[k]) > 0)
        shown = np.where(kept[..., None], colour(label.astype(np.uint8), task.palette), np.uint8(REJECTED))
        row = [images[k], label, _array(labels.confidence[k]), shown]
        if truth is not None:
            row.append(_judged(label, kept, _array(truth[k])))
        rows.append(row)
    titles = ["image", "pseudo-label", "confidence", "kept\n(grey: rejected)", "kept: blue right,\norange wrong"]
    return grid(rows, task, titles[: len(rows[0])])


def _judged(label: np.ndarray, kept: np.ndarray, truth: np.ndarray) -> np.ndarray:
    out = np.full((*label.shape, 3), REJECTED, np.uint8)
    out[kept & (label == truth)] = RIGHT
    out[kept & (label != truth)] = WRONG
    out[truth == VOID] = 255
    return out


def boxes(
    mask: Any, first: Any, second: Any, titles: Sequence[str] = ("A", "B", "box", "A with B in the box")
) -> Picture:
    """How two images are mixed: `second` where the mask is true, else `first`; one row per example.

    Args:
        mask: (B, H, W) bool. first, second: (B, 3, H, W) in [0, 1]. titles: of the four columns.
    """
    from ...views import paste

    mixed = paste(mask, second, first)
    return grid([[first[k], second[k], mask[k], mixed[k]] for k in range(len(mask))], titles=titles)
