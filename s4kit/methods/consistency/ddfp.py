"""DDFP: features are pushed to where there are few of them, and must keep their label.

From the release: r has its full length at every place that the gradient reaches, also at unsure neighbours, through
the 3x3 convolutions. Its yaml says that the means are fixed, its scripts learn them; so does this.
Simplified: one set of batch norms, where the release has a second one for perturbed features; the forward that
finds r leaves the running statistics alone. Phases are shares of the training; they are epochs 1 and 2 of 80.
Deviations: the release's teacher takes the student's parameters by reference when `alone` ends, so both are the
same tensors ever after and the average, written into them, changes nothing: it is the student with batch norms of
its own. Here it is the average of the paper. The rate of the flow falls to a hundredth continuously, there once an
epoch. The yaml of Cityscapes was not released: its recipe is the shared one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...nets import bn_untouched, copy_of, ema, make, warm
from ...nets.flow import MixtureFlow
from ...views import STRONG, Batch, Stream, ViewPlan, Views, half_box, paste
from ..base import Card, Clock, Losses, Optim, PseudoLabels, zero_of
from ..parts.density import density_descent, nll, some_places
from ..parts.draws import by_coin
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.teachers import AveragedTeacher


class DDFP(AveragedTeacher):
    """Towards the uncharted: density-descending feature perturbation (Wang et al., CVPR 2024, arXiv 2403.06462).

    Idea: decision boundaries belong where features are rare. So learn how dense features are, with a normalising flow,
    push confident ones against the gradient of the density, and ask for the same label there. What it adds to
    `fixmatch` with an EMA teacher: the flow, and a third stream of perturbed features.

    Equations; f the fused map, g(f) the embedding before the last layer, one Gaussian N_k per class, z, J = flow(g):
        y, c = argmax, max of softmax(t(w(u))), t in train mode;   mixed: with probability 1/2 a box of half the area
                                                                   of each image comes from the next in the batch
        NLL(g) = -log 1/K sum_k N_k(z) - log|J|
        r = eps d/||d|| at each place,  d = gradient at f of the mean NLL over the places with c > tau
        L = CE(z_x, y_x) + 1/2 CE(z_s, y) + 1/2 CE(z_{f + r}, y),   each a mean over the pixels that have a label
        L_flow = mean over up to `places` places of t's g(x), g(u), noisy by `jitter`, of NLL, where of labelled
                 places the Gaussian of the own class takes the place of the mixture
        t <- d t + (1 - d) f, parameters only, d = min(1 - 1/(i + 1), decay), i from the end of `alone` on
    The flow learns from L_flow alone, the networks from L alone. For a share `alone` of the training only labels are
    learnt from; up to `start` the flow gets ready, L = CE(z_x, y_x) + CE(z_s, y).

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: a pixel counts if it is more confident.
        eps: length of r.
        decay: of the teacher.
        alone, start: shares of the training, see above.
        places, jitter, hidden, flow_lr: of the flow's training: vectors per step, their noise, its width, its rate.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title=(
            "Towards the Uncharted: Density-Descending Feature Perturbation for Semi-supervised Semantic Segmentation"
        ),
        venue="CVPR",
        year=2024,
        authors="Wang et al.",
        arxiv="2403.06462",
        code="https://github.com/Gavinwxy/DDFP",
        extends=("fixmatch", "mean_teacher"),
        parity="golden",
    )
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,), masks=(half_box(),)))
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c(aspp_kernel=3, dropout=0.1)"},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                "perturbed features have batch norms of their own there, those of all others here",
                "ema: 0.999 there, but of parameters that teacher and student share, so that it never acts; 0.999 here",
                "evaluation: images are padded to 513 with black there, scored as they are here",
                "the better of student and teacher is reported there, the teacher here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        eps: float = 4.0,
        decay: float = 0.999,
        alone: float = 1 / 80,
        start: float = 2 / 80,
        places: int = 20480,
        jitter: float = 0.05,
        hidden: int = 256,
        flow_lr: float = 1e-3,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.teacher.train()  # it labels by the statistics of the batch
        self.flow = MixtureFlow(self.student.decoder.embedding_channels, self.student.classes, hidden=hidden)
        self.tau, self.eps, self.decay, self.alone, self.start = tau, eps, decay, alone, start
        self.places, self.jitter, self.flow_lr, self.supervised = places, jitter, flow_lr, criterion(supervised)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence > self.tau).float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        size = u.weak.shape[-2:]
        if clock.since(self.alone) < 0:
            return Losses(x=self.supervised(self.student(x.weak), x.label), flow=zero_of(*self.flow.parameters()))
        with torch.no_grad():
            t_x, t_u = self.teacher.joint(x.weak, u.weak)
        own = self.pseudo_labels(t_u.logits, u, clock)
        m = by_coin(u.masks[0])
        mixed = paste(m, u.strong[0].roll(-1, 0), u.strong[0])
        target = paste(m, own.map(lambda t: t.roll(-1, 0)), own)

        f = self.student.fuse(self.student.encode(torch.cat([x.weak, mixed]))).map
        f_x, f_s = f.split([len(x), len(u)])
        if clock.since(self.start) < 0:
            z_x, z_s = self.student.classify(f, size).logits.split([len(x), len(u)])
            terms = {"u": (pixel_ce(z_s, target, over="kept"), 1.0)}
        else:
            r = self.perturbation(f_s, target)
            z = self.student.classify(torch.cat([f_x, f_s, f_s + r.to(f_s.dtype)]), size).logits
            z_x, z_s, z_r = z.split([len(x), len(u), len(u)])
            terms = {"u": (pixel_ce(z_s, target, over="kept"), 0.5), "r": (pixel_ce(z_r, target, over="kept"), 0.5)}
        losses = Losses(x=self.supervised(z_x, x.label), **terms)
        losses.add("flow", self.flow_loss(torch.cat([t_x.embedding, t_u.embedding]), x, u))
        losses.see(weak=u.weak, mixed=mixed, target=target, student=z_s)
        return losses.see("perturbed features", mixed=mixed, target=target, student=z_r) if "r" in terms else losses

    def perturbation(self, f: Tensor, target: PseudoLabels) -> Tensor:
        """r for fused maps (B, F, h, w), of which the pixels with a label count."""
        kept = target.weight * target.valid > 0
        with bn_untouched(self.student):
            embed = lambda map: self.student.decoder.classify(map)[1]  # noqa: E731
            return density_descent(embed, self.flow, self.flow.means, f, kept, self.eps)

    def flow_loss(self, g: Tensor, x: Views, u: Views) -> Tensor:
        """Mean NLL of some places of the embeddings (B_x + B_u, D, h, w) of labelled and unlabelled images."""
        nearest = [F.interpolate(t[:, None].float(), g.shape[-2:], mode="nearest") for t in (x.label, u.valid)]
        label, valid = nearest[0].long().flatten(), nearest[1].flatten()
        counts = torch.cat([label != VOID, valid > 0])
        label = torch.cat([label, torch.full_like(valid, -1, dtype=torch.long)])
        index, real = some_places(counts, self.places)
        vectors = g.movedim(1, -1).flatten(0, 2)[index].float()
        label = label[index].where(real, -1)
        unlikely = nll(self.flow, self.flow.means, vectors + self.jitter * torch.randn_like(vectors), label)
        return (unlikely * real).sum() / real.sum().clamp(min=1)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        flow = Optim([self.flow], self.flow_lr, head=1.0, kind="adam", weight_decay=0.0, clip=50.0, betas=(0.5, 0.9))
        decays = replace(flow, schedule=lambda clock: 0.01**clock.progress)
        return {"main": replace(recipe, nets=[self.student]), "flow": decays}

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, max(0, clock.since(self.alone))), buffers="none")
