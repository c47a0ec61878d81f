"""A backbone as a list of stages, each one the input of the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import S4Error


class Backbone(nn.Module):
    """Stages from fine to coarse.

    Args:
        stages: modules; the first maps an image to stride 4, each later one reads the level before it.
        channels: output channels of each stage.
        mean, std: what images in [0, 1] are normalised by, one value per input channel.
        freeze_bn: what batch norms keep of the pretrained weights: True for statistics and affine parameters, or one of
            them: "statistics", "affine".
        bn_momentum: share of a batch in the running statistics, instead of the network's own (0.1).

    Raises:
        S4Error: no such `freeze_bn`.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        freeze_bn: bool | str = False,
        bn_momentum: float | None = None,
    ):
        super().__init__()
        if freeze_bn not in (False, True, "statistics", "affine"):
            raise S4Error(f"freeze_bn={freeze_bn!r}: choose True, False, 'statistics' or 'affine'.")
        self.stages, self.channels = nn.ModuleList(stages), tuple(channels)
        self.mean, self.std = tuple(mean), tuple(std)
        for m in (m for m in self.modules() if isinstance(m, _BatchNorm)):
            if bn_momentum is not None:
                m.momentum = bn_momentum
            if freeze_bn in (True, "affine"):
                m.requires_grad_(False)
            if freeze_bn in (True, "statistics"):
                m.own_mode = True  # see modes.set_training
                m.eval()

    def parts(self) -> list[nn.Module]:
        """What is called as a whole, see `compiled`."""
        return list(self.stages)

    def forward(
        self,
        x: Tensor | None,
        levels: tuple[Tensor, ...] = (),
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """All levels, (B, D, h, w) each, of a normalised image (B, C, H, W); with `levels`, the image is not read and
        only those after are computed.

        `after` changes each level that is computed, and the next stage reads what it gives.
        """
        for stage in self.stages[len(levels) :]:
            x = stage(levels[-1] if levels else x)
            levels = (*levels, after(x) if after else x)
        return levels


def cycled(mean: Sequence[float], std: Sequence[float], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std for any number of input channels, RGB's repeated in turn (as the first weights are)."""
    return tuple(mean[i % len(mean)] for i in range(channels)), tuple(std[i % len(std)] for i in range(channels))
