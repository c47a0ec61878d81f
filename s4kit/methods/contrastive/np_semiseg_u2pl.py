"""NP-SemiSeg on U2PL: a neural process says which pixels are unreliable, and a contrast learns from them.

The release computes a mask of confidence and entropy for the pseudo-labels, and does not use it. Its teacher uses
the centres of the epoch's start, here those behind the last step. Bugs and limits of the memories: see
`np_semiseg`; of the contrast: see `u2pl`.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from ...nets import Features, SegNet
from ..base import Card, Losses
from ..parts.losses import Criterion, ce
from .np_semiseg import NeuralProcess
from .u2pl import CONTRAST, OHEM, U2PL, Forward

NET = (
    "resnet50c(output_stride=8, multi_grid=(4, 8, 16), aspp_rates=(12, 24, 36), aspp_kernel=3, low_channels=256, "
    "dropout=0.1{})"
)
SOURCE = "official code, Jianf-Wang/NP-SemiSeg: U2PL/experiments/*/*/np/config.yaml"
DIFFERS = [
    "three bugs of the host's contrast and one of the memories are mended (see `u2pl`, `np_semiseg`)",
    "pad_label: 0 there, 255 (ignored) here: padding is not taught as background",
]


class Answer(NamedTuple):
    """A forward of the student as `u2pl` has it, with the divergence of its two Gaussians."""

    logits: Tensor  # (B, K, h, w), mean of the samples
    z: Tensor
    features: Features
    kl: Tensor


class NPSemiSegU2PL(NeuralProcess, U2PL):
    """When neural processes meet semi-supervised semantic segmentation, on U2PL (Wang et al., ICML 2023).

    Idea: `u2pl` sorts its pixels by the entropy of one prediction, which can be low and wrong. The mean of several
    predictions of a conditional random function is unsure where they differ, too. What it adds to `u2pl`, its host:
    the head of `np_semiseg` in place of the classifier, and one term.

    Equations, with all else as in `u2pl` and the head, its memories and its two Gaussians as in `np_semiseg`:
        f(x) = mean over T of decoder([z, h, v_f]), z drawn anew for each image and sample
        q = mean over T of softmax, of the teacher: its labels, the entropy of the percentiles, p(c) of the contrast
        L = L of `u2pl` on these + kl * mean over images of KL(by v_l || by v_f)
    The memories get what the student is taught: labels, and the pasted pseudo-labels of all pixels. The representation
    of the contrast comes from the fused map, before the head.

    Cost: that of `u2pl`, and of the decoder, which runs T times for the student and twice T times for the teacher.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; its classifier is taken out.
        warmup, decay, drop, alpha, contrast, bank, fresh, half, aux: of the host, see `u2pl`.
        kl: of the divergence. samples: T. tested: samples of an evaluation.
        dim, rows, fresh_rows: d, rows of a class in either memory, and those written in a step, see `np_semiseg`.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="NP-SemiSeg: When Neural Processes meet Semi-Supervised Semantic Segmentation",
        venue="ICML",
        year=2023,
        authors="Wang et al.",
        arxiv="2308.02866",
        code="https://github.com/Jianf-Wang/NP-SemiSeg",
        extends=("u2pl", "np_semiseg"),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": U2PL.recipes["scenes"],
        "camvid": U2PL.recipes["camvid"],
        "voc": {
            "task": {"crop": 480},
            "method": {"net": NET.format(""), "warmup": 0.0, **CONTRAST},
            "fit": {"epochs": 80, "batch": 12, "lr": 1e-3, "head": 10.0, "clip": 5.0},
            "processes": 4,
            "divided": "contrast",
            "evaluation": "voc/u2pl",
            "source": SOURCE,
            "differs": [*DIFFERS, "unsure: warm_up: passes with labels alone: not in its file, none here"],
        },
        "cityscapes": {
            "task": {"crop": 580},
            "method": {"net": NET.format(", aux=True"), "warmup": 0.0, "supervised": OHEM, **CONTRAST},
            "fit": {"epochs": 200, "batch": 8, "lr": 5e-3, "head": 1.0, "weight_decay": 5e-4, "clip": 5.0},
            "processes": 4,
            "divided": "contrast",
            "evaluation": "cityscapes/u2pl",
            "source": SOURCE,
            "differs": DIFFERS,
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        warmup: float = 1 / 80,
        decay: float = 0.99,
        drop: float = 80.0,
        alpha: float = 20.0,
        contrast: float = 0.1,
        bank: tuple[int, int] = (2000, 2000),
        fresh: int = 500,
        half: bool = False,
        aux: float = 0.4,
        kl: float = 0.005,
        samples: int = 5,
        tested: int = 20,
        dim: int = 32,
        rows: int = 2560,
        fresh_rows: int = 256,
        supervised: str | Criterion = ce,
    ) -> None:
        host = {"drop": drop, "alpha": alpha, "contrast": contrast, "bank": bank, "fresh": fresh, "half": half}
        super().__init__(task, net, warmup, decay, aux=aux, supervised=supervised, **host)
        self.replace_classifier(task.num_classes, dim, rows, fresh_rows, samples, tested)
        self.kl = kl

    def answer(self, image: Tensor, label: Tensor, n: int) -> Answer:
        features = self.student.encode(image)
        map = self.student.fuse(features).map
        z = self.student.heads["projection"](map) if self.weight else map
        logits, kl = self.drawn(map, label, n)
        return Answer(logits, z, features, kl)

    def supervise(self, own: Answer, label: Tensor) -> Losses:
        """U2PL's terms, and how far the latent distributions are apart, "kl"."""
        return super().supervise(own, label).add("kl", own.kl, self.kl)

    def through(self, net: SegNet, image: Tensor) -> Forward:
        """The teacher's in train mode, with the logarithm of its mean probability for logits."""
        features = net.encode(image)
        map = net.fuse(features).map
        noise = self.noise[: self.samples, None].expand(-1, len(map), -1)
        p = net.heads["process"](map, *self.centres, noise)[0].softmax(2).mean(0)
        z = net.heads["projection"](map) if self.weight else map
        return Forward(p.clamp(min=1e-8).log(), z, features)
