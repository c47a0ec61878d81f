"""Dual Teacher: two temporary teachers take turns, each with a way of mixing that is its own.

From the release: in the consistency term it takes the labels of the LABELLED batch for a map of what counts, and in
CutMix turns confidences stay unmixed and pass 8 bits, where 0.95 becomes 243/255; here they are pasted with the
labels. Colours change its NORMALISED images, whose negative half the jitter cuts off, all by one draw; here they
change RGB, image by image. Its teacher forwards once more for the consistency term, apart by the dropout. With two
images it always exchanges them in ClassMix turns. Only SegFormer on ADE20K is released; its poly schedule has the
power 1, `schedule="linear"` here. The paper's DeepLabV3+ has no set-up there, nor blocks to drop: `dropout` of the
decoder is then the student's only doubt about itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import SegNet, copy_of, ema, evaluating, full_depth, make, warm
from ...views import Batch, Stream, Strong, ViewPlan, Views, beta_box, paste, recolour, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..lengths import Length
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.masks import draw_class_mask
from ..parts.precision import float32

NAMES = ("mixed view", "implicit consistency")
COLOURS = Strong(jitter=1.0, blur=0.0)
LATE_COLOURS = Strong(0.25, 0.25, 0.25, 0.25, jitter=0.8, grey=0.0, blur=0.5, sigma=(0.15, 1.15))


@float32
def share(confidence: Tensor, tau: float, of: str) -> Tensor:
    """(B, H, W) weights in [0, 1]: which share of pixels has a confidence (B, H, W) of at least `tau`, of the pixel's
    own "image" or of the whole "batch"."""
    sure = (confidence >= tau).float()
    return sure.mean((1, 2) if of == "image" else (0, 1, 2), keepdim=True).expand_as(sure)


def draw_upright_mask(like: Tensor, mirrored: float = 0.5) -> Tensor:
    """(B, H, W) bool for maps (B, H, W): True on images that stay as they are, False on those to be mirrored."""
    return (torch.rand(len(like), 1, 1, device=like.device) >= mirrored).expand_as(like)


def mirror(t: Tensor) -> Tensor:
    """(..., H, W), left and right exchanged."""
    return t.flip(-1)


class DualTeacher(Method):
    """Switching temporary teachers (Na et al., NeurIPS 2023, arXiv 2310.18640).

    Idea: the average of a student soon thinks like the student. So there are two teachers of which one at a time works,
    for a pass over the labelled images: it starts as a copy of the student (the decay is counted from the beginning of
    its turn), averages the student of this turn alone, and goes. Each has strong views of its own kind, CutMix and
    ClassMix, so that what the two hand on differs. And the student is to agree with itself: with blocks dropped
    (stochastic depth) it must say on a strong, unmixed view what the whole teacher says. What it adds to `mean_teacher`
    are turns, kinds and this implicit consistency.

    Equations; in the turn of teacher t, i = steps since it began, p a permutation of the batch, n = p's image:
        turn of CutMix:    m = outside of a box;                        mixed = mirror?(colour(m ? w(u) : w(n)))
        turn of ClassMix:  m = half of the classes of t's prediction;   mixed = m ? s(u) : s(n)
        y, c = argmax, max of softmax(m ? t(w(u)) : t(w(n)));   labels are mirrored with their image
        r = share of pixels with c >= tau: of the image (CutMix), of the batch (ClassMix)
        L_m = 1/N sum over the N valid pixels of r CE(f(mixed), y)
        L_i = 1/N sum over the N valid pixels of 1[max softmax t(w(u)) >= tau] CE(f(s(u)), argmax t(w(u)))
        L = CE(f(w(x)), y_x) + L_m + weight * L_i;   labelled and mixed images are one BN batch, s(u) another
        after each step: t <- a t + (1 - a) f, parameters alone;   a = min(1 - 1/(i + 1), decay), 0 at i = 0
    So r only scales: doubtful pixels are trained on, too. The labels of a turn's first step come from a teacher that
    has slept for a turn. Teachers label in train mode, with the dropout of the decoder and by the statistics of their
    own batches, but at full depth. The student is evaluated. Cost: three networks are held; in a step one teacher
    forwards u without gradient, the student x, the mixed and the strong images with it.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts in r and in L_i.
        decay: of a turn's average at the most.
        weight: of the implicit consistency.
        turn: how long one teacher works, a share of the training or passes, see `lengths`.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="cotraining",
        title="Switching Temporary Teachers for Semi-Supervised Semantic Segmentation",
        venue="NeurIPS",
        year=2023,
        authors="Na et al.",
        arxiv="2310.18640",
        code="https://github.com/naver-ai/dual-teacher",
        extends=("mean_teacher", "cutmix", "classmix"),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", weak(pad="mean")),
        u=Stream("unlabelled", weak(pad="mean"), strong=(COLOURS,), masks=(beta_box(4.0),)),
    )
    recipes: ClassVar = {
        "scenes": {"method": {"turn": 0.05}},  # a lesson's few labelled images are passed over in a handful of steps
        "camvid": {"method": {"turn": 0.05}},
        "voc": {"method": {"net": "resnet50c"}},
        "ade20k": {
            "task": {"crop": 512, "short": 512},
            "method": {"net": "mit_b1"},
            "fit": {
                "steps": 50_000,
                "batch": 8,
                "optimiser": "adamw",
                "lr": 6e-5,
                "head": 10.0,
                "weight_decay": 1e-2,
                "decay_norms": False,
                "schedule": "linear",
                "warmup": 1500,
            },
            "processes": 2,
            "evaluation": "ade20k/dual_teacher",
            "differs": [
                "decay_norms: False for the encoder's norms alone there, False for all norms and biases here",
                "unsure: length: the rate falls over 50,000 steps there, but its loop ends after 200 passes over the "
                "labelled images, 31,400 steps with 1263 of them; 50,000 steps here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        decay: float = 0.99,
        weight: float = 0.2,
        turn: Length = "1 labelled epoch",
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher1, self.teacher2 = (full_depth(copy_of(self.student)) for _ in range(2))
        for teacher in self.teachers:
            teacher.train()
        self.tau, self.decay, self.weight, self.turn = tau, decay, weight, turn
        self.supervised = criterion(supervised)
        self.register_buffer("active", torch.tensor(0))  # the teacher of the next step

    @property
    def teachers(self) -> tuple[SegNet, SegNet]:
        """In the order in which they take turns."""
        return self.teacher1, self.teacher2

    def place(self, clock: Clock, ahead: int = 0) -> tuple[int, int]:
        """Which teacher's turn it is, 0 (CutMix) or 1 (ClassMix), and how many steps ago it began."""
        turn, since = divmod(clock.step + ahead, max(1, clock.steps_of(self.turn)))
        return turn % 2, since

    def teach(self, view: Views) -> Tensor:
        with evaluating(*self.teachers):
            first, second = (teacher(view.weak) for teacher in self.teachers)
        return torch.where(self.active == 0, first, second)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        confidence, label = logits.softmax(1).max(1)
        r = share(confidence, self.tau, of=("image", "batch")[self.place(clock)[0]])
        sure = (confidence >= self.tau).float()
        return {name: PseudoLabels(label, confidence, w, view.valid) for name, w in zip(NAMES, (r, sure))}

    def probabilities(self, logits: Tensor) -> dict[str, Tensor]:
        return dict.fromkeys(NAMES, logits.softmax(1))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        turn, _ = self.place(clock)
        with torch.no_grad():
            t_u = self.teachers[turn](u.weak)
        plain = self.pseudo_labels(t_u, u, clock)[NAMES[1]]
        mixed, target = self.cutmix(u, t_u, clock) if turn == 0 else self.classmix(u, t_u, clock)
        z_x, z_m = (part.logits for part in self.student.joint(x.weak, mixed))
        z_s = self.student(u.strong[0])
        losses = Losses(
            x=self.supervised(z_x, x.label),
            mixed=pixel_ce(z_m, target, over="valid"),
            implicit=(pixel_ce(z_s, plain, over="valid"), self.weight),
        )
        losses.see(NAMES[0], weak=u.weak, mixed=mixed, target=target, student=z_m)
        return losses.see(NAMES[1], weak=u.weak, mixed=u.strong[0], target=plain, student=z_s)

    def cutmix(self, u: Views, t_u: Tensor, clock: Clock) -> tuple[Tensor, PseudoLabels]:
        """The first teacher's strong views: a box on weak images, then colours, then half of them mirrored."""
        image, target = self.pasted(~u.masks[0], u.weak, u, t_u, clock)
        image, upright = recolour(image, LATE_COLOURS), draw_upright_mask(target.label)
        return paste(upright, image, mirror(image)), paste(upright, target, target.map(mirror))

    def classmix(self, u: Views, t_u: Tensor, clock: Clock) -> tuple[Tensor, PseudoLabels]:
        """The second teacher's strong views: half of the classes on another image, both in other colours."""
        return self.pasted(draw_class_mask(t_u.argmax(1), t_u.shape[1]), u.strong[0], u, t_u, clock)

    def pasted(self, m: Tensor, image: Tensor, u: Views, t_u: Tensor, clock: Clock) -> tuple[Tensor, PseudoLabels]:
        """Images and labels where m is True, those of another image of the batch elsewhere."""
        p = torch.randperm(len(u), device=image.device)
        image, t_m, valid = (paste(m, own, own[p]) for own in (image, t_u, u.valid))
        return image, self.pseudo_labels(t_m, replace(u, weak=image, valid=valid), clock)[NAMES[0]]

    def after_step(self, clock: Clock) -> None:
        turn, since = self.place(clock)
        ema(self.teachers[turn], self.student, warm(self.decay, since), buffers="none")
        self.active.fill_(self.place(clock, ahead=1)[0])

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher 1": self.teacher1, "teacher 2": self.teacher2}
