"""The network type that every method speaks: encode -> fuse -> classify, each step callable by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error
from .modes import set_training


class Features(NamedTuple):
    """What the encoder hands to the decoder.

    Attributes:
        levels: maps (B, C_i, H/s_i, W/s_i) from fine to coarse; the first has stride 4, the last the output stride (all
            have that of the patch in a vision transformer).
        extra: further tensors with the batch as first dimension, such as "attention"; usually empty.
    """

    levels: tuple[Tensor, ...]
    extra: dict[str, Tensor] = {}  # noqa: RUF012 (never written to)

    @property
    def low(self) -> Tensor:
        """(B, D, H/4, W/4), the map that the decoder reads."""
        return self.levels[0]

    @property
    def mid(self) -> Tensor:
        """(B, D, h, w), the level before the last: where an auxiliary head sits (layer3 of a ResNet)."""
        return self.levels[-2]

    @property
    def high(self) -> Tensor:
        """(B, D, h, w), the coarsest map, the input of the ASPP."""
        return self.levels[-1]

    @property
    def ends(self) -> Features:
        """`low` and `high` alone, all that DeepLabV3+ decodes: joining copies of these spares the levels between."""
        return Features((self.low, self.high), self.extra)

    def map(self, fn: Callable[[Tensor], Tensor]) -> Features:
        """`fn` applied to every level; `extra` is kept."""
        return Features(tuple(fn(x) for x in self.levels), self.extra)

    def rows(self, index: Any) -> Features:
        """The images `index` (slice, long or bool tensor) of every level and of `extra`."""
        return Features(tuple(x[index] for x in self.levels), {k: v[index] for k, v in self.extra.items()})

    def split(self, *sizes: int) -> list[Features]:
        """The batch cut into parts of the given sizes."""
        extra = {k: v.split(sizes) for k, v in self.extra.items()}
        levels = zip(*(x.split(sizes) for x in self.levels))
        return [Features(level, {k: v[i] for k, v in extra.items()}) for i, level in enumerate(levels)]

    @staticmethod
    def cat(parts: Sequence[Features]) -> Features:
        """Several features behind each other in one batch."""
        levels = tuple(torch.cat(level) for level in zip(*(p.levels for p in parts)))
        return Features(levels, {k: torch.cat([p.extra[k] for p in parts]) for k in parts[0].extra})


class Fused(NamedTuple):
    """`map`: (B, F, H/4, W/4), what enters the classifier's convolutions (304 channels in DeepLabV3+);
    `context`: the ASPP output alone, at the output stride."""

    map: Tensor
    context: Tensor


class Decoded:
    """A decoder's answer.

    Logits are enlarged when they are first asked for: what is cut off before and wanted by nobody costs nothing, and
    the gradients of parts go back to the small maps one by one.

    Args:
        scores: (B, K, h, w), what `enlarge` makes the logits of; they themselves where it is None.

    Attributes:
        embedding: (B, D, H/4, W/4), the map before the last 1x1 convolution (256 channels in DeepLabV3+).
        fused: (B, F, H/4, W/4), the map before the classifier's convolutions.
    """

    def __init__(
        self, scores: Tensor, embedding: Tensor, fused: Tensor, enlarge: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.scores, self.embedding, self.fused, self.enlarge = scores, embedding, fused, enlarge

    @cached_property
    def logits(self) -> Tensor:
        """(B, K, h, w) float32, at the size asked for (stride 4 when none was)."""
        return self.enlarge(self.scores) if self.enlarge else self.scores

    def rows(self, index: Any) -> Decoded:
        """The images `index` of every field."""
        return Decoded(self.scores[index], self.embedding[index], self.fused[index], self.enlarge)

    def split(self, *sizes: int) -> list[Decoded]:
        """The batch cut into parts of the given sizes."""
        parts = zip(*(map.split(sizes) for map in (self.scores, self.embedding, self.fused)))
        return [Decoded(*part, self.enlarge) for part in parts]


class SegNet(nn.Module):
    """A backbone and a decoder, cut where semi-supervised methods cut.

    Args:
        backbone: module with `mean`, `std` (per input channel, of images in [0, 1]) and
            `forward(x, levels=(), after=None) -> tuple of levels`, which resumes after the levels given and changes
            every level by `after`.
        decoder: module with `fuse(features) -> Fused`, `classify(map) -> (logits, embedding)`, `branch() -> module`
            (a new classifier of the same shape, for auxiliary decoders), `classifies` (names of its children that
            `classify` is made of), `align_corners` and `fused_channels`.
        aux: module from `features.mid` to logits, or None.
        classes: number of classes K.

    Attributes:
        heads: empty; a method fills it with extra heads (projections) and calls them itself, so that the EMA,
            the optimiser and the checkpoint follow without a word.
    """

    def __init__(self, backbone: nn.Module, decoder: nn.Module, classes: int, aux: nn.Module | None = None):
        super().__init__()
        self.backbone, self.decoder, self.aux, self.classes = backbone, decoder, aux, classes
        self.heads = nn.ModuleDict()
        # Constants of the weights, not state: kept out of checkpoints.
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to what the backbone's weights expect. `encode` does this, and nothing else may."""
        return (image - self.mean) / self.std

    def encode(
        self,
        image: Tensor,
        start: Features | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
        attention: bool = False,
    ) -> Features:
        """Features of an image (B, C, H, W) in [0, 1]; with `start`, only the levels after those of `start`; with
        `after`, a perturbation behind every stage; with `attention`, `extra["attention"]`, the (B, heads, N, N)
        products before the softmax of the last block, of encoders that have `heads`."""
        if attention:
            levels, products = self.backbone.attend(self.normalise(image))
            return Features(levels, {"attention": products})
        if start is None:
            return Features(self.backbone(self.normalise(image), after=after))
        return Features(self.backbone(None, start.levels, after), start.extra)

    def fuse(self, features: Features) -> Fused:
        """Context and low-level features joined at stride 4."""
        return self.decoder.fuse(features)

    def classify(self, map: Tensor, size: Sequence[int] | None = None) -> Decoded:
        """Logits of a fused map, in float32, upsampled to `size` (H, W) if given."""
        logits, embedding = self.decoder.classify(map)
        return Decoded(logits, embedding, map, lambda scores: self.enlarge(scores, size))

    def decode(self, features: Features, size: Sequence[int] | None = None) -> Decoded:
        """`classify(fuse(features).map, size)`."""
        return self.classify(self.fuse(features).map, size)

    def branch(self, name: str, map: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """(B, K, h, w) float32 logits of a fused map by `heads[name]`, a further classifier (`decoder.branch()`),
        enlarged to `size` (H, W) where that is given."""
        return self.enlarge(self.heads[name](map), size)

    def auxiliary(self, features: Features, size: Sequence[int] | None = None) -> Tensor:
        """(B, K, h, w) float32 logits of the auxiliary head on `features.mid` (net option `aux=True`).

        Raises:
            S4Error: it was built without one.
        """
        if self.aux is None:
            raise S4Error("This network has no auxiliary head; build it with aux=True.")
        return self.enlarge(self.aux(features.mid), size)

    def joint(self, *images: Tensor) -> list[Decoded]:
        """One forward of several batches of equal H and W as one BN batch; their parts, logits at image size."""
        both = self.decoded(torch.cat(images))
        return both.split(*(len(image) for image in images))

    def decoded(self, image: Tensor) -> Decoded:
        """All that the decoder makes of (B, C, H, W) in [0, 1], logits at the image's size."""
        return self.decode(self.encode(image), image.shape[-2:])

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, K, H, W) float32 logits."""
        return self.decoded(image).logits

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters as "backbone" (pretrained) and "head" (new: decoder, auxiliary head, `heads`)."""
        backbone = list(self.backbone.parameters())
        inside = {id(p) for p in backbone}
        return {"backbone": backbone, "head": [p for p in self.parameters() if id(p) not in inside]}

    def train(self, mode: bool = True) -> SegNet:
        """Train or eval mode; frozen batch norms stay in eval mode."""
        return set_training(self, mode)

    def enlarge(self, logits: Tensor, size: Sequence[int] | None) -> Tensor:
        """(B, K, h, w) logits in float32, upsampled to `size` (H, W) if given."""
        # Before the interpolation float32, since under autocast softmax and thresholds need the bits; and in memory
        # class by class, since every softmax over the classes of a large map would first make itself such a copy.
        logits = logits.float().contiguous()
        return logits if size is None else resize(logits, size, self.decoder.align_corners)


def resize(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Bilinear resize of (B, C, h, w) to `size` (H, W)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)
