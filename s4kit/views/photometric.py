"""The strong view: colour jitter, grey, blur; batched on the device, with own parameters for every sample.

The parameters are drawn on the host (so that which samples get which operation is known there and the device is never
asked), the arithmetic runs where the images are. Same operations as torchvision's on float images.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Params = dict[str, np.ndarray]
GREY = (0.2989, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@dataclass(frozen=True)
class Strong:
    """A photometric recipe; the defaults are those of ST++, FixMatch and UniMatch.

    Attributes:
        brightness, contrast, saturation: factors are drawn from [1 - v, 1 + v].
        hue: shift drawn from [-v, v] turns.
        jitter: probability of the four colour operations (applied in random order).
        grey: probability of dropping the colour.
        blur: probability of a Gaussian blur; `sigma` is its range in pixels.
    """

    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.25
    jitter: float = 0.8
    grey: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)

    def draw(self, rng: np.random.Generator) -> Params:
        """The parameters of one sample."""
        spread = np.array([self.brightness, self.contrast, self.saturation])
        return {
            "factor": (1 + spread * rng.uniform(-1, 1, 3)).astype(np.float32),
            "hue": np.float32(rng.uniform(-self.hue, self.hue)),
            "order": rng.permutation(4),
            "jitter": rng.random() < self.jitter,
            "grey": rng.random() < self.grey,
            "blur": rng.random() < self.blur,
            "sigma": np.float32(rng.uniform(*self.sigma)),
        }

    def sample(self, image: Tensor, seed: int = 0) -> Tensor:
        """(B, 3, H, W) images in [0, 1], each changed by a draw of its own; for looking at."""
        rng = np.random.default_rng(seed)
        draws = [self.draw(rng) for _ in image]
        return self.apply(image, {key: np.stack([d[key] for d in draws]) for key in draws[0]})

    def apply(self, image: Tensor, params: Params) -> Tensor:
        """Change (B, 3, H, W) images in [0, 1] by parameters stacked over the batch; returns new images."""
        if image.device.type == "cpu" and len(image) > 1:  # one sample at a time stays in the processor's cache
            single = [{key: value[i : i + 1] for key, value in params.items()} for i in range(len(image))]
            return torch.cat([self.apply(image[i : i + 1], own) for i, own in enumerate(single)])
        out = image.clone(memory_format=torch.contiguous_format)
        rows = np.flatnonzero(params["jitter"])
        if len(rows):
            chosen = {k: params[k][rows] for k in ("factor", "hue", "order")}
            _put(out, rows, jitter(_take(out, rows), chosen))
        if len(rows := np.flatnonzero(params["grey"])):
            _put(out, rows, grey(_take(out, rows)).expand(-1, 3, -1, -1))
        if len(rows := np.flatnonzero(params["blur"])):
            sigma = torch.from_numpy(params["sigma"][rows]).to(image.device, non_blocking=True)
            _put(out, rows, blur(_take(out, rows), sigma, self.sigma[1]))
        return out


STRONG = Strong()


def recolour(image: Tensor, recipe: Strong, together: bool = False) -> Tensor:
    """Late colour: a recipe on images (B, 3, H, W) in [0, 1] that a method has mixed within its step.

    Its parameters come from Python's `random`, which the engine seeds before each step, so that the host knows them.

    Args:
        together: whether jitter, grey and blur happen is decided once for the batch; how, image by image.
    """
    rng = np.random.default_rng(random.getrandbits(63))
    draws = [recipe.draw(rng) for _ in range(len(image))]
    if together:
        draws = [draw | {key: draws[0][key] for key in ("jitter", "grey", "blur")} for draw in draws]
    return recipe.apply(image, {key: np.stack([draw[key] for draw in draws]) for key in draws[0]})


def grey(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W) luma (ITU-R 601)."""
    r, g, b = image.unbind(1)
    return (r * GREY[0]).add_(g, alpha=GREY[1]).add_(b, alpha=GREY[2]).unsqueeze(1)


def jitter(image: Tensor, params: Params) -> Tensor:
    """Brightness, contrast, saturation and hue in each sample's own order.

    Brightness, contrast and saturation are blends, f * x + (1 - f) * other, with other = 0, the mean luma or the luma.
    In each of the four rounds every operation runs once, for the samples whose turn it is.

    Args:
        image: (B, 3, H, W) in [0, 1]; overwritten.
        params: "factor" (B, 3), "hue" (B,), "order" (B, 4) as drawn by `Strong.draw`.
    """
    device = image.device
    for turn in params["order"].T:
        if len(rows := np.flatnonzero(turn == HUE)):
            angle = torch.from_numpy(params["hue"][rows]).to(device, non_blocking=True)
            _put(image, rows, shift_hue(_take(image, rows), angle))
        for op in (BRIGHTNESS, CONTRAST, SATURATION):
            if not len(rows := np.flatnonzero(turn == op)):
                continue
            part = _take(image, rows)
            factor = torch.from_numpy(params["factor"][rows, op]).to(device, non_blocking=True).view(-1, 1, 1, 1)
            if op == BRIGHTNESS:
                part = part * factor
            else:
                other = grey(part)
                if op == CONTRAST:
                    other = other.mean((1, 2, 3), keepdim=True)
                part = torch.lerp(other.expand_as(part), part, factor)
            _put(image, rows, part.clamp_(0, 1))
    return image


def shift_hue(image: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of (B, 3, H, W) images by (B,) turns (1 = full circle), in HSV."""
    r, g, b = image.unbind(1)
    high = torch.maximum(torch.maximum(r, g), b)
    chroma = high - torch.minimum(torch.minimum(r, g), b)
    inverse = chroma.clamp_min(1e-12).reciprocal_()
    hue = torch.where(high == g, (b - r).mul_(inverse).add_(2), (r - g).mul_(inverse).add_(4))
    hue = torch.where(high == r, (g - b).mul_(inverse), hue).add_(6 * turns.view(-1, 1, 1))
    hue.sub_((hue / 6).floor_(), alpha=6)  # [0, 6), red at 0
    # HSV -> RGB in closed form: a channel is V - C * w, with w = 0 up to one sixth from its own hue and 1 from two on
    out = torch.empty_like(image)
    torch.addcmul(high, chroma, (hue - 3).abs_().neg_().add_(2).clamp_(0, 1), value=-1, out=out[:, 0])
    torch.addcmul(high, chroma, (hue - 2).abs_().sub_(1).clamp_(0, 1), value=-1, out=out[:, 1])
    torch.addcmul(high, chroma, (hue - 4).abs_().sub_(1).clamp_(0, 1), value=-1, out=out[:, 2])
    return out


def blur(image: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur of (B, 3, H, W) with (B,) sigmas by two one-dimensional passes; reflecting border.

    The kernel reaches three times the `largest` sigma of the recipe, so its size does not depend on the draw.
    """
    radius = min(int(3 * largest + 0.5), min(image.shape[-2:]) - 1)
    offset = torch.arange(radius + 1, device=image.device, dtype=image.dtype)
    half = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    half = half / (2 * half.sum(1, keepdim=True) - half[:, :1])
    for dim, margin in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        image = _convolve(F.pad(image, margin, "reflect"), half, dim)
    return image


def _convolve(padded: Tensor, half: Tensor, dim: int) -> Tensor:
    """Symmetric kernels (B, radius + 1) along one dimension, as sums of shifted images: cheaper than a grouped conv."""
    radius, side = half.shape[1] - 1, padded.shape[dim] - 2 * half.shape[1] + 2
    taps = half[:, :, None, None, None].unbind(1)
    out = padded.narrow(dim, radius, side) * taps[0]
    for i, tap in enumerate(taps[1:], 1):
        out.addcmul_(padded.narrow(dim, radius - i, side) + padded.narrow(dim, radius + i, side), tap)
    return out


def _rows(rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(rows).to(device, non_blocking=True)


def _take(image: Tensor, rows: np.ndarray) -> Tensor:
    return image[rows[0] : rows[0] + 1] if len(rows) == 1 else image.index_select(0, _rows(rows, image.device))


def _put(image: Tensor, rows: np.ndarray, part: Tensor) -> None:
    if len(rows) == 1:  # also right where `part` is that very row
        image[rows[0] : rows[0] + 1].copy_(part)
    else:
        image.index_copy_(0, _rows(rows, image.device), part)
