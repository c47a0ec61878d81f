"""The lesson on single objects: overlap of masks, the boundary-preserving map, thresholds by class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import eighths, logits, mask


def _iou(found: Tensor, true: Tensor) -> Tensor:
    a, b = found.flatten(1).float(), true.flatten(1).float()
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both).clamp(min=1)


IOU = Exercise(
    key="instances.iou",
    asks="How far each found mask (n, H, W) bool and each true one (m, H, W) bool overlap: a table (n, m) of their "
    "intersection over their union, 0 where both are empty.",
    prototype="iou(found, true)",
    reference=_iou,
    cases=lambda rng: [
        Case("masks that overlap", {"found": mask(rng, 3), "true": mask(rng, 4)}),
        Case("small ones in large ones", {"found": mask(rng, 3, share=0.1), "true": mask(rng, 2, share=0.9)}),
        Case("an empty one", {"found": mask(rng, 2, share=0.0), "true": mask(rng, 2, share=0.0)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "both areas",
            "The union is the sum of both areas less what they share; here what they share counts twice.",
            lambda found, true: (
                (found.flatten(1).float() @ true.flatten(1).float().T)
                / (found.flatten(1).sum(1)[:, None] + true.flatten(1).sum(1)).clamp(min=1)
            ),
        ),
        Mistake(
            "share of the found one",
            "Divided by the area of the found mask alone: one pixel inside of a large object would be perfect.",
            lambda found, true: (
                (found.flatten(1).float() @ true.flatten(1).float().T)
                / found.flatten(1).sum(1)[:, None].clamp(min=1).float()
            ),
        ),
        Mistake(
            "pixels that are alike",
            "Pixels that are in neither mask count as alike; then two small masks always overlap.",
            lambda found, true: (found[:, None] == true).flatten(2).float().mean(2),
        ),
    ),
    picture=("found", "true"),
)


def _edges(z: Tensor, pad: str = "constant") -> Tensor:
    kernel = z.new_full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8.0
    padded = F.pad(z.sigmoid()[:, None], (1, 1, 1, 1), pad)
    return F.conv2d(padded, kernel)[:, 0]


def _boundary(z: Tensor) -> Tensor:
    e = _edges(z.detach()).abs()
    return 3 * e / e.mean((1, 2), keepdim=True).clamp(min=1e-12)


def _regions(rng: Generator, count: int = 3, sharp: float = 2.0) -> dict[str, Tensor]:
    return {"z": logits(rng, 1, count, 6, sharp)[0]}


BOUNDARY = Exercise(
    key="instances.boundary",
    asks="The weight of each pixel of the regions' mask logits z (R, s, s): |K * sigmoid(z)|, K the 3x3 kernel with 8 "
    "in its middle and -1 around, zeros beyond the border, times 3 over its mean in the region; no gradient.",
    prototype="boundary(z)",
    reference=_boundary,
    cases=lambda rng: [
        Case("regions", _regions(rng)),
        Case("some surer than others", {"z": torch.cat([_regions(rng, 2, 0.3)["z"], _regions(rng, 2, 8.0)["z"]])}),
    ],
    mistakes=(
        Mistake(
            "of the logits",
            "The Laplacian is taken of the logits; a sure inside then weighs as much as the boundary. Sigmoid first.",
            lambda z: _scaled(_of_logits(z)),
        ),
        Mistake(
            "one mean for all",
            "The mean is over all regions; an unsure region then has larger weights than the others.",
            lambda z: 3 * _edges(z).abs() / _edges(z).abs().mean(),
        ),
        Mistake(
            "one side of the edge",
            "Negative values are cut off instead of made positive, so only one side of an edge has a weight.",
            lambda z: _scaled(_edges(z).clamp(min=0)),
        ),
        Mistake(
            "the border goes on",
            "Beyond the border the mask is continued; the paper has zeros there.",
            lambda z: _scaled(_edges(z, "replicate").abs()),
        ),
        Mistake("the mean is 1", "The weights have a mean of 1; it is 3.", lambda z: _boundary(z) / 3),
    ),
    picture=("z",),
)


def _scaled(e: Tensor) -> Tensor:
    return 3 * e / e.mean((1, 2), keepdim=True).clamp(min=1e-12)


def _of_logits(z: Tensor) -> Tensor:
    kernel = z.new_full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8.0
    return F.conv2d(z[:, None], kernel, padding=1)[:, 0].abs()


def _thresholds(scores: Tensor, labels: Tensor, images: Tensor, wanted: Tensor, grid: Tensor) -> Tensor:
    above = torch.stack([(scores[labels == c][:, None] > grid).sum(0) for c in range(len(wanted))])
    return grid[(above / images - wanted[:, None]).abs().argmin(1)]


def _detections(rng: Generator, rare: bool = False) -> dict[str, Tensor]:
    count = torch.tensor([6.0, 3.0, 0.3 if rare else 2.0])
    return {
        "scores": eighths(rng, 60),
        "labels": torch.randint(3, (60,), generator=rng),
        "images": torch.tensor(5),
        "wanted": count * torch.rand(3, generator=rng),
        "grid": torch.arange(1, 9) / 8,
    }


THRESHOLDS = Exercise(
    key="instances.thresholds",
    asks="For each class c the threshold of `grid` (ascending) for which (detections of c with score > threshold) / "
    "`images` comes nearest to `wanted`[c]; of equals the first.",
    prototype="thresholds(scores, labels, images, wanted, grid)",
    reference=_thresholds,
    cases=lambda rng: [
        Case("three classes", _detections(rng)),
        Case("one is rare", _detections(rng, rare=True)),
    ],
    mistakes=(
        Mistake(
            "all images together",
            "All detections are counted against what one image should have: divide by the number of images.",
            lambda scores, labels, images, wanted, grid: _thresholds(scores, labels, images / images, wanted, grid),
        ),
        Mistake(
            "one threshold",
            "All classes have the same threshold; a class that the network finds hard then has no object left.",
            lambda scores, labels, images, wanted, grid: _thresholds(
                scores, labels * 0, images, wanted.sum()[None], grid
            ).expand(len(wanted)),
        ),
        Mistake(
            "at least",
            "A detection whose score equals the threshold is counted; it has to be above it.",
            lambda scores, labels, images, wanted, grid: _thresholds(scores + 1e-4, labels, images, wanted, grid),
        ),
    ),
)

EXERCISES = [IOU, BOUNDARY, THRESHOLDS]
