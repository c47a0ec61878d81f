"""Dual-level domain mixing: one teacher sees domains mixed by region, one by sample; together they teach the target.

Chosen here, since only inference code is public: the box has a share of the area that is uniform in `area`, as in
CutMix, and any aspect; the KL is a mean over pixels, without a temperature (10 stands in the configuration, the
paper has none); an image of the source takes the L*a*b* means and deviations of the target image of its step
(`match`), where the paper says target images without saying which.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID, Evaluation
from ...nets import Ensemble, evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, match_colours, paste
from ...views.boxes import AreaBoxes
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..parts.distances import kl
from ..parts.losses import ce, ce_map, pixel_mean
from ..parts.quotas import BINS, above, confident, tally, thresholds
from ..parts.rounds import KEPT, believed, hard, kept_of

ENSEMBLE, REGION = "teachers teach student", "region mixing"
LOGITS = Evaluation(combine="logits")  # what the labels of a round are read from
SURE = 0.9  # the highest threshold of a class, that of BDL


class SSDADualMix(Method):
    """Semi-supervised domain adaptation based on dual-level domain mixing (Chen et al., CVPR 2021, arXiv 2103.04705).

    Idea: many labelled images of another domain, such as rendered ones, and a few of the domain that counts, are too
    unequal to be trained on as one list. Two teachers bring them together at different levels: one sees a box of a
    source image inside a target image, and must get along with both domains at once; one sees whole images of both side
    by side. They err differently, so their mean labels the unlabelled target better than either; a student learns from
    it that never sees the source. What it adds to self-training as `st` has it: the second domain, and that two
    teachers of different kind stand before each student.

    Equations; x of the target and s of the source with labels y, z, u unlabelled target, M 0 in a random box, else 1:
        region:   L = CE( R(M x + (1 - M) s),  M y + (1 - M) z )
        sample:   L = CE( S(x), y ) + CE( S(s), z )
        student:  L = CE( f(x), y ) + weight * KL( E || softmax f(u) ),    E = ( softmax R(u) + softmax S(u) ) / 2
        labels:   argmax f(u) where max softmax f(u) >= t_c,  t_c = min( median over all images of class c, 0.9 )
    A CE is a mean over its labelled pixels, the KL one over the pixels of u. A round trains the region teacher, then
    the sample teacher, then, both fixed and in eval mode, the student; all three from the weights of the beginning.
    Behind it the student labels the unlabelled images (the thresholds are BDL's, Li et al., CVPR 2019: half of each
    class's pixels, and all above 0.9), which join x in the next round, for both teachers and the student.

    Cost: three trainings a round; a step of the student has two forwards of teachers and two of its own.

    Args:
        task: the data, with a list "domain" in `more`. In SYNTHIA neither terrain nor truck nor train occurs: the paper
            trains on the other 16 classes of Cityscapes and scores 13 of them, the kit scores all 19.
        net: network spec, see `nets.make`.
        rounds: 4 in the paper for GTA5, 3 for SYNTHIA.
        weight: of the KL.
        area: smallest and largest share of the image that the box of the source has.
        match: give the source the colours of the target.
        sure: the highest threshold of a class.
    """

    card = Card(
        family="domains",
        title="Semi-supervised Domain Adaptation based on Dual-level Domain Mixing for Semantic Segmentation",
        venue="CVPR",
        year=2021,
        authors="Chen et al.",
        arxiv="2103.04705",
        extends=("st", "cutmix"),
        parity="reconstruction",
    )
    kind = ("more",)
    recipes: ClassVar = {
        "scenes": {"task": {"more": {"domain": "plain"}}, "method": {"area": (0.05, 0.35)}},  # few steps: more target
        "cityscapes": {
            "task": {"size": 0.5, "crop": 512, "scale": (1.0, 1.0), "more": {"domain": "gta5(size=720)"}},
            "method": {"net": "resnet101(output_stride=8, freeze_bn=True, norm='group')", "rounds": 4},
            "fit": {"steps": 1_440_000, "batch": 1, "lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4},
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "differs": [
                "crop: none there, whole images of 512 x 1024 and, of the source, 720 x 1280; 512 x 512 of either here",
                "head: DeepLabV2 there, without norms, DeepLabV3+ with group norms here: a batch has one image",
                "aux: a second classifier on the third stage, weight 0.1, there, none here",
                "schedule: poly 0.9 over 250000 steps of which 120000 are trained there, over these alone here",
                "evaluation: predictions are enlarged to 1024 x 2048 there, scored at half that size here",
                "unsure: weight_decay: 1e-4 in the paper, 5e-4 in the configuration of the release",
                "unsure: flip, and the head's rate: neither is said; half of the images and ten times the backbone's",
                "unsure: length: the configuration of the release has so many steps for a network; three networks "
                "and four rounds make the steps here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        rounds: int = 2,
        weight: float = 0.5,
        area: tuple[float, float] = (0.0, 1.0),
        match: bool = True,
        sure: float = SURE,
    ) -> None:
        super().__init__()
        self.student, self.region, self.sample = (make(net, task) for _ in range(3))
        self.rounds, self.weight, self.match, self.sure = rounds, weight, match, sure
        self.classes = task.num_classes
        self.source = Stream("domain", masks=(AreaBoxes(tuple(area)),))
        self.register_buffer("threshold", torch.zeros(self.classes))
        self.views = self.stages()[-1].views

    def stages(self) -> list[Stage]:
        found, unlabelled = [], Stream("unlabelled", maps=("label",))
        for k in range(1, self.rounds + 1):
            first = k == 1
            target = Stream("labelled") if first else Stream("all", maps=("label",))
            u = Stream("unlabelled") if first else unlabelled
            both, alone = ViewPlan(x=target, d=self.source), ViewPlan(x=target, u=u)
            label = None if first else self.label
            again = [() if first else (net,) for net in (self.region, self.sample, self.student)]
            found += [
                Stage(f"{k}: region teacher", 1.0, self.by_region, both, (self.region,), None, label, again[0]),
                Stage(f"{k}: sample teacher", 1.0, self.by_sample, both, (self.sample,), None, None, again[1]),
                Stage(f"{k}: student", 1.0, self.losses, alone, (self.student,), None, None, again[2]),
            ]
        return found

    # ---- between the rounds ----

    def label(self, sweep: Any) -> None:
        """The student of a round labels the unlabelled images, each class where it is surest."""
        counts = self.threshold.new_zeros(self.classes, BINS, dtype=torch.long)
        for _, view in sweep.over("unlabelled"):
            counts += tally(*confident(sweep.scores(self.student, view, LOGITS)), self.classes)
        self.threshold.copy_(medians(sweep.sum(counts)).clamp(max=self.sure))
        for row, view in sweep.over("unlabelled"):
            found, confidence = confident(sweep.scores(self.student, view, LOGITS))
            sweep.keep("label", row, found.where(above(found, confidence, self.threshold), VOID)[0])

    # ---- the rule ----

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logarithm of the teachers' mean probability, and the labels that were kept, 255 where there are none."""
        both = Ensemble(self.region, self.sample, combine="vote")
        with evaluating(both):
            return both(view.weak), kept_of(view)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        """What the student is taught: the mean of both teachers in every pixel; and labels of the round before."""
        mean = evidence[0].softmax(1)
        confidence, label = mean.max(1)
        taught = PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid, mean)
        return {ENSEMBLE: taught, KEPT: believed(evidence[1], view)}

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {ENSEMBLE: evidence[0].softmax(1), KEPT: hard(evidence[1], self.classes)}

    # ---- training ----

    def by_region(self, batch: Batch, clock: Clock) -> Losses:
        """A box of the source in the same place of a target image, and their labels alike."""
        x, d = batch.x, batch.d
        box, nothing = d.masks[0], torch.full_like(d.label, VOID)
        mixed = paste(box, self.coloured(d, x), x.weak)
        labels = {name: paste(box, d.label if name == "x" else nothing, of) for name, of in labels_of(x).items()}
        z = self.region(mixed)
        return joined(z, labels).see(REGION, weak=x.weak, mixed=mixed, loss=cost(z, labels))

    def by_sample(self, batch: Batch, clock: Clock) -> Losses:
        """Whole images of both domains in one batch."""
        x, d = batch.x, batch.d
        z_x, z_d = self.sample(torch.cat([x.weak, self.coloured(d, x)])).split([len(x), len(d)])
        return joined(z_x, labels_of(x)).add("x_source", ce(z_d, d.label))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        """The target alone, with what both teachers say of its unlabelled images."""
        x, u = batch.x, batch.u
        target = self.pseudo_labels(self.teach(u), u, clock)[ENSEMBLE]
        z_x, z_u = self.student(x.weak), self.student(u.weak)
        far = kl(z_u, target.soft.clamp(min=1e-30).log())
        losses = joined(z_x, labels_of(x))
        if "kept" in losses:
            losses.see(KEPT, weak=x.weak, mixed=x.weak, loss=cost(z_x, labels_of(x)))
        losses.add("u", pixel_mean(far, target.weight, target.valid, over="valid"), self.weight)
        return losses.see(ENSEMBLE, weak=u.weak, mixed=u.weak, target=target, loss=far * target.valid)

    def coloured(self, source: Views, target: Views) -> Tensor:
        """(B, 3, H, W) the source's images, in the colours of the target's where that is wanted."""
        if not self.match:
            return source.weak
        return match_colours(source.weak, target.weak, source.valid, target.valid)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "region teacher": self.region, "sample teacher": self.sample}


def labels_of(view: Views) -> dict[str, Tensor]:
    """(B, H, W) each: "x", human labels, and "kept", those of other images where any are read; 255 = none."""
    human = view.labelled[:, None, None]
    kept = {"kept": kept_of(view).where(~human, VOID)} if "label" in view.maps else {}
    return {"x": view.label.where(human, VOID), **kept}


def joined(logits: Tensor, labels: dict[str, Tensor]) -> Losses:
    """One mean over the pixels that have a label of any kind, as its summands; 0 where there is none."""
    many = sum((label != VOID).sum() for label in labels.values()).clamp(min=1)
    return Losses(**{name: ce_map(logits, label).sum() / many for name, label in labels.items()})


def cost(logits: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """(B, H, W) what each pixel adds before the divisor."""
    return sum(ce_map(logits, label) for label in labels.values())


def medians(counts: Tensor) -> Tensor:
    """(C,) the confidence that half of each class's pixels reach; 0 for a class without a pixel.

    Of an even number the upper one, as BDL takes the pixel in the middle of the sorted ones.

    Args:
        counts: (C, `BINS`) of `tally`.
    """
    total = counts.sum(1)
    level, _ = thresholds(counts, total - total // 2)
    return level.where(total > 0, 0.0)
