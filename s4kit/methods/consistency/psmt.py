"""PS-MT: two teachers that take turns, and features shaken along the direction that the teachers feel most.

From the release: T-VAT's xi of 1e-6 makes it a no-op, and its radius of 2 is below 1 % of the features' norm; here
both are shares of that norm. Its teachers label in train mode, here in eval mode. There only the student's backbone
is pretrained. Padding counts there. One lambda of the box for a batch, here one for each image; on Cityscapes it has
three boxes instead. Its Cityscapes configuration asks for OHEM, which its model never calls.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import caution
from ...nets import Ensemble, SegNet, ema, evaluating, make
from ...views import STRONG, Batch, Stream, ViewPlan, Views, beta_box, paste, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.adversary import adversarial_noise, length
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.schedules import constant, cosine_ramp

PRETRAINED = "there only the backbone of the student starts from ImageNet, here all three do"
ORDER = "the three warm up one after another there, side by side here, each by 5 passes over the labelled list"
FIT = {"head": 1.0, "decay_norms": False, "before": "5 labelled epochs"}
COUNTED = {
    "net": "resnet101c(multi_grid=(2, 4, 8), aspp='cps')",
    "warm_up": "5 labelled epochs",
    "ramp_up": "12 epochs",
}


def assisted(now: Tensor, other: Tensor, top: int) -> Tensor:
    """Mean of two teachers' logits (B, C, H, W), the other one heard only on its `top` classes of each pixel."""
    best = other.topk(min(top, other.shape[1]), dim=1).indices
    heard = torch.zeros_like(other, dtype=torch.bool).scatter(1, best, True)
    return 0.5 * now + 0.5 * torch.where(heard, other, now)


class PSMT(Method):
    """Perturbed and strict mean teachers for semi-supervised semantic segmentation (Liu et al., CVPR 2022).

    Idea: one teacher that averages its student soon agrees with it; two, of which every epoch moves only one, stay
    apart, and their mean is a better target. The student's side is made harder at the same time, up to noise in the
    features that fools the teachers. What it adds to `mean_teacher`: the second teacher, strong colours (on labelled
    images, too), CutMix, and T-VAT.

    Equations; e and g the student's two halves (all before the classifier, and the classifier), t_1 and t_2 the
    teachers, `now` the one whose epoch it is, F[k] the k largest of the other's logits:
        l = (l_now + (l_other where in F[top], else l_now)) / 2;   q = softmax(l);   y, c = argmax, max of q
        shake(i) = e(i) + r,  r = radius |e(i)| * unit of d/dr KL((g_1 + g_2)(e(i)) / 2 || the same at e(i) + r)
        mixed = m ? s(u_p) : s(u), p a permutation of the batch;   y, c, valid likewise
        L_u = 1/n sum over the n valid pixels with c >= tau of c CE(g(shake(mixed)), y)
        L = CE(g(shake(s(x))), y_x) + weight * ramp(progress) * L_u,   ramp(r) = (1 - cos(pi min(r / ramp_up, 1))) / 2
        after each step: t_now <- decay t_now + (1 - decay) f, BN statistics included
    Before that, for 5 passes over the labelled list at a constant rate ("warm-up"), each of the three networks learns
    alone from the labels: student from strong views, teachers from weak ones. An epoch is a pass over the unlabelled
    list. The teachers' logits are averaged, in the release under the name of probabilities. VOC is scored, as there,
    at whole images enlarged to multiples of 8.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built three times.
        tau: confidence from which a pixel counts.
        top: classes of the other teacher that are heard.
        decay: of the teachers' averages.
        weight: of L_u after the ramp-up (1.5; with 1464 or less labels on VOC 0.6, with 92 labels 0.06).
        ramp_up: share of the training proper over which L_u rises; or passes, see `lengths` (12 epochs, of any number).
        warm_up: steps of the supervised start, per step of the training proper; or passes (5 over the labelled list,
            beside the epochs).
        radius: of the noise, as a share of the features' norm; 0 = no T-VAT.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Perturbed and Strict Mean Teachers for Semi-supervised Semantic Segmentation",
        venue="CVPR",
        year=2022,
        authors="Liu et al.",
        arxiv="2111.12903",
        code="https://github.com/yyliu01/PS-MT",
        extends=("mean_teacher", "cutmix", "cct"),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", weak(pad="mean"), strong=(STRONG,)),
        u=Stream("unlabelled", weak(pad="mean"), strong=(STRONG,), masks=(beta_box(4.0),)),
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98, "top": 2}},  # a short run forgets faster; a third of the classes, 7 of 21
        "voc": {
            "task": {"crop": 512, "scale": (0.6, 2.4)},  # 0.5 to 2 times 600, of longer sides of 500
            "method": COUNTED,
            "fit": {"epochs": 80, "batch": 32, "lr": 1e-2, **FIT},
            "processes": 4,
            "epochs": {"1_16": 80, "1_8": 80, "1_4": 200, "1_2": 300},
            "evaluation": "voc/psmt",
            "differs": [PRETRAINED, ORDER],
        },
        "voc/classic": {"method": {"weight": 0.6}},
        "voc/classic/92": {"method": {"weight": 0.06}},
        "cityscapes": {
            "task": {"crop": 720},
            "method": {**COUNTED, "weight": 3.0, "supervised": "ce"},
            "fit": {"epochs": 320, "batch": 8, "lr": 4.5e-3, **FIT},
            "processes": 2,
            "epochs": {"1_8": 320, "1_4": 450, "1_2": 550},
            "evaluation": "cityscapes/cps",
            "differs": [
                PRETRAINED,
                ORDER,
                "crop: 800 there (the released file), 720 here: the paper's table with ResNet-101, which has cross "
                "entropy, as the code has; its table of 800 and OHEM is for ResNet-50",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.6,
        top: int = 7,
        decay: float = 0.996,
        weight: float = 1.5,
        ramp_up: Length = 12 / 80,
        warm_up: Length = 5 / 80,
        radius: float = 0.1,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if top >= task.num_classes:
            caution(f"psmt: top={top} of {task.num_classes} classes: the other teacher is heard on all of them.")
        self.student, self.teacher1, self.teacher2 = (make(net, task) for _ in range(3))
        self.tau, self.top, self.decay, self.weight, self.ramp_up = tau, top, decay, weight, ramp_up
        self.warm_up, self.radius, self.supervised = warm_up, radius, criterion(supervised)
        self.register_buffer("turn", torch.tensor(0))  # the teacher whose epoch it is

    @property
    def teachers(self) -> tuple[SegNet, SegNet]:
        """In the order in which they take turns."""
        return self.teacher1, self.teacher2

    def stages(self) -> list[Stage]:
        start = Stage("warm-up", self.warm_up, self.start, schedule=constant)
        return [start, Stage("train", train=(self.student,))]

    def start(self, batch: Batch, clock: Clock) -> Losses:
        """The warm-up: three networks, each alone with the labels."""
        x = batch.x
        shown = ((self.student, x.strong[0]), (self.teacher1, x.weak), (self.teacher2, x.weak))
        return Losses(**{f"x{k}": self.supervised(net(image), x.label) for k, (net, image) in enumerate(shown)})

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits of the teacher whose epoch it is, and of the other one."""
        with evaluating(*self.teachers):
            first, second = self.teacher1(view.weak), self.teacher2(view.weak)
        return torch.where(self.turn == 0, first, second), torch.where(self.turn == 0, second, first)

    def pseudo_labels(self, logits: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        q = self.probabilities(logits)
        confidence, label = q.max(1)
        return PseudoLabels(label, confidence, confidence * (confidence >= self.tau), view.valid, soft=q)

    def probabilities(self, logits: tuple[Tensor, Tensor]) -> Tensor:
        return assisted(*logits, self.top).softmax(1)

    def noise(self, f: Tensor, size: tuple[int, int]) -> Tensor:
        """T-VAT: what moves the mean of the teachers' classifiers most, for fused features (B, F, h, w)."""

        def both(features: Tensor) -> Tensor:
            return sum(t.classify(features, size).logits for t in self.teachers) / 2

        norm = length(f.detach())
        with evaluating(*self.teachers):
            return adversarial_noise(both, f, torch.rand_like(f) - 0.5, 0.01 * norm, self.radius * norm)

    def shaken(self, image: Tensor) -> Tensor:
        """The student's logits on an image whose features T-VAT has shaken."""
        size = image.shape[-2:]
        f = self.student.fuse(self.student.encode(image)).map
        return self.student.classify(f + self.noise(f, size) if self.radius else f, size).logits

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        own = self.pseudo_labels(self.teach(u), u, clock)
        m, p = u.masks[0], torch.randperm(len(u), device=u.weak.device)
        mixed, target = paste(m, u.strong[0][p], u.strong[0]), paste(m, own[p], own)
        z_x, z_u = self.shaken(x.strong[0]), self.shaken(mixed)
        l_u = pixel_ce(z_u, target, over="kept")
        weight = self.weight * cosine_ramp(clock.step, clock.steps_of(self.ramp_up))
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, weight))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_u)

    def after_step(self, clock: Clock) -> None:
        if clock.stage > 0:
            ema(self.teachers[clock.epoch % 2], self.student, self.decay, buffers="average")
            self.turn.fill_((clock.step + 1) // clock.epoch_steps % 2)  # of the next step

    def predictors(self) -> dict[str, nn.Module]:
        return {"teachers": Ensemble(*self.teachers), "student": self.student}
