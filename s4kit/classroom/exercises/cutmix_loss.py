"""Assignment 3, second half: the factor of the confident pixels and the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
from ._inputs import logits, padding, sure

# ---- confidence and loss ----


def _confidence(logits: Tensor, tau: float) -> Tensor:
    return (logits.softmax(1).max(1).values >= tau).float().mean().to(logits.dtype).detach()


CONFIDENCE = Exercise(
    key="cutmix.confidence",
    asks="The factor c of the whole consistency term: the share of pixels whose largest probability reaches tau.",
    prototype="confidence(teacher_logits, tau)",
    reference=lambda teacher_logits, tau: _confidence(teacher_logits, tau),
    cases=lambda rng: [
        Case("the batch is ordinary", {"teacher_logits": logits(rng), "tau": 0.9}),
        Case("nobody is confident", {"teacher_logits": logits(rng, sharp=0.1), "tau": 0.9}, edge=True),
        Case("there is one class", {"teacher_logits": logits(rng, classes=1), "tau": 0.9}, edge=True),
        Case("a confidence equals tau", {"teacher_logits": sure(rng), "tau": 1.0}, edge=True),
    ],
    mistakes=(
        Mistake(
            "mean confidence",
            "You average the confidences; c is the share of pixels that pass the threshold.",
            lambda teacher_logits, tau: teacher_logits.softmax(1).max(1).values.mean().detach(),
        ),
        Mistake(
            "logits instead of probabilities",
            "The threshold is compared with logits; it is one for probabilities.",
            lambda teacher_logits, tau: (teacher_logits.max(1).values >= tau).float().mean().detach(),
        ),
        Mistake(
            "softmax over the wrong axis",
            "A pixel's probabilities do not add up to one: softmax runs over the class axis, 1.",
            lambda teacher_logits, tau: (teacher_logits.softmax(-1).max(1).values >= tau).float().mean().detach(),
        ),
        Mistake(
            "all entries counted",
            "You compare every class's probability; a pixel has one confidence, its largest.",
            lambda teacher_logits, tau: (teacher_logits.softmax(1) >= tau).float().mean().detach(),
        ),
        Mistake(
            "strictly above",
            "A pixel whose largest probability equals tau is not counted; reaching it is enough.",
            lambda teacher_logits, tau: (teacher_logits.softmax(1).max(1).values > tau).float().mean().detach(),
        ),
    ),
    stops=("teacher_logits",),
)


def _loss(student_logits: Tensor, teacher_logits: Tensor, valid: Tensor, tau: float) -> Tensor:
    p, q = student_logits.softmax(1), teacher_logits.detach().softmax(1)
    return ((p - q).square().sum(1) * valid).mean() * _confidence(teacher_logits, tau)


def _loss_cases(rng: Generator) -> list[Case]:
    both = {"student_logits": logits(rng), "teacher_logits": logits(rng), "tau": 0.9}
    single = {n: t[:1] for n, t in both.items() if n != "tau"}
    return [
        Case("nothing is padded", {**both, "valid": torch.ones(2, 6, 6)}),
        Case("a part of an image is padding", {**both, "valid": padding()}),
        Case("the batch has one image", {**single, "tau": 0.9, "valid": padding(1)}, edge=True),
        Case("nobody is confident", {**both, "teacher_logits": logits(rng, sharp=0.1), "valid": padding()}, edge=True),
        Case("everything is padding", {**both, "valid": torch.zeros(2, 6, 6)}, edge=True),
        Case(
            "a confidence equals tau", {**both, "teacher_logits": sure(rng), "tau": 1.0, "valid": padding()}, edge=True
        ),
    ]


def _variant(over: str = "all", axis: str = "sum", c: str = "batch", padding: str = "none", of: str = "p") -> Any:
    def loss(student_logits: Tensor, teacher_logits: Tensor, valid: Tensor, tau: float) -> Tensor:
        z, t = student_logits, teacher_logits.detach()
        apart = (z - t if of == "logits" else z.softmax(1) - t.softmax(1)).square()
        apart = apart.sum(1) if axis == "sum" else apart.mean(1)
        confidence = t.softmax(1).max(1).values
        keep = (confidence > tau if c == "above" else confidence >= tau).to(apart.dtype)
        keep = keep.mean() if c in ("batch", "above") else keep if c == "pixel" else 1.0
        counted = torch.ones_like(valid) if padding == "counts" else valid
        return (apart * counted * keep).sum() / (valid.sum().clamp(min=1) if over == "valid" else apart.numel())

    return loss


LOSS = Exercise(
    key="cutmix.loss",
    asks="The consistency term: c x the mean over all pixels of valid x sum over classes (p - q)^2.",
    prototype="loss(student_logits, teacher_logits, valid, tau)",
    reference=_loss,
    cases=_loss_cases,
    mistakes=(
        Mistake(
            "mean over valid pixels",
            "Your loss averages over the valid pixels; the paper divides by all, so that padding shrinks it.",
            _variant(over="valid"),
        ),
        Mistake(
            "mean over classes",
            "Your loss averages over the classes; the paper sums over them: yours is C times smaller.",
            _variant(axis="mean"),
        ),
        Mistake(
            "confidence per pixel",
            "You weigh each pixel by its own confidence test; here c is ONE number for the batch.",
            _variant(c="pixel"),
        ),
        Mistake(
            "no confidence",
            "The factor c is missing: a teacher that knows nothing yet is followed like a good one.",
            _variant(c="none"),
        ),
        Mistake(
            "padding counts",
            "Padded pixels carry a loss; multiply by `valid` before the mean.",
            _variant(padding="counts"),
        ),
        Mistake(
            "strictly above",
            "A pixel whose confidence equals tau is not counted in c; reaching it is enough.",
            _variant(c="above"),
        ),
        Mistake("logits compared", "You compare logits; the paper compares probabilities.", _variant(of="logits")),
    ),
    learns=("student_logits",),
    stops=("teacher_logits",),
    picture=("valid",),
)

# ---- read in the explorer ----


def _right(run: Any, snapshot: int, image: int = 0) -> float:
    return 100 * (numbers(run, 0.0, image, snapshot=snapshot)["precision"] or 0.0)


CAUGHT_UP = Reading(
    key="cutmix.caught_up",
    asks="By how many percentage points did the teacher's labels of a recorded image get better (share that is right, "
    "fixed threshold 0) from the first to the last snapshot?",
    reads=lambda run: _right(run, -1) - _right(run, 0),
    tolerance=4.0,
    unit="points",
    run="cutmix",
    mistakes=(
        (lambda run: _right(run, -1), "That is the share at the last snapshot; take off that of the first."),
        (lambda run: _right(run, 0), "That is the share at the first snapshot; by how much it grew is asked."),
        (lambda run: _right(run, 0) - _right(run, -1), "The sign is wrong: last minus first."),
        (lambda run: 100 * numbers(run, 0.0)["coverage"],
         "That is the share of the pixels that is kept, all of them at 0; the share that is right is asked."),
        (lambda run: _right(run, -1, 1) - _right(run, 0, 1), "That is another image; they count from 0."),
    ),
)  # fmt: skip

EXERCISES = [CONFIDENCE, LOSS, CAUGHT_UP]
