"""Pictures of label maps: colours, legend, and the grid of images, truth and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.task import VOID, Evaluation, Task
from ..errors import S4Error

VOID_COLOUR = (235, 235, 235)
LINE = 0.24  # inches of a line of the legend
Palette = Sequence[tuple[int, int, int]]


def colour(label: np.ndarray, palette: Palette) -> np.ndarray:
    """(H, W) class map -> (H, W, 3) uint8 colours; void is near-white with grey stripes, so that it is no class."""
    lookup = np.full((256, 3), VOID_COLOUR, np.uint8)
    lookup[: len(palette)] = palette
    out = lookup[label]
    y, x = np.indices(label.shape)
    out[(label == VOID) & ((x + y) % 6 < 2)] = (150, 150, 150)
    return out


def varied(task: Task, amount: int, among: int = 60) -> list[int]:
    """Rows of val, one from each of `amount` stretches of the list, that show most classes between them.

    Neighbours in a list are often neighbours in a film. Looks at the labels of at most `among` images.
    """
    rows = sorted({round(i) for i in np.linspace(0, len(task.val) - 1, min(among, len(task.val)))})
    shown, chosen = np.zeros(task.num_classes), []
    for stretch in np.array_split(rows, min(amount, len(rows))):
        classes = {int(row): np.unique(task.val.read(int(row)).label.numpy()) for row in stretch}
        classes = {row: values[values < task.num_classes] for row, values in classes.items()}
        best = max(classes, key=lambda row: (sum(1 / (1 + shown[classes[row]]) ** 2), -row))
        chosen.append(best)
        shown[classes[best]] += 1
    return chosen


def by_class_maps(task: Task) -> bool:
    """Whether networks are scored by a class for each pixel: the pictures below are of such maps alone."""
    return isinstance(task.evaluation, Evaluation)


def predictions(run: Any, rows: Sequence[int], task: Task, which: str = "last") -> list[np.ndarray]:
    """(H, W) uint8 class maps of a run's headline predictor for rows of val.

    Raises:
        S4Error: it is scored by something else than class maps.
    """
    if not by_class_maps(task):
        raise S4Error(f"{run.score} is no score of class maps, and these pictures show no others; see `s4.explore`.")
    import torch

    from ..engine.scores import to_image
    from ..engine.windows import predict
    from ..nets import evaluating

    method, _ = run.load(which, task=task)
    net = next(iter(method.predictors().values()))
    device = next(net.parameters()).device
    found = []
    with torch.no_grad(), evaluating(net):
        for row in rows:
            scores = predict(net, to_image(task.val.read(row), device), task.evaluation)
            found.append(scores.argmax(1)[0].to(torch.uint8).cpu().numpy())
    return found


def picture_iou(prediction: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """mIoU in [0, 1] of one picture over the classes in its truth or prediction, (H, W) each; nan where there is
    none."""
    known = truth != VOID
    index = truth[known].astype(int) * classes + prediction[known]
    confusion = np.bincount(index, minlength=classes**2).reshape(classes, classes)
    hit, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    return float((hit[union > 0] / union[union > 0]).mean()) if union.any() else float("nan")


def grid(
    task: Task, rows: Sequence[int], found: dict[str, list[np.ndarray]], dark: bool = False, most: int = 10
) -> Any:
    """The picture grid as a figure: image and truth (see `Source.view`), then each method's prediction with its mIoU.

    Args:
        most: pictures beside each other; what an image has more goes on below.
    """
    from .plots import figure, ink

    samples, seen = [task.val.read(row) for row in rows], [task.val.view(row) for row in rows]
    height, width = samples[0].image.shape[1:]
    shown = ("image", "truth", *found)
    columns = len(shown) if len(shown) <= most else min(most, -(-len(shown) // -(-len(shown) // most)))
    lines = -(-len(shown) // columns)  # per image
    wide = min(2.0, 12.5 / columns)
    legend_lines = -(-(task.num_classes + 1) // max(3, int(columns * wide / 1.35)))
    tall = wide * height / width + (0.22 if lines == 1 else 0.42)
    fig = figure((columns * wide, len(rows) * lines * tall + 0.35 + 0.26 * legend_lines), dark)
    axes = fig.subplots(len(rows) * lines, columns, squeeze=False).reshape(len(rows), lines * columns)
    for line, sample in enumerate(samples):
        truth = sample.label.numpy()
        maps = [seen[line].image.permute(1, 2, 0).numpy(), colour(seen[line].label.numpy(), task.palette)]
        maps += [colour(of[line], task.palette) for of in found.values()]
        notes = [sample.id, ""] + [f"{100 * picture_iou(m[line], truth, task.num_classes):.0f}" for m in found.values()]
        for axis, pixels, name, note in zip(axes[line], maps, shown, notes):
            axis.imshow(pixels, interpolation="nearest" if pixels.shape[:2] == truth.shape else "antialiased")
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
            axis.set_xlabel(note, fontsize=8, color=ink(dark), labelpad=2)
            if line == 0 or lines > 1:
                axis.set_title(name, fontsize=10 if lines == 1 else 8, color=ink(dark))
        for axis in axes[line][len(shown) :]:
            axis.set_visible(False)
    legend(fig, task, legend_lines, dark)
    return fig


def legend(fig: Any, task: Task, lines: int, dark: bool = False) -> None:
    """Put the classes and void below a figure, in so many lines; in more, with room for them, where they do not fit."""
    from matplotlib.patches import Patch

    from .plots import ink

    def patch(rgb: Sequence[int], name: str, **extra: Any) -> Patch:
        return Patch(facecolor=[v / 255 for v in rgb], edgecolor=ink(dark), linewidth=0.5, label=name, **extra)

    marks = [patch(rgb, name) for name, rgb in zip(task.classes, task.palette)]
    marks.append(patch(VOID_COLOUR, "void (not scored)", hatch="////"))
    for columns in range(-(-len(marks) // lines), 0, -1):
        found = fig.legend(
            handles=marks,
            loc="outside lower center",
            ncols=columns,
            fontsize=9,
            frameon=False,
            labelcolor=ink(dark),
        )
        if columns == 1 or found.get_window_extent().width <= fig.bbox.width:
            break
        found.remove()
    fig.set_figheight(fig.get_figheight() + LINE * max(0, -(-len(marks) // columns) - lines))


def legend_image(classes: Sequence[str], palette: Palette) -> Any:
    """A PIL picture with one coloured box and name per class."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(16)
    room = max(font.getlength(name) for name in (*classes, "void")) + 56
    picture = Image.new("RGB", (int(room), 28 * (len(classes) + 1) + 8), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    for i, (name, rgb) in enumerate([*zip(classes, palette), ("void", VOID_COLOUR)]):
        pen.rectangle((10, 8 + 28 * i, 34, 28 + 28 * i), fill=tuple(rgb), outline=(60, 60, 60))
        pen.text((44, 9 + 28 * i), name, fill=(20, 20, 20), font=font)
    return picture
