"""The lesson on weak labels: activation maps, a step of AdvCAM's climb, SLRNet's choice of pixels."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import eighths

BADLY = torch.tensor([1.0, 0.25, 1.0])[:, None, None]


def _looked_at(rng: Generator) -> dict[str, Tensor]:
    """Features of an image, a classifier of three tags, two of which the image has; the third one it sees as well."""
    features, weight = torch.randn(5, 6, 6, generator=rng), torch.randn(3, 5, generator=rng)
    return {"features": features, "weight": weight, "tags": torch.tensor([1.0, 0.0, 1.0])}


def _maps(features: Tensor, weight: Tensor, tags: Tensor) -> Tensor:
    return torch.einsum("dhw,kd->khw", features, weight).relu() * tags[:, None, None]


def _largest(maps: Tensor) -> Tensor:
    top = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(top > 0, top, 1.0)


def _cam(features: Tensor, weight: Tensor, tags: Tensor) -> Tensor:
    return _largest(_maps(features, weight, tags))


CAM = Exercise(
    key="weak.cam",
    asks="The activation maps (K, h, w) of features (D, h, w) and a linear classifier (K, D): what the classifier says "
    "at each place, its positive part, for the tags (K,) of the image alone, each map divided by its largest value. A "
    "map that is 0 stays 0.",
    prototype="cam(features, weight, tags)",
    reference=_cam,
    cases=lambda rng: [
        Case("the image has two of three tags", _looked_at(rng)),
        Case("a tag is seen nowhere", {**(of := _looked_at(rng)), "features": -of["features"].abs(),
                                       "weight": of["weight"].abs()}, edge=True),
    ],
    mistakes=(
        Mistake(
            "absent tags too",
            "A class that the image does not have gets a map, too: the tags are not used.",
            lambda features, weight, tags: _cam(features, weight, torch.ones_like(tags)),
        ),
        Mistake(
            "negative part kept",
            "Where the classifier speaks against a class the map is negative; it should be 0 there.",
            lambda features, weight, tags: (
                (maps := torch.einsum("dhw,kd->khw", features, weight) * tags[:, None, None])
                / maps.amax((1, 2), keepdim=True).clamp(min=1e-6)
            ),
        ),
        Mistake(
            "one largest value for all",
            "All maps are divided by the largest value of all of them; each has its own.",
            lambda features, weight, tags: (
                (maps := _maps(features, weight, tags)) / maps.amax().clamp(min=1e-6)
            ),
        ),
        Mistake(
            "no guard",
            "A map that is 0 everywhere is divided by 0.",
            lambda features, weight, tags: (
                (maps := _maps(features, weight, tags)) / maps.amax((1, 2), keepdim=True)
            ),
        ),
    ),
)  # fmt: skip


def _image(rng: Generator) -> dict[str, Tensor]:
    """A normalised image, the gradient of a score, a step that leaves its range."""
    image, upward = torch.randn(3, 6, 6, generator=rng), torch.randn(3, 6, 6, generator=rng)
    return {"image": image, "upward": 0.01 * upward, "size": torch.tensor(0.5)}


def _climb(image: Tensor, upward: Tensor, size: Tensor) -> Tensor:
    steepest = upward.abs().max().clamp(min=1e-12)
    return (image + size * upward / steepest).clamp(image.min(), image.max())


CLIMB = Exercise(
    key="weak.climb",
    asks="AdvCAM: the image (3, H, W) one step upward along a gradient, so long that the pixel with the largest one "
    "moves by `size`; what leaves the range of the values of the image is set to its end.",
    prototype="climb(image, upward, size)",
    reference=_climb,
    cases=lambda rng: [
        Case("a small step", {**_image(rng), "size": torch.tensor(0.01)}),
        Case("a step that leaves the range", _image(rng)),
        Case("the gradient is 0", {**(of := _image(rng)), "upward": torch.zeros_like(of["upward"])}, edge=True),
    ],
    mistakes=(
        Mistake(
            "downward",
            "The image moves against the gradient: the class is seen less and less.",
            lambda image, upward, size: _climb(image, -upward, size),
        ),
        Mistake(
            "the sign alone",
            "All pixels move by `size`; how steep it is at a pixel counts here.",
            lambda image, upward, size: (image + size * upward.sign()).clamp(image.min(), image.max()),
        ),
        Mistake(
            "any range",
            "Pixels leave the range of the image; no picture looks like this.",
            lambda image, upward, size: image + size * upward / upward.abs().max().clamp(min=1e-12),
        ),
        Mistake(
            "between 0 and 1",
            "The image is normalised: its values do not lie between 0 and 1.",
            lambda image, upward, size: (image + size * upward / upward.abs().max().clamp(min=1e-12)).clamp(0, 1),
        ),
        Mistake(
            "as long as the gradient",
            "The step is as long as the gradient says; it should not depend on the scale of the score.",
            lambda image, upward, size: (image + size * upward).clamp(image.min(), image.max()),
        ),
        Mistake(
            "no guard",
            "Where the gradient is 0 everywhere this is 0/0.",
            lambda image, upward, size: (image + size * upward / upward.abs().max()).clamp(image.min(), image.max()),
        ),
    ),
)


def _masks(rng: Generator, peak: float = 1.0) -> dict[str, Tensor]:
    """Masks of three classes in eighths, some above and some just at the thresholds."""
    return {"mask": peak * eighths(rng, 3, 6, 6), "share": torch.tensor(0.5), "low": torch.tensor(0.25)}


def _claims(mask: Tensor, share: Tensor, low: Tensor) -> Tensor:
    level = torch.maximum(share * mask.amax((1, 2), keepdim=True), low)
    claimed = mask > level
    return claimed & (claimed.sum(0) == 1)


CLAIMS = Exercise(
    key="weak.claims",
    asks="SLRNet: which pixels get which class, (K, H, W) bool. A class claims those where its mask (K, H, W) is above "
    "both `share` of its own largest value and `low`; what several classes claim, none gets.",
    prototype="claims(mask, share, low)",
    reference=_claims,
    cases=lambda rng: [
        Case("all classes are seen well", _masks(rng)),
        Case("one class is seen badly", {**(of := _masks(rng)), "mask": of["mask"] * BADLY}),
        Case("no class is seen", _masks(rng, peak=0.125), edge=True),
    ],
    mistakes=(
        Mistake(
            "several classes",
            "Some pixels get several classes; what several claim, none gets.",
            lambda mask, share, low: mask > torch.maximum(share * mask.amax((1, 2), keepdim=True), low),
        ),
        Mistake(
            "one largest value for all",
            "The threshold follows the largest value of all masks; a class that is seen badly gets nothing.",
            lambda mask, share, low: (
                (claimed := mask > torch.maximum(share * mask.amax(), low)) & (claimed.sum(0) == 1)
            ),
        ),
        Mistake(
            "never too low",
            "A class that is seen nowhere claims its noise: `low` is not used.",
            lambda mask, share, low: _claims(mask, share, torch.zeros_like(low)),
        ),
        Mistake(
            "the likeliest wins",
            "Where several classes claim a pixel the likeliest gets it; none should.",
            lambda mask, share, low: (
                (mask > torch.maximum(share * mask.amax((1, 2), keepdim=True), low))
                & (torch.arange(len(mask))[:, None, None] == mask.argmax(0))
            ),
        ),
    ),
    picture=("mask",),
)  # fmt: skip

EXERCISES = [CAM, CLIMB, CLAIMS]
