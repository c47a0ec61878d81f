"""Backbones by name, built of timm's networks, and the decoder that goes with each.

timm is imported when a backbone is built, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from torch import nn

from ..errors import S4Error, closest
from .layers import conv_block, slim
from .segformer import mit
from .stages import Backbone, cycled
from .tinyvit import tiny_vit
from .vit import vit
from .weights import LITE0_MEAN, LITE0_STD, load_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Kind:
    """How a backbone is built, the decoder options that suit its size, and the decoder that goes with it."""

    build: Callable[..., nn.Module]
    decoder: dict[str, Any] = field(default_factory=dict)
    head: str = "deeplabv3plus"

    @property
    def options(self) -> set[str]:
        """Names of the options of the backbone; `norm` is shared with the decoder."""
        return set(signature(self.build).parameters) - {"in_channels", "norm"}


# With the full decoder (256 channels at stride 4) a step of a light backbone takes three times as long on a CPU.
LIGHT = {"aspp_rates": (2, 4, 6), "aspp_channels": 64, "low_channels": 24, "decoder_channels": 64}
SMALL = {"aspp_rates": (1, 2), "aspp_channels": 16, "low_channels": 8, "decoder_channels": 16, "decoder_convs": 1}


def tiny(
    in_channels: int,
    output_stride: int,
    weights: str,
    norm: str,
    freeze_bn: bool | str,
    bn_momentum: float | None = None,
) -> Backbone:
    """Four 3x3 convolutions for tests: milliseconds, no weights.

    Raises:
        S4Error: weights are asked for.
    """
    if weights not in ("auto", "none"):
        raise S4Error(f"The backbone tiny has no pretrained weights; weights={weights!r} should be 'none'.")
    last = {16: {"stride": 2}, 8: {"dilation": 2}}[output_stride]
    stages = [
        nn.Sequential(conv_block(in_channels, 8, stride=2, norm=norm), conv_block(8, 16, stride=2, norm=norm)),
        conv_block(16, 24, stride=2, norm=norm),
        conv_block(24, 32, norm=norm, **last),
    ]
    return Backbone(stages, (16, 24, 32), *cycled((0.5,), (0.5,), in_channels), freeze_bn, bn_momentum)


def _resnet(name: str) -> Callable[..., Backbone]:
    def build(
        in_channels: int,
        output_stride: int,
        weights: str,
        norm: str,
        freeze_bn: bool | str,
        bn_momentum: float | None = None,
        multi_grid: Sequence[int] | None = None,
    ) -> Backbone:
        _batch_norm_only(name, norm, freeze_bn)
        net = _timm(name, in_channels, output_stride)
        load_weights(net, name, weights)
        if multi_grid is not None:
            _set_dilations(net.layer4, multi_grid)
        stem = nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1)
        channels = [f["num_chs"] for f in net.feature_info[1:]]
        stages = [stem, net.layer2, net.layer3, net.layer4]
        return Backbone(stages, channels, *cycled(IMAGENET_MEAN, IMAGENET_STD, in_channels), freeze_bn, bn_momentum)

    return build


def _deep_resnet(blocks: int) -> Callable[..., Backbone]:
    """A ResNet with three 3x3 convolutions for a stem, of `stem_width`, `stem_width` and 2 `stem_width` channels."""
    builds = {64: _resnet(f"resnet{blocks}s"), 32: _resnet(f"resnet{blocks}c")}

    def build(
        in_channels: int,
        output_stride: int,
        weights: str,
        norm: str,
        freeze_bn: bool | str,
        bn_momentum: float | None = None,
        multi_grid: Sequence[int] | None = None,
        stem_width: int = 64,
    ) -> Backbone:
        if stem_width not in builds:
            raise S4Error(f"stem_width={stem_width}: choose 64, or 32 as in OpenMMLab's ResNet-V1c.")
        return builds[stem_width](in_channels, output_stride, weights, norm, freeze_bn, bn_momentum, multi_grid)

    return build


def _mobile(
    name: str, cuts: Sequence[int], channels: Sequence[int], mean: Sequence[float], std: Sequence[float], **timm_options
) -> Callable[..., Backbone]:
    """EfficientNet-like networks of timm: `cuts` are the ends (exclusive) of the stages in `net.blocks`."""

    def build(
        in_channels: int,
        output_stride: int,
        weights: str,
        norm: str,
        freeze_bn: bool | str,
        bn_momentum: float | None = None,
        levels: int = 3,
    ) -> Backbone:
        _batch_norm_only(name, norm, freeze_bn)
        if levels not in (3, 4):
            raise S4Error(f"{name}(levels={levels}): choose 3 (cut after the stride-16 stages, light) or 4 (all).")
        net = _timm(name, in_channels, output_stride, features_only=True, **timm_options)
        load_weights(net, name, weights)
        blocks = list(slim(net).blocks)
        stem = [net.conv_stem, net.bn1, *([net.act1] if hasattr(net, "act1") else [])]
        starts = (0, *cuts[:-1])
        stages = [nn.Sequential(*blocks[a:b]) for a, b in zip(starts, cuts)]
        stages[0] = nn.Sequential(*stem, *blocks[: cuts[0]])
        mean_std = cycled(mean, std, in_channels)
        return Backbone(stages[:levels], channels[:levels], *mean_std, freeze_bn, bn_momentum)

    return build


def _dinov2(size: str, blocks: Sequence[int], widths: Sequence[int], channels: int, **own: Any) -> Kind:
    """A DINOv2 encoder with the DPT decoder that UniMatch V2 gives it."""
    build = vit(f"vit_{size}_patch14_dinov2", blocks, IMAGENET_MEAN, IMAGENET_STD, **own)
    return Kind(build, {"widths": widths, "decoder_channels": channels}, head="dpt")


def _mit(name: str, widths: tuple[int, ...], depths: tuple[int, ...], channels: int, **own: Any) -> Kind:
    """A Mix Transformer with the decoder of SegFormer."""
    build = mit(name, widths, depths, IMAGENET_MEAN, IMAGENET_STD, **own)
    return Kind(build, {"decoder_channels": channels}, head="segformer")


def _tiny_vit(name: str, widths: Sequence[int] = (48, 96, 192, 320), channels: int = 256, **own: Any) -> Kind:
    """A TinyViT with the decoder of TriKD."""
    build = tiny_vit(name, IMAGENET_MEAN, IMAGENET_STD, **own)
    return Kind(build, {"widths": widths, "decoder_channels": channels}, head="frequency")


def _deit(name: str, blocks: Sequence[int], widths: Sequence[int], neck: int, channels: int = 256, **own: Any) -> Kind:
    """A distilled DeiT with the neck and decoder of TriKD."""
    build = vit(name, blocks, IMAGENET_MEAN, IMAGENET_STD, norm=False, **own)
    return Kind(build, {"widths": widths, "neck": neck, "decoder_channels": channels}, head="frequency")


# The deep stem of most papers has 64-64-128 channels: that is timm's resnet50s / resnet101s; timm's own resnet50c has
# 32-32-64 (`stem_width=32`). The name "c" is what papers and code bases of this field call it.
KINDS: dict[str, Kind] = {
    "efficientnet_lite0": Kind(
        _mobile("efficientnet_lite0", (2, 3, 5, 7), (24, 40, 112, 320), LITE0_MEAN, LITE0_STD, bn_eps=1e-3), LIGHT
    ),
    "mobilenetv3": Kind(
        _mobile("mobilenetv3_large_100", (2, 3, 5, 7), (24, 40, 112, 960), IMAGENET_MEAN, IMAGENET_STD), LIGHT
    ),
    "mobilenetv2": Kind(
        _mobile("mobilenetv2_100", (2, 3, 5, 7), (24, 32, 96, 320), IMAGENET_MEAN, IMAGENET_STD), LIGHT
    ),
    "resnet18": Kind(_resnet("resnet18")),
    "resnet50": Kind(_resnet("resnet50")),
    "resnet101": Kind(_resnet("resnet101")),
    "resnet50c": Kind(_deep_resnet(50)),
    "resnet101c": Kind(_deep_resnet(101)),
    "wide_resnet50_2": Kind(_resnet("wide_resnet50_2")),
    "tiny": Kind(tiny, SMALL),
    "dinov2_small": _dinov2("small", (2, 5, 8, 11), (48, 96, 192, 384), 64),
    "dinov2_base": _dinov2("base", (2, 5, 8, 11), (96, 192, 384, 768), 128),
    "dinov2_large": _dinov2("large", (4, 11, 17, 23), (256, 512, 1024, 1024), 256),
    "dinov2_tiny": _dinov2(  # for tests: milliseconds, no weights
        "small", (0, 1, 2, 3), (8, 8, 16, 16), 8, embed_dim=24, depth=4, num_heads=2, img_size=56, init_values=1.0
    ),
    "mit_b0": _mit("mit_b0", (32, 64, 160, 256), (2, 2, 2, 2), 256),
    "mit_b1": _mit("mit_b1", (64, 128, 320, 512), (2, 2, 2, 2), 256),
    "mit_b2": _mit("mit_b2", (64, 128, 320, 512), (3, 4, 6, 3), 768),
    "mit_b3": _mit("mit_b3", (64, 128, 320, 512), (3, 4, 18, 3), 768),
    "mit_b4": _mit("mit_b4", (64, 128, 320, 512), (3, 8, 27, 3), 768),
    "mit_b5": _mit("mit_b5", (64, 128, 320, 512), (3, 6, 40, 3), 768),
    "mit_tiny": _mit("mit_tiny", (8, 8, 16, 16), (1, 1, 1, 1), 16, heads=(1, 1, 2, 2)),  # for tests, no weights
    "tiny_vit_5m": _tiny_vit("tiny_vit_5m_224"),
    "tiny_vit_11m": _tiny_vit("tiny_vit_11m_224"),
    "tiny_vit_21m": _tiny_vit("tiny_vit_21m_512"),
    "tiny_vit_micro": _tiny_vit(  # for tests, no weights
        "tiny_vit_5m_224", (8, 8, 8, 8), 16, embed_dims=(8, 16, 16, 24), depths=(1, 1, 1, 2), num_heads=(1, 2, 2, 3),
        window_sizes=(4, 4, 4, 4), drop_path_rate=0.0,
    ),
    "deit_small": _deit("deit_small_distilled_patch16_224", (2, 5, 8, 11), (48, 96, 192, 256), 384),
    "deit_base": _deit("deit_base_distilled_patch16_384", (2, 5, 8, 11), (48, 96, 192, 256), 448),
    "deit_micro": _deit(  # for tests and small images, no weights
        "deit_tiny_distilled_patch16_224", (0, 1, 2, 3), (16, 16, 16, 16), 32, 32, img_size=64, patch_size=8,
        embed_dim=64, depth=4, num_heads=4,
    ),
}  # fmt: skip


def kind_of(name: str) -> Kind:
    """The registered backbone, or an S4Error with the closest names."""
    if name not in KINDS:
        raise S4Error(f"There is no backbone {name!r}. {closest(name, list(KINDS))}")
    return KINDS[name]


def build(
    name: str,
    in_channels: int = 3,
    output_stride: int = 16,
    weights: str = "auto",
    norm: str = "batch",
    freeze_bn: bool | str = False,
    **options: Any,
) -> Backbone:
    """A backbone by name.

    Args:
        name: one of `KINDS`.
        in_channels: channels of the image; pretrained first convolutions are adapted.
        output_stride: 16 or 8, of ResNets and mobile ones also 32; later stages are dilated instead of strided.
        weights: "imagenet", "none", a file, or "auto": ImageNet where that needs no network (see `weights.py`).
        norm: "batch", or "group" (tiny only, or with frozen batch norms: then it is the decoder's).
        freeze_bn: keep the batch norms' "statistics" (eval mode), their "affine" parameters, or both (True).
        options: `bn_momentum`, where it is not the network's own; `multi_grid` for ResNets: the dilations of the blocks
            of the last stage, in pixels of its map ((2, 4, 8) in CPS at stride 16, (4, 8, 16) in U2PL at stride 8);
            `stem_width` for deep stems (64-64-128 channels, or 32-32-64); `levels` for the mobile ones.

    Raises:
        S4Error: unknown name or option, or weights that cannot be had.
    """
    kind = kind_of(name)
    if output_stride not in (8, 16) and not (output_stride == 32 and kind.options & {"multi_grid", "levels"}):
        raise S4Error(f"output_stride={output_stride}: choose 16 or 8; for ResNets and mobile ones also 32.")
    return kind.build(in_channels, output_stride, weights, norm, freeze_bn, **options)


def _timm(name: str, in_channels: int, output_stride: int, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, in_chans=in_channels, output_stride=output_stride, **options)


def _batch_norm_only(name: str, norm: str, freeze_bn: bool | str) -> None:
    if norm != "batch" and freeze_bn not in (True, "statistics"):
        raise S4Error(f"{name} has batch norms: norm={norm!r} needs freeze_bn=True, or the backbone tiny.")


def _set_dilations(layer: nn.Module, dilations: Sequence[int]) -> None:
    if len(dilations) != len(layer):
        raise S4Error(
            f"multi_grid={tuple(dilations)}: the last stage has {len(layer)} blocks, give one value for each."
        )
    for block, dilation in zip(layer, dilations):
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (dilation, dilation)
