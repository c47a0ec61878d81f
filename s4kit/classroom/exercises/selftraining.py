"""The lesson on self-training: confirmed mistakes, ST++'s reliable images, DARS's quotas, FST's future."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ...methods.parts.reliability import stability
from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, labels, shares


def _told(rng: Generator, void: float = 0.0) -> dict[str, Tensor]:
    """Labels that are wrong on some pixels, what a network says that learned from them, and the truth."""
    truth, label, other = (labels(rng) for _ in range(3))
    half = torch.rand(label.shape, generator=rng) < 0.5
    known = torch.rand(truth.shape, generator=rng) >= void
    return {"now": torch.where(half, label, other), "label": label, "truth": torch.where(known, truth, VOID)}


def _confirmed(now: Tensor, label: Tensor, truth: Tensor) -> Tensor:
    wrong = (label != truth) & (truth != VOID)
    return ((now == label) & wrong).sum() / wrong.sum().clamp(min=1)


CONFIRMED = Exercise(
    key="selftraining.confirmed",
    asks="Of the non-void pixels whose pseudo-label is wrong, the share on which the network that learned from it says "
    "the same; 0 if no label is wrong.",
    prototype="confirmed(now, label, truth)",
    reference=_confirmed,
    cases=lambda rng: [
        Case("no pixel is void", _told(rng)),
        Case("some pixels are void", _told(rng, void=0.5)),
        Case("all labels are right", (lambda of: {**of, "label": of["truth"]})(_told(rng)), edge=True),
    ],
    mistakes=(
        Mistake(
            "of all pixels",
            "The divisor is all pixels; it should be those with a wrong label.",
            lambda now, label, truth: (
                ((now == label) & (label != truth) & (truth != VOID)).sum() / (truth != VOID).sum()
            ),
        ),
        Mistake(
            "still wrong",
            "Pixels are counted on which the network is wrong in another way than the label, which it did not believe.",
            lambda now, label, truth: (
                ((now != truth) & (label != truth) & (truth != VOID)).sum()
                / ((label != truth) & (truth != VOID)).sum().clamp(min=1)
            ),
        ),
        Mistake(
            "all that is believed",
            "Right labels are counted, too; to believe those is no harm.",
            lambda now, label, truth: (now == label)[truth != VOID].float().mean(),
        ),
        Mistake(
            "void is wrong",
            "On void pixels no class is right, and so they count as wrong labels here; they should not count at all.",
            lambda now, label, truth: ((now == label) & (label != truth)).sum() / (label != truth).sum().clamp(min=1),
        ),
        Mistake(
            "no guard",
            "Where no label is wrong this is 0/0; the answer is then 0.",
            lambda now, label, truth: (
                ((now == label) & (label != truth) & (truth != VOID)).sum() / ((label != truth) & (truth != VOID)).sum()
            ),
        ),
    ),
    picture=("now", "label", "truth"),
)


def _courses(rng: Generator, classes: int = 3) -> dict[str, Tensor]:
    """What two checkpoints and the last network say, ever more alike."""
    last = labels(rng, classes=classes)
    earlier = [torch.where(shares(rng, *last.shape) < s, last, labels(rng, classes=classes)) for s in (0.5, 0.8)]
    return {"first": earlier[0], "second": earlier[1], "last": last, "classes": torch.tensor(classes)}


def _stable(first: Tensor, second: Tensor, last: Tensor, classes: Tensor) -> Tensor:
    return stability([first, second], last, int(classes))


def _iou(a: Tensor, b: Tensor, classes: Tensor, absent: float = torch.nan) -> Tensor:
    """(B,) mean IoU of label maps, image by image; with a value for classes that neither has."""
    a, b = a.flatten(1), b.flatten(1)
    pairs = [((a == c) & (b == c), (a == c) | (b == c)) for c in range(int(classes))]
    found = [torch.where(any_.any(1), both.sum(1) / any_.sum(1).clamp(min=1), absent) for both, any_ in pairs]
    return torch.stack(found).nanmean(0)


def _absent(rng: Generator) -> dict[str, Tensor]:
    return {**_courses(rng), "classes": torch.tensor(5)}


STABLE = Exercise(
    key="selftraining.reliability",
    asks="ST++: how reliable each image (B,) is. The mean over `first` and `second` of the mean IoU with `last`, all "
    "(B, H, W), over those of `classes` classes that either map has in the image.",
    prototype="reliability(first, second, last, classes)",
    reference=_stable,
    cases=lambda rng: [
        Case("all classes occur", _courses(rng)),
        Case("a class is in none of the maps", _absent(rng)),
        Case("nothing has changed", (lambda of: {**of, "first": of["last"], "second": of["last"]})(_absent(rng)), True),
    ],
    mistakes=(
        Mistake(
            "absent is 0",
            "A class that neither map has counts as 0: images with few classes look unreliable.",
            lambda first, second, last, classes: sum(_iou(of, last, classes, 0.0) for of in (first, second)) / 2,
        ),
        Mistake(
            "absent is 1",
            "A class that neither map has counts as agreed: images with few classes look reliable.",
            lambda first, second, last, classes: sum(_iou(of, last, classes, 1.0) for of in (first, second)) / 2,
        ),
        Mistake(
            "share of equal pixels",
            "This is the share of pixels that stayed; ST++ takes the IoU class by class, so that small ones count.",
            lambda first, second, last, classes: (
                ((first == last).float().mean((1, 2)) + (second == last).float().mean((1, 2))) / 2
            ),
        ),
        Mistake(
            "from one to the next",
            "The first checkpoint is compared with the second one; both are compared with the last.",
            lambda first, second, last, classes: (_iou(first, second, classes) + _iou(second, last, classes)) / 2,
        ),
    ),
    picture=("first", "second", "last"),
)


def _pixels(rng: Generator, sides: int = 8) -> dict[str, Tensor]:
    """Labels of three classes, the first one frequent, confidences all different, and how many of each are wanted."""
    label = torch.randint(5, (1, sides, sides), generator=rng).sub(2).clamp(min=0)
    confidence = (1 + torch.randperm(label.numel(), generator=rng).view_as(label)) / (label.numel() + 1)
    return {"label": label, "confidence": confidence, "wanted": torch.tensor([9, 3, 6])}


def _quota(label: Tensor, confidence: Tensor, wanted: Tensor) -> Tensor:
    kept = torch.zeros_like(label, dtype=torch.bool)
    for c, most in enumerate(wanted.tolist()):
        own = confidence[label == c].sort(descending=True).values[:most]
        if len(own):
            kept |= (label == c) & (confidence >= own[-1])
    return kept


QUOTA = Exercise(
    key="selftraining.quota",
    asks="DARS: which pixels (B, H, W) of `label` are kept, as bool: of each class c the `wanted[c]` surest ones, all "
    "where it has fewer. No two confidences are equal.",
    prototype="quota(label, confidence, wanted)",
    reference=_quota,
    cases=lambda rng: [
        Case("each class has enough pixels", {**_pixels(rng), "wanted": torch.tensor([5, 2, 3])}),
        Case("other numbers are wanted", _pixels(rng)),
        Case("a class has fewer than wanted", {**_pixels(rng), "wanted": torch.tensor([9, 60, 6])}, edge=True),
        Case("none of a class is wanted", {**_pixels(rng), "wanted": torch.tensor([9, 0, 6])}, edge=True),
    ],
    mistakes=(
        Mistake(
            "one threshold",
            "The surest pixels of all classes together are kept, so the easy classes take the places of the others.",
            lambda label, confidence, wanted: (
                confidence >= confidence.flatten().sort(descending=True).values[: int(wanted.sum())][-1]
            ),
        ),
        Mistake(
            "the least sure",
            "Of each class the least sure pixels are kept.",
            lambda label, confidence, wanted: _quota(label, 1 - confidence, wanted),
        ),
        Mistake(
            "one short",
            "Of each class one pixel too few is kept: is the threshold itself reached?",
            lambda label, confidence, wanted: _quota(label, confidence, (wanted - 1).clamp(min=0)),
        ),
    ),
    picture=("label", "confidence"),
)


def _ahead(rng: Generator, steps: int = 3) -> dict[str, Tensor]:
    return {
        "teacher": torch.randn(4, generator=rng),
        "students": torch.randn(steps, 4, generator=rng),
        "a": torch.tensor(0.75),
    }


def _future(teacher: Tensor, students: Tensor, a: Tensor) -> Tensor:
    for student in students:
        teacher = a * teacher + (1 - a) * student
    return teacher


FUTURE = Exercise(
    key="selftraining.future",
    asks="FST, deep: the weights (D,) of the teacher after it has met the students (K, D) of K steps ahead one after "
    "another: each time it becomes a times itself plus (1 - a) times the student.",
    prototype="future(teacher, students, a)",
    reference=_future,
    cases=lambda rng: [
        Case("there are three steps ahead", _ahead(rng)),
        Case("there is one", _ahead(rng, 1)),
        Case("there is none", _ahead(rng, 0), edge=True),
    ],
    mistakes=(
        Mistake(
            "the last one only",
            "Only the last student is taken in; the teacher meets every one on the way.",
            lambda teacher, students, a: a * teacher + (1 - a) * students[-1] if len(students) else teacher,
        ),
        Mistake(
            "their mean",
            "The mean of the students is taken in once: that is the wide variant, whose steps lie side by side.",
            lambda teacher, students, a: a * teacher + (1 - a) * students.mean(0) if len(students) else teacher,
        ),
        Mistake(
            "the other way round",
            "The teacher keeps 1 - a of itself; a is what stays.",
            lambda teacher, students, a: _future(teacher, students, 1 - a),
        ),
        Mistake(
            "backwards",
            "The students are met in the wrong order: the first step ahead comes first.",
            lambda teacher, students, a: _future(teacher, students.flip(0), a),
        ),
    ),
)

EXERCISES = [CONFIRMED, STABLE, QUOTA, FUTURE]
