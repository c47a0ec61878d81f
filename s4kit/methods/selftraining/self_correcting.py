"""Self-correcting: a network that sees boxes labels the images, and is believed less the better the other becomes.

Reconstructed: there is no official code. That alpha falls geometrically, the module's width and the places of the
boxes are of a third party's version, the rest is of the paper. Padding is not taught.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID
from ...errors import S4Error
from ...nets import box_map, evaluating, make, segment, with_boxes
from ...views import Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.precision import float32

CORRECTIONS = ("conv", "linear", "none")


def between(first: float, last: float, clock: Clock, kind: str) -> float:
    """From `first` in a stage's first step to `last` in its last one, "geometric" or "linear"."""
    share = clock.step / max(1, clock.steps - 1)
    return first * (last / first) ** share if kind == "geometric" else first + (last - first) * share


@float32
def mixed_logits(primary: Tensor, ancillary: Tensor, alpha: float | Tensor) -> Tensor:
    """Logits (B, C, H, W) of the q with the least KL(q | primary) + alpha KL(q | ancillary)."""
    return (primary + alpha * ancillary) / (1 + alpha)


@float32
def soft_ce_map(logits: Tensor, p: Tensor) -> Tensor:
    """(B, H, W) cross entropy with class probabilities (B, C, H, W)."""
    return -(p * logits.log_softmax(1)).sum(1)


class SelfCorrecting(Method):
    """Semi-supervised semantic image segmentation with self-correcting networks (Ibrahim et al., CVPR 2020, arXiv
    1811.07073). WEAK LABELS: it is told the boxes around the objects of the unlabelled images.

    Idea: who sees an image and the boxes of its objects segments it well after few masks; so an ancillary network of
    this kind labels the others, softly, for the primary one, which sees no boxes. What either knows is joined: by a
    mean of their logits in which the ancillary network counts less and less, or by a small module that learns from the
    masks how to join them. What it adds to `pseudo_label`: boxes, and a correction that changes as the student learns.

    Equations; x labelled, u with boxes b alone, p(.) the primary logits, a(., b) the ancillary ones, frozen by then:
        none     q = softmax a(u, b)
        linear   q = softmax((p(u) + alpha a(u, b)) / (1 + alpha)),   alpha from 30 to 0.5 over the stage
        conv     q = softmax m(u),   m = conv3x3(relu(conv3x3([p, a])));   the inputs, and q, without gradient
        L = CE(p(x), y) + [conv] CE(m(x), y) + mean over pixels of -sum_c q_c log softmax p(u)_c
    Stages: the ancillary network on masks (for conv on half of them, so that on the other half it errs as on unlabelled
    images and the module does not learn to copy it); for conv the primary network and the module on all masks; all. The
    module learns from masks alone. No threshold. x and u are one batch to the primary network's norms.

    Boxes are a map with a channel for each class, 1 inside of its boxes, and the background's 1 outside of all; at two
    places in the decoder, the low-level features and the ASPP output, a 3x3 convolution and a sigmoid of it weigh each
    channel. Here they are read off the masks: one for each connected region of a class, the 64 largest of an image.

    Cost: a forward of the ancillary network for each unlabelled image, and the module at image size; three stages.

    Args:
        task: the data.
        net: network spec of DeepLabV3+, see `nets.make`; built twice.
        correction: "conv", "linear" or "none".
        alpha: first and last, of "linear". decay: "geometric" or "linear", how it gets there.
        hidden: width of the module of "conv".
        background: whether class 0 is what is outside of all boxes, and has none itself.
        start, warming: lengths of the first stage and, for "conv", of the second, per step of the last; or passes, see
            `lengths`.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: unknown correction or decay, or the decoder is no DeepLabV3+.
    """

    card = Card(
        family="selftraining",
        title="Semi-Supervised Semantic Image Segmentation with Self-correcting Networks",
        venue="CVPR",
        year=2020,
        authors="Ibrahim et al.",
        arxiv="1811.07073",
        extends=("pseudo_label",),
        parity="reconstruction",
        note="weak labels: boxes of all images; recordings of a third party",
    )
    views = ViewPlan(x=Stream("labelled", reveal="boxes"), u=Stream("unlabelled", reveal="boxes"))
    recipes: ClassVar = {name: {"method": {"background": False}} for name in ("cityscapes", "camvid", "ade20k")}

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        correction: str = "conv",
        alpha: tuple[float, float] = (30.0, 0.5),
        decay: str = "geometric",
        hidden: int = 128,
        background: bool = True,
        start: Length = 0.5,
        warming: Length = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if correction not in CORRECTIONS:
            raise S4Error(f"correction={correction!r}: choose one of {', '.join(CORRECTIONS)}.")
        if decay not in ("geometric", "linear"):
            raise S4Error(f"decay={decay!r}: choose geometric or linear.")
        self.student, self.ancillary, self.classes = make(net, task), with_boxes(make(net, task)), task.num_classes
        self.correction, self.decay, self.background = correction, decay, background
        self.ends, self.start, self.warming, self.supervised = tuple(alpha), start, warming, criterion(supervised)
        if correction == "conv":
            self.module = nn.Sequential(
                nn.Conv2d(2 * self.classes, hidden, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(hidden, self.classes, 3, padding=1),
            )
        images = len(getattr(task, "labelled", ()))
        self.register_buffer("often", torch.ones(images, dtype=torch.long))
        self.register_buffer("alpha", torch.tensor(self.ends[0]))

    def stages(self) -> list[Stage]:
        plan = ViewPlan(x=Stream("labelled", reveal="boxes", batch=2.0))
        first = Stage("ancillary", self.start, self.masks_and_boxes, plan, train=(self.ancillary,), prepare=self.halve)
        if self.correction != "conv":
            return [first, Stage("all", train=(self.student,))]
        nets = (self.student, self.module)
        warming = Stage("labels alone", self.warming, self.labels_alone, plan, train=nets, prepare=self.join)
        return [first, warming, Stage("all", train=nets)]

    def sampling(self, task: Any) -> dict[str, Tensor]:
        return {"labelled": self.often}

    def halve(self, sweep: Any) -> None:
        """For "conv" the ancillary network learns from half of the masks, drawn once and for all."""
        if self.correction == "conv" and len(self.often) > 1:
            order = torch.randperm(len(self.often), generator=torch.Generator().manual_seed(0))
            self.often[order[len(order) // 2 :]] = 0

    def join(self, sweep: Any) -> None:
        """From here on all masks."""
        self.often.fill_(1)

    # ---- the rule ----

    def boxes(self, view: Views) -> Tensor:
        """(B, C, H, W) box map of a view; no box where nothing is revealed."""
        boxes = view.index.new_full((len(view), 1, 5), VOID) if view.boxes is None else view.boxes
        return box_map(boxes, self.classes, view.weak.shape[-2:], self.background)

    def told(self, view: Views) -> Tensor:
        """Logits of the frozen ancillary network."""
        with evaluating(self.ancillary):
            return segment(self.ancillary, view.weak, self.boxes(view))

    def corrected(self, primary: Tensor, ancillary: Tensor) -> Tensor:
        """Logits of both networks joined; only the module gets a gradient from here."""
        primary, ancillary = primary.detach(), ancillary.detach()
        if self.correction == "conv":
            return self.module(torch.cat([primary, ancillary], 1)).float()
        return mixed_logits(primary, ancillary, self.alpha) if self.correction == "linear" else ancillary

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits of the primary and of the ancillary network."""
        with evaluating(self.student):
            return self.student(view.weak), self.told(view)

    @torch.no_grad()
    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> Tensor:
        return self.corrected(*evidence).softmax(1)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        q = self.probabilities(evidence)
        confidence, label = q.max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid, soft=q)

    # ---- training ----

    def masks_and_boxes(self, batch: Batch, clock: Clock) -> Losses:
        """The term of the first stage: the ancillary network learns masks, given their boxes."""
        x = batch.x
        return Losses(x=self.supervised(segment(self.ancillary, x.weak, self.boxes(x)), x.label))

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the warming stage: the student, and the module that corrects, learn from human labels."""
        return self.of_labels(self.student(batch.x.weak), batch.x)

    def of_labels(self, z: Tensor, x: Views) -> Losses:
        """The terms of (B, K, H, W) logits on labelled images; "x_module" where the module is learnt."""
        losses = Losses(x=self.supervised(z, x.label))
        if self.correction == "conv":
            losses.add("x_module", self.supervised(self.corrected(z, self.told(x)), x.label))
        return losses

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        self.alpha.fill_(between(*self.ends, clock, self.decay))
        z_x, z_u = (part.logits for part in self.student.joint(x.weak, u.weak))
        losses = self.of_labels(z_x, x)
        target = self.pseudo_labels((z_u.detach(), self.told(u)), u, clock)
        far = soft_ce_map(z_u, target.soft)
        losses.add("u", pixel_mean(far, target.weight, target.valid, over="all"))
        return losses.see(weak=u.weak, mixed=u.weak, target=target, loss=far * target.valid)
