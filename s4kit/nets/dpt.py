"""The DPT decoder (Ranftl et al., ICCV 2021, arXiv 2103.13413), as UniMatch V2 puts it on DINOv2 encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error
from .layers import fresh
from .segnet import Features, Fused, SegNet, resize
from .vit import ViT


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class Fusion(nn.Module):
    """A RefineNet block: what comes from below plus the level's own map, refined, enlarged, mixed by a 1x1.

    Args:
        channels: of all maps. joins: whether there is something from below.
    """

    def __init__(self, channels: int, joins: bool = True) -> None:
        super().__init__()
        self.own = ResidualUnit(channels) if joins else None  # the deepest level joins nothing
        self.refine, self.out = ResidualUnit(channels), nn.Conv2d(channels, channels, 1)

    def forward(self, level: Tensor, below: Tensor | None, size: Sequence[int]) -> Tensor:
        joined = level if self.own is None else below + self.own(level)
        return self.out(resize(self.refine(joined), size, align_corners=True))


class DPT(nn.Module):
    """The decoder: four levels of one stride are brought to strides of 1/4, 1/2, 1 and 2 of it and fused upwards.

    `fuse` ends at 1/8 of the encoder's stride (8 x 37 cells for 518 pixels), `classify` in logits. No batch norm.

    Args:
        inputs: width of the tokens.
        classes: number of classes K.
        widths: channels of the four levels after their projection.
        decoder_channels: channels of all fused maps.

    Raises:
        S4Error: not four `widths`.
    """

    align_corners = True
    classifies = ("convs", "classifier")

    def __init__(self, inputs: int, classes: int, widths: Sequence[int], decoder_channels: int) -> None:
        super().__init__()
        if len(widths) != 4:
            raise S4Error(f"widths={tuple(widths)}: DPT has four levels, give four numbers.")
        self.fused_channels = self.embedding_channels = decoder_channels
        self.project = nn.ModuleList(nn.Conv2d(inputs, width, 1) for width in widths)
        self.assemble = nn.ModuleList(
            [
                nn.ConvTranspose2d(widths[0], widths[0], 4, stride=4),
                nn.ConvTranspose2d(widths[1], widths[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(widths[3], widths[3], 3, stride=2, padding=1),
            ]
        )
        self.reduce = nn.ModuleList(nn.Conv2d(width, decoder_channels, 3, padding=1, bias=False) for width in widths)
        self.fusions = nn.ModuleList(Fusion(decoder_channels, joins=i < 3) for i in range(4))
        self.convs = nn.Sequential(nn.Conv2d(decoder_channels, decoder_channels, 3, padding=1), nn.ReLU())
        self.classifier = nn.Conv2d(decoder_channels, classes, 1)

    def fuse(self, features: Features) -> Fused:
        """The fused map of four levels.

        Raises:
            S4Error: there are not four.
        """
        if len(features.levels) != 4:
            raise S4Error(
                f"The DPT decoder reads four levels and got {len(features.levels)}: this method is written for "
                "DeepLabV3+. Take a convolutional network."
            )
        stages = zip(self.project, self.assemble, self.reduce)
        maps = [reduce(assemble(project(x))) for x, (project, assemble, reduce) in zip(features.levels, stages)]
        first = maps[0].shape[-2:]
        sizes = [(2 * first[0], 2 * first[1]), *(m.shape[-2:] for m in maps[:-1])]
        path, paths = None, []
        for level, fusion, size in reversed(list(zip(maps, self.fusions, sizes))):
            path = fusion(level, path, size)
            paths.append(path)
        return Fused(path, paths[0])

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Fused map to (logits, embedding), both at its size."""
        embedding = self.convs(map)
        return self.classifier(embedding), embedding

    def branch(self) -> nn.Module:
        """Another classifier of the same shape with weights of its own: fused map to logits."""
        return fresh(nn.Sequential(self.convs, self.classifier))


def dpt(backbone: ViT, classes: int, widths: Sequence[int], decoder_channels: int) -> SegNet:
    """A `SegNet` of a `ViT` and a `DPT` decoder with these options."""
    return SegNet(backbone, DPT(backbone.channels[-1], classes, widths, decoder_channels), classes)
