"""A classifier of whole images: which classes are in them, and where it looks for each."""

from __future__ import annotations

from torch import Tensor, nn

from .segnet import SegNet


class Tagger(nn.Module):
    """A backbone, the average of its coarsest map, and a linear layer.

    Args:
        net: whose backbone it takes, see `make`; the decoder is left.
        tags: number of classes to tell. bias: of the linear layer.
    """

    def __init__(self, net: SegNet, tags: int, bias: bool = True) -> None:
        super().__init__()
        self.backbone, self.last = net.backbone, nn.Conv2d(net.backbone.channels[-1], tags, 1, bias=bias)
        self.register_buffer("mean", net.mean, persistent=False)
        self.register_buffer("std", net.std, persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] less the mean and over the deviation of each channel, as of a `SegNet`."""
        return (image - self.mean) / self.std

    def features(self, normalised: Tensor) -> Tensor:
        """(B, F, h, w), the coarsest map of images that are normalised."""
        return self.backbone(normalised)[-1]

    def encode(self, image: Tensor) -> Tensor:
        """(B, F, h, w), the coarsest map of images in [0, 1]."""
        return self.features(self.normalise(image))

    def forward(self, image: Tensor) -> Tensor:
        """(B, tags) float32 logits."""
        return self.last(self.encode(image).mean((2, 3), keepdim=True)).flatten(1).float()

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """As of a `SegNet`."""
        return {"backbone": list(self.backbone.parameters()), "head": list(self.last.parameters())}
