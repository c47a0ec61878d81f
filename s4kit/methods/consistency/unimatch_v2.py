"""UniMatch V2: a pretrained transformer, a mean teacher, and two views that share the channels between them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ...nets import Features, complementary_dropout, copy_of, ema, make, warm
from ...views import STRONG, Batch, Stream, ViewPlan, paste, unimatch_box
from ..base import Card, Clock, Losses
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.teachers import AveragedTeacher

ADAMW = {"optimiser": "adamw", "lr": 5e-6, "head": 40.0, "weight_decay": 0.01, "schedule": "poly_after"}


class UniMatchV2(AveragedTeacher):
    """UniMatch V2: pushing the limit of semi-supervised semantic segmentation (Yang et al., 2024, arXiv 2410.10777).

    Idea: with an encoder as good as DINOv2, the second strong view and the perturbed features of `unimatch` need no
    streams of their own: both strong views get their channels dropped, and what one of them loses the other keeps.
    What it adds to `unimatch`: this complementary dropout instead of the third stream, and an EMA teacher.

    Equations; t the teacher, k = 1, 2, B images, flip(u)(b) = u(B - 1 - b), d ~ Bernoulli(1/2) per image and channel:
        y, c = argmax, max of softmax(t(w(u)))
        s_k = m_k ? s_k(flip(u)) : s_k(u);   y_k, c_k, valid_k the same way
        z_1, z_2 = decode(2 d encode(s_1), (2 - 2 d) encode(s_2));   both factors are 1 in int(B / 2) of the images
        L_k = 1/N sum over valid pixels of 1[c_k >= tau] CE(z_k, y_k)
        L = (CE(z_x, y_x) + (L_1 + L_2) / 2) / 2
        t <- d_i t + (1 - d_i) f, buffers included, d_i = min(1 - 1/(i + 1), decay)
    Labelled images have a forward of their own. The decoder reads four levels of the transformer; all of them, and all
    tokens of an image, have the same factors.

    On a convolutional network, as in a short lesson, every level has a draw of its own. With one image per batch there
    is nobody to be mixed with and no image is spared, as in the release. The scores in its README are the best of all
    epochs of the teacher on the validation set.
    timm enlarges the position embedding with antialiasing where the encoder's authors shift the grid by 0.1.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; the paper's is `dinov2_base` or `dinov2_small`.
        tau: confidence from which a pixel counts.
        decay: of the teacher.
        lock_backbone: the encoder keeps its pretrained weights.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation",
        venue="arXiv",
        year=2024,
        authors="Yang et al.",
        arxiv="2410.10777",
        code="https://github.com/LiheYoung/UniMatch-V2",
        extends=("unimatch", "mean_teacher"),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled"),
        u=Stream("unlabelled", strong=(STRONG, STRONG), masks=(unimatch_box(), unimatch_box())),
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 518},
            "method": {"net": "dinov2_base"},
            "fit": {"epochs": 60, "batch": 16, **ADAMW},
            "processes": 4,
            "evaluation": "voc/unimatch_v2",
        },
        "cityscapes": {
            "task": {"crop": 798},
            "method": {"net": "dinov2_base", "supervised": "ohem(thresh=0.7, per_image=100000)"},
            "fit": {"epochs": 180, "batch": 8, **ADAMW},
            "processes": 4,
            "evaluation": "cityscapes/unimatch_v2",
        },
        "coco": {
            "task": {"crop": 518},
            "method": {"net": "dinov2_base"},
            "fit": {"epochs": 20, "batch": 16, **ADAMW},
            "processes": 4,
            "evaluation": "coco/unimatch_v2",
        },
        "ade20k": {
            "task": {"crop": 518},
            "method": {"net": "dinov2_base"},
            "fit": {"epochs": 60, "batch": 8, **ADAMW},
            "processes": 4,
            "evaluation": "ade20k/unimatch_v2",
            "differs": ["unsure: lock_backbone: True in its yaml, False in the logs behind its table; False here"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        decay: float = 0.996,
        lock_backbone: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        if lock_backbone:
            self.student.backbone.requires_grad_(False)
        self.teacher = copy_of(self.student)
        self.tau, self.decay, self.supervised = tau, decay, criterion(supervised)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        own = self.pseudo_labels(self.teach(u), u, clock)
        mixed = [paste(m, s.flip(0), s) for m, s in zip(u.masks, u.strong)]
        target = [paste(m, own.map(lambda t: t.flip(0)), own) for m in u.masks]
        z_x = self.student(x.weak)
        dropped = self.share_channels(self.student.encode(torch.cat(mixed)))
        z_1, z_2 = (part.logits for part in self.student.decode(dropped, u.weak.shape[-2:]).split(len(u), len(u)))
        l_1, l_2 = (pixel_ce(z, t, over="valid") for z, t in zip((z_1, z_2), target))
        losses = Losses(x=(self.supervised(z_x, x.label), 0.5), s1=(l_1, 0.25), s2=(l_2, 0.25))
        losses.see(weak=u.weak, mixed=mixed[0], target=target[0], student=z_1)
        return losses.see("second view", mixed=mixed[1], target=target[1], student=z_2)

    def share_channels(self, features: Features) -> Features:
        """Features of both views of B images, (2 B, ...), with complementary halves of the channels dropped."""
        images, device = len(features.low) // 2, features.low.device
        widths = sorted({level.shape[1] for level in features.levels})
        drawn = {width: torch.randint(0, 2, (images, width), device=device).float() for width in widths}
        kept = torch.randperm(images, device=device) < images // 2
        return complementary_dropout(features, drawn, kept)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step), buffers="average")
