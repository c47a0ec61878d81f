"""SegFormer (Xie et al., NeurIPS 2021, arXiv 2105.15203): Mix Transformer encoders, a decoder of linear layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import S4Error
from .layers import conv_block, fresh, make_dropout
from .segnet import Features, Fused, SegNet, resize
from .stages import Backbone, cycled
from .weights import fill, read_state

PUBLISHED = tuple(f"mit_b{size}" for size in range(6))


def mit(
    name: str,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    mean: Sequence[float],
    std: Sequence[float],
    heads: tuple[int, ...] = (1, 2, 5, 8),
) -> Callable[..., Backbone]:
    """A builder of a Mix Transformer, of timm's blocks: it is a PVT v2 with other heads and the same MLP ratio in all
    stages (their authors overlap, their weight files name the tensors alike).

    Args:
        name: of the published file of weights.
        widths, depths, heads: channels, blocks and attention heads of the stages, of strides 4, 8, 16 and 32.
        mean, std: what images in [0, 1] are normalised by.
    """

    def build(in_channels: int, weights: str = "auto", drop_path: float = 0.1) -> Backbone:
        from timm.models.pvt_v2 import PyramidVisionTransformerV2, checkpoint_filter_fn

        net = PyramidVisionTransformerV2(
            in_chans=in_channels,
            num_classes=0,
            depths=depths,
            embed_dims=widths,
            num_heads=heads,
            mlp_ratios=(4, 4, 4, 4),
            drop_path_rate=drop_path,
        )
        if weights != "none" and (name in PUBLISHED or weights != "auto"):
            path = _file(name) if weights in ("auto", "imagenet") else Path(weights).expanduser()
            fill(net, checkpoint_filter_fn(read_state(path), net), str(path))
        first, *rest = net.stages
        return Backbone([nn.Sequential(net.patch_embed, first), *rest], widths, *cycled(mean, std, in_channels))

    return build


def _file(name: str) -> Path:
    """Where torch keeps downloaded weights, if the published ones are there."""
    if name not in PUBLISHED:
        raise S4Error(f"{name} has no pretrained weights: weights should be 'none'.")
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}.pth"
    if not path.is_file():
        raise S4Error(
            f"The ImageNet weights of {name} are not on this machine, and the kit does not download them: "
            f"NVlabs/SegFormer publishes them for non-commercial use, as {path.name}. Put that file into "
            f"{path.parent}, or pass it as weights=FILE, or train from scratch with weights='none'."
        )
    return path


class SegFormerDecoder(nn.Module):
    """The decoder: every level through a linear layer of its own, enlarged to stride 4 and joined; one more linear
    layer with normalisation and ReLU, channel dropout, the classifier.

    Args:
        channels: of the levels, from fine to coarse.
        classes: number of classes K.
        decoder_channels: width of all linear layers, hence of `Decoded.embedding`; 768 for MiT-B2 and larger.
        dropout: rate at which channels are dropped before the classifier; the embedding does not see it.
        norm: "batch" or "group".
    """

    align_corners = False
    classifies = ("join", "classifier")

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        decoder_channels: int = 256,
        dropout: float = 0.1,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.fused_channels, self.embedding_channels = len(channels) * decoder_channels, decoder_channels
        self.project = nn.ModuleList(nn.Conv2d(c, decoder_channels, 1) for c in channels)
        self.join = conv_block(self.fused_channels, decoder_channels, 1, norm=norm)
        last = nn.Conv2d(decoder_channels, classes, 1)
        self.classifier = nn.Sequential(make_dropout("channel", dropout), last) if dropout else last

    def fuse(self, features: Features) -> Fused:
        """All levels behind each other, the coarsest first; the context is the coarsest at its own stride.

        Raises:
            S4Error: there are not as many as the encoder has.
        """
        if len(features.levels) != len(self.project):
            raise S4Error(
                f"The SegFormer decoder reads {len(self.project)} levels and got {len(features.levels)}: this method "
                "is written for DeepLabV3+. Take a convolutional network."
            )
        maps = [project(x) for project, x in zip(self.project, features.levels)]
        size = maps[0].shape[-2:]
        return Fused(torch.cat([resize(x, size, self.align_corners) for x in reversed(maps)], 1), maps[-1])

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Fused map to (logits, embedding), both at its size."""
        embedding = self.join(map)
        return self.classifier(embedding), embedding

    def branch(self) -> nn.Module:
        """Another classifier of the same shape with weights of its own: fused map to logits."""
        return fresh(nn.Sequential(self.join, self.classifier))


def segformer(backbone: Backbone, classes: int, **options) -> SegNet:
    """A `SegNet` of a Mix Transformer and a `SegFormerDecoder` with these options."""
    return SegNet(backbone, SegFormerDecoder(backbone.channels, classes, **options), classes)
