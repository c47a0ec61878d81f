"""Classes that an image is known to hold: predictions among them alone, and what tells of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import Decoded, Features, SegNet
from ...views import Views
from .precision import float32

EPS = 1e-5
STEEP = 50.0  # how far above all present classes, in logits, an absent one may be


def allowed(view: Views, classes: int, background: bool = True) -> Tensor:
    """(B, C) bool: the classes that a view's tags name.

    Args:
        background: whether class 0 is always there. All are where nothing is revealed, or an image holds no class.
    """
    tags = view.weak.new_ones(len(view), classes) if view.tags is None else view.tags
    found = tags > 0
    if background:
        found = found | (torch.arange(classes, device=found.device) == 0)
    return found | ~found.any(1, keepdim=True)


def present_in(label: Tensor, classes: int) -> Tensor:
    """(B, H, W) labels to (B, classes) float, 1 where a class is in the image; void is none."""
    index = label.flatten(1).clamp(max=classes)
    return torch.zeros(len(label), classes + 1, device=label.device).scatter_(1, index, 1.0)[:, :classes]


def within(logits: Tensor, present: Tensor) -> Tensor:
    """Logits (B, C, ...) with -inf for the classes that are not among (B, C): argmax and softmax are of the others."""
    return logits.float().masked_fill(~present.view(*present.shape, *[1] * (logits.dim() - 2)), -torch.inf)


def located(maps: Tensor, activation: float, background: bool = True) -> Tensor:
    """(B, H, W) labels by the largest of maps (B, K or C, H, W) of the classes; the background, class 0, where all are
    below `activation`. Without a background, 255 where all are 0."""
    top, label = maps.max(1)
    return (label + 1).where(top >= activation, 0) if background else label.where(top > 0, VOID)


@float32
def class_aware(logits: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) probabilities, 0 for absent classes, and logarithms (LPL, `ClassLogSoftMax`).

    With the sum over the present classes p:   q_c = exp z_c / (sum_p exp z_p + 1e-5), log(q_c + 1e-5). For an absent
    class, which is no part of the sum, the logarithm can be positive; it gets a gradient only as a label.

    Args:
        logits: (B, C, H, W). present: (B, C) bool, at least one of each image.
    """
    there = present[:, :, None, None]
    top = within(logits, present).amax(1, keepdim=True).detach()  # the release has exp z, which overflows
    e = (logits - top).clamp(max=STEEP).exp()
    q = e / ((e * there).sum(1, keepdim=True) + EPS * (-top).clamp(max=STEEP).exp())
    return q * there, (q + EPS).log()


@float32
def class_aware_map(logits: Tensor, label: Tensor, present: Tensor) -> Tensor:
    """(B, H, W) class-aware cross entropy; 0 where the label is 255."""
    known = label < logits.shape[1]
    log_p = class_aware(logits, present)[1].gather(1, label.where(known, 0)[:, None])[:, 0]
    return -log_p * known


@float32
def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Binary cross entropy of the classes of images, (B, C) logits and tags: a mean over classes and images."""
    return F.binary_cross_entropy_with_logits(logits, tags)


class Filter(nn.Module):
    """A segmentation network with the last word of what tells the classes of an image, for evaluation: image -> logits.

    The logits are the network's own, for what it is shown may be a window of an image; see `finish`.

    Args:
        net: the network. allowed: image (B, 3, H, W) -> (B, C) bool, the classes that may be in it.
        classifier: what `allowed` asks beside the network, so that both are in the same mode.
    """

    def __init__(self, net: SegNet, allowed: Callable[[Tensor], Tensor], classifier: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.allowed, self.classifier = net, allowed, classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)

    def encode(self, image: Tensor) -> Features:
        """By the network, see `SegNet.encode`."""
        return self.net.encode(image)

    def decode(self, features: Features) -> Decoded:
        """By the network, see `SegNet.decode`; no class is forbidden here."""
        return self.net.decode(features)

    def finish(self, image: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, C, H, W) of whole images, -inf for the classes that are forbidden in them."""
        return within(scores, self.allowed(image))
