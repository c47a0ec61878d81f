"""The class scores of images by a protocol: whole or resized, at several scales, mirrored, through sliding windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.task import Evaluation
from ..errors import S4Error

IMAGENET = (0.485, 0.456, 0.406)


def predict(net: Callable[[Tensor], Tensor], image: Tensor, how: Evaluation, at_once: int = 1) -> Tensor:
    """Scores (B, C, H, W), their argmax the prediction, of images (B, 3, H, W) in [0, 1] by a protocol.

    Args:
        net: image -> logits of the same size; its `finish`, if it has one, see `Method.predictors`, is the last step.
        at_once: windows of one size that the network sees in a forward.
    """
    size, total = image.shape[-2:], None
    for scale in how.scales:
        sides = [_side(side, scale * (how.short / min(size) if how.short else 1), how) for side in size]
        scores = scored(net, _resize(image, sides, how), how, at_once)
        scores = _resize(scores, size, how)
        total = scores if total is None else total.add_(scores)
    finish = getattr(net, "finish", None)
    return total if finish is None else finish(image, total)


def _side(side: int, scale: float, how: Evaluation) -> int:
    """A side of the image that the network sees; halves are rounded as the official codes do."""
    if how.mode in ("resize", "enlarge"):
        times = scale * side / how.multiple
        return max(1, math.ceil(times) if how.mode == "enlarge" else int(times + 0.5)) * how.multiple
    return max(1, int(scale * side) if how.floor else round(scale * side))


def _resize(maps: Tensor, size: Sequence[int], how: Evaluation) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=how.corners)


def scored(net: Callable[[Tensor], Tensor], image: Tensor, how: Evaluation, at_once: int = 1) -> Tensor:
    """Scores (B, C, H, W) of images at the size that they have, whole or through a sliding window."""
    if how.mode != "sliding":
        return forward(net, image, how)
    options = {name: getattr(how, name) for name in ("border", "combine", "flip", "overlap", "pad")}
    return sliding(net, image, how.window, how.stride, at_once=at_once, **options)


def forward(net: Callable[[Tensor], Tensor], image: Tensor, how: Evaluation) -> Tensor:
    """Scores (B, C, H, W) of one forward, or of two with the mirrored image: float32, whatever the autocast."""
    scores = net(image).float()
    scores = scores.softmax(1) if how.combine == "probabilities" else scores
    if how.flip:
        mirrored = net(image.flip(-1)).float()
        mirrored = mirrored.softmax(1) if how.combine == "probabilities" else mirrored
        scores = scores + mirrored.flip(-1)
    return scores


def whole(net: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Class probabilities (1, C, H, W) of one image (1, 3, H, W) in a single forward, `finish` behind it."""
    return predict(net, image, Evaluation())


def sliding(
    net: Callable[[Tensor], Tensor],
    image: Tensor,
    window: int,
    stride: float = 2 / 3,
    border: str = "cut",
    at_once: int = 1,
    **other: Any,
) -> Tensor:
    """Scores (B, C, H, W) of images through overlapping windows.

    Args:
        net: image -> logits of the same size.
        image: (B, 3, H, W) in [0, 1].
        at_once: windows of one size in a forward.
        window, stride, border, other: see `Evaluation`. "cut" is UniMatch's way, "shift" that of CPS, U2PL, AEL and
            UniMatch V2.

    Raises:
        S4Error: the window has no side.
    """
    how = Evaluation("sliding", window, stride, border, **other)
    if window < 1:
        raise S4Error("A sliding window needs a side in pixels: Evaluation('sliding', window=801).")
    height, width = image.shape[-2:]
    image, (top, left) = _padded(image, net, how) if border == "shift" else (image, (0, 0))
    step = max(1, int(window * stride + 1e-9)) if border == "cut" else max(1, -int(-window * stride // 1))
    total, times = None, image.new_zeros(image.shape[-2:])
    starts = [_starts(side, window, step, border) for side in image.shape[-2:]]
    for places in _alike([(y, x) for y in starts[0] for x in starts[1]], image.shape[-2:], window, at_once):
        parts = [image[place] for place in places]
        for place, scores in zip(places, forward(net, torch.cat(parts), how).split(len(image))):
            if total is None:
                total = _zeros(scores, image.shape[-2:])
            total[place] += scores
            times[place] += 1
    total = total.div_(times) if how.overlap == "mean" else total
    return total[..., top : top + height, left : left + width]


def _zeros(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Like scores (B, C, h, w), in their memory layout, of another size."""
    together = scores.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if together else torch.contiguous_format
    whole = (*scores.shape[:2], *size)
    return torch.empty(whole, dtype=scores.dtype, device=scores.device, memory_format=layout).zero_()


def _alike(corners: Sequence[tuple[int, int]], size: Sequence[int], window: int, at_once: int) -> list[list[tuple]]:
    """Windows of one size together, up to `at_once`; where it is 1 they keep their order."""
    groups: dict[tuple[int, int], list[list[tuple]]] = {}
    found = []
    for y, x in corners:
        shape = min(window, size[0] - y), min(window, size[1] - x)
        if shape not in groups or len(groups[shape][-1]) == at_once:
            groups.setdefault(shape, []).append([])
            found.append(groups[shape][-1])
        groups[shape][-1].append((..., slice(y, y + window), slice(x, x + window)))
    return found


def _starts(side: int, window: int, step: int, border: str) -> list[int]:
    if border == "cut":
        return list(range(0, side, step))
    return [*range(0, max(0, side - window), step), max(0, side - window)]


def _padded(image: Tensor, net: Any, how: Evaluation) -> tuple[Tensor, tuple[int, int]]:
    """The image in the middle of a canvas of at least one window, and where its corner lies there."""
    size = image.shape[-2:]
    missing = [max(0, how.window - side) for side in size]
    top, left = (m // 2 for m in missing)
    if not any(missing):
        return image, (0, 0)
    canvas = image.new_zeros(*image.shape[:2], *(side + m for side, m in zip(size, missing)))
    if how.pad == "mean" or (how.pad == "fitting" and max(size) <= how.window):
        canvas += mean_colour(net, image)
    canvas[..., top : top + size[0], left : left + size[1]] = image
    return canvas, (top, left)


def mean_colour(net: Any, image: Tensor) -> Tensor:
    """(1, 3, 1, 1): the colour that the network's normalisation turns into 0; ImageNet's mean where it has none."""
    for module in net.modules() if isinstance(net, nn.Module) else ():
        if isinstance(getattr(module, "mean", None), Tensor):
            return module.mean.to(image)
    return image.new_tensor(IMAGENET).view(1, 3, 1, 1)
