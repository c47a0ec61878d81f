"""Assignment 1: metrics, void pixels and splits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, labels

# ---- void ----

KNOWN = Exercise(
    key="metrics.known",
    asks="Which pixels have a known class? True where the label is not void (255).",
    prototype="known(label)",
    reference=lambda label: label != VOID,
    cases=lambda rng: [
        Case("some pixels are void", {"label": labels(rng, void=0.3)}),
        Case("all pixels are void", {"label": labels(rng, void=1.1)}, edge=True),
        Case("the classes go up to 254", {"label": labels(rng, classes=255, void=0.2)}, edge=True),
    ],
    mistakes=(
        Mistake("void pixels", "It marks the void pixels; the others are asked for.", lambda label: label == VOID),
        Mistake(
            "class 0 dropped",
            "Class 0 is a class like the others (often the background); only 255 is void.",
            lambda label: (label > 0) & (label != VOID),
        ),
    ),
    picture=("label",),
)


def _scored(rng: Generator) -> list[Case]:
    def pair(**how: Any) -> dict[str, Tensor]:
        truth = labels(rng, **how)
        right = torch.rand(truth.shape, generator=rng) < 0.6
        return {
            "prediction": torch.where(right & (truth != VOID), truth, labels(rng, batch=len(truth))),
            "label": truth,
        }

    return [
        Case("no pixel is void", pair()),
        Case("some pixels are void", pair(void=0.4)),
        Case("the batch has one image", pair(batch=1, void=0.2), edge=True),
        Case("only one pixel is known", _one_known(rng), edge=True),
        Case("the truth has one class only", pair(classes=1, void=0.2), edge=True),
    ]


def _one_known(rng: Generator) -> dict[str, Tensor]:
    truth = torch.full((1, 6, 6), VOID)
    truth[0, 2, 3] = 1
    return {"prediction": labels(rng, batch=1), "label": truth}


def _accuracy(prediction: Tensor, label: Tensor) -> Tensor:
    known = label != VOID
    return (prediction == label)[known].float().mean()


ACCURACY = Exercise(
    key="metrics.accuracy",
    asks="The share of the known pixels whose predicted class is right.",
    prototype="accuracy(prediction, label)",
    reference=_accuracy,
    cases=_scored,
    mistakes=(
        Mistake(
            "void counted as wrong",
            "You divide by all pixels: void pixels count as wrong. They are nobody's fault; leave them out.",
            lambda prediction, label: (prediction == label).float().mean(),
        ),
        Mistake(
            "void counted as right",
            "Void pixels count as right in yours; leave them out of both the sum and the divisor.",
            lambda prediction, label: ((prediction == label) | (label == VOID)).float().mean(),
        ),
        Mistake(
            "mean over images",
            "You average the accuracies of the images; one with few known pixels then counts like a full one.",
            lambda prediction, label: torch.stack([_accuracy(p, t) for p, t in zip(prediction, label)]).nanmean(),
        ),
    ),
    picture=("prediction", "label"),
)

# ---- confusion matrix and IoU ----


def _confusion(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    known = label != VOID
    index = label[known] * classes + prediction[known]
    return torch.bincount(index, minlength=classes**2).view(classes, classes)


def _all_void(rng: Generator) -> dict[str, Any]:
    return {"prediction": labels(rng), "label": torch.full((2, 6, 6), VOID), "classes": 4}


CONFUSION = Exercise(
    key="metrics.confusion",
    asks="The (C, C) confusion matrix in pixels: rows are the truth, columns the prediction; void pixels are left out.",
    prototype="confusion(prediction, label, classes)",
    reference=_confusion,
    cases=lambda rng: [
        *[Case(one.when, {**one.inputs, "classes": 4}, one.edge) for one in _scored(rng)],
        Case("there are more classes than occur", {**_scored(rng)[0].inputs, "classes": 9}, edge=True),
        Case("all pixels are void", _all_void(rng), edge=True),
    ],
    mistakes=(
        Mistake(
            "transposed",
            "Rows and columns are swapped: the row is the true class, the column the predicted one.",
            lambda prediction, label, classes: _confusion(prediction, label, classes).T,
        ),
        Mistake(
            "void counted as class 0",
            "Void pixels are counted in the row of class 0; they belong nowhere.",
            lambda prediction, label, classes: _confusion(prediction, label.where(label != VOID, 0), classes),
        ),
        Mistake(
            "shares instead of counts",
            "You return shares; counts are asked for, so that matrices of several images can be added.",
            lambda prediction, label, classes: (
                _confusion(prediction, label, classes) / (label != VOID).sum().clamp(min=1)
            ),
        ),
    ),
    picture=("prediction", "label"),
)


def _iou(confusion: Tensor) -> Tensor:
    hit = confusion.diag().double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return (hit / union).float()  # 0 / 0 is NaN: a class that nobody has


def _matrices(rng: Generator) -> list[Case]:
    def counts(classes: int = 4) -> Tensor:
        return torch.randint(0, 90, (classes, classes), generator=rng) + 60 * torch.eye(classes, dtype=torch.long)

    absent = counts()
    absent[2], absent[:, 2] = 0, 0
    unseen = counts()
    unseen[:, 1] = 0
    invented = counts()
    invented[3] = 0
    return [
        Case("all classes occur", {"confusion": counts()}),
        Case("a class is never predicted", {"confusion": unseen}),
        Case("a class is predicted that the truth does not have", {"confusion": invented}, edge=True),
        Case("a class is in neither truth nor prediction", {"confusion": absent}, edge=True),
        Case("there is one class", {"confusion": counts(1)}, edge=True),
    ]


IOU = Exercise(
    key="metrics.iou",
    asks="The IoU of every class, (C,) float, from the confusion matrix; NaN for a class that neither side has.",
    prototype="iou(confusion)",
    reference=_iou,
    cases=_matrices,
    mistakes=(
        Mistake(
            "recall",
            "You divide by the pixels that truly have the class: that is recall, and painting all in one class "
            "maximises it. Divide by the union of truth and prediction.",
            lambda confusion: (confusion.diag() / confusion.sum(1)).float(),
        ),
        Mistake(
            "precision",
            "You divide by the pixels that are predicted as the class: that is precision. Divide by the union.",
            lambda confusion: (confusion.diag() / confusion.sum(0)).float(),
        ),
        Mistake(
            "intersection counted twice",
            "Truth plus prediction counts the intersection twice; the union has it once.",
            lambda confusion: (confusion.diag() / (confusion.sum(0) + confusion.sum(1))).float(),
        ),
        Mistake(
            "Dice",
            "That is the Dice score (F1); it is always larger than the IoU.",
            lambda confusion: (2 * confusion.diag() / (confusion.sum(0) + confusion.sum(1))).float(),
        ),
        Mistake(
            "absent classes scored 0",
            "A class that neither truth nor prediction has gets 0, as if something were wrong; NaN is asked for.",
            lambda confusion: _iou(confusion).nan_to_num(0.0),
        ),
    ),
)

MIOU = Exercise(
    key="metrics.miou",
    asks="The mean IoU over the classes that occur in truth or prediction.",
    prototype="miou(confusion)",
    reference=lambda confusion: _iou(confusion).nanmean(),
    cases=_matrices,
    mistakes=(
        Mistake(
            "absent classes scored 0",
            "A class in neither truth nor prediction counts as 0; leave it out of the mean.",
            lambda confusion: _iou(confusion).nan_to_num(0.0).mean(),
        ),
        Mistake(
            "classes that the truth lacks left out",
            "You leave out every class that the truth lacks; one that is predicted all the same has earned its 0.",
            lambda confusion: _iou(confusion)[confusion.sum(1) > 0].mean(),
        ),
        Mistake(
            "pixel accuracy",
            "That is pixel accuracy: large classes dominate it. Average over classes.",
            lambda confusion: (confusion.diag().sum() / confusion.sum()).float(),
        ),
    ),
)


def _per_image(confusions: Tensor) -> Tensor:
    return torch.stack([_iou(one).nanmean() for one in confusions])


def _several(rng: Generator, images: int) -> Tensor:
    return torch.stack([_matrices(rng)[i % 4].inputs["confusion"] * (1 + 5 * i) for i in range(images)])


DATASET = Exercise(
    key="metrics.dataset_miou",
    asks="The mIoU of a data set, from the (N, C, C) confusion matrices of its images, as the papers report it.",
    prototype="dataset_miou(confusions)",
    reference=lambda confusions: _iou(confusions.sum(0)).nanmean(),
    cases=lambda rng: [
        Case("there are two images", {"confusions": _several(rng, 2)}),
        Case("there are five images", {"confusions": _several(rng, 5)}),
        Case("there is one image", {"confusions": _several(rng, 1)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "mean of the images' mIoU",
            "You average the scores of the images; the papers add up the confusion matrices and score once.",
            lambda confusions: _per_image(confusions).mean(),
        ),
        Mistake(
            "mean of the images' IoU per class",
            "You average each class over the images; the papers add up the confusion matrices and score once.",
            lambda confusions: torch.stack([_iou(one) for one in confusions]).nanmean(0).nanmean(),
        ),
    ),
)

EXERCISES = [KNOWN, ACCURACY, CONFUSION, IOU, MIOU, DATASET]
