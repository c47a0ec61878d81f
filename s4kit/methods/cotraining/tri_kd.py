"""TriKD: a CNN, a ViT and a small hybrid label each other; both large ones are distilled into the small one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import S4Error
from ...nets import AttentionHead, SegNet, evaluating, make
from ...nets.segnet import resize
from ...views import Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_ce
from ..parts.precision import float32
from ..parts.schedules import constant

NAMES = ("small teaches CNN and ViT", "CNN teaches small and ViT", "ViT teaches small and CNN")
PAIRS = tuple((i, j) for j in range(3) for i in range(3) if i != j)  # i learns from j


@float32
def low_level(small: Tensor, cnn: Tensor) -> Tensor:
    """Mean squared error of two maps (B, C, h, w); the CNN's is detached, the other one resized to it if need be."""
    return F.mse_loss(fitted(small, cnn), cnn.detach())


@float32
def high_level(small: Tensor, vit: Tensor) -> Tensor:
    """KL(softmax of vit || softmax of small) over the last dimension of (B, heads, N, N) attention products.

    The mean is over all elements, so that it falls with N, as released. The ViT's is detached, the other one resized to
    it if need be.
    """
    return F.kl_div(fitted(small, vit).log_softmax(-1), vit.detach().softmax(-1), reduction="none").mean()


class Seen(NamedTuple):
    """Of a batch: logits at its size, the encoder's stride-4 map, and the products of its last attention, or its
    coarsest map where these were not asked for."""

    logits: Tensor
    low: Tensor
    high: Tensor


def seen(net: SegNet, image: Tensor, attention: bool = False) -> Seen:
    """One forward of images (B, 3, H, W)."""
    features = net.encode(image, attention=attention)
    logits = net.decode(features, image.shape[-2:]).logits
    return Seen(logits, features.low, features.extra["attention"] if attention else features.high)


def fitted(x: Tensor, like: Tensor) -> Tensor:
    """`x` (B, D, h, w) at the size of `like` (..., H, W)."""
    return x if x.shape[-2:] == like.shape[-2:] else resize(x, like.shape[-2:], align_corners=True)


class TriKD(Method):
    """Triple-view knowledge distillation (Li et al., IEEE TMM 2026, arXiv 2309.12557).

    Idea: networks of one architecture soon make the same mistakes. So three of different kinds teach each other, a CNN
    that sees what is near, a ViT that sees what belongs together, and a small hybrid (TinyViT). The small one, which
    alone is kept, learns besides from the inner maps of the other two. What it adds to `ncps` with n = 3 are the
    architectures, the two distillations and a decoder that weighs channels by their frequencies
    (`nets.FrequencyDecoder`).

    Equations, f_s, f_c and f_v the networks, CE the mean over all pixels, padded ones included:
        Y_j = argmax f_j(u);   L_cps = sum over the six pairs i != j of CE(f_i(u), Y_j)
        L_low = mean (W e_s - sg e_c)^2, e the stride-4 maps of the encoders, W a 1x1 convolution
        L_high = mean over all elements of KL(softmax(sg A_v) || softmax(V A_s)), A the products of queries and keys in
                 the last block, V a 1x1 convolution from heads to heads, the small one resized to the ViT's size
        L = L_s(x) + L_c(x) + CE_v(x) + cps * L_cps + low * L_low + high * L_high
    Both distillations are on labelled and unlabelled images. All views are weak, there is no threshold. Every forward
    is in train mode, labelled and unlabelled images apart. One backward, an SGD for each; the ViT's keeps its rate, as
    the release writes the falling one into the other two alone. Network "small" is evaluated.

    Cost: the published networks have 29.1, 71.7 and 101.2 million parameters, decoders included; the first is kept.

    A small network without attention, such as the kit's light ones, answers by a head of its own for L_high: 1x1
    queries and keys on its coarsest map (`nets.AttentionHead`). Simplified: the ViT is timm's, which keeps the token of
    DeiT's distillation and resamples its positions in every forward; the release drops the one and resamples once.

    Args:
        task: the data, or anything with `num_classes`.
        net: the small network that is kept, see `nets.make`; the paper's is `tiny_vit_21m`.
        cnn: the CNN; None: as `net`, with a start of its own. The paper's is a ResNet-101 at stride 32.
        vit: the ViT; the paper's is `deit_base`. The default is small and starts from nothing.
        cps, low, high: weights of the three terms; `low` is 0.9 for the paper's `tiny_vit_11m`.
        supervised: criterion of the labelled images of the small network and the CNN, "ce", "ohem(...)" or a function;
            the ViT's is plain CE, as released.

    Raises:
        S4Error: the encoder of `vit` has no attention to distil.
    """

    card = Card(
        family="cotraining",
        title="Triple-View Knowledge Distillation for Semi-Supervised Semantic Segmentation",
        venue="IEEE TMM",
        year=2026,
        authors="Li et al.",
        arxiv="2309.12557",
        code="https://github.com/mlvccn/TriKD_SemiSeg",
        extends=("ncps",),
        parity="golden",
    )
    specs = ("net", "cnn", "vit")
    recipes: ClassVar = {
        "cityscapes": {
            "task": {"crop": 512},
            "method": {
                "net": "tiny_vit_21m",
                "cnn": "resnet101c(output_stride=32, widths=(128, 256, 256, 512))",
                "vit": "deit_base",
                "supervised": "ohem(thresh=0.7, per_image=100000)",
            },
            "fit": {"epochs": 300, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes/tri_kd",
            "differs": ["unsure: evaluation: the file that scores is not in the release"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        cnn: str | None = None,
        vit: str = "deit_micro",
        cps: float = 0.1,
        low: float = 0.5,
        high: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        nets = (net, net if cnn is None else cnn, vit)
        self.small, self.cnn, self.vit = (make(spec, task, decoder="frequency") for spec in nets)
        self.cps, self.low, self.high, self.supervised = cps, low, high, criterion(supervised)
        small, cnn, vit_heads = self.small.backbone, self.cnn.backbone, getattr(self.vit.backbone, "heads", 0)
        if not vit_heads:
            raise S4Error(f"tri_kd(vit={vit!r}): its attention is distilled, and it has none. Take deit_base.")
        self.attends = bool(getattr(small, "heads", 0))
        if not self.attends:
            self.small.heads["attention"] = AttentionHead(small.channels[-1], vit_heads)
        self.small.heads["low"] = nn.Conv2d(small.channels[0], cnn.channels[0], 1)
        self.small.heads["high"] = nn.Conv2d(small.heads if self.attends else vit_heads, vit_heads, 1)
        self.views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled"))

    @property
    def networks(self) -> tuple[SegNet, SegNet, SegNet]:
        """The small one, the convolutional one and the transformer, which are trained together."""
        return self.small, self.cnn, self.vit

    def teach(self, view: Views) -> tuple[Tensor, ...]:
        with evaluating(*self.networks):
            return tuple(net(view.weak) for net in self.networks)

    def pseudo_labels(self, evidence: tuple[Tensor, ...], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found = {}
        for name, logits in zip(NAMES, evidence):
            confidence, label = logits.softmax(1).max(1)
            found[name] = PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)
        return found

    def probabilities(self, evidence: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        s_x, s_u = (self.by_small(w.weak) for w in (x, u))
        c_x, c_u = (seen(self.cnn, w.weak) for w in (x, u))
        v_x, v_u = (seen(self.vit, w.weak, attention=True) for w in (x, u))
        z = (s_u.logits, c_u.logits, v_u.logits)
        target = self.pseudo_labels(tuple(z_j.detach() for z_j in z), u, clock)
        y = [replace(t, valid=torch.ones_like(t.valid)) for t in target.values()]  # padding takes part, as released
        losses = Losses(
            x_small=self.supervised(s_x.logits, x.label),
            x_cnn=self.supervised(c_x.logits, x.label),
            x_vit=ce(v_x.logits, x.label),
            cps=(sum(pixel_ce(z[i], y[j], over="all") for i, j in PAIRS), self.cps),
            low=(low_level(torch.cat([s_x.low, s_u.low]), torch.cat([c_x.low, c_u.low])), self.low),
            high=(high_level(torch.cat([s_x.high, s_u.high]), torch.cat([v_x.high, v_u.high])), self.high),
        )
        losses.see(weak=u.weak, mixed=u.weak)
        for j, name in enumerate(NAMES):
            with torch.no_grad():
                cost = sum(ce_map(z[i], y[j].label) for i, teacher in PAIRS if teacher == j)
            losses.see(name, target=y[j], loss=cost)
        return losses

    def by_small(self, image: Tensor) -> Seen:
        """What the small network says, its stride-4 map as the CNN's and its attention as the ViT's."""
        own, heads = seen(self.small, image, self.attends), self.small.heads
        high = own.high if self.attends else heads["attention"](own.high)
        return Seen(own.logits, heads["low"](own.low), heads["high"](high))

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        small, cnn, vit = (replace(recipe, nets=[net]) for net in self.networks)
        return {"small": small, "cnn": cnn, "vit": replace(vit, schedule=constant)}

    def predictors(self) -> dict[str, nn.Module]:
        return {"small": self.small, "CNN": self.cnn, "ViT": self.vit}
