"""Who plays which part in a contrast: anchors, positives, negatives and prototypes, as the loss itself has chosen them.

What computes a contrast `tell`s of whom it is made, and a method says with `pictured` which images its pixels are of. A
training step has nobody `listening`, so nothing is done for it there: what is told is a function that is not called.
Whoever listens hears of the very pixels that were drawn, from the one place that draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ...data.task import VOID

ROLES = ("anchor", "positive", "negative", "prototype")
MOST = 24  # of a class in a role that are told of, and fewer where there are many classes
NOWHERE = -1


class Group(NamedTuple):
    """Features that play one part.

    Attributes:
        vector: (n, D). label: (n,) long, the class in whose contrast they play it: of a negative, that of the anchors
            that it is held against. pixel: (n,) long, cell of the maps of the pictured images, image by image and row
            by row; -1 = of none of them (a memory's, a mean). own: (n,) long, the class that they are of; 255 = not
            known.
    """

    vector: Tensor
    label: Tensor
    pixel: Tensor
    own: Tensor


@dataclass
class Cast:
    """All that take part in one contrast.

    Attributes:
        name: what tells it from the others of the step. size: (h, w) of the maps whose cells are counted. images: (B,
            3, H, W), as the student has seen them. groups: by role.
    """

    name: str
    size: tuple[int, int]
    images: Tensor
    groups: dict[str, list[Group]] = field(default_factory=dict)


_heard: ContextVar[list[Cast] | None] = ContextVar("heard", default=None)


@contextmanager
def listening() -> Iterator[list[Cast]]:
    """The contrasts that are computed meanwhile."""
    token = _heard.set([])
    try:
        yield _heard.get()
    finally:
        _heard.reset(token)


def pictured(size: Sequence[int], *images: Tensor, name: str = "contrast") -> None:
    """Say of which images the pixels of the contrast that follows are, in their order.

    Args:
        size: (h, w) of the feature maps. images: (B, 3, H, W) each.
    """
    heard = _heard.get()
    if heard is not None:
        heard.append(Cast(name, tuple(size), torch.cat(images).detach()))


def tell(parts: Callable[[], dict[str, Group]]) -> None:
    """Say who takes part in the contrast of the images last `pictured`; `parts` is called where somebody listens."""
    heard = _heard.get()
    if heard:
        with torch.no_grad():
            for role, group in parts().items():
                heard[-1].groups.setdefault(role, []).append(Group(*(t.detach() for t in group)))


def some(index: Tensor, classes: int) -> Tensor:
    """Of (n,) values so many that all classes together stay a few thousand, evenly spread."""
    most = min(len(index), max(4, min(MOST, 20 * MOST // classes)))
    return index[torch.linspace(0, max(len(index) - 1, 0), most, device=index.device).long()]


def among(features: Tensor, mask: Tensor, pixel: Tensor | None = None, own: Tensor | None = None) -> Group:
    """Some of each class of features (N, D) that all classes share.

    Args:
        mask: (K, N) bool. pixel: (N,) long, see `Group`; default: the place of the feature. own: (N,) long; default:
            the row of the mask.
    """
    label, index = _chosen(mask)
    pixel, own = index if pixel is None else pixel[index], label if own is None else own[index]
    return Group(features[index], label, pixel, own)


def apart(vectors: Tensor, real: Tensor, pixel: Tensor | None = None, own: Tensor | None = None) -> Group:
    """Some of each class of vectors (K, n, D) that classes have for themselves.

    Args:
        real: (K, n) bool. pixel: (K, n) long; default: of none. own: (K, n) long; default: the class that has them.
    """
    label, index = _chosen(real)
    pixel = torch.full_like(label, NOWHERE) if pixel is None else pixel[label, index]
    return Group(vectors[label, index], label, pixel, label if own is None else own[label, index])


def slots(anchor: Tensor, key: Tensor, label: Tensor, classes: int, pixel: Tensor) -> dict[str, Group]:
    """The parts where each of a set is an anchor, and its key a positive of its class and a negative of all others.

    Args:
        anchor, key: (S, D). label: (S,) long, 255 where the slot is empty. pixel: (S,) long.
    """
    own = label == torch.arange(classes, device=label.device)[:, None]
    other = (label < classes) & ~own & own.any(1, keepdim=True)
    near = {"anchor": among(anchor, own, pixel), "positive": among(key, own, pixel)}
    return near | {"negative": among(key, other, pixel, label)}


def prototypes(vectors: Tensor) -> Group:
    """All of (K, D), or of (K, n, D), one or several of each class."""
    vectors = vectors if vectors.ndim == 3 else vectors[:, None]
    label = torch.arange(len(vectors), device=vectors.device).repeat_interleave(vectors.shape[1])
    return Group(vectors.flatten(0, 1), label, torch.full_like(label, NOWHERE), label)


def unknown(like: Tensor) -> Tensor:
    """The class of what is of none, or of one that is not known: 255 in the shape of `like`."""
    return torch.full_like(like, VOID)


def _chosen(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of some True of each row of a mask."""
    columns = [some(row.nonzero()[:, 0], len(mask)) for row in mask]
    number = torch.tensor([len(found) for found in columns], device=mask.device)
    return torch.arange(len(mask), device=mask.device).repeat_interleave(number), torch.cat(columns)
