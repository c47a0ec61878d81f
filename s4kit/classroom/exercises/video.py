"""The lesson on video: labels that go with the motion, IFR's prototypes, and a frame rebuilt from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, labels, mask


def _moving(rng: Generator, away: float = 1.5, unseen: float = 0.0) -> dict[str, Tensor]:
    """A label of the other frame, the way to it in whole pixels, and where a pixel is seen there."""
    label = labels(rng)
    flow = (away * torch.randn(*label.shape, 2, generator=rng)).round()
    y, x = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    inside = ((torch.stack([x, y], -1) + flow).clamp(0, 5) == torch.stack([x, y], -1) + flow).all(-1)
    return {"label": label, "flow": flow, "seen": inside & ~mask(rng, share=unseen)}


def _carry(label: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    height, width = label.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(side, device=label.device) for side in (height, width)), indexing="ij")
    column, row = ((at + flow[..., k]).round().long() for k, at in enumerate((x, y)))
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    return label.flatten(1).gather(1, place).view_as(label).where(seen, VOID)


CARRY = Exercise(
    key="video.carry",
    asks="The label (B, H, W) that each pixel of frame a has in frame b. `label` is that of frame b, `flow` "
    "(B, H, W, 2) leads from a to b in pixels (x, y); 255 where `seen` says that the pixel is not seen there.",
    prototype="carry(label, flow, seen)",
    reference=_carry,
    cases=lambda rng: [
        Case("pixels move", _moving(rng)),
        Case("pixels are covered in the other frame", _moving(rng, unseen=0.3)),
        Case("pixels leave the picture", _moving(rng, away=4.0), edge=True),
    ],
    mistakes=(
        Mistake(
            "x and y are swapped",
            "The first number of `flow` is the way to the right, the second one the way down; here they are swapped.",
            lambda label, flow, seen: _carry(label, flow.flip(-1), seen),
        ),
        Mistake(
            "the other way",
            "The label is fetched from where the pixel would come from; `flow` leads to where it is in frame b.",
            lambda label, flow, seen: _carry(label, -flow, seen),
        ),
        Mistake(
            "ghosts",
            "Pixels that are not seen in the other frame get the label of what covers them there.",
            lambda label, flow, seen: _carry(label, flow, torch.ones_like(seen)),
        ),
        Mistake("it stays", "The motion is not used.", lambda label, flow, seen: label.where(seen, VOID)),
    ),
    picture=("label", "seen"),
)


def _features(rng: Generator, classes: int = 4, absent: bool = False) -> dict[str, Tensor]:
    label = labels(rng, classes=classes - absent)
    label[0] = label[0].clamp(max=1)  # the first image lacks classes that the second one has
    features = torch.randn(2, 3, 6, 6, generator=rng)
    return {"features": features, "label": label, "classes": torch.tensor(classes)}


def _prototypes(features: Tensor, label: Tensor, classes: Tensor) -> Tensor:
    one_hot = F.one_hot(label, int(classes)).flatten(1, 2).to(features.dtype)  # (B, HW, C)
    total = torch.einsum("bdn,bnc->bcd", features.flatten(2), one_hot)
    return total / one_hot.sum(1).clamp(min=1)[..., None]


PROTOTYPES = Exercise(
    key="video.prototypes",
    asks="The mean (B, C, D) of the features (B, D, H, W) of each class of `label` (B, H, W), image by image; 0 for a "
    "class that an image does not have. `classes` is a tensor with their number C.",
    prototype="prototypes(features, label, classes)",
    reference=_prototypes,
    cases=lambda rng: [
        Case("an image lacks a class", _features(rng)),
        Case("a class is in no image", _features(rng, absent=True), edge=True),
    ],
    mistakes=(
        Mistake(
            "over all pixels",
            "The sum over a class's pixels is divided by all pixels of the image: rare classes have short prototypes.",
            lambda features, label, classes: (
                _prototypes(features, label, classes)
                * F.one_hot(label, int(classes)).flatten(1, 2).float().mean(1)[..., None]
            ),
        ),
        Mistake(
            "of the batch",
            "The mean is over the pixels of all images; here an image has prototypes of its own.",
            lambda features, label, classes: _prototypes(
                features.movedim(1, 0).flatten(1, 2)[None], label.flatten(0, 1)[None], classes
            ).expand(len(features), -1, -1),
        ),
        Mistake(
            "of length one",
            "The prototypes are normalised; only the likeness is, the prototype itself is the plain mean.",
            lambda features, label, classes: F.normalize(_prototypes(features, label, classes), dim=2),
        ),
    ),
    learns=("features",),
    picture=("label",),
)


def _pair(rng: Generator, all_there: bool = False) -> dict[str, Tensor]:
    there = torch.ones(2, 4, dtype=torch.bool)
    if not all_there:
        there[0, 2:], there[1, 0] = False, False
    means = torch.randn(2, 4, 3, generator=rng)
    return {
        "features": torch.randn(2, 3, 6, 6, generator=rng),
        "means": means * there[..., None],
        "there": there,
        "temperature": torch.tensor(0.5),
    }


def _likeness(features: Tensor, means: Tensor) -> Tensor:
    return torch.einsum("bdhw,bcd->bchw", F.normalize(features, dim=1), F.normalize(means, dim=2))


def _put_together(share: Tensor, means: Tensor) -> Tensor:
    return torch.einsum("bchw,bcd->bdhw", share, means)


def _rebuild(features: Tensor, means: Tensor, there: Tensor, temperature: Tensor) -> Tensor:
    likeness = _likeness(features, means) / temperature
    return _put_together(likeness.masked_fill(~there[:, :, None, None], -torch.inf).softmax(1), means)


REBUILD = Exercise(
    key="video.rebuild",
    asks="Each feature (B, D, H, W) as the sum of the prototypes `means` (B, C, D), weighted by the softmax over the "
    "classes that are `there` (B, C) of cosine / temperature.",
    prototype="rebuild(features, means, there, temperature)",
    reference=_rebuild,
    cases=lambda rng: [
        Case("all classes are there", _pair(rng, all_there=True)),
        Case("a class is missing", _pair(rng)),
    ],
    mistakes=(
        Mistake(
            "who is missing takes part",
            "A class that is not there has a share; its prototype is 0, and so what comes out is too short.",
            lambda features, means, there, temperature: _put_together(
                (_likeness(features, means) / temperature).softmax(1), means
            ),
        ),
        Mistake(
            "no cosine",
            "The likeness is the product of feature and prototype; both have to have length one in it.",
            lambda features, means, there, temperature: _put_together(
                (torch.einsum("bdhw,bcd->bchw", features, means) / temperature)
                .masked_fill(~there[:, :, None, None], -torch.inf)
                .softmax(1),
                means,
            ),
        ),
        Mistake(
            "times the temperature",
            "The likeness is multiplied by the temperature: a low one then mixes all prototypes instead of choosing.",
            lambda features, means, there, temperature: _rebuild(features, means, there, 1 / temperature),
        ),
        Mistake(
            "directions alone",
            "Prototypes of length one are put together; they enter the sum as they are.",
            lambda features, means, there, temperature: _put_together(
                (_likeness(features, means) / temperature).masked_fill(~there[:, :, None, None], -torch.inf).softmax(1),
                F.normalize(means, dim=2),
            ),
        ),
    ),
    learns=("features", "means"),
)

EXERCISES = [CARRY, PROTOTYPES, REBUILD]
