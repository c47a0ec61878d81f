"""PseudoSeg: a pseudo-label from two sources, the decoder and the attention maps of an image classifier.

From the release (TensorFlow 1): it runs the encoder five times a step, once more for the attention in inference
mode; here one train-mode forward of the weak view serves both sources. Its DeepLabV3+ has separable convolutions in
ASPP and decoder, which the kit's has not; dropout of 0.1 behind the ASPP is in both. Its batch norms forget slowly,
with a momentum of 0.0003; 0.1 here. Its consistency is taken at the decoder's
size, a quarter of the image's, here at the image's. Brightness is added there, multiplied here. Its Grad-CAM
averages a list of one gradient over axes 1 and 2, batch and rows instead of rows and columns, which is harmless for
this classifier alone, whose gradient is the same everywhere. N counts all valid pixels with a threshold, too.
Class 0 counts as background there; where none is (street scenes), `background=False` gives every class a map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets import AttentionCam, Features, evaluating, grad_cam, make
from ...nets.segnet import resize
from ...views import Batch, Stream, Strong, ViewPlan, Views, cut_out, paste, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.contrast import shrink
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.present import present_in

JITTER = Strong(0.5, 0.5, 0.5, 0.25, jitter=1.0, grey=0.0, blur=0.0)
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
PADDED = weak(pad="mean", padded_last=True)
NET = "resnet101c(dropout=(0.1, 0, 0), dropout_kind='element')"
DIFFERS = (
    "head: separable convolutions in ASPP and decoder (DeepLabV3+ of TensorFlow) there, plain ones here",
    "batch norms see the 4 images of each of 16 GPUs there",
)


@float32
def fuse(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Calibrated fusion and sharpening of two sources' logits (B, C, H, W): one scale, made from both, for all.

    The mean of their softmaxes after a division by the root of the mean square of both, raised to 1 / temperature and
    normalised: (B, C, H, W) probabilities. Any common factor of the logits falls out.
    """
    scale = (torch.stack([a, b]).square().mean() + 1e-8).rsqrt()
    p = ((scale * a).softmax(1) + (scale * b).softmax(1)) / 2
    sharp = p ** (1 / temperature)
    return sharp / sharp.sum(1, keepdim=True)


class PseudoSeg(Method):
    """PseudoSeg: designing pseudo labels for semantic segmentation (Zou et al., ICLR 2021).

    Idea: a decoder that learns from few labels is badly calibrated, while an image classifier on the same encoder
    knows which classes are there; so fuse the decoder's answer with maps of the classifier's attention, calibrated and
    sharpened, into one soft pseudo-label. What it adds to `fixmatch`: the second source, the fusion, soft labels
    without a threshold. No second network, no pasting; the strong view has a hole instead.

    Equations; e the encoder's features, g the decoder, h the classifier of the average of e, K classes:
        cam_k = relu(sum over channels of W_k e), 0 where class k is not in the image, divided by its maximum
        A = softmax(query(e)' key(e) / sqrt(dim)) over places;   o = A cam + cam;   background 2 - max o
        b = BN(1x1(o)), the attention logits;   a = g(e), the decoder's
        labelled:    L_seg = CE(a, y),   L_att = CE(b, y) with e and cam held,   L_cls = BCE(h(e), classes in y)
        unlabelled:  classes in the image = h(e(w(u))) >= 1/2;   s = (mean of a^2 and b^2 + 1e-8)^(-1/2);   the
                     attention of w(u) neither looks at padding nor where s(u) has its hole, nor from there
                     p = (softmax(s a) + softmax(s b)) / 2;   q = p^(1/T) / sum of it, without gradient
        L_con = 1/N sum over the N valid pixels of CE(q, f(s(u)));   not valid: padding, and the hole in s(u)
        L = L_seg + L_att + L_cls + weight * L_con
    The scale s is ONE number for both sources and the whole batch, so that any common factor of the logits cancels.
    L_att trains keys, queries, 1x1 convolution and BN alone.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; the paper's backbone is Xception-65.
        temperature: T of the sharpening.
        weight: of L_con.
        background: class 0 is the background, which has no map of its own.
        tau: only pixels whose q is at least this count (0 = all, the paper).
        hard: train on the label instead of q (an option of the release).
        supervised: criterion of L_seg, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="PseudoSeg: Designing Pseudo Labels for Semantic Segmentation",
        venue="ICLR",
        year=2021,
        authors="Zou et al.",
        arxiv="2010.09713",
        code="https://github.com/googleinterns/wss",
        extends=("fixmatch",),
        parity="golden",
    )
    views = ViewPlan(x=Stream("labelled", PADDED), u=Stream("all", PADDED, (JITTER,), (cut_out(),)))
    recipes: ClassVar = {
        "camvid": {"method": {"background": False}},
        "voc": {
            "task": {"crop": 513, "scale": SCALES},
            "method": {"net": NET},
            "fit": {"steps": 30_000, "batch": 64, "lr": 7e-3, "head": 1.0, "weight_decay": 1e-4},
            "evaluation": "voc",
            "selection": "last",
            "processes": 16,
            "differs": [
                *DIFFERS,
                "evaluation: whole images padded to 513 with the mean colour there, without padding here",
            ],
        },
        "cityscapes": {"method": {"background": False}},
        "coco": {
            "task": {"crop": 513, "scale": SCALES},
            "method": {"net": NET},
            "fit": {"steps": 200_000, "batch": 64, "lr": 7e-3, "head": 1.0, "weight_decay": 1e-4},
            "evaluation": "coco",
            "selection": "last",
            "processes": 16,
            "differs": [
                *DIFFERS,
                "the scripts have Xception-65 for COCO",
                "evaluation: whole images padded to 641 with the mean colour there, without padding here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        temperature: float = 0.5,
        weight: float = 1.0,
        background: bool = True,
        tau: float = 0.0,
        hard: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.temperature, self.weight, self.background = temperature, weight, background
        self.tau, self.hard, self.supervised = tau, hard, criterion(supervised)
        (*_, mid, high), classes = self.student.backbone.channels, self.student.classes
        self.student.heads["classes"] = nn.Conv2d(high, classes - background, 1)
        self.student.heads["attention"] = AttentionCam(high + mid, classes, background)

    def tags(self, features: Features) -> Tensor:
        """(B, K) logits of which classes, but the background, are in the image."""
        return self.student.heads["classes"](features.high.mean((2, 3), keepdim=True)).flatten(1).float()

    def attention(self, features: Features, present: Tensor, valid: Tensor) -> Tensor:
        """(B, C, H, W) attention logits at the size of `valid` (B, H, W); the features get no gradient from here."""
        high = features.high
        maps = grad_cam(high, self.student.heads["classes"].weight.flatten(1), present)
        seen = shrink(valid, high.shape[-2:]) > 0
        return resize(self.student.heads["attention"](high, features.mid, maps, seen), valid.shape[-2:], True)

    def sources(self, view: Views) -> tuple[Tensor, Tensor]:
        """Both sources' logits for a weak view: the decoder's and the attention's, of classes that the tags find."""
        features = self.student.encode(view.weak)
        found = (self.tags(features).sigmoid() >= 0.5).float()
        return self.student.decode(features, view.weak.shape[-2:]).logits, self.attention(features, found, view.valid)

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(self.student):
            return self.sources(view)

    def probabilities(self, logits: tuple[Tensor, Tensor]) -> Tensor:
        return fuse(*logits, self.temperature)

    def pseudo_labels(self, logits: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        q = fuse(*logits, self.temperature)
        confidence, label = q.max(1)
        if self.hard:
            q = torch.zeros_like(q).scatter_(1, label[:, None], 1.0)
        return PseudoLabels(label, confidence.clamp(max=1), (confidence >= self.tau).float(), view.valid, soft=q)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, m = batch.x, batch.u.masks[0]
        u = replace(batch.u, valid=batch.u.valid * ~m)  # the hole is no more looked at than padding
        e_x, size = self.student.encode(x.weak), x.weak.shape[-2:]
        there = present_in(x.label, self.student.classes)[:, int(self.background) :]
        known = (x.label != 255).flatten(1).any(1).float()[:, None]  # an image without a label has no tags either
        l_seg = self.supervised(self.student.decode(e_x, size).logits, x.label)
        l_att = ce(self.attention(e_x, there, x.valid), x.label)
        wrong = F.binary_cross_entropy_with_logits(self.tags(e_x), there, reduction="none").mean(1, keepdim=True)
        l_cls = (wrong * known).sum() / known.sum().clamp(min=1)

        with torch.no_grad():
            target = self.pseudo_labels(self.sources(u), u, clock)
        seen = paste(m, self.student.mean.expand_as(u.weak), u.strong[0])
        z = self.student(seen)
        far = -(target.soft * z.log_softmax(1)).sum(1)
        l_con = pixel_mean(far, target.weight, target.valid, over="valid")
        losses = Losses(x=l_seg, x_attention=l_att, x_classes=l_cls, u=(l_con, self.weight))
        return losses.see(weak=u.weak, mixed=seen, target=target, loss=far * target.weight * target.valid)
