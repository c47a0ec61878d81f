"""ELN: a network of its own learns where predictions are wrong, and leaves those pixels out.

From the release: its student's reset is not in the paper. It has one optimiser for all phases, here each stage has
its own. Its images are resized to squares.
"""

from __future__ import annotations

import random
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets import copy_of, ema, evaluating, make
from ...nets.layers import fresh
from ...nets.segnet import resize
from ...views import Batch, Stream, Strong, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.cells import enlarged
from ..parts.localise import held_back, pair_contrast, wrongness_loss
from ..parts.losses import Criterion, ce, ce_map, criterion, entropy, pixel_ce

NAMES = ("plain view", "coloured view")
COLOURS = Strong(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, jitter=1.0, grey=0.2, blur=0.0)
CROPS = 8  # of the feature maps, between whose pixels there is contrast


class ELN(Method):
    """Semi-supervised semantic segmentation with error localization network (Kwon et al., CVPR 2022).

    Idea: whether a pseudo-label is wrong is not said by its confidence, but can be learned: an auxiliary network sees
    image, prediction and entropy and says where the prediction is right. It is told on labelled images; so that it sees
    more kinds of errors than the main decoder makes there, two more decoders are held back on purpose. What it adds to
    `mean_teacher` with hard labels: that network instead of a threshold, and contrast between pixels it trusts.

    Equations; the student e, d, projections f; decoders d_k on e(x) without gradient; t the teacher, E the localiser:
        L_aux  = sum over k of CE(d_k(e(x)), y) while it is at least multiples[k] CE(d(e(x)), y), else 0
        L_loc  = sum over p = d_1, d_2, d of BCE(E(x, h(p), p), [argmax p = y]), wrong pixels weighted right / wrong
        v = E(u, h(t), t) > 0;   labels argmax t(u), of valid pixels
        L_pl   = sum over i = w(u), c(u) of the mean over valid pixels of CE(d(e(i)), label)
        L_con  = sum over i of the mean over 8 crops of -log(P / (P + N)) / n, see `parts.localise.pair_contrast`
        L = CE(d(e(x)), y) + L_aux + L_loc + L_pl + L_con;    t <- decay t + (1 - decay) (e, d, f), parameters alone
    Stages: labels alone; with L_aux and L_loc; all. The teacher begins as the student of then, and the student is set
    to its teacher after each pass over the unlabelled list, statistics included. The unlabelled terms are at the
    decoder's resolution. Void pixels are wrong for the localiser. All networks are in train mode, as released.

    Cost: a teacher, two decoders and the localiser, which runs four times a step; contrast between all pairs of pixels
    of a crop.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`. localiser: of E; None = like the student.
        multiples: how much worse the two decoders are held.
        decay: of the teacher.
        start, localising: lengths of the first two stages, per step of the last; or passes, see `lengths`.
        reset: whether the student is set to its teacher after each pass.
        dim: of the projections. temperature: of the contrast. crop: side of its crops, in cells.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="Semi-supervised Semantic Segmentation with Error Localization Network",
        venue="CVPR",
        year=2022,
        authors="Kwon et al.",
        arxiv="2204.02078",
        code="https://github.com/kinux98/SSL_ELN",
        extends=("mean_teacher",),
        parity="golden",
    )
    specs = ("net", "localiser")
    views = ViewPlan(
        x=Stream("labelled", weak(scale=(1.0, 1.0))),
        u=Stream("unlabelled", weak(scale=(1.0, 1.0)), strong=(COLOURS,)),
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},
        "voc": {
            "task": {"crop": 505},
            "method": {"net": "resnet101", "localiser": "resnet18", "start": 40 / 410, "localising": 50 / 410},
            "fit": {
                "steps": 133000,
                "batch": 6,
                "optimiser": "adamw",
                "lr": 1e-5,
                "head": 10.0,
                "weight_decay": 1e-5,
                "schedule": "constant",
            },
            "evaluation": "voc",
            "differs": [
                "length: 500 epochs of 266 steps there, 133000 steps here: the same",
                "warmup: yes, of 40 and 50 epochs there, none here: these are the first two stages",
                "the localiser is a ResNet-34 there, a ResNet-18 here",
                "images are resized to 505 x 505 there, whole and whatever their shape, cropped to it here",
                "the student is reset after 266 steps there, after a pass over the unlabelled list here",
                "unsure: schedule: the rate is taken to be constant",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        localiser: str | None = None,
        multiples: tuple[float, float] = (20.0, 50.0),
        decay: float = 0.995,
        start: Length = 0.2,
        localising: Length = 0.15,
        reset: bool = True,
        dim: int = 128,
        temperature: float = 0.5,
        crop: int = 32,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        width = self.student.decoder.embedding_channels
        self.student.heads["projection"] = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, dim, 1)
        )
        self.held = nn.ModuleList(fresh(self.student.decoder) for _ in multiples)
        self.localiser = make(localiser or net, classes=1, in_channels=3 + 1 + self.classes)
        self.teacher = copy_of(self.student).train()  # keeps this mode
        self.multiples, self.decay, self.start, self.localising = tuple(multiples), decay, start, localising
        self.reset, self.temperature, self.crop, self.supervised = reset, temperature, crop, criterion(supervised)

    def stages(self) -> list[Stage]:
        alone, main = ViewPlan(x=self.views["x"]), (self.student.backbone, self.student.decoder)
        return [
            Stage("labels alone", self.start, self.labels_alone, alone, train=main),
            Stage("localiser", self.localising, self.with_localiser, alone, train=(*main, self.held, self.localiser)),
            Stage("all", prepare=self.begin),
        ]

    def begin(self, sweep: Any) -> None:
        """The teacher begins as the student."""
        ema(self.teacher, self.student, 0.0, buffers="copy")

    # ---- the localiser ----

    def locate(self, image: Tensor, logits: Tensor) -> Tensor:
        """(B, h, w) logits of where a prediction (B, C, h, w) is right, at the decoder's resolution."""
        z = F.interpolate(logits.detach().float(), image.shape[-2:], mode="bilinear", align_corners=True)
        more = torch.cat([entropy(z)[:, None], z], 1)
        net = self.localiser
        seen = torch.cat([image, more * net.std[:, 3:] + net.mean[:, 3:]], 1)  # which `encode` takes off again
        return net.decode(net.encode(seen)).logits[:, 0]

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits, and where they are right, each pixel those of its cell."""
        with evaluating(self.teacher, self.localiser):
            z = self.teacher.decode(self.teacher.encode(view.weak)).logits
            right, size = self.locate(view.weak, z), view.weak.shape[-2:]
        return F.interpolate(z, size), F.interpolate(right[:, None], size)[:, 0]

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        return self.judged(*evidence, view.valid)

    def judged(self, logits: Tensor, right: Tensor, valid: Tensor) -> PseudoLabels:
        """The likeliest class of each pixel of (B, K, H, W) logits; weight 1 where the localiser's logit (B, H, W) says
        that it is right."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (right > 0).float(), valid)

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> Tensor:
        return evidence[0].softmax(1)

    # ---- training ----

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from human labels."""
        return Losses(x=self.supervised(self.student(batch.x.weak), batch.x.label))

    def with_localiser(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the second stage: decoders held back, and the localiser told where they and the student are
        right."""
        x, size = batch.x, batch.x.label.shape[-2:]
        features = self.student.encode(x.weak)
        z = self.student.decode(features).logits
        apart = features.map(Tensor.detach)
        others = [decoder.classify(decoder.fuse(apart).map)[0].float() for decoder in self.held]
        l_x, *l_k = (self.supervised(resize(p, size, True), x.label) for p in (z, *others))
        held = sum(held_back(loss, l_x, multiple) for loss, multiple in zip(l_k, self.multiples))
        said = [resize(self.locate(x.weak, p)[:, None], size, True)[:, 0] for p in (*others, z)]
        right = [resize(p.detach(), size, True).argmax(1) == x.label for p in (*others, z)]
        return Losses(x=l_x, held=held, localiser=sum(wrongness_loss(s, r) for s, r in zip(said, right)))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        u, losses = batch.u, self.with_localiser(batch, clock)
        with torch.no_grad():
            of_teacher = self.teacher.decode(self.teacher.encode(u.weak))
            f_t, right = self.teacher.heads["projection"](of_teacher.embedding), self.locate(u.weak, of_teacher.logits)
        target = self.judged(of_teacher.logits, right, torch.ones_like(right))
        label, l_pl, l_con, costs = target.label, 0.0, 0.0, []
        for image in (u.weak, u.strong[0]):
            own = self.student.decode(self.student.encode(image))
            l_pl = l_pl + pixel_ce(own.logits, target, over="kept")
            l_con = l_con + self.contrast(
                f_t, self.student.heads["projection"](own.embedding), label, target.weight > 0
            )
            costs.append(target.weight * ce_map(own.logits, label))
        losses.add("u", l_pl).add("contrast", l_con).see(weak=u.weak)
        big = target.map(lambda t: enlarged(t, u.weak.shape[-2:]))
        for name, image, cost in zip(NAMES, (u.weak, u.strong[0]), costs):
            losses.see(name, mixed=image, target=big, loss=enlarged(cost, u.weak.shape[-2:]))
        return losses

    def contrast(self, query: Tensor, key: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        """The mean over random crops of the maps."""
        (height, width), found = label.shape[-2:], []
        for _ in range(CROPS if min(height, width) > self.crop else 1):
            top, left = (random.randint(0, max(0, side - self.crop)) for side in (height, width))
            place = (..., slice(top, top + self.crop), slice(left, left + self.crop))
            parts = (t[place] for t in (query, key, label, valid))
            found.append(pair_contrast(*parts, self.classes, self.temperature))
        return torch.stack(found).mean()

    def after_step(self, clock: Clock) -> None:
        if clock.stage == 2:
            ema(self.teacher, self.student, self.decay, buffers="none")
            if self.reset and (clock.step + 1) % clock.epoch_steps == 0:
                ema(self.student, self.teacher, 0.0, buffers="copy")

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}
