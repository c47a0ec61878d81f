"""DeepLabV3+ and its backbones, DPT on DINOv2, SegFormer, TinyViT and DeiT, EMA teachers, modes, heads.

`make` builds a network from a spec string or a factory; see `segnet.SegNet` for what it can do.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from torch import nn

from .. import specs
from ..data.points.clouds import has_points
from ..errors import S4Error, closest
from .attention import AttentionHead
from .backbones import KINDS, build, kind_of
from .boxed import Boxed, box_map, segment, with_boxes
from .critic import Critic
from .deeplab import DeepLabV3Plus, deeplabv3plus
from .domains import TwoNorms, first_domain, second_from_first, split_after, with_two_domains
from .dpt import DPT, dpt
from .ema import copy_of, ema, warm
from .ensemble import Ensemble
from .flaw import FlawDetector
from .frequency import FrequencyDecoder, frequency
from .gat import GraphClassifier
from .heads import CorrelationHead, PatchHead, ProjectionHead, VarianceHead
from .lowrank import Factorised, factorised
from .mapped import Mapped
from .masks import Masked, MaskHead, Regions, regions_of
from .modes import bn_untouched, by_batch, evaluating, frozen, full_depth, live_norms, place, set_training, sync_bn
from .perturb import complementary_dropout, draw_statistics, feature_dropout
from .process import NeuralProcessHead, Sampled, divergence
from .psp import PSPNet, PSPShuffle, psp, pspnet
from .segformer import SegFormerDecoder, segformer
from .segnet import Decoded, Features, Fused, SegNet
from .sgc import AttentionCam, grad_cam
from .spark import Spark, Sparked
from .tagger import Tagger

__all__ = [
    "DPT", "AttentionCam", "AttentionHead", "Boxed", "CorrelationHead", "Critic", "Decoded", "DeepLabV3Plus",
    "Ensemble", "Factorised", "Features", "FlawDetector", "FrequencyDecoder", "Fused", "GraphClassifier", "Mapped",
    "MaskHead", "Masked", "NeuralProcessHead", "PatchHead", "ProjectionHead", "Regions", "Sampled",
    "SegFormerDecoder", "SegNet", "Spark", "Sparked", "Tagger", "TwoNorms", "VarianceHead", "bn_untouched",
    "box_map", "by_batch", "complementary_dropout", "copy_of", "deeplabv3plus", "divergence", "draw_statistics",
    "ema", "evaluating", "factorised", "feature_dropout", "first_domain", "frozen", "full_depth", "grad_cam",
    "live_norms", "make", "names", "place", "regions_of", "second_from_first", "segment", "set_training",
    "split_after", "sync_bn", "warm", "with_boxes", "with_two_domains",
]  # fmt: skip

DECODER_OPTIONS = {"aux", *signature(DeepLabV3Plus).parameters} - {"low", "high", "classes"}
TRANSFORMERS = {  # decoders that go with encoders of their own: how they are joined, their options
    "dpt": (dpt, {*signature(DPT).parameters} - {"inputs", "classes"}),
    "segformer": (segformer, {*signature(SegFormerDecoder).parameters} - {"channels", "classes"}),
    "frequency": (frequency, {*signature(FrequencyDecoder).parameters} - {"channels", "classes"}),
}
CONVOLUTIONAL = {  # decoders of all other encoders, their options
    "deeplabv3plus": DECODER_OPTIONS,
    "psp": {*signature(PSPShuffle).parameters} - {"high", "classes", "doublings"},
    "pspnet": {*signature(PSPNet).parameters} - {"high", "classes"},
    "frequency": TRANSFORMERS["frequency"][1],
}


def names() -> list[str]:
    """The backbones that `make` knows."""
    return sorted(KINDS)


def make(
    net: str | Callable[..., SegNet] = "efficientnet_lite0",
    task: Any = None,
    classes: int | None = None,
    in_channels: int = 3,
    **options: Any,
) -> SegNet:
    """A new network; two calls give two independent ones.

    Args:
        net: a backbone name ("resnet50c"), or a name with options ("resnet101c(output_stride=8, multi_grid=(4, 8,
            16))"), or a factory called as `net(classes=..., in_channels=..., **options)`. Not an instance, so that
            methods with two networks are plain.
        task: a `Task`, which says the number of classes; or that number itself.
        classes: number of logits where it is not the task's.
        in_channels: channels of the image.
        options: over those of the spec. Of the backbone: `output_stride` 16 or 8, `weights` "auto", "imagenet",
            "none" or a file, `freeze_bn`, `bn_momentum`, `multi_grid` (ResNets), `stem_width` (deep stems), `levels`
            (mobile ones), see `backbones.build`. Of both: `norm`. Of the decoder: see `DeepLabV3Plus`, and `aux`.
            Light backbones come with a light decoder by default. `decoder="psp"` is CCT's instead: see `PSPShuffle`;
            "pspnet" is PSPNet's own: see `PSPNet`; "frequency" is TriKD's: see `frequency.FrequencyDecoder`.
            DINOv2, MiT, TinyViT and DeiT encoders have `weights` (MiT also `drop_path`, the rate of stochastic depth)
            and the options of their decoders: see `dpt.DPT`, `segformer.SegFormerDecoder` and the last mentioned.

    Raises:
        S4Error: unknown name (the closest known ones are named) or option, weights that cannot be had, or a task that
            has no images.
    """
    if has_points(task):
        raise S4Error(
            f"{task.name} has points, from which a network of images cannot learn: take a method of points, such as "
            "`shape3d`, or `supervised`, which learns from either."
        )
    classes = _classes(task, classes)
    if callable(net) and not isinstance(net, nn.Module):
        return net(classes=classes, in_channels=in_channels, **options)
    if not isinstance(net, str):
        raise S4Error(f"net is {type(net).__name__}: give a name ({', '.join(names())}) or a factory, not an instance.")
    name, given = parse(net)
    given |= options
    kind = kind_of(name)
    decoder = given.pop("decoder", kind.head)
    if kind.head in TRANSFORMERS or decoder in TRANSFORMERS.keys() - CONVOLUTIONAL.keys():
        return _transformer(name, decoder, classes, in_channels, given)
    if decoder not in CONVOLUTIONAL:
        raise S4Error(f"decoder={decoder!r}: choose deeplabv3plus, psp, pspnet or frequency.")
    _known_options(name, given, kind.options | CONVOLUTIONAL[decoder])
    norm = given.pop("norm", "batch")
    for_backbone = {k: given.pop(k) for k in kind.options & given.keys()}
    backbone = build(name, in_channels, norm=norm, **for_backbone)
    if decoder == "psp":
        return psp(backbone, classes, for_backbone.get("output_stride", 16), norm=norm, **given)
    if decoder == "pspnet":
        return pspnet(backbone, classes, norm=norm, **given)
    if decoder == "frequency":
        width = kind.decoder.get("decoder_channels", 256)
        return frequency(backbone, classes, norm=norm, **{"decoder_channels": width, **given})
    return deeplabv3plus(backbone, classes, norm=norm, **{**kind.decoder, **given})


def _transformer(name: str, decoder: str, classes: int, in_channels: int, given: dict[str, Any]) -> SegNet:
    """`make` where encoder or decoder are of a transformer: they go together."""
    kind = kind_of(name)
    if decoder != kind.head:
        theirs = decoder if decoder in TRANSFORMERS else kind.head
        fitting = ", ".join(n for n, k in KINDS.items() if k.head == theirs)
        raise S4Error(f"decoder={decoder!r} does not fit {name}: {theirs} goes with {fitting}, and they with it.")
    join, options = TRANSFORMERS[decoder]
    _known_options(name, given, kind.options | options)
    backbone = kind.build(in_channels, **{k: given.pop(k) for k in kind.options & given.keys()})
    return join(backbone, classes, **{**kind.decoder, **given})


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """ "name" or "name(option=value, ...)" to (name, options); the values are Python literals.

    Raises:
        S4Error: the text is neither.
    """
    found = specs.parse(spec)
    if found:
        return found
    raise S4Error(f"{spec!r} is no network: write a name ({', '.join(names())}) or name(option=value, ...).")


def _known_options(name: str, given: dict[str, Any], known: set[str]) -> None:
    for option in given:
        if option not in known:
            raise S4Error(f"The network {name} has no option {option!r}. {closest(option, list(known))}")


def _classes(task: Any, classes: int | None) -> int:
    found = classes if classes is not None else getattr(task, "num_classes", task)
    if not isinstance(found, int) or found < 1:
        raise S4Error("A network needs a task or a number of classes: nets.make(net, task).")
    return found
