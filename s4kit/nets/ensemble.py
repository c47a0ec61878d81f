"""Several networks that answer as one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import S4Error

COMBINE = ("logits", "vote", "confident")


class Ensemble(nn.Module):
    """Networks that answer as one, (B, 3, H, W) to (B, C, H, W).

    Args:
        nets: the networks.
        combine: "logits", the mean of the logits; "vote", the mean of the probabilities (soft voting); "confident", for
            each class the probability of the network that gives it most. The latter two answer with logarithms, so
            that the largest one is the prediction as for logits.

    Raises:
        S4Error: unknown `combine`.
    """

    def __init__(self, *nets: nn.Module, combine: str = "logits") -> None:
        super().__init__()
        if combine not in COMBINE:
            raise S4Error(f"combine={combine!r}: choose one of {', '.join(COMBINE)}.")
        self.nets, self.combine = nn.ModuleList(nets), combine

    def forward(self, image: Tensor) -> Tensor:
        answers = [net(image) for net in self.nets]
        if self.combine == "logits":
            return sum(answers) / len(answers)
        log_p = torch.stack([answer.float().log_softmax(1) for answer in answers])
        if self.combine == "vote":
            return log_p.logsumexp(0) - math.log(len(answers))
        return log_p.amax(0)
