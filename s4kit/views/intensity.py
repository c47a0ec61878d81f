"""AugSeg's strong view: a random number of intensity operations, each of a strength drawn from a continuum.

Operations are those of Pillow, on float images in [0, 1]; the ones that speak of grey levels (equalise, posterise,
solarise) round to the 256 levels first, blends are not rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .photometric import Params, Strong, grey, shift_hue


@dataclass(frozen=True)
class Intensity:
    """A recipe: k ~ Uniform{`least`, .., `most`} operations from `OPERATIONS`, with replacement, always applied."""

    most: int = 3
    least: int = 1

    def draw(self, rng: np.random.Generator) -> Params:
        """The parameters of one sample: operations by number, -1 = none, and their uniforms."""
        operation = rng.integers(0, len(OPERATIONS), self.most)
        operation[rng.integers(self.least, self.most + 1) :] = -1
        return {"operation": operation, "uniform": rng.random(self.most).astype(np.float32)}

    sample = Strong.sample  # the same for every recipe

    def apply(self, image: Tensor, params: Params) -> Tensor:
        """Change (B, 3, H, W) images in [0, 1] by parameters stacked over the batch; returns new images."""
        functions, rows = list(OPERATIONS.values()), []
        for row, operations, uniforms in zip(image.split(1), params["operation"], params["uniform"]):
            for number, u in zip(operations, uniforms):
                if number >= 0:
                    row = functions[number](row, float(u))
            rows.append(row)
        return torch.cat(rows)


def _blend(image: Tensor, other: Tensor, u: float) -> Tensor:
    """Towards `other`: a factor of 0.95 (u = 0) to 0.05 (u = 1) of the image is left."""
    return torch.lerp(other.expand_as(image), image, 0.95 - 0.9 * u)


def _levels(image: Tensor) -> Tensor:
    return (image * 255).round()


def autocontrast(image: Tensor) -> Tensor:
    """Each channel of (B, 3, H, W) stretched to 0..1; a constant one is left."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    return torch.where(high > low, (image - low) / torch.where(high > low, high - low, 1.0), image)


def equalize(image: Tensor) -> Tensor:
    """Each channel of (B, 3, H, W) mapped so that its histogram of 256 levels is as flat as it can be."""
    level = _levels(image).long().flatten(2)
    histogram = image.new_zeros(*level.shape[:2], 256).scatter_add_(2, level, torch.ones_like(image).flatten(2))
    last = histogram.gather(2, level.amax(2, keepdim=True))
    step = ((histogram.sum(2, keepdim=True) - last) / 255).floor()
    below = histogram.cumsum(2) - histogram
    table = (((step / 2).floor() + below) / step.clamp(min=1)).floor().clamp(max=255)
    flat = torch.where(step > 0, table.gather(2, level), level.to(image.dtype))
    return flat.view_as(image) / 255


def soften(image: Tensor) -> Tensor:
    """Pillow's SMOOTH: a 3x3 mean with weight 5 in the middle; the border row is left."""
    kernel = torch.ones(3, 1, 3, 3, device=image.device, dtype=image.dtype)
    kernel[:, :, 1, 1] = 5
    inside = F.conv2d(image, kernel / 13, groups=3)
    out = image.clone()
    out[:, :, 1:-1, 1:-1] = inside
    return out


def _posterize(image: Tensor, u: float) -> Tensor:
    width = 2 ** max(1, int(np.ceil(4 * u)))  # 7 to 4 bits are left
    return (_levels(image) / width).floor() * width / 255


def _solarize(image: Tensor, u: float) -> Tensor:
    level = _levels(image)
    return torch.where(level < 256 - max(1, int(np.ceil(255 * u))), level, 255 - level) / 255


def box_blur(image: Tensor, sigma: float, passes: int = 3) -> Tensor:
    """Pillow's Gaussian blur: boxes with fractional edges whose variances add up to sigma^2 (Gwosdek et al., 2011).

    Below half a pixel it still blurs, where a Gaussian that is read off at the pixels has nothing left beside its
    middle. The border is continued.
    """
    part = sigma**2 / passes
    whole = int(((12 * part + 1) ** 0.5 - 1) / 2)
    radius = whole + (2 * whole + 1) * (whole * (whole + 1) - 3 * part) / (6 * (part - (whole + 1) ** 2))
    kernel = image.new_full((2 * whole + 3,), 1 / (2 * radius + 1))
    kernel[:: 2 * whole + 2] *= radius - whole  # its ends, by a slice: positions would have to be sent to the device
    for dim in (2, 3):
        weight = kernel.view(1, 1, -1, 1) if dim == 2 else kernel.view(1, 1, 1, -1)
        margin = (0, 0, whole + 1, whole + 1) if dim == 2 else (whole + 1, whole + 1, 0, 0)
        for _ in range(passes):
            image = F.conv2d(F.pad(image, margin, "replicate"), weight.expand(3, -1, -1, -1), groups=3)
    return image


# name -> (image (1, 3, H, W), uniform draw) -> image
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda image, u: image,
    "autocontrast": lambda image, u: autocontrast(image),
    "equalize": lambda image, u: equalize(image),
    "blur": lambda image, u: box_blur(image, 0.1 + 1.9 * u),
    "contrast": lambda image, u: _blend(image, grey(image).mean((1, 2, 3), keepdim=True), u),
    "brightness": lambda image, u: _blend(image, torch.zeros_like(image), u),
    "color": lambda image, u: _blend(image, grey(image), u),
    "sharpness": lambda image, u: _blend(image, soften(image), u),
    "hue": lambda image, u: shift_hue(image, image.new_full((1,), u - 0.5)),
    "posterize": _posterize,
    "solarize": _solarize,
}
