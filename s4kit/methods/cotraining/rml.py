"""RML: two students of different architecture learn from each other's mean teacher, whose labels are rectified.

Read in the sources: mean teachers crosswise with no direct interaction; that strong augmentation, model noise and
heterogeneous networks are essential; rectification by internal knowledge before teaching. Its form, distance,
temperature, update (see `parts.prototypes`) and the teachers' decay are those of ProDA, by the same first author.
Chosen here: the architectures (`other`), noise (`drop`), views (each student's own, CutMix with the batch's mirror
image), hard labels and no threshold (`soft`, `tau`), current instead of stored p, one round, `warm_up`, `weight`.
ProDA's symmetric cross entropy and its consistency of assignments are left out. With one architecture,
temperature=inf and drop=0 this is a crossed pair of mean teachers; with decay=0 besides, plain mutual learning.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ...data.task import VOID
from ...nets import Decoded, SegNet, copy_of, ema, evaluating, feature_dropout, make, parse, warm
from ...nets.backbones import kind_of
from ...nets.psp import without_psp
from ...nets.segnet import resize
from ...views import STRONG, Batch, Stream, ViewPlan, Views, paste, unimatch_box
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels, Stage
from ..lengths import Length
from ..parts.contrast import shrink
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.prototypes import Prototypes
from ..parts.schedules import constant

NAMES = ("1 teaches 2", "2 teaches 1")
STANDS_IN = {
    "source": "the kit's reading: UniMatch's figures, the paper's are not known",
    "differs": ["unsure: the set-up: the paper's text was not at hand; that of UniMatch stands in"],
}


class Says(NamedTuple):
    """A teacher's logits (B, C, H, W), the same at its decoder's size (B, C, h, w), and its features (B, D, h, w)."""

    logits: Tensor
    coarse: Tensor
    features: Tensor


def second(net: Any, task: Any) -> SegNet:
    """The other architecture where none is named: the same backbone under DeepLabV3, without low-level features; under
    a decoder that is not DeepLabV3+, the same network."""
    if isinstance(net, str):
        name, given = parse(net)
        if kind_of(name).head == given.get("decoder", "deeplabv3plus") == "deeplabv3plus":
            return make(net, task, low_channels=0)
    return make(net, task)


@float32
def soft_ce(logits: Tensor, target: Tensor) -> Tensor:
    """(B, H, W) cross entropy of (B, C, H, W) logits with probabilities."""
    return -(target * logits.log_softmax(1)).sum(1)


class RML(Method):
    """Robust mutual learning (Zhang et al., 2021, arXiv 2106.00609).

    A reconstruction from abstract and introduction: there is no code, and the method section was not at hand.

    Idea: networks that teach each other directly soon know the same. Here they never meet: each student has a mean
    teacher, and the teacher of one labels for the other; strong views, noise in the students and different
    architectures keep them apart. Before a label is handed over its teacher rectifies it by what it knows of the
    classes in feature space. What it adds to `cps`: the teachers between, the rectification, the second architecture.

    Equations; student f_k and teacher t_k of architecture k = 1, 2 and l the other one; g_k the teacher's features
    before the classifier, p_k = softmax t_k(w(u)), eta_kc the prototype of class c, up to image size bilinear:
        d_kc = up(|g_k - eta_kc| - min over c' of |g_k - eta_kc'|)
        r_k  = w p_k / sum over c of w p_k,   w = softmax over c of -d_k / temperature;   y_k = argmax r_k
        u_k  = m_k ? strong_k(u_n) : strong_k(u),  n = B-1-i, labels likewise;   f' = f with dropped feature channels
        L_k  = mean of CE(f_k'(u_k), y_l) over the valid pixels with max r_l >= tau
        L    = CE(f_1'(x), y) + CE(f_2'(x), y) + weight (L_1 + L_2)
        t_k <- d t_k + (1 - d) f_k, BN statistics copied, d = min(1 - 1/(i + 1), decay)
        eta_kc <- momentum^n eta_kc + (1 - momentum^n) v,  v the mean of n images' mean g_k over the pixels that t_k
                  takes for c, each image with at least `least` of them
    Since the normaliser of w cancels, r = softmax of logits - d / temperature: a distant class loses logits. At an
    infinite temperature labels are the teacher's, at 0 those of the nearest prototype. `warm_up` of the training goes
    before: both students learn the labels alone, t_k is f_k, and eta_kc averages the labelled features of c as the
    teachers average weights. Teachers are in eval mode. An optimiser per student. A step takes four forwards that learn
    and two that label; four networks are held. Teacher 1 is evaluated first, all four are.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec of architecture 1, see `nets.make`.
        other: of architecture 2; None: see `second`.
        temperature: of the rectification, above 0; inf = none.
        momentum, least: of the prototypes, per image.
        decay: of the teachers.
        drop: probability that a feature channel is dropped in a student.
        soft: learn r_l itself instead of its argmax.
        tau: confidence in r from which a pixel counts; 0 = all.
        warm_up: length of the training with labels alone, as a share of what follows, or like "5 labelled epochs".
        weight: of L_1 + L_2.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: a network with decoder='psp'.
    """

    card = Card(
        family="cotraining",
        title="Robust Mutual Learning for Semi-supervised Semantic Segmentation",
        venue="arXiv",
        year=2021,
        authors="Zhang et al.",
        arxiv="2106.00609",
        extends=("cps", "mean_teacher"),
        parity="reconstruction",
    )
    views = ViewPlan(
        x=Stream("labelled"),
        u=Stream("unlabelled", strong=(STRONG, STRONG), masks=(unimatch_box(), unimatch_box())),
    )
    specs = ("net", "other")
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98, "momentum": 0.999}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "other": "resnet50c"},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "evaluation": "voc",
            **STANDS_IN,
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {
                **{"net": "resnet101c", "other": "resnet50c"},
                "supervised": "ohem(thresh=0.7, per_image=100000)",
            },
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "evaluation": "cityscapes",
            **STANDS_IN,
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        other: str | None = None,
        temperature: float = 1.0,
        momentum: float = 0.9999,
        least: int = 10,
        decay: float = 0.999,
        drop: float = 0.1,
        soft: bool = False,
        tau: float = 0.0,
        warm_up: Length = 0.1,
        weight: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.net1 = without_psp(make(net, task), "rml")
        self.net2 = without_psp(second(net, task) if other is None else make(other, task), "rml")
        self.teacher1, self.teacher2 = copy_of(self.net1), copy_of(self.net2)
        self.classes, self.temperature, self.momentum, self.least = task.num_classes, temperature, momentum, least
        self.decay, self.drop, self.soft, self.tau, self.warm_up = decay, drop, soft, tau, warm_up
        self.weight, self.supervised = weight, criterion(supervised)
        self.prototypes1, self.prototypes2 = (
            Prototypes(self.classes, n.decoder.embedding_channels) for n in self.students
        )

    @property
    def students(self) -> tuple[SegNet, SegNet]:
        """Networks 1 and 2, which are trained."""
        return self.net1, self.net2

    @property
    def teachers(self) -> tuple[SegNet, SegNet]:
        """The averages of networks 1 and 2."""
        return self.teacher1, self.teacher2

    @property
    def prototypes(self) -> tuple[Prototypes, Prototypes]:
        """Those of the features of networks 1 and 2."""
        return self.prototypes1, self.prototypes2

    def stages(self) -> list[Stage]:
        before = [Stage("warm-up", self.warm_up, self.start, schedule=constant)] if self.warm_up else []
        return [*before, Stage("train")]

    def noisy(self, net: SegNet, image: Tensor) -> Decoded:
        """A student's answer at its decoder's own size, from features that lack some channels."""
        features = net.encode(image)
        return net.decode(feature_dropout(features, self.drop) if self.drop else features)

    def start(self, batch: Batch, clock: Clock) -> Losses:
        """The warm-up: two students, each alone with the labels; their features found the prototypes."""
        x, losses = batch.x, Losses()
        for k, net in enumerate(self.students):
            d = self.noisy(net, x.weak)
            losses.add(f"x{k + 1}", self.supervised(at(net, d.logits, x.weak), x.label))
            label = shrink(x.label, d.embedding.shape[-2:])
            self.prototypes[k].learn(d.embedding.detach(), label, self.decay)
        return losses

    def teach(self, view: Views) -> tuple[Says, Says]:
        found = []
        with evaluating(*self.teachers):
            for net in self.teachers:
                d = net.decode(net.encode(view.weak))
                found.append(Says(at(net, d.logits, view.weak), d.logits, d.embedding))
        return tuple(found)

    def rectified(self, evidence: tuple[Says, Says]) -> list[Tensor]:
        """(B, C, H, W) r of each teacher."""
        found = []
        for says, net, prototypes in zip(evidence, self.teachers, self.prototypes):
            apart = at(net, prototypes.behind(says.features), says.logits)
            found.append((says.logits - apart / self.temperature).softmax(1))
        return found

    def pseudo_labels(self, evidence: tuple[Says, Says], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found = {}
        for name, r in zip(NAMES, self.rectified(evidence)):
            confidence, label = r.max(1)
            sure = (confidence >= self.tau).float()
            found[name] = PseudoLabels(label, confidence, sure, view.valid, soft=r if self.soft else None)
        return found

    def probabilities(self, evidence: tuple[Says, Says]) -> dict[str, Tensor]:
        return dict(zip(NAMES, self.rectified(evidence)))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        says = self.teach(u)
        rule, losses = self.pseudo_labels(says, u, clock), Losses().see(weak=u.weak)
        for k, (net, name) in enumerate(zip(self.students, reversed(NAMES))):
            m, strong, y = u.masks[k], u.strong[k], rule[name]
            mixed, target = paste(m, strong.flip(0), strong), paste(m, y.map(lambda t: t.flip(0)), y)
            z_x, z_u = (at(net, self.noisy(net, image).logits, image) for image in (x.weak, mixed))
            far = soft_ce(z_u, target.soft) if self.soft else ce_map(z_u, target.label)
            losses.add(f"x{k + 1}", self.supervised(z_x, x.label))
            losses.add(f"u{k + 1}", pixel_mean(far, target.weight, target.valid, over="kept"), self.weight)
            losses.see(name, mixed=mixed, target=target, loss=far * target.weight * target.valid)
        for prototypes, said in zip(self.prototypes, says):
            taken = said.coarse.argmax(1).where(shrink(u.valid, said.coarse.shape[-2:]) > 0, VOID)
            prototypes.follow(said.features, taken, self.momentum, self.least)
        return losses

    def after_step(self, clock: Clock) -> None:
        before = self.warm_up and clock.stage == 0
        for teacher, student in zip(self.teachers, self.students):
            ema(teacher, student, 0.0 if before else warm(self.decay, clock.step), buffers="copy")

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        return {"net1": replace(recipe, nets=[self.net1]), "net2": replace(recipe, nets=[self.net2])}

    def predictors(self) -> dict[str, nn.Module]:
        return {"teacher 1": self.teacher1, "teacher 2": self.teacher2, "net 1": self.net1, "net 2": self.net2}


def at(net: SegNet, map: Tensor, like: Tensor) -> Tensor:
    """(B, C, h, w) brought to the size of a (B, ., H, W) tensor as the network brings its logits there."""
    return resize(map, like.shape[-2:], net.decoder.align_corners)
