"""LPL: two networks make labels together, an image's weighed by how good one is at the classes that it holds.

From the release: a class whose IoU is exactly 0 counts as perfect, not as useless; kept. exp without a shift, which
overflows in half precision; here the same with one. The pseudo network's learning rate stays as it begins; kept.
Padding counts neither in the areas nor in the losses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID, Evaluation
from ...nets import evaluating, make
from ...views import Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels, Stage
from ..lengths import Length
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.present import allowed, class_aware_map, tag_loss, within
from ..parts.processes import over_processes
from ..parts.rounds import KEPT, believed, hard, kept_of
from ..parts.schedules import constant, poly

HYBRID, PSEUDO = "hybrid teaches pseudo", "pseudo teaches hybrid"
NET = "resnet101c(output_stride=8)"


class LearningPseudoLabel(Method):
    """Learning pseudo labels for semi-and-weakly supervised semantic segmentation (Wang et al., Pattern Recognition
    2022). WEAK LABELS: it is told which classes are in each unlabelled image.

    Idea: who knows an image's classes need only choose among these. Two networks learn so: the hybrid one from human
    labels and from the other one's; the pseudo network from the hybrid one's labels alone, so that the labelled images
    are a test that it has not learned by heart, and say how far its labels of a class can be trusted. What it adds to
    `cps`: tags, the roles, and the trust.

    Equations; x labelled, u drawn from all images, t the tags of an image (of the whole one, background always there),
    h, p the two networks, each in one forward of x and u; NLL the class-aware one, of log(q + 1e-5),
    q_c = exp z_c / (sum_{k in t} exp z_k + 1e-5):
        y_h, y_p = argmax over t of h(u), p(u);  the human label in place of both where u has one
        L = NLL(h(x), y) + NLL(p(u), y_h) + L_tags + L_pct,    means over the pixels with a label
        L_tags = BCE(max over pixels of h, t), of x and u, a mean over classes but the background
        T, P, TP <- 0.99 (T, P, TP) + pixels of each class in y(x), in argmax over t of p(x), in both;   start (1, 0, 0)
        iou_c = TP / (T + P - TP);   v(u) = (min over c in t of iou_c)^8, classes with an iou of 0 left out
        L_pct = sum over pixels of v NLL(h(u), y_p) / (B H W)
    Then the hybrid network labels all unlabelled images, over scales and mirrored, among their tags; and a third
    network, which never sees a tag and is evaluated, learns from these and the human labels with one cross entropy.

    Cost: two networks with a forward of both lists each, then a third; a pass over the unlabelled images with a forward
    for each scale and mirroring.

    Args:
        task: the data.
        net: network spec, see `nets.make`; built three times.
        power: of v. momentum: of the areas.
        background: whether class 0 is what is left: always there, and not asked for.
        start: length of the stage of the two networks, per step of the other; or passes, see `lengths`.
        rate: learning rate of the third network, as a multiple.
        scales: at which an image is labelled, mirrored as well.
        supervised: criterion of the third network, "ce", "ohem(...)" or a function; human labels and the others weigh
            as many pixels as they are, so that with "ce" it is one mean over both.
    """

    card = Card(
        family="selftraining",
        title="Learning Pseudo Labels for Semi-and-Weakly Supervised Semantic Segmentation",
        venue="Pattern Recognition",
        year=2022,
        authors="Wang et al.",
        code="https://github.com/YudeWang/Learning-Pseudo-Label",
        extends=("cps",),
        parity="golden",
        note="weak labels: tags of all images",
    )
    views = ViewPlan(x=Stream("all", maps=("label",)), u=Stream("all", maps=("label",)))  # halves of one list
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 384},
            "method": {"net": NET, "start": 2 / 3, "rate": 7.0},
            "fit": {"steps": 50000, "batch": 5, "lr": 1e-3, "head": 10.0, "weight_decay": 4e-5},
            "processes": 1,
            "evaluation": "voc",
            "selection": "last",
            "differs": [
                "batch: 10 there, five labelled and five others, 5 here: the same; the third network's is 16 there, 10 "
                "here",
                "length: 20000 and 30000 steps there, 50000 here: their sum",
                "lr: 0.001 and 0.007 for the third network there, 0.001 here: `rate` says the rest",
                "backbone: resnet50 there, resnet101 here: the two networks' script has it, not their file",
                "head_lr: the classifier alone has ten times the rate there, all new layers here",
                "evaluation: scored over five scales, mirrored and with a CRF there, at one scale here",
                "strong colours: two operations there, of colour, shear and rotation, none here",
                "low_kernel: 3 there, 1 here: the low-level features are reduced by a 3x3 convolution there",
            ],
        },
        "cityscapes": {"method": {"background": False}},
        "camvid": {"method": {"background": False}},
        "ade20k": {"method": {"background": False}},
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        power: float = 8.0,
        momentum: float = 0.99,
        background: bool = True,
        start: Length = 1.0,
        rate: float = 1.0,
        scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5),
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.hybrid, self.pseudo = (make(net, task) for _ in range(3))
        self.classes, self.power, self.momentum, self.background = task.num_classes, power, momentum, background
        self.start, self.rate, self.supervised = start, rate, criterion(supervised)
        self.how = Evaluation(scales=tuple(scales), flip=True, combine="logits")
        self.register_buffer("areas", torch.tensor([1.0, 0.0, 0.0])[:, None].repeat(1, self.classes))

    def stages(self) -> list[Stage]:
        told = ViewPlan(x=Stream("labelled", reveal="tags"), u=Stream("all", reveal="tags"))
        last = poly(0.9)
        return [
            Stage("two networks", self.start, self.together, told, train=(self.hybrid, self.pseudo)),
            Stage(
                "third network",
                train=(self.student,),
                schedule=None if self.rate == 1 else lambda clock: self.rate * last(clock),
                prepare=self.label,
            ),
        ]

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        nets = {"hybrid": self.hybrid, "pseudo": self.pseudo, "student": self.student}
        specs = {name: replace(recipe, nets=[net]) for name, net in nets.items()}
        return {**specs, "pseudo": replace(specs["pseudo"], schedule=constant)}

    # ---- two networks ----

    def teach(self, view: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of both networks, -inf for the classes that are not there, and the labels that were kept."""
        with evaluating(self.hybrid, self.pseudo):
            there = allowed(view, self.classes, self.background)
            return within(self.hybrid(view.weak), there), within(self.pseudo(view.weak), there), kept_of(view)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor, Tensor], view: Views, clock: Clock) -> dict:
        """What each network teaches the other, and what was kept for the third."""
        z_h, z_p, kept = evidence
        v = self.trust(allowed(view, self.classes, self.background))[:, None, None]
        return {
            HYBRID: self.chosen(z_h, view, torch.ones_like(v)),
            PSEUDO: self.chosen(z_p, view, v),
            KEPT: self.of_network(kept, view),
        }

    def probabilities(self, evidence: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        z_h, z_p, kept = evidence
        return {HYBRID: z_h.softmax(1), PSEUDO: z_p.softmax(1), KEPT: hard(kept, self.classes)}

    def chosen(self, z: Tensor, view: Views, weight: Tensor) -> PseudoLabels:
        """The likeliest class of logits of the classes that are there; the human label where there is one."""
        confidence, label = z.detach().softmax(1).max(1)
        human = view.labelled[:, None, None]
        known = (~human | (view.label != VOID)).float()
        label = torch.where(human & (view.label != VOID), view.label, label)
        return PseudoLabels(label, confidence.where(~human, 1.0), weight * known, view.valid)

    def trust(self, there: Tensor) -> Tensor:
        """(B,) weight of images with the classes (B, C): the smallest IoU among these, to a power."""
        iou = self.iou()
        return torch.where(there & (iou > 0), iou, 1.0).amin(1) ** self.power

    def iou(self) -> Tensor:
        """(C,) of the pseudo network, on labelled images of late."""
        true, found, hit = self.areas
        return hit / (true + found - hit)

    @torch.no_grad()
    def count(self, label: Tensor, found: Tensor, valid: Tensor) -> None:
        """Move the areas by labels (B, H, W), 255 = void, and what the pseudo network takes them for."""
        names = torch.arange(self.classes, device=label.device)[:, None]
        true, found = (t.flatten() == names for t in (label, found))
        found = found & (valid.flatten() > 0)
        pixels = torch.stack([true.sum(1), found.sum(1), (true & found).sum(1)])
        self.areas.mul_(self.momentum).add_(over_processes(pixels))

    def together(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: two networks learn from masks, from tags and from each other."""
        x, u = batch.x, batch.u
        t_x, t_u = (allowed(view, self.classes, self.background) for view in (x, u))
        h_x, h_u = (part.logits for part in self.hybrid.joint(x.weak, u.weak))
        p_x, p_u = (part.logits for part in self.pseudo.joint(x.weak, u.weak))
        self.count(x.label, within(p_x, t_x).argmax(1), x.valid)
        target = self.pseudo_labels((within(h_u, t_u), within(p_u, t_u), kept_of(u)), u, clock)
        of_h, of_p = target[HYBRID], target[PSEUDO]
        known = (x.label != VOID).float()
        l_h = pixel_mean(class_aware_map(h_x, x.label, t_x), known, known, over="valid")
        taught = class_aware_map(p_u, of_h.label, t_u) * of_h.weight
        l_p = pixel_mean(taught, torch.ones_like(taught), of_h.valid * of_h.weight, over="valid")
        crossed = class_aware_map(h_u, of_p.label, t_u) * of_p.weight * of_p.valid
        skipped = int(self.background)
        tags = torch.cat([t_x, t_u])[:, skipped:].float()
        l_tags = tag_loss(torch.cat([h_x, h_u]).amax((2, 3))[:, skipped:], tags)
        losses = Losses(x=l_h, pseudo=l_p, tags=l_tags, pct=crossed.mean()).see(weak=u.weak, mixed=u.weak)
        return losses.see(HYBRID, target=of_h, loss=taught * of_h.valid).see(PSEUDO, target=of_p, loss=crossed)

    # ---- the third ----

    def label(self, sweep: Any) -> None:
        """Keep the hybrid network's classes of all unlabelled images, of those that their tags allow."""
        for row, view in sweep.over("unlabelled", reveal="tags"):
            scores = sweep.scores(self.hybrid, view, self.how)
            sweep.keep("label", row, within(scores, allowed(view, self.classes, self.background)).argmax(1)[0])

    def of_network(self, label: Tensor, view: Views) -> PseudoLabels:
        """Kept labels of the images that nobody has labelled."""
        kept = believed(label, view)
        return replace(kept, weight=kept.weight * ~view.labelled[:, None, None])

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        z_x, z_u = self.student.joint(x.weak, u.weak)
        human = torch.cat([view.label.where(view.labelled[:, None, None], VOID) for view in (x, u)])
        target = [self.of_network(kept_of(view), view) for view in (x, u)]
        own = torch.cat([t.label.where(t.weight * t.valid > 0, VOID) for t in target])
        z, known = torch.cat([z_x.logits, z_u.logits]), (human != VOID).sum()
        share = known / (known + (own != VOID).sum()).clamp(min=1)
        losses = Losses(x=share * self.supervised(z, human), u=(1 - share) * self.supervised(z, own))
        losses.see(weak=u.weak, mixed=u.weak)
        return losses.see(KEPT, target=target[1], student=z_u.logits)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "hybrid": self.hybrid, "pseudo": self.pseudo}
