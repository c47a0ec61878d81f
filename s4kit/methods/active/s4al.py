"""S4AL: the network asks for labels of a few small regions of each image, and pastes rare classes into the others.

Simplified: v are any unlabelled images; the release keeps the last 50 (CamVid) or 500 (Cityscapes) that it has seen
in the generation and takes each once. From the release: what a smaller image leaves free is reflected there, black
here, and ignored in both; a view is mirrored once here, before the mixing and after it there; its mixing may choose
void as a class.

S4AL+ (BMVC 2022, arXiv 2210.08403), which has rounds of self-training for noisy labels in the teacher's place and a
contrastive head, has no code; what its abstract leaves open is not guessed here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import copy_of, ema, evaluating, make, warm
from ...views import Batch, Stream, Strong, ViewPlan, Views, draw_zoom, paste, recolour, warp
from ..base import Card, Clock, Losses, PseudoLabels, Stage
from ..parts.losses import Criterion, ce, criterion, entropy, image_share, pixel_ce
from ..parts.masks import draw_biased_mask, draw_class_mask
from ..parts.queries import cells_asked
from ..parts.teachers import AveragedTeacher

COLOURS = Strong(0.25, 0.25, 0.0, 0.0, jitter=0.5, grey=0.0, blur=0.0)
COMMON = 0.8  # share of the labelled pixels that the head classes have together
NET = (
    "mobilenetv2(aspp_rates=(6, 12, 18), aspp_channels=256, low_channels=48, decoder_channels=256, decoder_convs=1, "
    "dropout=(0.5, 0.0), dropout_kind='element')"
)
BACKBONE = (
    "backbone: mobilenet_v2 (default) or resnet there, the last stage dilated; mobilenetv2 here, whose ASPP reads the "
    "96 channels of stride 16"
)
Map = tuple[Tensor, Tensor, Tensor]  # label, confidence, valid


class S4AL(AveragedTeacher):
    """On boosting active learning for semantic segmentation with semi-supervision, S4AL (Rangnekar et al., WACV 2023,
    arXiv 2203.10730).

    Idea: a person who labels a whole image spends most of the time on what the network knows. So it asks for small
    regions, in each unlabelled image where it is least sure, and labels the rest itself: what was asked is always
    right in its pseudo-labels. What it adds to `classmix`: the questions, after each of which the training begins
    anew, and a second mixture that pastes rare classes more often than they occur.

    Equations; f the student, t the teacher, s the colours, A_i the asked pixels of image i with their labels a_i, n the
    next image of the batch, v another draw of unlabelled images:
        k, y = max, argmax of softmax t(w(u));   on A: k = 1, y = a
        mixed: (u, y, k) zoomed, half of the classes of each image pasted on its n;   then s on the image
        r_i = #(k >= tau) / #(pixels with a label) of mixed image i
        L_u = mean over pixels with a label of r_i k CE(f(s(mixed u)), y)
        L_a = the same of u with `rare` classes of v pasted on it: so many of the head classes, so many of the others
        L = CE(f(s(w(x))), y_x) + L_u + L_a;   t <- d t + (1 - d) f,   d = min(1 - 1/(i + 1), decay)
        in the first `cold` of a generation L = 1.5 CE(f(s(w(x))), y_x);   L_a from the second one on, behind `late`
    Stages, a generation each, the last one twice as long; each but the first is prepared by questions and then trains
    anew: of each whole unlabelled image the `regions` cells of side `side` get their labels in which the mean entropy
    of softmax f is the highest, asked pixels counting 0. As many in each image, not the most doubtful of all.
    Head classes are those with the most labelled pixels that have 80 % of them together.

    The cost of a question is its pixels: `Sweep.truth` counts them, `Run.asked` is their share.

    Modes: t labels in train mode and fills its own BN buffers by that; parameters alone are averaged. The student is
    evaluated and asks, in eval mode and on images as they are.

    Cost: three forwards and their gradients a step and two of the teacher; a pass over the unlabelled images for each
    question.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        generations: how often it asks. side: of a region, in pixels of the image. regions: of an image, each time.
        tau: confidence of the pixels that r counts.
        decay: of the teacher.
        zoom: factors of the late change of scale.
        rare: head classes and others that are pasted. head: ids of the head classes; None = see above.
        cold, late: shares of a generation's usual length, see above.
        sure: whether k weighs a pixel's loss.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="active",
        title="Semantic Segmentation with Active Semi-Supervised Learning",
        venue="WACV",
        year=2023,
        authors="Rangnekar et al.",
        arxiv="2203.10730",
        code="https://github.com/aneesh3108/S4AL",
        extends=("classmix",),
        parity="golden",
        note="asks for labels of regions of unlabelled images",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"side": 8, "regions": 3, "decay": 0.98}},  # 2.1 % of an image at a time, as on CamVid
        "camvid": {
            "task": {"crop": 360, "scale": (0.75, 1.25), "labelled": "1/10"},
            "method": {"net": NET, "rare": (3, 2), "head": (0, 1, 3, 4, 5), "zoom": (0.75, 1.25)},
            "fit": {"steps": 20_000, "batch": 4, "lr": 1e-2, "head": 1.0, "weight_decay": 5e-4, "nesterov": True},
            "processes": 1,
            "differs": [
                "crop: 360 x 480 there, 360 x 360 here",
                "length: epochs of 50 steps, 100 a generation and 200 in the last one there, the same 20000 steps here",
                BACKBONE,
                "schedule: poly 0.9 by the epoch there, by the step here",
                "its list of fully labelled images is its own; a tenth of them is drawn here",
                "pad_image: reflected there, black here",
                "unsure: selection: which of its evaluations is reported is not said",
            ],
        },
        "cityscapes": {
            "task": {"crop": 512, "size": 688, "labelled": "1/10"},
            "method": {
                "net": NET, "rare": (3, 3), "head": (0, 1, 2, 8, 10, 13), "generations": 5, "side": 43,
                "zoom": (0.5, 2.0),
            },
            "fit": {"steps": 70_000, "batch": 4, "lr": 1e-2, "head": 1.0, "weight_decay": 5e-4, "nesterov": True},
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "differs": [
                "crop: 688 x 688 (whole images, squeezed to a square) there, 512 x 512 of images of 688 x 1376 here",
                "length: epochs of 100 steps, 100 a generation and 200 in the last there, the same 70000 steps here",
                BACKBONE,
                "schedule: poly 0.9 by the epoch there, by the step here",
                "its list of fully labelled images is its own; a tenth of them is drawn here",
                "pad_image: reflected there, black here",
                "unsure: selection: which of its evaluations is reported is not said",
            ],
        },
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        generations: int = 2,
        side: int = 30,
        regions: int = 4,
        tau: float = 0.97,
        decay: float = 0.99,
        zoom: tuple[float, float] = (0.75, 1.25),
        rare: tuple[int, int] = (3, 2),
        head: tuple[int, ...] | None = None,
        cold: float = 0.1,
        late: float = 0.3,
        sure: bool = True,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it only looks
        self.generations, self.side, self.regions = generations, side, regions
        self.tau, self.decay, self.zoom, self.rare, self.sure = tau, decay, zoom, rare, sure
        self.cold, self.late, self.supervised, self.counted = cold, late, criterion(supervised), head is None
        self.register_buffer("head", torch.isin(torch.arange(self.classes), torch.tensor(head or (), dtype=torch.long)))
        kept = ("asked", "truth")
        self.views = ViewPlan(
            x=Stream("labelled", strong=(COLOURS,)),
            u=Stream("unlabelled", maps=kept),
            v=Stream("unlabelled", maps=kept),
        )

    def stages(self) -> list[Stage]:
        blind = ViewPlan(x=self.views["x"], u=Stream("unlabelled"))
        lengths = [1.0] * self.generations + [2.0]
        further = {"prepare": self.ask, "restart": (self.student, self.teacher)}
        return [
            Stage(f"generation {k}", length, **further if k else {"views": blind}) for k, length in enumerate(lengths)
        ]

    # ---- the questions ----

    def ask(self, sweep: Any) -> None:
        """The regions in which the student is least sure get their labels."""
        if self.counted:
            self.head.copy_(self.common(sweep.task.class_pixels))
        for row, view in sweep.over("unlabelled", maps=("asked", "truth")):
            known = view.maps["asked"] == 1
            with evaluating(self.student):
                doubt = entropy(self.student(view.weak)).masked_fill(known, 0.0)
            where = cells_asked(doubt, self.side, self.regions) & ~known
            truth = sweep.truth(row, where[0])
            sweep.keep("asked", row, (known | where)[0])
            sweep.keep("truth", row, truth.where(where[0], view.maps["truth"][0]))

    def common(self, pixels: Tensor) -> Tensor:
        """(C,) bool: the fewest classes that have `COMMON` of the labelled pixels, (C,) by class, together."""
        order = pixels.argsort(descending=True)
        before = pixels[order].cumsum(0) - pixels[order]
        return torch.zeros_like(self.head).index_fill(
            0, order[before < COMMON * pixels.sum()].to(self.head.device), True
        )

    # ---- the labels ----

    def told(self, logits: Tensor, view: Views) -> Map:
        """Label, confidence and what has a label, (B, H, W) each: the teacher's, the person's where one was asked."""
        confidence, label = logits.softmax(1).max(1)
        valid = view.valid
        if "asked" in view.maps:
            asked, truth = view.maps["asked"] == 1, view.maps["truth"]
            void = asked & (truth == VOID)
            label, confidence = truth.where(asked & ~void, label), confidence.masked_fill(asked, 1.0)
            valid = valid.masked_fill(void, 0.0)
        return label, confidence * (view.valid > 0), valid

    def weighed(self, label: Tensor, confidence: Tensor, valid: Tensor) -> PseudoLabels:
        """What every pixel counts, by the share of sure ones in its image."""
        share = image_share((confidence >= self.tau).float(), valid)
        return PseudoLabels(label, confidence, share * confidence if self.sure else share, valid)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        return self.weighed(*self.told(logits, view))

    # ---- the step ----

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        l_x = self.supervised(self.student(x.strong[0]), x.label)
        done = clock.progress * (2 if clock.stage == self.generations else 1)  # in lengths of the others
        if done < self.cold:
            return Losses(x=(l_x, 1.5))
        with torch.no_grad():
            told = self.told(self.teacher(u.weak), u)
        losses = Losses(x=l_x)
        mixed, target = self.mixed(u, told)
        z = self.student(mixed)
        losses.add("u", pixel_ce(z, target, over="valid")).see(weak=u.weak, mixed=mixed, target=target, student=z)
        if clock.stage and done >= self.late:
            mixed, target = self.with_rare(u, told, batch.v)
            z = self.student(mixed)
            losses.add("rare", pixel_ce(z, target, over="valid"))
            losses.see("rare classes", mixed=mixed, target=target, student=z)
        return losses

    def mixed(self, u: Views, told: Map) -> tuple[Tensor, PseudoLabels]:
        """Zoomed images with half of the classes of each pasted on the next one, recoloured, and their labels."""
        theta = draw_zoom(u.weak, self.zoom)
        label, confidence, valid = (warp(t.float(), theta, nearest=True) for t in told)
        w, label = warp(u.weak, theta), label.long()
        m = draw_class_mask(label.where(valid > 0, VOID), self.classes)
        w, *parts = (paste(m, t, t.roll(-1, 0)) for t in (w, label, confidence, valid))
        return recolour(w, COLOURS), self.weighed(*parts)

    def with_rare(self, u: Views, told: Map, v: Views) -> tuple[Tensor, PseudoLabels]:
        """Images with some head classes and some rare ones of others pasted on them, recoloured, and their labels."""
        with torch.no_grad():
            donors = self.told(self.teacher(v.weak), v)
        m = draw_biased_mask(donors[0].where(donors[2] > 0, VOID), self.head, self.rare)
        w, *parts = (paste(m, new, old) for new, old in zip((v.weak, *donors), (u.weak, *told)))
        return recolour(w, COLOURS), self.weighed(*parts)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step), buffers="none")

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}
