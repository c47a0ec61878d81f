"""DeepLabV3+ (Chen et al., ECCV 2018, arXiv 1802.02611) with the options in which the papers differ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error
from .layers import conv_block, fresh, make_dropout, make_norm
from .segnet import Features, Fused, SegNet, resize


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1, one dilated 3x3 per rate and an image pooling branch, concatenated and
    projected, each with its own normalisation and ReLU (DeepLabV3, arXiv 1706.05587, as in torchvision and UniMatch).

    Maps (B, inputs, h, w) to (B, channels, h, w), `width` channels without the projection (a `kernel` of 0).
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        rates: Sequence[int],
        norm: str = "batch",
        kernel: int = 1,
        dropout: float = 0.0,
        dropout_kind: str = "channel",
    ):
        super().__init__()
        self.branches = nn.ModuleList([conv_block(inputs, channels, 1, norm=norm)])
        self.branches.extend(conv_block(inputs, channels, 3, rate, norm=norm) for rate in rates)
        self.pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inputs, channels, 1, bias=False),
            make_norm(norm, channels, pooled=True),
            nn.ReLU(inplace=True),
        )
        self.width, options = (len(rates) + 2) * channels, {"dropout": dropout, "dropout_kind": dropout_kind}
        self.project = conv_block(self.width, channels, kernel, norm=norm, **options) if kernel else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]
        return self.project(torch.cat([*maps, spread(self.pool(x), maps[0])], 1))


def spread(pooled: Tensor, like: Tensor) -> Tensor:
    """(B, C, 1, 1) on every pixel of `like`, in its memory format: after a plain expand `cat` leaves channels_last."""
    nhwc = like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if nhwc else torch.contiguous_format
    return pooled.expand(-1, -1, *like.shape[-2:]).contiguous(memory_format=layout)


class CPSASPP(nn.Module):
    """The ASPP of CPS (TorchSemiSeg, `exp.voc/*.CPS/network.py`): the four branches share one batch norm behind their
    concatenation, the pooled branch is added instead of concatenated, and the activation is LeakyReLU(0.01).

    Maps (B, inputs, h, w) to (B, channels, h, w); `hidden` channels per branch (default: `channels`).
    """

    def __init__(
        self, inputs: int, channels: int, rates: Sequence[int], norm: str = "batch", hidden: int | None = None
    ):
        super().__init__()
        hidden = hidden or channels
        self.map_convs = nn.ModuleList([nn.Conv2d(inputs, hidden, 1, bias=False)])
        self.map_convs.extend(nn.Conv2d(inputs, hidden, 3, padding=r, dilation=r, bias=False) for r in rates)
        width = hidden * len(self.map_convs)
        self.map_bn = make_norm(norm, width)
        self.red_conv = nn.Conv2d(width, channels, 1, bias=False)
        self.global_pooling_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.global_pooling_bn = make_norm(norm, hidden, pooled=True)
        self.pool_red_conv = nn.Conv2d(hidden, channels, 1, bias=False)
        self.red_bn = make_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat([conv(x) for conv in self.map_convs], 1)
        pooled = self.global_pooling_conv(F.adaptive_avg_pool2d(x, 1))
        pooled = F.leaky_relu(self.global_pooling_bn(pooled), 0.01)
        out = self.red_conv(F.leaky_relu(self.map_bn(maps), 0.01)) + self.pool_red_conv(pooled)
        return F.leaky_relu(self.red_bn(out), 0.01)


class SqueezedASPP(nn.Module):
    """The ASPP of later DeepLabV2 code (CTT, `model/deeplabv2.py`: Classifier_Module2): a 1x1 and one dilated 3x3 per
    rate with group norm and ReLU, side by side; every channel weighted by what the whole image says of it
    (squeeze-excitation, Hu et al., CVPR 2018); a 3x3 with group norm, no activation. No pooled branch, no batch norm.

    Maps (B, inputs, h, w) to (B, channels, h, w); the weights come from `width / squeeze` hidden units.
    """

    def __init__(self, inputs: int, channels: int, rates: Sequence[int], squeeze: int = 16) -> None:
        super().__init__()
        kernels = [(1, 1), *((3, rate) for rate in rates)]
        self.branches = nn.ModuleList(
            nn.Conv2d(inputs, channels, k, padding=k // 2 * d, dilation=d) for k, d in kernels
        )
        self.norms = nn.ModuleList(make_norm("group", channels) for _ in kernels)
        width = len(kernels) * channels
        hidden = max(1, width // squeeze)
        self.weigh = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.Sigmoid())
        self.project = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1), make_norm("group", channels))

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat([norm(branch(x)).relu() for branch, norm in zip(self.branches, self.norms)], 1)
        return self.project(maps * self.weigh(maps.mean((2, 3)))[:, :, None, None])


class DeepLabV3Plus(nn.Module):
    """The decoder. `fuse` joins the upsampled ASPP with the reduced stride-4 features, `classify` ends in logits.

    Args:
        low, high: channels of `features.low` and `features.high`.
        classes: number of classes K.
        aspp_rates: dilations of the 3x3 branches, in pixels of the coarsest map; the usual (6, 12, 18) belong to output
            stride 16, (12, 24, 36) to 8 (the caller says so; nothing is scaled behind his back).
        aspp_channels: channels of each branch and of the projection.
        aspp: "standard"; "cps" (`CPSASPP`; it has no `aspp_kernel` and no dropout); or "branches", the standard one
            without a projection: with `low_channels=0, decoder_convs=1` DeepLabV3 as in mmsegmentation; or "squeezed"
            (`SqueezedASPP`): with `low_channels=0, decoder_convs=0` CTT's DeepLabV2.
        aspp_kernel: kernel of the projection behind the concatenation; 1, or 3 in U2PL.
        low_channels: channels to which the stride-4 features are reduced; 48, 256 in U2PL; 0 leaves them out, as in
            DeepLabV3, whose maps have the output stride.
        decoder_channels: channels of the classifier's 3x3 convolutions, hence of `Decoded.embedding`.
        decoder_convs: how many of them; with 0 the embedding is the fused map.
        align_corners: of every bilinear resize.
        dropout: rate behind the ASPP and each 3x3 convolution of the classifier (0.1 in U2PL), or a rate for each of
            these places, (0.5, 0, 0); one more is of the last 1x1 convolution alone, the embedding does not see it:
            (0.5, 0.5, 0, 0.1) in CAC.
        dropout_kind: "channel" drops whole channels, "element" single values.
        norm: "batch" or "group".

    Raises:
        S4Error: no such `aspp`, or rates of dropout that do not fit, see `rates_of`.
    """

    classifies = ("convs", "classifier")

    def __init__(
        self,
        low: int,
        high: int,
        classes: int,
        aspp_rates: Sequence[int] = (6, 12, 18),
        aspp_channels: int = 256,
        aspp: str = "standard",
        aspp_kernel: int = 1,
        low_channels: int = 48,
        decoder_channels: int = 256,
        decoder_convs: int = 2,
        align_corners: bool = True,
        dropout: float | Sequence[float] = 0.0,
        dropout_kind: str = "channel",
        norm: str = "batch",
    ):
        super().__init__()
        self.align_corners = align_corners
        behind_aspp, *behind, before_last = rates_of(dropout, decoder_convs, aspp)
        if aspp == "cps":
            self.aspp = CPSASPP(high, aspp_channels, aspp_rates, norm)
        elif aspp == "squeezed":
            self.aspp = SqueezedASPP(high, aspp_channels, aspp_rates)
        elif aspp in ("standard", "branches"):
            kernel = aspp_kernel if aspp == "standard" else 0
            self.aspp = ASPP(high, aspp_channels, aspp_rates, norm, kernel, behind_aspp, dropout_kind)
        else:
            raise S4Error(f"aspp={aspp!r}: choose standard, cps, branches or squeezed.")
        context = self.aspp.width if aspp == "branches" else aspp_channels
        widths = [context + low_channels] + [decoder_channels] * decoder_convs
        self.fused_channels, self.embedding_channels = widths[0], widths[-1]
        self.reduce = conv_block(low, low_channels, 1, norm=norm) if low_channels else None
        self.convs = nn.Sequential(
            *(
                conv_block(a, b, 3, norm=norm, dropout=rate, dropout_kind=dropout_kind)
                for (a, b), rate in zip(pairwise(widths), behind)
            )
        )
        last = nn.Conv2d(widths[-1], classes, 1)
        self.classifier = nn.Sequential(make_dropout(dropout_kind, before_last), last) if before_last else last

    def fuse(self, features: Features) -> Fused:
        """The ASPP of the last level beside the reduced first one, at the size of the latter, see `join`."""
        return self.join(self.aspp(features.high), features.low)

    def join(self, context: Tensor, low: Tensor) -> Fused:
        """The context (B, C, h, w) beside the reduced low-level features (B, L, H, W), at the size of the latter."""
        if self.reduce is None:
            return Fused(context, context)
        up = resize(context, low.shape[-2:], self.align_corners)
        return Fused(torch.cat([up, self.reduce(low)], 1), context)

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Fused map to (logits, embedding), both at its size."""
        embedding = self.convs(map)
        return self.classifier(embedding), embedding

    def branch(self) -> nn.Module:
        """Another classifier of the same shape with weights of its own: fused map to logits."""
        return fresh(nn.Sequential(self.convs, self.classifier))


def rates_of(dropout: float | Sequence[float], convs: int, aspp: str) -> list[float]:
    """The dropout rates behind the ASPP, behind each of the decoder's convolutions, and before the classifier.

    Raises:
        S4Error: another number of rates, or one behind an ASPP that has no place for it.
    """
    if isinstance(dropout, int | float):
        return [dropout] * (1 + convs) + [0.0]
    rates = [*dropout, 0.0] if len(dropout) == 1 + convs else [*dropout]
    if len(rates) != 2 + convs:
        raise S4Error(
            f"dropout={tuple(dropout)}: give one rate, or {1 + convs}: behind the ASPP and each of the {convs} "
            "convolutions of the decoder; one more is the classifier's own."
        )
    if aspp != "standard" and rates[0]:
        raise S4Error(f"dropout={tuple(dropout)}: there is none behind aspp={aspp!r}, so the first rate should be 0.")
    return rates


def auxiliary_head(
    inputs: int, classes: int, channels: int = 256, norm: str = "batch", dropout: float = 0.1
) -> nn.Module:
    """3x3 convolution block and 1x1 classifier on `features.mid` (deep supervision as in PSPNet, weight 0.4)."""
    return nn.Sequential(conv_block(inputs, channels, 3, norm=norm, dropout=dropout), nn.Conv2d(channels, classes, 1))


def deeplabv3plus(backbone: nn.Module, classes: int, aux: bool = False, norm: str = "batch", **options) -> SegNet:
    """A `SegNet` of a backbone (see `backbones.build`) and a `DeepLabV3Plus` decoder with these options.

    `aux=True` adds an auxiliary head on `features.mid`, called by `net.auxiliary(features)`.
    """
    low, mid, high = backbone.channels[0], backbone.channels[-2], backbone.channels[-1]
    decoder = DeepLabV3Plus(low, high, classes, norm=norm, **options)
    head = auxiliary_head(mid, classes, decoder.embedding_channels, norm) if aux else None
    return SegNet(backbone, decoder, classes, head)
