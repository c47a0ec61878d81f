"""Assignment 7, the open project: budget, seeds and their spread, last checkpoint, what the pseudo-labels showed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
from ._inputs import VOID, labels, mask

# ---- the budget ----

EPOCHS = Exercise(
    key="project.epochs",
    asks="How often is each labelled image seen in a training of `steps` steps, with `batch` of `images` labelled "
    "images a step? A float.",
    prototype="epochs(steps, batch, images)",
    reference=lambda steps, batch, images: steps * batch / images,
    cases=lambda rng: [
        Case("the numbers are those of this project", {"steps": 600, "batch": 4, "images": 16}),
        Case("it does not divide evenly", {"steps": 100, "batch": 8, "images": 23}),
        Case("a batch is larger than the labelled set", {"steps": 40, "batch": 16, "images": 4}, edge=True),
        Case("the training is shorter than one epoch", {"steps": 2, "batch": 4, "images": 372}, edge=True),
    ],
    mistakes=(
        Mistake("rounded down", "It rounds down to whole epochs; half an epoch is seen as well.",
                lambda steps, batch, images: steps * batch // images),
        Mistake("one image a step", "You count one image a step; a step sees a whole batch.",
                lambda steps, batch, images: steps / images),
        Mistake("steps of an epoch", "That is the length of one epoch in steps.",
                lambda steps, batch, images: images / batch),
    ),
)  # fmt: skip


def _cost(steps: int, labelled: int, unlabelled: int, strong: int) -> int:
    return steps * (labelled + unlabelled * (strong + 1))


COST = Exercise(
    key="project.cost",
    asks="How many pictures go forward through a network in a training? A step has `labelled` labelled pictures and "
    "`unlabelled` unlabelled ones: of each of these the teacher sees the weak view, and the student `strong` strong "
    "views.",
    prototype="cost(steps, labelled, unlabelled, strong)",
    reference=_cost,
    cases=lambda rng: [
        Case("there is one strong view", {"steps": 600, "labelled": 4, "unlabelled": 4, "strong": 1}),
        Case("there are two strong views", {"steps": 100, "labelled": 4, "unlabelled": 6, "strong": 2}),
        Case("it is the supervised baseline", {"steps": 50, "labelled": 8, "unlabelled": 0, "strong": 0}, edge=True),
        Case("nothing is labelled", {"steps": 7, "labelled": 0, "unlabelled": 5, "strong": 3}, edge=True),
    ],
    mistakes=(
        Mistake("the teacher forgotten", "The teacher's forward pass of the weak view costs something, too.",
                lambda steps, labelled, unlabelled, strong: steps * (labelled + unlabelled * strong)),
        Mistake("every unlabelled picture once", "An unlabelled picture goes through more than once: weak and strong.",
                lambda steps, labelled, unlabelled, strong: steps * (labelled + unlabelled)),
        Mistake("the labelled ones with views", "The labelled pictures are seen once a step; only the others in views.",
                lambda steps, labelled, unlabelled, strong: steps * (labelled + unlabelled) * (strong + 1)),
        Mistake("one step", "That is the cost of one step.",
                lambda steps, labelled, unlabelled, strong: _cost(1, labelled, unlabelled, strong)),
    ),
)  # fmt: skip

# ---- seeds ----


def _spread(values: Tensor, less: int = 1) -> Tensor:
    """Standard deviation with the divisor n - `less`; NaN for 0 / 0."""
    return ((values - values.mean()).square().sum() / (len(values) - less)).sqrt()


def _scores(rng: Generator, seeds: int, level: float = 0.5) -> Tensor:
    return level + 0.05 * torch.randn(seeds, generator=rng)


SUMMARY = Exercise(
    key="project.summary",
    asks="(mean, standard deviation) of the mIoU of several seeds (S,): the deviation that estimates the spread of all "
    "seeds from these few; NaN for one seed.",
    prototype="summary(scores)",
    reference=lambda scores: (scores.mean(), _spread(scores)),
    cases=lambda rng: [
        Case("there are three seeds", {"scores": _scores(rng, 3)}),
        Case("there are five seeds", {"scores": _scores(rng, 5)}),
        Case("there is one seed", {"scores": _scores(rng, 1)}, edge=True),
        Case("all seeds agree", {"scores": torch.full((3,), 0.5)}, edge=True),
    ],
    mistakes=(
        Mistake("divided by n", "You divide by n: three seeds look closer together than they are. Divide by n - 1.",
                lambda scores: (scores.mean(), _spread(scores, 0))),
        Mistake("variance", "That is the variance; its square root has the unit of the scores.",
                lambda scores: (scores.mean(), _spread(scores).square())),
        Mistake("error of the mean", "That is the error of the mean; the spread of single seeds is asked for.",
                lambda scores: (scores.mean(), _spread(scores) / len(scores) ** 0.5)),
        Mistake("largest minus smallest", "That is the range; it grows with the number of seeds.",
                lambda scores: (scores.mean(), scores.max() - scores.min())),
    ),
)  # fmt: skip


def _pair(rng: Generator, seeds: int) -> dict[str, Tensor]:
    """Scores of two methods with the same seeds: what a seed has in common is larger than what tells them apart."""
    baseline = _scores(rng, seeds, 0.45)
    return {"ours": baseline + 0.03 + 0.01 * torch.randn(seeds, generator=rng), "baseline": baseline}


GAIN = Exercise(
    key="project.gain",
    asks="(mean, standard deviation) of the gain over the baseline, seed by seed: entry i of `ours` (S,) and of "
    "`baseline` (S,) have the same seed and the same labelled images.",
    prototype="gain(ours, baseline)",
    reference=lambda ours, baseline: ((ours - baseline).mean(), _spread(ours - baseline)),
    cases=lambda rng: [
        Case("there are three seeds", _pair(rng, 3)),
        Case("there are five seeds", _pair(rng, 5)),
        Case("ours is worse", dict(zip(("baseline", "ours"), _pair(rng, 3).values())), edge=True),
    ],
    mistakes=(
        Mistake("baseline minus ours", "The sign: a gain is positive where yours is the better one.",
                lambda ours, baseline: ((baseline - ours).mean(), _spread(baseline - ours))),
        Mistake("pairs broken", "You add up both spreads as if the seeds had nothing in common; a labelled set that is "
                "hard is hard for both. Take the difference of each seed first.",
                lambda ours, baseline: ((ours - baseline).mean(), (_spread(ours)**2 + _spread(baseline)**2).sqrt())),
        Mistake("spread of ours alone", "The spread is that of your scores; that of the differences is asked for.",
                lambda ours, baseline: ((ours - baseline).mean(), _spread(ours))),
        Mistake("relative gain", "That is relative to the baseline; mIoU is compared in points.",
                lambda ours, baseline: ((ours / baseline - 1).mean(), _spread(ours / baseline - 1))),
        Mistake("divided by n", "The spread is divided by n; with few seeds take n - 1, as before.",
                lambda ours, baseline: ((ours - baseline).mean(), _spread(ours - baseline, 0))),
    ),
)  # fmt: skip

# ---- the last checkpoint ----


def _history(rng: Generator, points: int, *, mixed: bool = False, peak: int | None = None) -> dict[str, Tensor]:
    """Evaluations of a run; `peak` is its best one."""
    steps = torch.arange(1, points + 1) * 52
    miou = 0.5 - 0.4 / torch.arange(2, points + 2) + 0.02 * torch.rand(points, generator=rng)
    if peak is not None:
        miou[peak] += 0.2
    order = torch.randperm(points, generator=rng) if mixed else torch.arange(points)
    if mixed and order[-1] == points - 1:
        order = order.flip(0)
    return {"steps": steps[order], "miou": miou[order]}


FINAL = Exercise(
    key="project.final",
    asks="The score of a run that may be reported: the mIoU (E,) of its last evaluation, that with the largest of the "
    "training steps (E,).",
    prototype="final(steps, miou)",
    reference=lambda steps, miou: miou[steps.argmax()],
    cases=lambda rng: [
        Case("it was better before the end", _history(rng, 5, peak=2)),
        Case("the rows are in no order", _history(rng, 5, mixed=True, peak=1)),
        Case("there is one evaluation", _history(rng, 1), edge=True),
    ],
    mistakes=(
        Mistake("best on val", "That is the best of the evaluations: who chooses the checkpoint by the images on which "
                "it is scored, reports luck. The published protocol takes the last one.",
                lambda steps, miou: miou.max()),
        Mistake("last row", "The last row is not the last step: a run that was continued may write its rows in another "
                "order.", lambda steps, miou: miou[-1]),
        Mistake("mean of the run", "You average over the training; the last evaluation is asked for.",
                lambda steps, miou: miou.mean()),
    ),
)  # fmt: skip

# ---- the pseudo-labels ----


def _wrong(label: Tensor, truth: Tensor, kept: Tensor, classes: int) -> Tensor:
    """(C,) wrong among the kept pixels of a pseudo-label that have a known truth; 0 / 0 is NaN."""
    judged = kept & (truth != VOID)
    of = torch.bincount(label[judged], minlength=classes)
    return torch.bincount(label[judged & (label != truth)], minlength=classes) / of


def _predicted(rng: Generator, **how: Any) -> dict[str, Any]:
    truth = labels(rng, **how)
    right = (torch.rand(truth.shape, generator=rng) < 0.7) & (truth != VOID)
    label = torch.where(right, truth, labels(rng, batch=len(truth)))
    return {"label": label, "truth": truth, "kept": mask(rng, len(truth), share=0.6), "classes": 4}


def _unseen(rng: Generator) -> dict[str, Any]:
    found = _predicted(rng)
    return found | {"kept": found["kept"] & (found["label"] != 2)}


WRONG = Exercise(
    key="project.wrong_by_class",
    asks="Which pseudo-labels lie? For every class (C,) the share of wrong ones among the kept pixels that got this "
    "label and whose truth is known; NaN where there is none.",
    prototype="wrong_by_class(label, truth, kept, classes)",
    reference=_wrong,
    cases=lambda rng: [
        Case("no pixel is void", _predicted(rng)),
        Case("some pixels are void", _predicted(rng, void=0.4)),
        Case("no pixel of a class is kept", _unseen(rng), edge=True),
        Case("nothing is kept", _predicted(rng) | {"kept": torch.zeros(2, 6, 6, dtype=torch.bool)}, edge=True),
        Case("the batch has one image", _predicted(rng, batch=1, void=0.2), edge=True),
    ],
    mistakes=(
        Mistake("all pixels", "You judge all pixels; only the kept ones are trained on.",
                lambda label, truth, kept, classes: _wrong(label, truth, torch.ones_like(kept), classes)),
        Mistake("void counted as wrong", "Void pixels count as wrong labels; nobody knows what they are.",
                lambda label, truth, kept, classes: _wrong(label, truth.where(truth != VOID, 254), kept, classes)),
        Mistake("by the true class", "You sort by the true class: that is what is missed of a class, not how far its "
                "pseudo-label can be trusted.",
                lambda label, truth, kept, classes: _wrong(
                    truth.where(truth != VOID, 0), label.where(truth != VOID, VOID), kept, classes)),
        Mistake("share of right ones", "Those are the right ones.",
                lambda label, truth, kept, classes: 1 - _wrong(label, truth, kept, classes)),
        Mistake("classes without pixels scored 0", "A class of which nothing is kept gets 0, as if all were right.",
                lambda label, truth, kept, classes: _wrong(label, truth, kept, classes).nan_to_num(0.0)),
    ),
    picture=("label", "truth", "kept"),
)  # fmt: skip

IMAGE, LEVEL = 5, 0.5


def _percent(run: Any, what: str, threshold: float = LEVEL) -> float:
    return 100 * (numbers(run, threshold, IMAGE)[what] or 0.0)


PRECISION = Reading(
    key="project.precision",
    asks=f"At the last snapshot, image {IMAGE} (the first is 0), policy `fixed` with threshold {LEVEL}: which share of "
    "the kept pixels has the right label, in percent?",
    reads=lambda run: _percent(run, "precision"),
    tolerance=3.0,  # the run of another machine may differ a little
    unit="%",
    mistakes=(
        (lambda run: _percent(run, "coverage"), "That is the coverage: how many are kept, not how many are right."),
        (lambda run: 100 - _percent(run, "precision"), "That is the share of wrong ones."),
        (lambda run: _percent(run, "precision", 0.0), "That is the precision of all pixels: set the threshold."),
    ),
)

EXERCISES = [EPOCHS, COST, SUMMARY, GAIN, FINAL, WRONG, PRECISION]
