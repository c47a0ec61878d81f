"""Assignment 3: CutMix and the mean teacher (French et al., BMVC 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ...views import paste
from ..exercise import Case, Exercise, Mistake
from ._inputs import labels, mask, shares

# ---- paste ----


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
    reference=paste,
    cases=_paste_cases,
    mistakes=(
        Mistake(
            "inside and outside swapped",
            "Inside and outside are swapped: where the mask is True the pixel comes from the first image.",
            lambda mask, inside, outside: paste(mask, outside, inside),
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
            lambda mask, inside, outside: paste(mask[:1].expand_as(mask), inside, outside),
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

EXERCISES = [PASTE, BOX, AVERAGE, WARM]
