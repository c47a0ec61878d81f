"""Self-attention Grad-CAM: where in an image the classes are that a classifier of whole images finds in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .segnet import resize


class Shift(nn.BatchNorm2d):
    """Batch norm that learns a shift, but no scale."""

    def __init__(self, channels: int, eps: float = 1e-3) -> None:
        super().__init__(channels, eps=eps, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift.view(1, -1, 1, 1)


def grad_cam(high: Tensor, weight: Tensor, present: Tensor) -> Tensor:
    """Class activation maps of a linear classifier of the average of `high`.

    The gradient of such a classifier is its weight, the same at all places, so that Grad-CAM (Selvaraju et al., ICCV
    2017) needs no backward pass.

    Args:
        high: (B, F, h, w). weight: (K, F) of the classifier. present: (B, K), 1 = the class is in the image.

    Returns:
        (B, K, h, w) in [0, 1], the largest value of each map that is not empty is 1; without gradient.
    """
    maps = torch.einsum("bfhw,kf->bkhw", high.detach().float(), weight.detach().float()).relu()
    maps = maps * present[:, :, None, None]
    top = maps.amax((2, 3), keepdim=True)
    return maps / torch.where(top > 0, top, 1.0)


class AttentionCam(nn.Module):
    """Activation maps that are carried to places that look alike, as logits of all classes (PseudoSeg,
    arXiv 2010.09713; `core/train_utils_core.py`, `compute_self_att_v2`).

    Args:
        inputs: channels of `features.high` and `features.mid` together.
        classes: logits to give, K. background: class 0 is what no map claims; there are K - 1 maps.
        dim: of keys and queries.
    """

    def __init__(self, inputs: int, classes: int, background: bool = True, dim: int = 128) -> None:
        super().__init__()
        self.background = background
        self.key, self.query = (nn.Conv2d(inputs, dim, 1, bias=False) for _ in range(2))
        self.mix, self.norm = nn.Conv2d(classes, classes, 1, bias=False), Shift(classes)

    def complete(self, maps: Tensor, whole: float) -> Tensor:
        """Maps (B, C - 1, h, w) with the background in front, `whole` less the largest of them: (B, C, h, w)."""
        return torch.cat([whole - maps.amax(1, keepdim=True), maps], 1) if self.background else maps

    def forward(self, high: Tensor, mid: Tensor, maps: Tensor, valid: Tensor) -> Tensor:
        """Logits (B, K, h, w).

        Args:
            high: (B, F, h, w). mid: (B, G, h', w'). maps: (B, K - 1 or K, h, w) of `grad_cam`.
            valid: (B, h, w) bool; padding neither looks nor is looked at.
        """
        column = torch.cat([high, resize(mid, high.shape[-2:], align_corners=True)], 1).detach()
        key, query = self.key(column).flatten(2).float(), self.query(column).flatten(2).float()
        seen = valid.flatten(1)
        score = query.mT @ key / key.shape[1] ** 0.5
        score = torch.where(seen[:, :, None] & seen[:, None, :], score, -1e9)
        carried = (score.softmax(2) @ maps.flatten(2).mT).mT.reshape(maps.shape)
        return self.norm(self.mix(self.complete(carried + maps, 2.0))).float()
