"""A decoder whose fused map is changed before it is classified."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import make_norm
from .segnet import Features, Fused


class Mapped(nn.Module):
    """A decoder with a mapping layer between the fused map and the classifier: 1x1 convolution without bias,
    normalisation, ReLU, channel dropout (CCVC, arXiv 2303.01276).

    `fuse` answers with the mapped map, so that every user of the network sees it; the rest is the decoder's.

    Args:
        decoder: of a `SegNet`.
        dropout: rate at which channels of the mapped map are dropped.

    The normalisation is of the decoder's own kind.
    """

    def __init__(self, decoder: nn.Module, dropout: float = 0.5) -> None:
        super().__init__()
        self.decoder, width = decoder, decoder.fused_channels
        norm = "group" if any(isinstance(m, nn.GroupNorm) for m in decoder.modules()) else "batch"
        self.mapping = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False), make_norm(norm, width), nn.ReLU(), nn.Dropout2d(dropout)
        )
        self.fused_channels, self.embedding_channels = width, decoder.embedding_channels
        self.align_corners = decoder.align_corners

    def fuse(self, features: Features) -> Fused:
        """The inner decoder's fused map, mapped; its context stays."""
        fused = self.decoder.fuse(features)
        return Fused(self.mapping(fused.map), fused.context)

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Mapped map to (logits, embedding), both at its size."""
        return self.decoder.classify(map)

    def branch(self) -> nn.Module:
        """Another classifier of the same shape with weights of its own: mapped map to logits."""
        return self.decoder.branch()
