"""MGD: a deep and a wide teacher, both fixed, teach a light network by pixels, regions and whole images.

From the release: its wide teacher, "WideResNet-34", is the Wide ResNet-50-2. Its total has the cross entropies of
both teachers with the labels of student and human as well, from which nothing learns; left out. L_image is a sum over
the two images of each process there, so that its weight of 0.002 is 0.004 here. Its unlabelled lists have the flaw
that `cps` tells of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import S4Error
from ...nets import evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, paste, three_boxes, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.precision import float32
from ..trained import is_run, network_of
from .cps import PAPER_NET, SCALES, START

NAMES = ("deep teaches student", "wide teaches student")
OF_EACH_OTHER = ("deep teaches wide", "wide teaches deep")
TWO_STAGES = (
    "the teachers are the first networks of two CPS runs of their own there, one with a deep and one with a wide twin; "
    "here one stage trains both on each other, unless two such runs are given as deep and wide"
)
LIGHT = {  # the student's backbone with its last stage, and with a wider decoder
    "deep": "efficientnet_lite0(levels=4)",
    "wide": "efficientnet_lite0(aspp_channels=128, decoder_channels=128)",
}


@float32
def image_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """L_image: |difference of the mean logits of an image|, summed over classes, the mean over images.

    Args:
        student, teacher: (B, C, H, W) logits.
    """
    return (student.mean((2, 3)) - teacher.mean((2, 3))).abs().sum(1).mean()


@float32
def likenesses(features: Tensor, cells: int) -> Tensor:
    """(B, n, n) cosines between the n = cells^2 regions into which a map (B, D, h, w) is averaged."""
    regions = F.normalize(F.adaptive_avg_pool2d(features, cells).flatten(2), dim=1)
    return regions.mT @ regions


@float32
def region_distance(student: Tensor, teacher: Tensor, cells: int) -> Tensor:
    """L_region: mean squared difference of the likenesses; the maps may differ in channels and size."""
    return (likenesses(student, cells) - likenesses(teacher, cells)).square().mean()


class MGD(Method):
    """Multi-granularity distillation towards light networks (Qin et al., ECCV 2022, arXiv 2208.10169).

    Idea: a light network that learns from few labels learns better from large ones that have learnt from the unlabelled
    images already. Two teachers that differ in build, one deep, one wide, complement each other: both give it hard
    labels, the deep one what an image is about, the wide one how its regions relate. What it adds to `cps` with CutMix:
    the roles. One network is small and learns, the others are large and stand still.

    Equations; student f, teachers d (deep) and w (wide), s the mixed image of `cps`, Y_t the teachers' labels from its
    unmixed parts, CE the mean over all pixels, padded and void ones included, g the map before the classifier:
        L_pixel  = sum over t = d, w of CE(f(s), Y_t) + CE(f(x), argmax t(x))
        L_image  = mean over images of sum over classes of |mean over pixels of f(s) - of d(s)|,  logits
        L_region = mean (S_f - S_w)^2,  S the cosines between the 7 x 7 regions of g(s)
        L = CE(f(x), y) + L_pixel + image L_image + region L_region
    Regions are compared with each other only, so the two maps need not agree in channels. All forwards are in train
    mode, as released: the teachers' weights are fixed, their BN statistics follow the batches. Two more forwards of the
    student, on the unmixed images, do nothing but count in its BN statistics.

    The teachers come from two runs, `deep` and `wide` being their folders: of `cps` in the paper, of any method that
    trains such a network here; the student then has the whole training. Where they are networks, a stage of their own
    comes first, in which they teach each other by CPS with CutMix: as long as the student's, and much dearer. With the
    paper's networks its two trainings of teachers, each with a twin, take four large networks; the stage takes two.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec of the student, see `nets.make`.
        deep, wide: each a network spec, or both the folder of a run; None = like the student.
        teachers: length of the teachers' stage per step of the student's; or passes, see `lengths`.
        image, region: weights of L_image and L_region. cells: regions along a side.
        cps: weight of the cross pseudo supervision in the teachers' stage.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: only one of the teachers is a run.
    """

    card = Card(
        family="cotraining",
        title="Multi-Granularity Distillation Scheme Towards Lightweight Semi-Supervised Semantic Segmentation",
        venue="ECCV",
        year=2022,
        authors="Qin et al.",
        arxiv="2208.10169",
        code="https://github.com/JayQine/MGD-SSSS",
        extends=("cps",),
        parity="golden",
    )
    specs = ("net", "deep", "wide")
    recipes: ClassVar = {
        "scenes": {"method": LIGHT},
        "camvid": {"method": LIGHT},
        "folder": {"method": LIGHT},
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {
                "net": "resnet18(multi_grid=(2, 4), aspp='cps')",
                "deep": PAPER_NET.replace("resnet50c", "resnet101c"),
                "wide": PAPER_NET.replace("resnet50c", "wide_resnet50_2"),
            },
            "fit": {"epochs": 68, "batch": 8, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 4,
            "divided": "all",
            "evaluation": "voc/cps",
            "differs": [
                START,
                TWO_STAGES,
                "length: 34 epochs there, 68 here, of which the teachers' stage has half",
                "stem: three 3x3 convolutions there, which start untrained, the 7x7 of the ImageNet weights here",
                "the wide teacher's rate is 0.4 of the student's there, the same here",
                "unsure: length: its script is for 1/8 of the labels, other lists have its length here",
                "unsure: selection: the epochs from the 15th on are scored, which one is reported is not said",
            ],
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": SCALES},
            "method": {
                "net": "resnet18(multi_grid=(2, 4), aspp='cps')",
                "deep": PAPER_NET.replace("resnet50c", "resnet101c"),
                "wide": PAPER_NET.replace("resnet50c", "wide_resnet50_2"),
                "image": 0.002,
                "cps": 5.0,
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 274, "batch": 16, "lr": 2e-2, "head": 1.0, "decay_norms": False},
            "processes": 8,
            "divided": "all",
            "evaluation": "cityscapes/cps",
            "differs": [
                START,
                TWO_STAGES,
                "length: 137 epochs there, 274 here, of which the teachers' stage has half",
                "stem: three 3x3 convolutions there, which start untrained, the 7x7 of the ImageNet weights here",
                "unsure: length: its script is for 1/8 of the labels, other lists have its length here",
                "unsure: selection: which epoch is reported is not said",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        deep: str | None = None,
        wide: str | None = None,
        teachers: float | str = 1.0,
        image: float = 0.004,
        region: float = 100.0,
        cells: int = 7,
        cps: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        given = [isinstance(spec, str) and is_run(spec) for spec in (deep, wide)]
        if any(given) and not all(given):
            raise S4Error("mgd: deep and wide are both folders of runs, or both networks that a stage trains together.")
        self.trained = all(given)
        self.student = make(net, task)
        self.deep, self.wide = (
            network_of(spec, task).requires_grad_(False) if self.trained else make(spec or net, task)
            for spec in (deep, wide)
        )
        self.teachers, self.image, self.region, self.cells, self.cps = teachers, image, region, cells, cps
        self.supervised = criterion(supervised)
        view = weak(pad="mean", centred=True)
        self.views = ViewPlan(
            x=Stream("labelled", view),
            u=Stream("unlabelled", view, masks=(three_boxes(),)),
            v=Stream("unlabelled", view),
        )

    def stages(self) -> list[Stage]:
        student = Stage("student", train=(self.student,))
        if self.trained:
            return [student]
        return [Stage("teachers", self.teachers, self.start, train=(self.deep, self.wide)), student]

    def start(self, batch: Batch, clock: Clock) -> Losses:
        """The teachers' stage: `cps` with CutMix between the deep and the wide network."""
        x, u, v, m = batch.x, batch.u, batch.v, batch.u.masks[0]
        with torch.no_grad():  # in train mode, as in `cps`
            of_u, of_v = ((self.deep(w.weak), self.wide(w.weak)) for w in (u, v))
        seen = paste(m, v.weak, u.weak)
        by_deep, by_wide = (paste(m, b, a) for a, b in zip(self.labels(of_u, u), self.labels(of_v, v)))
        s_deep, s_wide = self.deep(seen), self.wide(seen)
        l_cps = pixel_ce(s_deep, by_wide, over="all") + pixel_ce(s_wide, by_deep, over="all")
        losses = Losses(
            x_deep=self.supervised(self.deep(x.weak), x.label), x_wide=self.supervised(self.wide(x.weak), x.label)
        )
        losses.add("cps", l_cps, self.cps).see(weak=u.weak, mixed=seen)
        losses.see(OF_EACH_OTHER[0], target=by_deep, student=s_wide)
        return losses.see(OF_EACH_OTHER[1], target=by_wide, student=s_deep)

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(self.deep, self.wide):
            return self.deep(view.weak), self.wide(view.weak)

    def labels(self, evidence: tuple[Tensor, Tensor], view: Views) -> list[PseudoLabels]:
        """The teachers' hard labels; padding takes part, as released."""
        found = []
        for logits in evidence:
            confidence, label = logits.softmax(1).max(1)
            found.append(PseudoLabels(label, confidence, torch.ones_like(confidence), torch.ones_like(view.valid)))
        return found

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        return {name: replace(y, valid=view.valid) for name, y in zip(NAMES, self.labels(evidence, view))}

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v, m = batch.x, batch.u, batch.v, batch.u.masks[0]
        seen = paste(m, v.weak, u.weak)
        with torch.no_grad():  # in train mode, so these forwards count in the BN statistics, the student's too
            of_u, of_v = ([net(w.weak) for net in (self.student, self.deep, self.wide)][1:] for w in (u, v))
            deep, wide = self.deep.decoded(seen), self.wide.decoded(seen)
            of_x = self.deep(x.weak), self.wide(x.weak)
        y = [paste(m, b, a) for a, b in zip(self.labels(of_u, u), self.labels(of_v, v))]
        s, z = self.student.decoded(seen), self.student(x.weak)
        l_pixel = sum(pixel_ce(s.logits, y_t, over="all") for y_t in y)
        l_pixel = l_pixel + sum(pixel_ce(z, t.argmax(1), over="all") for t in of_x)
        losses = Losses(x=self.supervised(z, x.label), pixel=l_pixel)
        losses.add("image", image_distance(s.logits, deep.logits), self.image)
        losses.add("region", region_distance(s.embedding, wide.embedding, self.cells), self.region)
        losses.see(weak=u.weak, mixed=seen)
        return losses.see(NAMES[0], target=y[0], student=s.logits).see(NAMES[1], target=y[1], student=s.logits)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "deep teacher": self.deep, "wide teacher": self.wide}
