"""The lesson on domains: a seam of labels, colours of another image, the mean of two teachers, limits per class."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, labels, logits, mask, shares


def _seam(rng: Generator, void: float = 0.0) -> dict[str, Tensor]:
    """A box, and the labels of a target and of a source image."""
    return {"box": mask(rng), "target": labels(rng, void=void), "source": labels(rng, void=void)}


SEAM = Exercise(
    key="domains.seam",
    asks="Region mixing: the labels (B, H, W) of target images into which the box of a source image is pasted.",
    prototype="seam(box, target, source)",
    reference=lambda box, target, source: torch.where(box, source, target),
    cases=lambda rng: [
        Case("no pixel is void", _seam(rng)),
        Case("some pixels are void", _seam(rng, void=0.5)),
        Case("the box is empty", {**_seam(rng), "box": torch.zeros(2, 6, 6, dtype=torch.bool)}),
    ],
    mistakes=(
        Mistake(
            "inside out",
            "Inside of the box is the target; there it should be the source.",
            lambda box, target, source: torch.where(box, target, source),
        ),
        Mistake(
            "void is filled",
            "Where the source is void inside of the box, the target's label shows through; void moves with its pixels.",
            lambda box, target, source: torch.where(box & (source != VOID), source, target),
        ),
        Mistake(
            "only the image",
            "This is the target's label everywhere: the pasted pixels are taught the wrong class.",
            lambda box, target, source: target + 0 * source,
        ),
        Mistake(
            "the source is void",
            "The pasted pixels are void; the source has labels, and they are what it is there for.",
            lambda box, target, source: torch.where(box, VOID, target),
        ),
    ),
    picture=("box", "target", "source"),
)


def _moments(lab: Tensor, over: tuple[int, ...] = (2, 3)) -> tuple[Tensor, Tensor]:
    return lab.mean(over, keepdim=True), lab.std(over, keepdim=True, correction=0)


def _colours(lab: Tensor, like: Tensor, over: tuple[int, ...] = (2, 3)) -> Tensor:
    (mean, spread), (wanted, width) = _moments(lab, over), _moments(like, over)
    return (lab - mean) / spread * width + wanted


COLOURS = Exercise(
    key="domains.colours",
    asks="The images `lab` (B, 3, H, W) with the mean and the standard deviation (divided by H * W) that `like` has in "
    "each channel, image by image.",
    prototype="colours(lab, like)",
    reference=_colours,
    cases=lambda rng: [
        Case(
            "colours differ from image to image",
            {
                "lab": 30 * shares(rng, 2, 3, 6, 6) + 40 * shares(rng, 2, 3, 1, 1),
                "like": 10 * shares(rng, 2, 3, 6, 6) + 60 * shares(rng, 2, 3, 1, 1),
            },
        )
    ],
    mistakes=(
        Mistake(
            "means alone",
            "The means are right, the deviations are still those of `lab`.",
            lambda lab, like: lab - _moments(lab)[0] + _moments(like)[0],
        ),
        Mistake(
            "over the batch",
            "Mean and deviation are those of the whole batch; each image has a partner of its own.",
            lambda lab, like: _colours(lab, like, (0, 2, 3)),
        ),
        Mistake(
            "channels together",
            "All three channels share one mean and one deviation; lightness and colours have their own.",
            lambda lab, like: _colours(lab, like, (1, 2, 3)),
        ),
        Mistake(
            "the other way",
            "The deviations are divided the wrong way round.",
            lambda lab, like: (lab - _moments(lab)[0]) * _moments(lab)[1] / _moments(like)[1] + _moments(like)[0],
        ),
    ),
)


def _taught(region: Tensor, sample: Tensor, student: Tensor) -> Tensor:
    mean = (region.softmax(1) + sample.softmax(1)) / 2
    return (mean * (mean.log() - student.log_softmax(1))).sum(1).mean()


TAUGHT = Exercise(
    key="domains.taught",
    asks="The student's term on unlabelled images: KL(E || student), the mean over all pixels (a scalar), where E is "
    "the average of both teachers' probabilities; all three are given as logits (B, C, H, W).",
    prototype="taught(region, sample, student)",
    reference=lambda region, sample, student: _taught(region.detach(), sample.detach(), student),
    cases=lambda rng: [
        Case("all three differ", {name: logits(rng) for name in ("region", "sample", "student")}),
        Case("the teachers agree", (lambda z: {"region": z, "sample": z.clone(), "student": logits(rng)})(logits(rng))),
    ],
    mistakes=(
        Mistake(
            "mean of logits",
            "The teachers' logits are averaged; E is the average of their probabilities, so that each has its say.",
            lambda region, sample, student: _taught(*2 * ((region + sample) / 2,), student),
        ),
        Mistake(
            "cross entropy",
            "E's own entropy is missing: a student that says just what E says still pays.",
            lambda region, sample, student: (
                -((region.softmax(1) + sample.softmax(1)) / 2 * student.log_softmax(1)).sum(1).mean()
            ),
        ),
        Mistake(
            "the other direction",
            "This is KL(student || E), which lets the student leave out what the teachers hold possible.",
            lambda region, sample, student: (
                (student.softmax(1) * (student.log_softmax(1) - ((region.softmax(1) + sample.softmax(1)) / 2).log()))
                .sum(1)
                .mean()
            ),
        ),
        Mistake(
            "mean of classes",
            "The classes are averaged as well; over them it is a sum.",
            lambda region, sample, student: _taught(region, sample, student) / region.shape[1],
        ),
    ),
    learns=("student",),
    stops=("region", "sample"),
)


def _pixels(rng: Generator, classes: int) -> dict[str, Tensor]:
    """Labels of three classes, confidences all different, the first class surer than the others."""
    label = torch.randint(3, (2, 5, 5), generator=rng)
    confidence = (1 + torch.randperm(label.numel(), generator=rng).view_as(label)) / (label.numel() + 1)
    return {
        "label": label,
        "confidence": torch.where(label == 0, 0.92 + 0.07 * confidence, 0.3 + 0.6 * confidence),
        "classes": torch.tensor(classes),
    }


def _limits(label: Tensor, confidence: Tensor, classes: Tensor, cap: float = 0.9, at: float = 0.5) -> Tensor:
    limits = torch.zeros(int(classes), dtype=confidence.dtype, device=confidence.device)
    for c in range(int(classes)):
        own = confidence[label == c].sort().values
        if len(own):
            limits[c] = own[min(int(len(own) * at), len(own) - 1)].clamp(max=cap)
    return limits


LIMITS = Exercise(
    key="domains.limits",
    asks="BDL: the limit (classes,) that a pixel's confidence (B, H, W) must reach to keep its label. For each class "
    "the value in the middle of its pixels' sorted confidences (place n // 2, counted from 0), but at most 0.9; 0 for "
    "a class that no pixel has.",
    prototype="limits(label, confidence, classes)",
    reference=_limits,
    cases=lambda rng: [
        Case("all classes occur", _pixels(rng, 3)),
        Case("a class does not occur", _pixels(rng, 4), edge=True),
    ],
    mistakes=(
        Mistake(
            "no cap",
            "Nothing holds the limit at 0.9: of a class of which the network is sure, half is thrown away.",
            lambda label, confidence, classes: _limits(label, confidence, classes, cap=1.0),
        ),
        Mistake(
            "one for all",
            "One limit for all classes: the hard ones lose nearly all their pixels.",
            lambda label, confidence, classes: (
                confidence.flatten().sort().values[confidence.numel() // 2].clamp(max=0.9).expand(int(classes)).clone()
            ),
        ),
        Mistake(
            "0.9 always",
            "This is a limit of 0.9; that is only the highest one.",
            lambda label, confidence, classes: torch.full((int(classes),), 0.9).to(confidence),
        ),
        Mistake(
            "the surest",
            "This is near the largest confidence of a class: nearly nothing is kept.",
            lambda label, confidence, classes: _limits(label, confidence, classes, at=1.0),
        ),
        Mistake(
            "the mean",
            "This is the mean of a class's confidences; one pixel of which the network knows nothing moves it.",
            lambda label, confidence, classes: torch.stack(
                [confidence[label == c].mean().nan_to_num(0).clamp(max=0.9) for c in range(int(classes))]
            ),
        ),
    ),
    picture=("label", "confidence"),
)

EXERCISES = [SEAM, COLOURS, TAUGHT, LIMITS]
