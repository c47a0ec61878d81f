"""CTT: two pairs of student and mean teacher, whose teachers are exchanged.

From the release: its contrasts are computed but not added to the loss (both branches of the sum are the same), so the
recipes have contrast=0; the default weight of 0.1 is the kit's, the paper's was not read. Its banks take pixels by
their largest LOGIT, not probability, and are written with the teachers behind the step, here before it; both wait for
the last class of all, which may never come. Its low term is 0/0 for a class without pixels; that the other must be
surer is from its DeepLabV3+ script. With mix=None its DeepLabV2 script masks 21 classes by an image of 3 channels and
fails. Features are taken behind the dropout there. Padding is trained on there, not here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import S4Error, closest
from ...nets import Decoded, SegNet, copy_of, ema, evaluating, make, warm
from ...nets.segnet import resize
from ...views import Batch, Stream, ViewPlan, Views, paste, recolour, weak
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..consistency.classmix import COLOURS, SCALES
from ..parts.banks import Queues, surest
from ..parts.contrast import bank_contrast, members, rows, shrink
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.masks import draw_class_mask
from ..parts.roles import pictured

NAMES = ("teacher 2 teaches 1", "teacher 1 teaches 2")
NET = (
    "resnet101(output_stride=8, aspp='squeezed', aspp_rates=(6, 12, 18, 24), low_channels=0, decoder_convs=0, "
    "dropout=(0, 0.1))"
)
FIT = {"lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4}
START = "start: network 1 from a DeepLabV2 trained on COCO there, network 2 from ImageNet; both from ImageNet here"

# what a pixel counts, from (B, H, W) confidences and the threshold
WEIGHTING = {
    "share": lambda c, tau: (c >= tau).float().mean().expand_as(c),
    "power": lambda c, tau: c**6,
    "none": lambda c, tau: torch.ones_like(c),
}


class CTT(Method):
    """Cross teacher training (Xiao et al., Neurocomputing 2022, arXiv 2209.01327).

    Idea: a student that learns from its own average repeats its errors, and two networks that label each other soon
    agree. So each student learns from the other one's teacher, which is an average and still somebody else. Two
    contrasts separate the classes besides: of sure pixels against banks of labelled features, and of unsure ones with
    what the other student, where it is surer, makes of the same pixel. What it adds to `cps` are the teachers; to
    `classmix`, whose strong views it has, the second pair.

    Equations; k the other one of k, n = next image of the batch, m_k half of the classes that teacher k predicts, drawn
    for each direction by itself, like the colours; n_c the pixels of class c:
        mixed_k = colour(m_k ? w(u) : w(u_n));   y_k, c_k = argmax, max of softmax(m_k ? t_k(w(u)) : t_k(w(u_n)))
        r_k = share of all pixels with c_k >= tau;   L_u,k = 1/(B H W) sum of valid r_k CE(f_k(mixed_k), y_k)
        high_k  of labelled pixels and those with c_k >= sure: mean over c of 1/n_c sum of the mean over the rows b of
                c in bank k of -log(e^(cos(z, b)/0.1) / (e^(cos(z, b)/0.1) + sum over rows of other classes))
        low_k   of pixels with c_k < sure, where the other student is surer, and `sure`: the same with its feature of
                the pixel, detached, for b, its class for c, the rows of both banks, and 0.5 for 0.1
        L = sum over k of CE(f_k(w(x)), y_x) + weight * L_u,k + contrast * (high_k + low_k)
        after each step i (0-based): t_k <- a t_k + (1 - a) f_k, parameters alone;   a = min(1 - 1/(i + 1), decay)
    z are the maps before the classifier, labels and confidences brought to their size. Bank k has `held` rows a class:
    a step adds the surest labelled pixels that teacher k gets right (p >= 0.95), max(2 held / labelled images, B) of a
    class, the oldest go. A class takes part in the contrasts once it is full in both banks. Where the views are mixed,
    "the same pixel" of the other student is one of another mixture.

    Modes: every forward of the training is in train mode; teachers fill their own BN buffers. The students are
    evaluated. Cost: four networks are held; in a step each student forwards x and its mixed images, each teacher u
    without gradient, and x, too, for its bank. Likenesses to banks are made again for the backward pass.

    Args:
        task: the data, or anything with `num_classes` (and `labelled`, whose length says what a bank takes in a step).
        net: network spec, see `nets.make`; of the first pair, and of the second without `other`.
        other: network spec of the second pair: other weights, or another backbone with the same decoder.
        mix: paste half of the classes on the next image.
        colour: jitter and blur on the strong images.
        tau: confidence from which a pixel counts in r.
        weighting: of a pixel: "share", r as above; "power", c^6; "none", 1.
        decay: of the teachers' averages.
        weight, contrast: of L_u, and of both contrasts.
        sure: confidence that parts the two contrasts.
        held: rows per class of each bank.
        flip: probability of mirroring an image.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: unknown `weighting`; with contrast, two networks whose embeddings differ in width.
    """

    card = Card(
        family="cotraining",
        title="Semi-supervised semantic segmentation with cross teacher training",
        venue="Neurocomputing",
        year=2022,
        authors="Xiao et al.",
        arxiv="2209.01327",
        code="https://github.com/1181110317/SSL_CTT",
        extends=("cps", "classmix"),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": SCALES},
            "method": {"net": NET, "mix": False, "flip": 0.0, "contrast": 0.0},
            "fit": {**FIT, "steps": 160_000, "batch": 10},
            "processes": 1,
            "evaluation": "voc",
            "selection": "last",
            "differs": [START],
        },
        "cityscapes": {
            "task": {"crop": 256, "size": 0.5, "scale": (1.0, 1.0)},
            "method": {"net": NET, "flip": 0.0, "contrast": 0.0, "supervised": "ce"},
            "fit": {**FIT, "steps": 16_000, "batch": 2},
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "differs": [
                START,
                "crop: 256 x 512 there, 256 x 256 here",
                "unsure: length: 16,000 steps stand beside a warm-up of 100,000 that nothing reads there; 160,000 may "
                "be meant, 16,000 here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        other: str | None = None,
        mix: bool = True,
        colour: bool = True,
        tau: float = 0.968,
        weighting: str = "share",
        decay: float = 0.99,
        weight: float = 1.0,
        contrast: float = 0.1,
        sure: float = 0.75,
        held: int = 256,
        flip: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTING:
            raise S4Error(f"There is no weighting {weighting!r}. {closest(weighting, list(WEIGHTING))}")
        self.net1, self.net2 = make(net, task), make(other or net, task)
        self.teacher1, self.teacher2 = (copy_of(s).train() for s in self.students)
        self.classes, self.labelled = task.num_classes, len(getattr(task, "labelled", ()))
        self.mix, self.colour, self.tau, self.weighting, self.decay = mix, colour, tau, weighting, decay
        self.weight, self.contrast, self.sure, self.held = weight, contrast, sure, held
        self.supervised = criterion(supervised)
        if contrast:
            widths = {s.decoder.embedding_channels for s in self.students}
            if len(widths) > 1:
                raise S4Error(f"ctt: embeddings of {' and '.join(map(str, sorted(widths)))} channels: give contrast=0.")
            self.bank1, self.bank2 = (Queues([held] * self.classes, *widths) for _ in range(2))
        view = weak(flip=flip, pad="mean")
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view))

    @property
    def students(self) -> tuple[SegNet, SegNet]:
        """Networks 1 and 2, which are trained."""
        return self.net1, self.net2

    @property
    def teachers(self) -> tuple[SegNet, SegNet]:
        """The averages of networks 1 and 2; each teaches the other one."""
        return self.teacher1, self.teacher2

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits of those who teach networks 1 and 2: teacher 2, teacher 1."""
        with evaluating(*self.teachers):
            return self.teacher2(view.weak), self.teacher1(view.weak)

    def judged(self, logits: Tensor, valid: Tensor) -> PseudoLabels:
        """The likeliest class of each pixel of (B, K, H, W) logits, its weight by `weighting` and `tau`."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, WEIGHTING[self.weighting](confidence, self.tau), valid)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        return {name: self.judged(logits, view.valid) for name, logits in zip(NAMES, evidence)}

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, size = batch.x, batch.u, batch.u.weak.shape[-2:]
        with torch.no_grad():
            t_2, t_1 = (teacher(u.weak) for teacher in self.teachers)  # of students 2 and 1: exchanged
        of_x = [through(student, x.weak) for student in self.students]
        strong = [self.strong(u, t) for t in (t_1, t_2)]
        of_u = [through(student, mixed) for student, (mixed, _) in zip(self.students, strong)]
        losses = Losses()
        for k, student in enumerate(self.students):
            (mixed, target), name = strong[k], k + 1
            z_x, z_u = (resize(d.logits, size, student.decoder.align_corners) for d in (of_x[k], of_u[k]))
            losses.add(f"x{name}", self.supervised(z_x, x.label))
            losses.add(f"u{name}", pixel_ce(z_u, target, over="all"), self.weight)
            losses.see(NAMES[k], weak=u.weak, mixed=mixed, target=target, student=z_u)
        if self.contrast:
            banks = [bank.snapshot() for bank in (self.bank1, self.bank2)]
            for k in range(2):
                high, low = self.contrasts(k, x, of_x, of_u, strong[k], banks)
                losses.add(f"high{k + 1}", high, self.contrast).add(f"low{k + 1}", low, self.contrast)
            self.remember(x)
        return losses

    def strong(self, u: Views, t: Tensor) -> tuple[Tensor, PseudoLabels]:
        """What a student sees, and what it is to say, from the logits of its teacher on the weak images."""
        m = draw_class_mask(t.argmax(1), self.classes) if self.mix else torch.ones_like(u.valid, dtype=torch.bool)
        image, valid, t = (paste(m, own, own.roll(-1, 0)) for own in (u.weak, u.valid, t))
        return recolour(image, COLOURS, together=True) if self.colour else image, self.judged(t, valid)

    def contrasts(
        self,
        k: int,
        x: Views,
        of_x: list[Decoded],
        of_u: list[Decoded],
        strong: tuple[Tensor, PseudoLabels],
        banks: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """high_k and low_k of the labelled images x and of `strong`, what network k sees besides and learns there."""
        mixed, target = strong
        own, other = of_u[k], of_u[1 - k]
        size, ready = own.embedding.shape[-2:], self.bank1.full & self.bank2.full
        confidence, valid = shrink(target.confidence, size), shrink(target.valid, size) > 0
        of_label, of_target = shrink(x.label, size), shrink(target.label, size)
        sure = confidence >= self.sure
        used = torch.cat([torch.ones_like(of_label, dtype=torch.bool), sure & valid])
        z = torch.cat([of_x[k].embedding, own.embedding])
        labels = torch.cat([of_label, of_target])
        pictured(size, x.weak, mixed, name=f"high{k + 1}")
        high = bank_contrast(rows(z), labels.flatten(), used.flatten(), banks[k], ready, 0.1)

        p, guess = other.logits.detach().softmax(1).max(1)
        surer = (p >= own.logits.detach().softmax(1).amax(1)) & (p >= self.sure)
        unsure = (~sure & valid & surer).flatten()
        peer = rows(other.embedding.detach())
        both = torch.cat(banks, 1)
        pictured(size, mixed, name=f"low{k + 1}")
        return high, bank_contrast(rows(own.embedding), guess.flatten(), unsure, both, ready, 0.5, peer)

    @torch.no_grad()
    def remember(self, x: Views) -> None:
        """Each bank takes the surest labelled pixels that its teacher gets right."""
        most = max(2 * self.held // max(1, self.labelled), len(x))
        for teacher, bank in zip(self.teachers, (self.bank1, self.bank2)):
            said = through(teacher, x.weak)
            p, guess = said.logits.softmax(1).max(1)
            label = shrink(x.label, guess.shape[-2:])
            right = members(label.flatten(), self.classes) & ((guess == label) & (p >= 0.95)).flatten()
            bank.append(*surest(rows(said.embedding), p.flatten(), right, most))

    def after_step(self, clock: Clock) -> None:
        for teacher, student in zip(self.teachers, self.students):
            ema(teacher, student, warm(self.decay, clock.step), buffers="none")

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        return {"net1": replace(recipe, nets=[self.net1]), "net2": replace(recipe, nets=[self.net2])}

    def predictors(self) -> dict[str, nn.Module]:
        return {"net 1": self.net1, "net 2": self.net2, "teacher 1": self.teacher1, "teacher 2": self.teacher2}


def through(net: SegNet, image: Tensor) -> Decoded:
    """A network's answer to images (B, 3, H, W) at the size of its own maps."""
    return net.decode(net.encode(image))
