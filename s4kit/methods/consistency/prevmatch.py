"""PrevMatch: UniMatch, taught by earlier versions of the network as well.

From the release: for Cityscapes ("pixelavg") its weight multiplies the loss of the whole batch by the sum of the
images' confidences, padding included, about B times what an average weight is; here each image has its own. r is set
per epoch there, per step here. Its checkpoint lacks the list, so that it cannot be resumed; here the models are part
of the state. Explorer and metrics show the even average of all models held.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import S4Error
from ...nets import Features, copy_of, evaluating, feature_dropout
from ...views import Batch, Views, paste
from ..base import Card, Clock, Losses, PseudoLabels, Update
from ..parts.losses import Criterion, ce, pixel_ce
from ..parts.schedules import triangle
from .unimatch import UniMatch

NAMES = ("student", "previous models")
REGULAR = 20  # copies per training where they are taken at even distances


class PrevMatch(UniMatch):
    """Revisiting and maximizing temporal knowledge (Shin et al., 2024, arXiv 2405.20610).

    Idea: earlier versions of the network err differently, so a few of them, drawn anew in every step and mixed with
    random weights, give a second, more varied opinion without the coupling of an averaged teacher. What it adds to
    `unimatch`: a list of former bests of the student, and its three terms a second time with their labels.

    Equations; g_1, g_2, .. the stored models, oldest first, at most M; L_x and L_std = L_1 / 4 + L_2 / 4 + L_fp / 2 as
    in `unimatch`:
        n uniform in 1..K, k = min(n, models held), k different models, w ~ Dirichlet(1, .., 1):
        e_u, e_v = sum over j of w_j g_j(w(u), w(v)) in eval mode;   y^p, c^p = argmax, max of softmax(e)
        L_prev = the three terms with y^p, c^p, the same boxes and the weight 1[c^p >= tau_prev]
                 (average: the mean of c^p over the valid pixels of the image, for all of its pixels)
        L = (L_x + L_std + r L_prev) / (2 + r),   r = 1 - |2 progress - 1|;   L = (L_x + L_std) / 2 while none is held
    Whenever an evaluation finds a new best (of all, also of those before `start`), the network that was evaluated is
    stored before the next step; when M are held the oldest goes.

    NOTE: the list is steered by the mIoU on the VALIDATION set, in the paper as here, so its scores there are not those
    of a method that has never seen it. `select="regular"` stores a copy at even distances instead and looks at nothing.
    The paper evaluates after every epoch; give `fit` an `evaluate_every` of one epoch to do the same.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts; 0 = all pixels (Cityscapes). tau_prev: the same for L_prev.
        average: weigh L_prev by the image's mean confidence instead (Cityscapes).
        models: M. mixed: K. start: share of the training before which nothing is stored.
        select: "validation" or "regular".
        drop: probability that a feature channel is dropped.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `select`.
    """

    card = Card(
        family="consistency",
        title="Revisiting and Maximizing Temporal Knowledge in Semi-supervised Semantic Segmentation",
        venue="arXiv",
        year=2024,
        authors="Shin et al.",
        arxiv="2405.20610",
        code="https://github.com/wooseok-shin/PrevMatch",
        extends=("unimatch",),
        parity="golden",
        note="steered by the validation mIoU",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "tau": 0.95},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 1,
            "evaluation": "voc",
            "differs": [
                "the list of previous models follows the mIoU on val: evaluate once an epoch, as the paper does",
            ],
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {
                "net": "resnet101c",
                "tau": 0.0,
                "tau_prev": 0.0,
                "average": True,
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 2,
            "evaluation": "cityscapes",
            "differs": [
                "the list of previous models follows the mIoU on val: evaluate once an epoch, as the paper does",
                "unsure: backbone: resnet50 in the released yaml, resnet101 here: its tables have both",
            ],
        },
        "voc/cps": {"method": {"net": "resnet50c"}},  # the published runs on these lists
        "voc/u2pl": {"task": {"crop": 513}},
        "coco": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c", "tau": 0.95, "models": 5, "start": 1 / 6},
            "fit": {"epochs": 30, "batch": 8, "lr": 4e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 2,
            "evaluation": "coco",
            "differs": [
                "backbone: xception65 there, resnet101 here: its numbers are not for this one",
                "the list of previous models follows the mIoU on val: evaluate once an epoch, as the paper does",
            ],
        },
        "ade20k": {
            "task": {"crop": 513},
            "method": {"net": "resnet50c", "tau": 0.95, "models": 5, "start": 1 / 8},
            "fit": {"epochs": 40, "batch": 8, "lr": 4e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 2,
            "evaluation": "ade20k",
            "differs": [
                "the list of previous models follows the mIoU on val: evaluate once an epoch, as the paper does",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        tau_prev: float = 0.9,
        average: bool = False,
        models: int = 8,
        mixed: int = 3,
        start: float = 0.0,
        select: str = "validation",
        drop: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, drop, supervised)
        if select not in ("validation", "regular"):
            raise S4Error(f"select={select!r}: choose validation or regular.")
        self.previous = nn.ModuleList(
            copy_of(self.student) for _ in range(models)
        )  # a ring; `stored` says what is held
        self.tau_prev, self.average = tau_prev, average
        self.mixed, self.start, self.select = mixed, start, select
        self.stored, self.best = 0, -1.0  # models stored so far, best score so far; known to the host, see extra state

    @property
    def held(self) -> list[nn.Module]:
        """The models in the list, oldest first."""
        number = len(self.previous)
        return [self.previous[i % number] for i in range(max(0, self.stored - number), self.stored)]

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits of the student, and the mean of those of all models held (zeros where there is none)."""
        logits, held = super().teach(view), self.held
        return logits, self.ensemble(view.weak, [(g, 1 / len(held)) for g in held], logits)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        of_student, of_previous = evidence
        own = self.judge(of_student, view)
        own.weight = (own.confidence >= self.tau).float()
        return dict(zip(NAMES, (own, self.weigh(self.judge(of_previous, view)))))

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        z_v = super().teach(v)
        e = self.student.encode(torch.cat([x.weak, u.weak])).ends
        both = self.student.decode(Features.cat([e, feature_dropout(e, self.drop)]), u.weak.shape[-2:])
        of_x, of_w, _, of_fp = both.split(len(x), len(u), len(x), len(u))
        z_x, z_w, z_fp = of_x.logits, of_w.logits, of_fp.logits
        e_u, e_v = self.ensemble(torch.cat([u.weak, v.weak]), self.draw(), torch.cat([z_w, z_v])).chunk(2)
        own, old = self.pseudo_labels((z_w.detach(), e_u), u, clock).values()
        partner, old_partner = self.pseudo_labels((z_v, e_v), v, clock).values()

        mixed = [paste(m, s_v, s_u) for m, s_v, s_u in zip(u.masks, v.strong, u.strong)]
        target = [paste(m, partner, own) for m in u.masks]
        guide = [self.weigh(paste(m, old_partner, old)) for m in u.masks]
        z_1, z_2 = (part.logits for part in self.student.joint(*mixed))
        r = triangle(clock.progress) if self.stored else 0.0
        one = 1 / (2 + r)
        losses = Losses(x=(self.supervised(z_x, x.label), one))
        for name, z, y, y_p, weight in (
            ("s1", z_1, target[0], guide[0], one / 4),
            ("s2", z_2, target[1], guide[1], one / 4),
            ("fp", z_fp, own, old, one / 2),
        ):
            losses.add(name, pixel_ce(z, y, over="valid"), weight)
            losses.add(f"{name}_prev", self.guided(z, y_p), r * weight)
        losses.see(weak=u.weak, mixed=mixed[0])
        losses.see(NAMES[0], target=target[0], student=z_1).see(NAMES[1], target=guide[0], student=z_1)
        losses.see("second view", mixed=mixed[1], target=target[1], student=z_2)
        return losses.see("dropped features", mixed=u.weak, target=own, student=z_fp)

    def judge(self, logits: Tensor, view: Views) -> PseudoLabels:
        """The likeliest class of each pixel of (B, K, H, W) logits, each with weight 1."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def weigh(self, found: PseudoLabels) -> PseudoLabels:
        """The weights of L_prev; 0 while there is no model."""
        if not self.stored:
            return replace(found, weight=torch.zeros_like(found.weight))
        if not self.average:
            return replace(found, weight=(found.confidence >= self.tau_prev).float())
        sums = (found.confidence * found.valid).sum((1, 2), keepdim=True)
        mean = sums / found.valid.sum((1, 2), keepdim=True).clamp(min=1)
        return replace(found, weight=mean.expand_as(found.weight))

    def guided(self, logits: Tensor, target: PseudoLabels) -> Tensor:
        """One term of L_prev."""
        return pixel_ce(logits, target, over="valid")

    def draw(self) -> list[tuple[nn.Module, float]]:
        """Some of the models and their weights, which add up to 1; the host draws, as it must know which to run."""
        held = self.held
        chosen = random.sample(held, min(random.randint(1, self.mixed), len(held)))
        weights = [random.expovariate(1) for _ in chosen]  # divided by their sum: Dirichlet(1, .., 1)
        return [(g, w / sum(weights)) for g, w in zip(chosen, weights)]

    def ensemble(self, image: Tensor, chosen: list[tuple[nn.Module, float]], like: Tensor) -> Tensor:
        """Weighted sum of logits; zeros shaped like the given ones for no model."""
        total = torch.zeros_like(like)
        for model, weight in chosen:
            with evaluating(model):
                total = total + weight * model(image)
        return total

    def step(self, update: Update, clock: Clock) -> None:
        """Before the network changes: store it if the evaluation that has just ended found it the best so far."""
        self.remember(clock)
        super().step(update, clock)

    @torch.no_grad()
    def remember(self, clock: Clock) -> None:
        """Store the student if it is due."""
        if self.select == "regular":
            due = clock.step > 0 and clock.step % max(1, clock.steps // REGULAR) == 0
        else:
            due = clock.score is not None and clock.score > self.best
            self.best = clock.score if due else self.best  # also before `start`: a later, lower score is no new best
        if due and clock.since(self.start) >= 0:
            self.previous[self.stored % len(self.previous)].load_state_dict(self.student.state_dict())
            self.stored += 1

    def get_extra_state(self) -> Tensor:
        """How many models were stored and the best score: numbers that no device is asked for."""
        return torch.tensor([self.stored, self.best], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """How many networks are stored, and the best score so far, from a tensor (2,)."""
        self.stored, self.best = int(state[0]), float(state[1])
