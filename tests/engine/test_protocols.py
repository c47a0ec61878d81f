"""The papers' protocols against slow references: plain loops over windows and pixels, as the official codes do it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from toy import toy_task

from s4kit.data.sources import MemorySource
from s4kit.data.task import Evaluation
from s4kit.engine import PROTOCOLS, evaluate, protocol
from s4kit.engine.protocols import scored_by
from s4kit.engine.windows import _starts, predict
from s4kit.errors import S4Error

CLASSES = 4
MEAN = (0.3, 0.5, 0.6)
SIZES = [(17, 23), (24, 24), (7, 31), (5, 6)]  # odd, a fit, one side and both sides smaller than the window


class Net(nn.Module):
    """A convolution: what lies beyond the border of a window changes its scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, CLASSES, 5, padding=2)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))

    def forward(self, image):
        return 6 * self.conv(image - self.mean)


NET = Net().eval()


def logits(image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return NET(torch.from_numpy(image.copy())[None].float())[0].double().numpy()


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(0)


def bilinear(maps: np.ndarray, height: int, width: int, corners: bool) -> np.ndarray:
    """Pixel by pixel."""
    if maps.shape[1:] == (height, width):
        return maps

    def place(to: int, n: int, m: int) -> float:
        if corners:
            return to * (n - 1) / (m - 1) if m > 1 else 0.0
        return max(0.0, (to + 0.5) * n / m - 0.5)

    out = np.zeros((len(maps), height, width))
    for y in range(height):
        for x in range(width):
            v, u = place(y, maps.shape[1], height), place(x, maps.shape[2], width)
            top, left = int(v), int(u)
            below, right = min(top + 1, maps.shape[1] - 1), min(left + 1, maps.shape[2] - 1)
            a, b = v - top, u - left
            upper = (1 - b) * maps[:, top, left] + b * maps[:, top, right]
            lower = (1 - b) * maps[:, below, left] + b * maps[:, below, right]
            out[:, y, x] = (1 - a) * upper + a * lower
    return out


SHORT = 19  # of the shorter side, where a release resizes to 512
SHORTER = ("voc/guidedmix", "ade20k/dual_teacher")


def both(image: np.ndarray, flip: bool, squash) -> np.ndarray:
    scores = squash(logits(image))
    return scores + squash(logits(image[:, :, ::-1]))[:, :, ::-1] if flip else scores


def same(z: np.ndarray) -> np.ndarray:
    return z


def unimatch(image: np.ndarray, grid: int, flip: bool) -> np.ndarray:
    _, h, w = image.shape
    final = np.zeros((CLASSES, h, w))
    row = 0
    while row < h:
        col = 0
        while col < w:
            r, c = min(h, row + grid), min(w, col + grid)
            final[:, row:r, col:c] += both(image[:, row:r, col:c], flip, softmax)
            col += int(grid * 2 / 3)
        row += int(grid * 2 / 3)
    return final


def centred(image: np.ndarray, size: int, colour: tuple[float, ...]) -> tuple[np.ndarray, int, int]:
    _, h, w = image.shape
    down, across = max(size - h, 0), max(size - w, 0)
    out = np.zeros((3, h + down, w + across), np.float32) + np.array(colour, np.float32)[:, None, None]
    top, left = down // 2, across // 2
    out[:, top : top + h, left : left + w] = image
    return out, top, left


def unimatch_v2(image: np.ndarray, grid: int, flip: bool) -> np.ndarray:
    _, height, width = image.shape
    image, top, left = centred(image, grid, (0, 0, 0))  # the release takes no smaller images
    _, h, w = image.shape
    final = np.zeros((CLASSES, h, w))
    row = 0
    while True:
        col = 0
        while True:
            final[:, row : row + grid, col : col + grid] += both(
                image[:, row : row + grid, col : col + grid], flip, softmax
            )
            if col == w - grid:
                break
            col = min(col + int(grid * 2 / 3), w - grid)
        if row == h - grid:
            break
        row = min(row + int(grid * 2 / 3), h - grid)
    return final[:, top : top + height, left : left + width]


def gridded(image: np.ndarray, crop: int, flip: bool, squash, colour, average: bool) -> np.ndarray:
    """The grid of semseg and furnace: the number of windows first, then each one's place."""
    _, h, w = image.shape
    image, top, left = centred(image, crop, colour)
    _, rows, columns = image.shape
    stride = int(np.ceil(crop * (2 / 3)))
    total, times = np.zeros((CLASSES, rows, columns)), np.zeros((rows, columns))
    for i in range(int(np.ceil((rows - crop) / stride)) + 1):
        for j in range(int(np.ceil((columns - crop) / stride)) + 1):
            y, x = min(i * stride + crop, rows) - crop, min(j * stride + crop, columns) - crop
            scores = both(image[:, y : y + crop, x : x + crop], flip, squash)
            for dy in range(crop):
                for dx in range(crop):
                    total[:, y + dy, x + dx] += scores[:, dy, dx]
                    times[y + dy, x + dx] += 1
    total = total / times if average else total
    return total[:, top : top + h, left : left + w]


def reference(name: str, image: np.ndarray, window: int, scales: tuple[float, ...], flip: bool) -> np.ndarray:
    """Scores (C, H, W) of the protocol `name`."""
    _, h, w = image.shape
    corners = name.endswith(("u2pl", "ael", "unimatch_v2", "psmt"))
    if name == "cityscapes/unimatch_v2":
        corners = False
    total = np.zeros((CLASSES, h, w))
    for scale in scales:
        by_14 = "unimatch_v2" in name and not name.startswith("city")
        new = (round(h * scale), round(w * scale))
        if name in SHORTER:
            new = tuple(int(scale * side * SHORT / min(h, w) + 0.5) for side in (h, w))
        if by_14:
            new = tuple(max(1, int(scale * side / 14 + 0.5)) * 14 for side in (h, w))
        by_8 = name == "voc/psmt"
        if by_8:  # up
            new = tuple(-int(-scale * side // 8) * 8 for side in (h, w))
        seen = bilinear(image, *new, corners)
        if by_14 or by_8 or name in ("voc", *SHORTER, "coco", "ade20k", "cityscapes/whole"):
            scores = both(seen, flip, same)
        elif name in ("cityscapes", "cityscapes/imas", "cityscapes/augseg", "cityscapes/tri_kd"):
            scores = unimatch(seen, window, flip)
        elif name == "cityscapes/unimatch_v2":
            scores = unimatch_v2(seen, window, flip)
        elif name.endswith("cps"):
            fits = max(new) <= window  # furnace then pads after normalising, else before
            scores = gridded(seen, window, flip, same, MEAN if fits else (0, 0, 0), average=False)
        elif name == "cityscapes/ael":
            scores = gridded(seen, window, flip, softmax, MEAN, average=True)
        else:
            scores = gridded(seen, window, flip, same, MEAN, average=True)
        total += bilinear(scores, h, w, corners)
    return total


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol_equals_its_slow_reference(name, size):
    window = 12 if name == "cityscapes/unimatch_v2" else 13  # a third of the release's window is whole, too
    image = np.random.default_rng(sum(size)).random((3, *size)).astype(np.float32)
    how = protocol(name).evaluation
    assert how.mode != "sliding" or how.window > 500
    for scales, flip in (((1.0,), False), ((0.5, 1.0, 1.75), True)):
        sides = {"window": window if how.mode == "sliding" else 0, "short": SHORT if how.short else 0}
        asked = replace(scored_by(how, name, scales, flip), **sides)
        with torch.no_grad():
            got = predict(NET, torch.from_numpy(image)[None], asked)[0].double().numpy()
        expected = reference(name, image, window, scales, flip)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-4)
        assert (got.argmax(0) == expected.argmax(0)).mean() > 0.99


def test_published_windows_and_steps_on_a_cityscapes_image():
    def windows(name: str) -> list[tuple[int, int]]:
        seen = []
        net = lambda image: seen.append(tuple(image.shape[-2:])) or image[:, :1]  # noqa: E731
        predict(net, torch.zeros(1, 3, 1024, 2048), protocol(name).evaluation)
        return seen

    rows, columns = ([min(801, side - at) for at in range(0, side, 534)] for side in (1024, 2048))
    assert windows("cityscapes") == [(row, column) for row in rows for column in columns]
    for name, window in (("cps", 800), ("u2pl", 769), ("ael", 769), ("unimatch_v2", 798)):
        assert windows(f"cityscapes/{name}") == [(window, window)] * 8
    assert _starts(2048, 798, max(1, -int(-798 * (2 / 3) // 1)), "shift") == [0, 532, 1064, 1250]


def test_sums_are_float32_and_counts_whole_numbers_under_autocast():
    task = toy_task()
    how = Evaluation("sliding", 16, border="shift", scales=(1.0, 1.5), flip=True)
    scores = evaluate(NET, task, how, precision="bf16")
    known = sum(int((task.val.read(row).label != 255).sum()) for row in range(len(task.val)))
    assert scores.confusion.dtype == torch.long and int(scores.confusion.sum()) == known


def test_images_are_scored_one_at_a_time(monkeypatch):
    task, held = toy_task(), []
    read = MemorySource.read

    def watched(self, row, label=True):
        held.append(row)
        return read(self, row, label)

    monkeypatch.setattr(MemorySource, "read", watched)
    sizes = []

    class Watch(Net):
        def forward(self, image):
            sizes.append((len(image), len(held)))
            return super().forward(image)

    evaluate(Watch(), task)
    assert sizes == [(1, k + 1) for k in range(len(task.val))]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "slide"}, "sliding"),
        ({"border": "wrap"}, "shift"),
        ({"scales": ()}, "scales"),
        ({"scales": (0.5, -1)}, "above 0"),
        ({"stride": 0}, "stride"),
        ({"pad": "white"}, "fitting"),
        ({"short": -1}, "in pixels"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(values, words):
    with pytest.raises(S4Error, match=words):
        Evaluation(**values)


def test_unknown_protocols_and_windows_without_side_are_named():
    with pytest.raises(S4Error, match="cityscapes/cps"):
        protocol("cityscapes/csp")
    with pytest.raises(S4Error, match="side in pixels"):
        predict(NET, torch.rand(1, 3, 8, 8), Evaluation("sliding"))
