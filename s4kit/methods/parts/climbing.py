"""Where a classifier looks while an image is changed in favour of a class: the image climbs, its maps are added up.

n classes of an image climb at once and do not see each other. Each has a pair of images, the image and its mirror
image, normalised as the network sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .precision import float32

EPS = 1e-12


class Climb(NamedTuple):
    """How an image climbs: `steps`; `size` xi of a step; `hold` lambda, how much the part that is found already is kept
    from growing; `found` tau, the share of the largest value from which it is."""

    steps: int = 27
    size: float = 0.08
    hold: float = 7.0
    found: float = 0.5


class Rung(NamedTuple):
    """One step: `image` (n, 2, 3, H, W); `seen` (n, 2, h, w), where the classifier looks in each image; `upward`, like
    the image, the gradient of the objective. Without gradient."""

    image: Tensor
    seen: Tensor
    upward: Tensor

    @property
    def map(self) -> Tensor:
        """(n, h, w), of both images together, as the image lies."""
        return joined(self.seen)


def joined(seen: Tensor) -> Tensor:
    """(n, 2, h, w) maps of images and mirror images, added as the images lie."""
    return seen[:, 0] + seen[:, 1].flip(-1)


@float32
def channel_weights(gradient: Tensor) -> Tensor:
    """(n, 2, D) weights of the channels: gradients (n, 2, D, h, w) of a score, summed over the places and divided by
    the number of positive ones in the pair."""
    positive = (gradient > 0).sum((1, 2, 3, 4))
    return gradient.sum((3, 4)) / (positive[:, None, None] + EPS)


@float32
def attribution(features: Tensor, weights: Tensor) -> Tensor:
    """(n, 2, h, w) positive part of the weighted sum of the channels of features (n, 2, D, h, w): Grad-CAM."""
    return torch.einsum("npdhw,npd->nphw", features, weights).relu()


@float32
def moved(image: Tensor, upward: Tensor, size: float) -> Tensor:
    """Images (n, 2, 3, H, W) a step further; none leaves the range of its pair."""
    most = (t.amax((1, 2, 3, 4), keepdim=True) for t in (upward.abs(), image))
    steepest, high = most
    low = image.amin((1, 2, 3, 4), keepdim=True)
    return torch.minimum(torch.maximum(image + size * upward / (steepest + EPS), low), high)


def already_found(map: Tensor, share: float) -> Tensor:
    """(n, h, w) bool: where maps (n, h, w) are above a share of their largest value."""
    return map > share * map.amax((1, 2), keepdim=True)


@float32
def rung(
    encode: Callable[[Tensor], Tensor], weight: Tensor, tags: Tensor, image: Tensor, first: Tensor | None, how: Climb
) -> Rung:
    """Look at the images, and where upward is, see `climbing`."""
    count = torch.arange(len(tags), device=tags.device)
    with torch.enable_grad():
        image = image.detach().requires_grad_()
        f = encode(image.flatten(0, 1)).float().unflatten(0, image.shape[:2])
        z = torch.einsum("npdhw,kd->npkhw", f, weight).relu()
        # the score, the sum over places of relu z_c, changes with a feature by the weight of c, where z_c is positive
        gradient = (z[count, :, tags] > 0)[:, :, None] * weight[tags][:, None, :, None, None]
        seen = attribution(f, channel_weights(gradient))
        scores, map = z.mean((3, 4)), joined(seen)
        own = scores[count, :, tags]
        grown = (map - (map if first is None else first).detach()).abs() * already_found(map.detach(), how.found)
        objective = (2 * own - scores.sum(2)).sum() - how.hold * grown.sum()
        (upward,) = torch.autograd.grad(objective, image)
    return Rung(image.detach(), seen.detach(), upward)


def climbing(
    encode: Callable[[Tensor], Tensor], weight: Tensor, tags: Tensor, image: Tensor, how: Climb
) -> Iterator[Rung]:
    """The steps of an image upward, for each of n classes.

        A = Grad-CAM of class c;   y_k = mean over places of relu z_k
        J = y_c - sum over k other than c of y_k, of both images,  - lambda sum over M of |A - A_0|
        x <- x + xi grad J / max |grad J|,   within the range of x;   M = where A is above tau max A, A_0 the first A

    Args:
        encode: normalised images (B, 3, H, W) to features (B, D, h, w); its parameters get no gradient where they ask
            for none, and the caller says in which mode it runs.
        weight: (K, D) of the classes: z = weight features.
        tags: (n,) long, the classes. image: (2, 3, H, W), the pair.
    """
    here, first = image.expand(len(tags), *image.shape), None
    for _ in range(how.steps):
        step = rung(encode, weight, tags, here, first, how)
        first = step.map if first is None else first
        yield step
        here = moved(step.image, step.upward, how.size)
