"""TCC: a CNN and a transformer teach each other, by predictions and by how their features gather around classes.

Read in the sources: the two students, both levels, that each student's outputs are the pseudo labels by which its
features become class-aware maps, and the names. Chosen here: that map and its loss (`form`; the cosine is that of
IFVD, Wang et al., ECCV 2020), from which layer, centres per image, unlabelled images alone, gradient stopped on the
teaching side; the weights (`conflict`) and soft labels (`hard`); views (`strong`), `ramp`, all figures. With
hard=True, conflict=1, feature=0 and ramp=0 it is `cps` between two architectures, over valid pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...errors import S4Error
from ...nets import Decoded, evaluating, make, parse
from ...nets.psp import without_psp
from ...nets.segnet import resize
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..parts.contrast import shrink
from ..parts.distances import kl
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.prototypes import class_means
from ..parts.schedules import sigmoid_ramp

NAMES = ("CNN teaches transformer", "transformer teaches CNN")
FORMS = ("cosine", "centre")
FROM_SCRATCH = {"method": {"vit_lr": 6e-4, "vit_head": 1.0}}  # no published weights beside the light network
STANDS_IN = {
    "source": "the kit's reading: SegFormer's rate for the transformer, UniMatch's length; the paper's are not known",
    "differs": [
        "unsure: the set-up: the paper's text was not at hand; crop, rates and length are the field's usual ones"
    ],
}


@float32
def class_centres(features: Tensor, label: Tensor, classes: int) -> Tensor:
    """(B, D, h, w): in place of each feature the mean of its class in its image, through which gradient passes.

    Args:
        features: (B, D, h, w). label: (B, h, w) long; 255 belongs to no class and keeps its feature.
    """
    means, _ = class_means(features, label, classes)
    index = label.flatten(1).clamp(max=classes - 1)[..., None].expand(-1, -1, features.shape[1])
    return torch.where((label != VOID)[:, None], means.gather(1, index).mT.reshape(features.shape), features)


@float32
def likeness(features: Tensor, label: Tensor, classes: int) -> Tensor:
    """(B, 1, h, w) cosine of each feature and its class's centre, see `class_centres`; 1 where there is no class."""
    return F.cosine_similarity(features, class_centres(features, label, classes), dim=1, eps=1e-6)[:, None]


@float32
def apart(taught: Tensor, teaching: Tensor, valid: Tensor) -> Tensor:
    """Mean of (taught - teaching)^2 over channels and the pixels of (B, h, w) `valid`; `teaching` is a constant."""
    return pixel_mean((taught - teaching.detach()).square().mean(1), torch.ones_like(valid), valid, over="valid")


def beside(net: Any) -> str:
    """The transformer where none is named: MiT-B0 without pretrained weights (the tests' one beside `tiny`), with the
    CNN's kind of norm in the decoder."""
    name, given = parse(net) if isinstance(net, str) else ("", {})
    return f"{'mit_tiny' if name == 'tiny' else 'mit_b0'}(weights='none', norm={given.get('norm', 'batch')!r})"


class TCC(Method):
    """Transformer-CNN cohort (Zheng et al., ICRA 2024, arXiv 2209.02178).

    A reconstruction from abstract and introduction: there is no code, and the method section was not at hand.

    Idea: a convolutional and a transformer student see different things, near and far, so they have more to teach each
    other than two networks of one kind; and not by predictions alone. Each groups its features by its own predictions,
    and how they gather around their classes can be compared, whatever their widths (class-aware feature consistency
    distillation); predictions are exchanged where they are consistent (consistency-aware cross distillation). What it
    adds to `cps`: the transformer, the second level, soft labels and weights.

    Equations; k = 1 the CNN, 2 the transformer, l the other one; z_k logits, p_k = softmax z_k, g_k the features before
    the classifier; a weak view u, the same for both; sg stops the gradient; N the valid pixels:
        y_k  = argmax p_k, at the features' size by nearest neighbour
        mu_k = mean g_k of an image's pixels of the class y_k;   S_k = cos(g_k, mu_k), one map whatever the width
        L_cf = mean (S_1 - sg S_2)^2 + mean (S_2 - sg S_1)^2
        w    = 1 where y_1 = y_2, `conflict` elsewhere
        L_cd = 1/N sum w KL(sg p_2 || p_1) + 1/N sum w KL(sg p_1 || p_2)
        L    = CE(z_1, y) + CE(z_2, y) + ramp (feature * L_cf + weight * L_cd)
        ramp(t) = exp(-5 (1 - t / ramp)^2): centres of untrained networks mean nothing
    Each student has its own optimiser: the CNN that of the run (SGD), the transformer AdamW. A step is one forward and
    one backward of either. The CNN is evaluated first, since it is what other methods train; both are.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec of the CNN, see `nets.make`.
        other: of the transformer; None: see `beside`.
        form: of the class-aware maps: "cosine", S as above; "centre", mu_k itself behind a 1x1 convolution for each
            student to `width` channels.
        width: of form "centre".
        feature, weight: of L_cf and L_cd.
        conflict: weight of a pixel on which the two differ, in [0, 1].
        hard: cross entropy with the other's argmax instead of KL.
        strong: both see the strong view, and predictions of the weak one (in eval mode) are exchanged; two forwards
            more.
        ramp: share of the training over which both unlabelled terms rise.
        vit_lr, vit_head: learning rate of the transformer's encoder, and its multiple for the decoder.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: unknown `form`, or a network with decoder='psp'.
    """

    card = Card(
        family="cotraining",
        title="Transformer-CNN Cohort: Semi-supervised Semantic Segmentation by the Best of Both Students",
        venue="ICRA",
        year=2024,
        authors="Zheng et al.",
        arxiv="2209.02178",
        extends=("cps",),
        parity="reconstruction",
    )
    specs = ("net", "other")
    recipes: ClassVar = {
        **dict.fromkeys(("scenes", "camvid", "folder"), FROM_SCRATCH),
        "voc": {
            "task": {"crop": 512},
            "method": {"net": "resnet50c", "other": "mit_b2"},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-2, "head": 1.0},
            "evaluation": "voc",
            **STANDS_IN,
        },
        "cityscapes": {
            "task": {"crop": 768},
            "method": {
                **{"net": "resnet50c", "other": "mit_b2"},
                "supervised": "ohem(thresh=0.7, per_image=100000)",
            },
            "fit": {"epochs": 240, "batch": 8, "lr": 1e-2, "head": 1.0},
            "evaluation": "cityscapes",
            **STANDS_IN,
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        other: str | None = None,
        form: str = "cosine",
        width: int = 64,
        feature: float = 1.0,
        weight: float = 1.0,
        conflict: float = 0.5,
        hard: bool = False,
        strong: bool = False,
        ramp: float = 0.1,
        vit_lr: float = 6e-5,
        vit_head: float = 10.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise S4Error(f"tcc(form={form!r}): choose one of {', '.join(FORMS)}.")
        self.net1, self.net2 = (without_psp(make(spec, task), "tcc") for spec in (net, other or beside(net)))
        self.classes, self.form, self.feature, self.weight = task.num_classes, form, feature, weight
        self.conflict, self.hard, self.ramp = conflict, hard, ramp
        self.vit_lr, self.vit_head, self.supervised = vit_lr, vit_head, criterion(supervised)
        if form == "centre":
            for student in self.students:
                student.heads["common"] = nn.Conv2d(student.decoder.embedding_channels, width, 1)
        self.views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,) if strong else ()))

    @property
    def students(self) -> tuple[nn.Module, nn.Module]:
        """Networks 1 and 2, which are trained."""
        return self.net1, self.net2

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(*self.students):
            return tuple(net(view.weak) for net in self.students)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found, p = {}, [logits.softmax(1) for logits in evidence]
        weight = torch.where(p[0].argmax(1) == p[1].argmax(1), 1.0, self.conflict)
        for name, of_one in zip(NAMES, p):
            confidence, label = of_one.max(1)
            found[name] = PseudoLabels(label, confidence, weight, view.valid, soft=None if self.hard else of_one)
        return found

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        seen = u.strong[0] if u.strong else u.weak
        of_x, of_u = zip(*(net.joint(x.weak, seen) for net in self.students))
        z = [d.logits for d in of_u]
        evidence = self.teach(u) if u.strong else tuple(logits.detach() for logits in z)
        target = self.pseudo_labels(evidence, u, clock)
        losses = Losses(**{f"x{k}": self.supervised(d.logits, x.label) for k, d in enumerate(of_x, 1)})
        ramp, l_cd = sigmoid_ramp(clock.progress, self.ramp), 0.0
        losses.see(weak=u.weak, mixed=seen)
        for name, taught, teaching in zip(NAMES, reversed(z), evidence):
            y = target[name]
            far = ce_map(taught, y.label) if self.hard else kl(taught, teaching)
            l_cd = l_cd + pixel_mean(far, y.weight, y.valid, over="valid")
            losses.see(name, target=y, loss=far * y.weight * y.valid)
        losses.add("cf", self.class_aware(of_u, u.valid), ramp * self.feature)
        return losses.add("cd", l_cd, ramp * self.weight)

    def class_aware(self, of_u: tuple[Decoded, Decoded], valid: Tensor) -> Tensor:
        """L_cf of both students' answers, of (B, H, W) valid pixels; maps are compared at the CNN's size."""
        maps, size = [], of_u[0].embedding.shape[-2:]
        for net, d in zip(self.students, of_u):
            features = net.heads["common"](d.embedding) if self.form == "centre" else d.embedding
            label = d.logits.argmax(1).where(valid > 0, VOID)
            look = class_centres if self.form == "centre" else likeness
            map = look(features, shrink(label, features.shape[-2:]), self.classes)
            maps.append(map if map.shape[-2:] == size else resize(map, size, align_corners=False))
        at_size = shrink(valid, size)
        return apart(maps[0], maps[1], at_size) + apart(maps[1], maps[0], at_size)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        transformer = replace(
            recipe, nets=[self.net2], lr=self.vit_lr, head=self.vit_head, kind="adamw", weight_decay=0.01,
            decay_norms=False,
        )  # fmt: skip
        return {"cnn": replace(recipe, nets=[self.net1]), "transformer": transformer}

    def predictors(self) -> dict[str, nn.Module]:
        return {"cnn": self.net1, "transformer": self.net2}
