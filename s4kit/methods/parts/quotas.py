"""Class-wise confidence thresholds of a whole image list: so many pixels of each class are kept (DARS).

Confidences are half precision numbers, of which [0, 1] has few enough to count each one: so the ranks are exact, for
any number of images, from one small table per class; and the ties near 1 that half precision makes can be seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...data.task import VOID
from .precision import float32

BINS = 0x3C00 + 1  # half precision numbers in [0, 1]: their bits, read as integers, rise with them


@float32
def confident(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Most likely class (B, H, W) of logits (B, C, H, W), and its probability in half precision."""
    confidence, label = scores.half().softmax(1).max(1)
    return label, confidence


def tally(label: Tensor, confidence: Tensor, classes: int) -> Tensor:
    """(C, `BINS`) long: how many pixels of each class have each confidence. label, confidence: of one shape."""
    bins = confidence.half().view(torch.int16).long().clamp(0, BINS - 1)
    places = (label * BINS + bins).flatten()
    return torch.bincount(places, minlength=classes * BINS).view(classes, BINS)


def quotas(share: float, prior: Tensor, pixels: int) -> Tensor:
    """(C,) long: how many of so many pixels each class may keep.

    Args:
        share: of all pixels. prior: (C,) share of each class, adding up to 1.
    """
    return (share * prior.double() * pixels).long()


def thresholds(counts: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The confidence that the wanted number of pixels of each class reach, and the share of these that is kept.

    A class with fewer pixels than wanted keeps all; so does one of which none is wanted, as the release has it: then
    the share is 0. A class without a pixel has threshold 1.

    Args:
        counts: (C, `BINS`) of `tally`. wanted: (C,) long.

    Returns:
        (C,) float32 thresholds and (C,) float64 shares in [0, 1]; below 1 where several pixels are equally sure.
    """
    reached = counts.flip(1).cumsum(1).flip(1)  # pixels at least as sure
    total = reached[:, 0]
    rank = torch.where((wanted == 0) | (wanted > total), total, wanted).clamp(min=1)
    bins = (reached >= rank[:, None]).sum(1).clamp(min=1) - 1  # the surest bin that so many reach
    bins = torch.where(total > 0, bins, BINS - 1)
    kept = reached.gather(1, bins[:, None])[:, 0].clamp(min=1)
    level = bins.to(torch.int16).view(torch.float16).float()
    return level, (wanted.double() / kept).clamp(max=1.0)


def above(label: Tensor, confidence: Tensor, threshold: Tensor) -> Tensor:
    """(B, H, W) bool: where a pixel reaches the threshold (C,) of its class."""
    return confidence.float() >= threshold[label]


def thinned(label: Tensor, share: Tensor) -> Tensor:
    """Drop pixels of a label map (H, W) at random until of n of a class n - int(n - n share) are left; 255 = dropped.

    Reads the device: a part for passes over whole images, not for steps.

    Args:
        share: (C,) float64.
    """
    found = label.flatten().clone()
    for c in range(len(share)):
        (places,) = (found == c).nonzero(as_tuple=True)
        amount = int(len(places) - len(places) * float(share[c]))
        found[places[torch.randperm(len(places), device=label.device)[:amount]]] = VOID
    return found.view_as(label)
