"""Assignment 3: CutMix and the mean teacher (French et al., BMVC 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
from ._inputs import labels, logits, mask, padding, shares

# ---- paste ----


def _paste(mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    return torch.where(mask if inside.dim() == mask.dim() else mask[:, None], inside, outside)


def _paste_cases(rng: Generator) -> list[Case]:
    images = {"inside": shares(rng, 2, 3, 6, 6), "outside": shares(rng, 2, 3, 6, 6)}
    maps = {"inside": labels(rng, void=0.2), "outside": labels(rng)}
    return [
        Case("images are pasted", {"mask": mask(rng), **images}),
        Case("label maps (B, H, W) are pasted", {"mask": mask(rng), **maps}),
        Case("the mask is empty", {"mask": mask(rng, share=0.0), **images}, edge=True),
        Case("the mask covers everything", {"mask": mask(rng, share=1.1), **maps}, edge=True),
        Case("the batch has one image", {"mask": mask(rng)[:1], **{n: t[:1] for n, t in images.items()}}, edge=True),
        Case(
            "there are as many images as channels",
            {"mask": mask(rng, batch=3), "inside": shares(rng, 3, 3, 6, 6), "outside": shares(rng, 3, 3, 6, 6)},
            edge=True,
        ),
    ]


def _per_channel(mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    return torch.where(mask, inside, outside)  # broadcasts the batch axis of the mask over the channels


PASTE = Exercise(
    key="cutmix.paste",
    asks="Take `inside` where the mask is True and `outside` elsewhere, for images and for label maps.",
    prototype="paste(mask, inside, outside)",
    reference=_paste,
    cases=_paste_cases,
    mistakes=(
        Mistake(
            "inside and outside swapped",
            "Inside and outside are swapped: where the mask is True the pixel comes from the first image.",
            lambda mask, inside, outside: _paste(mask, outside, inside),
        ),
        Mistake(
            "mask without a channel axis",
            "The mask (B, H, W) is broadcast over the channels as if it were (C, H, W): every channel gets the mask of "
            "another image. Give it a channel axis.",
            _per_channel,
        ),
        Mistake(
            "one mask for the whole batch",
            "All images get the mask of the first one; each has a box of its own.",
            lambda mask, inside, outside: _paste(mask[:1].expand_as(mask), inside, outside),
        ),
    ),
    picture=("mask",),
)

# ---- box ----


def _box(side: int, generator: Generator) -> Tensor:
    share = torch.rand(1, generator=generator).item()
    height = round(side * 0.5**share)
    width = round(side * 0.5 ** (1 - share))
    top, left = (int(torch.randint(side - n + 1, (1,), generator=generator)) for n in (height, width))
    found = torch.zeros(side, side, dtype=torch.bool)
    found[top : top + height, left : left + width] = True
    return found


def _box_rule(inputs: dict[str, Any], value: Any) -> str | None:
    """A mask is a box of about half the area; it must come from the generator (checked by asking twice elsewhere)."""
    side = inputs["side"]
    rows, columns = (value.any(axis) for axis in (1, 0))
    if not value.any():
        return "The mask is empty."
    height, width = int(rows.sum()), int(columns.sum())
    if int(value.sum()) != height * width or not all(_joined(line) for line in (rows, columns)):
        return "The True pixels are not one filled box"
    if abs(height * width / side**2 - 0.5) > 1.5 / side:
        return f"The box covers {height * width / side**2:.0%} of the image; half of it is asked for"
    return None


def _joined(line: Any) -> bool:
    on = line.nonzero()[0]
    return len(on) == on[-1] - on[0] + 1


BOX = Exercise(
    key="cutmix.box",
    asks="Draw a random box with half of the image's area and a random aspect, as a (side, side) bool mask.",
    prototype="box(side, generator)",
    reference=_box,
    cases=lambda rng: [
        Case(
            "the image is small",
            {"side": 16, "generator": torch.Generator().manual_seed(int(torch.randint(9999, (1,), generator=rng)))},
        ),
        Case(
            "the image is large",
            {"side": 96, "generator": torch.Generator().manual_seed(int(torch.randint(9999, (1,), generator=rng)))},
        ),
    ],
    rule=_box_rule,
)

# ---- teacher ----


def _average(teacher: Tensor, student: Tensor, decay: float) -> Tensor:
    return decay * teacher + (1 - decay) * student


AVERAGE = Exercise(
    key="cutmix.average",
    asks="One step of the EMA teacher: the new weights from the old ones and the student's.",
    prototype="average(teacher, student, decay)",
    reference=lambda teacher, student, decay: _average(teacher.detach(), student.detach(), decay),
    cases=lambda rng: [
        Case("decay is 0.99", {"teacher": shares(rng, 3, 4), "student": shares(rng, 3, 4), "decay": 0.99}),
        Case("decay is 0", {"teacher": shares(rng, 3, 4), "student": shares(rng, 3, 4), "decay": 0.0}, edge=True),
        Case("decay is 1", {"teacher": shares(rng, 3, 4), "student": shares(rng, 3, 4), "decay": 1.0}, edge=True),
    ],
    mistakes=(
        Mistake(
            "teacher and student swapped",
            "The decay weighs the student: with 0.99 your teacher is the student. The old teacher is what is kept.",
            lambda teacher, student, decay: _average(student, teacher, decay).detach(),
        ),
        Mistake(
            "the old teacher is not weighted",
            "Nothing of the old teacher decays, so the weights grow with every step: the two factors add up to one.",
            lambda teacher, student, decay: (teacher + (1 - decay) * student).detach(),
        ),
    ),
    stops=("teacher", "student"),
)


def _warm(step: int, decay: float) -> float:
    return min(1 - 1 / (step + 1), decay)


WARM = Exercise(
    key="cutmix.warm_decay",
    asks="The decay at a step, so that the first teachers are plain averages: min(1 - 1/(step + 1), decay).",
    prototype="warm_decay(step, decay)",
    reference=_warm,
    cases=lambda rng: [Case(f"step is {s}", {"step": s, "decay": 0.99}, edge=s == 0) for s in (1, 5, 98, 99, 500, 0)],
    mistakes=(
        Mistake(
            "steps from one",
            "Steps count from 0, yours from 1: at step 0 the teacher must become the student.",
            lambda step, decay: min(1 - 1 / (step + 2), decay),
        ),
        Mistake(
            "the larger one",
            "You take the larger of the two; the warm-up must stay below the final decay.",
            lambda step, decay: max(1 - 1 / (step + 1), decay),
        ),
    ),
)

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
    ]


def _variant(over: str = "all", axis: str = "sum", c: str = "batch", padding: str = "none", of: str = "p") -> Any:
    def loss(student_logits: Tensor, teacher_logits: Tensor, valid: Tensor, tau: float) -> Tensor:
        z, t = student_logits, teacher_logits.detach()
        apart = (z - t if of == "logits" else z.softmax(1) - t.softmax(1)).square()
        apart = apart.sum(1) if axis == "sum" else apart.mean(1)
        keep = (t.softmax(1).max(1).values >= tau).to(apart.dtype)
        keep = keep.mean() if c == "batch" else keep if c == "pixel" else 1.0
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

EXERCISES = [PASTE, BOX, AVERAGE, WARM, CONFIDENCE, LOSS, CAUGHT_UP]
