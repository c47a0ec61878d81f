"""STPG: a general network learns from all pseudo-labels, a professional one where it mistakes the harder classes.

From the release: its projection heads are in no optimiser; here that of s_1 learns, that of s_2 stays as it is, since
nothing is asked of it. Its anchors come from 10,000 steps of Adam towards the simplex. Its teachers begin with empty
BN statistics.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import ProjectionHead, copy_of, ema, evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, paste, three_boxes, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, zero_of
from ..cotraining.cps import PAPER_NET, START
from ..lengths import Length
from ..parts.anchors import anchored, best_match, simplex
from ..parts.banks import Queues, surest
from ..parts.contrast import members, rows, shrink
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.precision import float32
from ..parts.processes import over_processes
from ..parts.roles import pictured

GENERAL, PROFESSIONAL = "2 teaches the general one", "1 teaches the professional one"
FACTORS = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0)
PASSES = {"1_16": 32, "1_8": 34, "1_4": 40, "1_2": 60}


@float32
def mismatch(label: Tensor, found: Tensor, classes: int) -> Tensor:
    """(C,) how often each class is mistaken in a batch, as label and as prediction; they add up to 1, or all are 0.

    Args:
        label, found: (B, H, W) long.
    """
    pairs = (label * classes + found).flatten()
    counts = torch.zeros(classes * classes, device=label.device).scatter_add_(0, pairs, torch.ones_like(pairs).float())
    counts = counts.view(classes, classes) + torch.eye(classes, device=label.device)
    right, as_label, as_found = counts.diagonal(), counts.sum(1), counts.sum(0)
    score = (as_found - right) / as_found + (as_label - right) / as_label
    return score / score.sum().clamp(min=1e-12)


class Minority(Method):
    """Exploiting minority pseudo-labels (Hong et al., IEEE T-ITS 2026, arXiv 2409.12680): STPG.

    Idea: frequent classes rule pseudo-labels. Two networks with different diets: the general one learns from all labels
    of the other's teacher, weighted with their confidence; the professional one only where it agrees, or where a
    disagreement would move it to a class that is mistaken more often, which mostly is a rarer one. What it adds to
    `cps` with CutMix: averages as teachers, the selection, and contrast with fixed directions and a memory.

    Equations; s_1 general, s_2 professional, t_k their averages, m the boxes, logits l_k = m ? t_k(v) : t_k(u):
        q_k, y_k = max, argmax of softmax l_k;   seen = m ? v : u
        w_c = mistakes of c among pixels labelled c by y_1 + among pixels that s_2(seen) takes for c, over their sum
        n = 1 where argmax s_2 = y_1 or w[y_1] > w[argmax s_2], else 0
        L_1 = mean over all pixels of q_2 CE(s_1(seen), y_2);   L_2 = the same of q_1 n CE(s_2(seen), y_1)
        L = CE(s_1(x), y) + CE(s_2(x), y) + weight (L_1 + L_2) + contrast (A(x) + A(seen))
        t_k <- decay t_k + (1 - decay) s_k after each step, parameters alone
    A draws projected features of s_1 to the anchor of their class, away from the others, and to the class's memory, see
    `parts.anchors.anchored`. Anchors are a simplex. The memory holds features of t_2 of labelled pixels that it is
    right and sure of; from `ranked` on those nearest to the class's anchor. The anchors belong to the classes whose
    running centres fit them best: matched anew in each step, until `settled`. All forwards are in train mode.

    Cost: two networks and two teachers, each with forwards of the labelled, both unlabelled or the mixed images.

    Args:
        task: the data.
        net: network spec, see `nets.make`; built twice.
        weight, contrast: of L_1 + L_2, of the contrast. temperature: T.
        decay: of the teachers. momentum: of the centres.
        memory: first moment of the memory, ranked of its ranking, late of the contrast: shares, or passes, see
            `lengths`. settled: when the anchors stay where they are; None = never.
        rows: of a class's memory. fresh: most of them that an image gives; None = rows by labelled image.
        sure: confidence of what is remembered.
        dim: of the projections.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="Exploiting Minority Pseudo-Labels for Semi-Supervised Semantic Segmentation in Autonomous Driving",
        venue="arXiv",
        year=2024,
        authors="Hong et al.",
        arxiv="2409.12680",
        code="https://github.com/Amos1109/STPG",
        extends=("cps",),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},
        "voc": {
            "task": {"crop": 512, "scale": FACTORS},
            "method": {"net": PAPER_NET, "ranked": "16 epochs", "settled": "20 epochs"},
            "fit": {"epochs": 34, "batch": 8, "lr": 5e-3, "head": 1.0, "decay_norms": False},
            "processes": 1,
            "epochs": PASSES,
            "evaluation": "voc/cps",
            "differs": [START, "unsure: length: that of its README, its file has 800 epochs"],
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": FACTORS},
            "method": {"net": PAPER_NET, "supervised": "ohem(thresh=0.7, per_image=50000)"},
            "fit": {"epochs": 137, "batch": 3, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 1,
            "epochs": {share: 4 * passes for share, passes in PASSES.items()} | {"1_8": 137},
            "evaluation": "cityscapes/cps",
            "differs": [
                START,
                "its hard pixels weigh by class there, all the same here",
                "unsure: length: that of its README, its file has 800 epochs",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        weight: float = 1.0,
        contrast: float = 0.1,
        temperature: float = 0.5,
        decay: float = 0.99,
        momentum: float = 0.9,
        memory: Length = "6 epochs",
        ranked: Length = "11 epochs",
        late: Length = "11 epochs",
        settled: Length | None = None,
        rows: int = 256,
        fresh: int | None = None,
        sure: float = 0.95,
        dim: int = 256,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.net1, self.net2, self.classes = make(net, task), make(net, task), task.num_classes
        for one in (self.net1, self.net2):
            width = one.decoder.embedding_channels
            one.heads["projection"] = ProjectionHead(width, dim, width, convs=1)
        self.net2.heads["projection"].requires_grad_(False)  # nothing is asked of it
        self.teacher1, self.teacher2 = copy_of(self.net1).train(), copy_of(self.net2).train()  # they keep this mode
        self.weight, self.contrast, self.temperature, self.decay = weight, contrast, temperature, decay
        self.momentum, self.memory, self.ranked, self.late, self.settled = momentum, memory, ranked, late, settled
        self.fresh = fresh or max(1, round(rows / max(1, len(getattr(task, "labelled", ())))))
        self.sure, self.supervised = sure, criterion(supervised)
        self.bank = Queues([rows] * self.classes, dim)
        start = F.normalize(torch.randn(2, self.classes, dim), dim=2)
        self.register_buffer("anchors", simplex(self.classes, dim), persistent=False)
        self.register_buffer("centres", start[0])
        self.register_buffer("assigned", start[1])  # the anchor of each class
        view = weak(pad="mean", centred=True)
        self.views = ViewPlan(
            x=Stream("labelled", view),
            u=Stream("unlabelled", view, masks=(three_boxes(),)),
            v=Stream("unlabelled", view),
        )

    # ---- the rule ----

    def teach(self, view: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of both teachers, and of the professional network, whose mistakes decide."""
        with evaluating(self.teacher1, self.teacher2, self.net2):
            return self.teacher1(view.weak), self.teacher2(view.weak), self.net2(view.weak)

    def selected(self, label: Tensor, found: Tensor) -> Tensor:
        """(B, H, W) bool: where the professional network agrees, or would move to a class that is mistaken more."""
        score = mismatch(label, found, self.classes)
        return (found == label) | (score[label] > score[found])

    def pseudo_labels(
        self, evidence: tuple[Tensor, Tensor, Tensor], view: Views, clock: Clock
    ) -> dict[str, PseudoLabels]:
        return self.judged(*evidence, view.valid)

    def judged(self, l_1: Tensor, l_2: Tensor, z_2: Tensor, valid: Tensor) -> dict[str, PseudoLabels]:
        """What each of two networks is taught: the classes of the other one's (B, K, H, W) logits, weighed by how sure
        they are."""
        (q_1, y_1), (q_2, y_2) = (logits.softmax(1).max(1) for logits in (l_1, l_2))
        chosen = self.selected(y_1, z_2.argmax(1))
        return {
            GENERAL: PseudoLabels(y_2, q_2, q_2, valid),
            PROFESSIONAL: PseudoLabels(y_1, q_1, q_1 * chosen, valid),
        }

    def probabilities(self, evidence: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        return {GENERAL: evidence[1].softmax(1), PROFESSIONAL: evidence[0].softmax(1)}

    # ---- training ----

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v, m = batch.x, batch.u, batch.v, batch.u.masks[0]
        with torch.no_grad():
            l_1, l_2 = (paste(m, t(v.weak), t(u.weak)) for t in (self.teacher1, self.teacher2))
        seen = paste(m, v.weak, u.weak)
        x_1, x_2, z_1, z_2 = (net.decoded(image) for image in (x.weak, seen) for net in (self.net1, self.net2))
        targets = self.judged(l_1, l_2, z_2.logits.detach(), torch.ones_like(u.valid))  # padding counts, as released
        losses = Losses(x1=self.supervised(x_1.logits, x.label), x2=self.supervised(x_2.logits, x.label))
        losses.add("general", pixel_ce(z_1.logits, targets[GENERAL], over="all"), self.weight)
        losses.add("professional", pixel_ce(z_2.logits, targets[PROFESSIONAL], over="all"), self.weight)
        if clock.since(self.memory) >= 0:
            with torch.no_grad():
                of_teacher = self.teacher2.decoded(x.weak)
                f = self.teacher2.heads["projection"](of_teacher.embedding)
            self.remember(*self.trusted(of_teacher.logits, x.label, f), len(x) * self.fresh, clock)
            if self.settled is None or clock.since(self.settled) < 0:
                self.assign()
        projected = [self.net1.heads["projection"](part.embedding) for part in (x_1, z_1)]
        on_x, on_u = zero_of(*projected), zero_of(*projected)
        if clock.since(self.late) >= 0:
            pictured(projected[0].shape[-2:], x.weak, name="contrast_x")
            on_x = self.drawn(projected[0], shrink(x.label, projected[0].shape[-2:]))
            pictured(projected[1].shape[-2:], seen, name="contrast_u")
            on_u = self.drawn(projected[1], shrink(targets[GENERAL].label, projected[1].shape[-2:]))
        losses.add("contrast_x", on_x, self.contrast).add("contrast_u", on_u, self.contrast)
        losses.see(weak=u.weak, mixed=seen).see(GENERAL, target=targets[GENERAL], student=z_1.logits)
        return losses.see(PROFESSIONAL, target=targets[PROFESSIONAL], student=z_2.logits)

    def drawn(self, features: Tensor, label: Tensor) -> Tensor:
        """The contrast of features (B, D, h, w) with labels (B, h, w)."""
        memory = self.bank.rows[:-1].view(self.classes, -1, features.shape[1])
        return anchored(rows(features), label.flatten(), self.assigned, memory, self.bank.count, self.temperature)

    # ---- the memory ----

    def trusted(self, logits: Tensor, label: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) features of all cells, and (N,) their labels, 255 where the teacher is not right and sure."""
        confidence, found = logits.softmax(1).max(1)
        label, found = (shrink(map, features.shape[-2:]) for map in (label, found))
        confidence = shrink(confidence, features.shape[-2:])
        return rows(features), label.where((found == label) & (confidence > self.sure), VOID).flatten()

    @torch.no_grad()
    def remember(self, features: Tensor, label: Tensor, most: int, clock: Clock) -> None:
        """Move the centres of the classes that are there, and put at most so many features of each into its memory."""
        belongs, f = members(label, self.classes), F.normalize(features.float(), dim=1)
        total, number = over_processes(belongs.float() @ f), over_processes(belongs.sum(1))
        own = label.clamp(max=self.classes - 1)
        place = -torch.arange(len(label), device=label.device, dtype=f.dtype)
        nearness = (f @ self.assigned.mT).gather(1, own[:, None])[:, 0]
        many = belongs.sum(1)[own] > most  # else all are taken, in their order
        score = torch.where(many, nearness, place) if clock.since(self.ranked) >= 0 else place
        chosen, amount = surest(features.float(), score, belongs, most)
        self.bank.append(first_last(chosen, amount), amount)
        mean = F.normalize(total / number.clamp(min=1)[:, None], dim=1)
        moved = F.normalize(self.momentum * self.centres + (1 - self.momentum) * mean, dim=1)
        self.centres.copy_(torch.where(number[:, None] > 0, moved, self.centres))

    def assign(self) -> None:
        """Give each class the anchor that fits: the sum of their products with the centres is the largest."""
        self.assigned.copy_(self.anchors[best_match(self.centres @ self.anchors.mT)])

    def after_step(self, clock: Clock) -> None:
        for teacher, net in ((self.teacher1, self.net1), (self.teacher2, self.net2)):
            ema(teacher, net, self.decay, buffers="none")

    def predictors(self) -> dict[str, nn.Module]:
        return {"general": self.net1, "professional": self.net2}


def first_last(chosen: Tensor, amount: Tensor) -> Tensor:
    """The last `amount` (K,) rows of (K, W, D) turned round: a queue that is read from its youngest row then has them
    in their order."""
    width = chosen.shape[1]
    place = torch.arange(width, device=chosen.device)
    turned = torch.where(place < (width - amount)[:, None], place, 2 * width - 1 - amount[:, None] - place)
    return chosen.gather(1, turned[..., None].expand_as(chosen))
