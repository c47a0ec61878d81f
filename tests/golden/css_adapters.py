"""CSS against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from harness import Recording, adapter, grad_of, task_of
from reco_adapters import draws_of, keeping, known, nothing, rotated_shares

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.contrastive import css
from s4kit.methods.contrastive.css import CSS
from s4kit.methods.contrastive.reco import Forward
from s4kit.methods.parts.prototypes import Prototypes

LATE = Clock(9, 10)


def with_prototypes(r: Recording, **options: Any) -> CSS:
    mean = r.tensor("prototypes")
    method = CSS(task_of(len(mean)), net="tiny", temperature=r.hyper["temp"], **options)
    method.prototypes = Prototypes(*mean.shape)
    method.prototypes.mean.copy_(mean)
    method.prototypes.moves.copy_(mean.sum(1) != 0)
    return method


@adapter("css", "contrast_loss")
def css_contrast_loss(r: Recording) -> dict[str, Any]:
    h, z, made = r.hyper, r.tensor("rep", grad=True), []
    method = with_prototypes(
        r, hard=h["strong_threshold"], queries=h["num_queries"], negatives=h["num_negatives"], momentum=h["alpha"]
    )
    method.close = lambda z: r.tensor("prob")
    label = known(r)
    draws = draws_of(r, label, h["num_classes"])
    with patch.object(css, "OtherClasses", keeping(made)):
        loss = method.contrast([Forward(torch.empty(0), z)], label, nothing(label), draws)
    loss.backward()
    return {
        "out_loss": loss, "out_grad_rep": grad_of(z), "out_prototypes": method.prototypes.mean,
        "out_negative_class_prob": rotated_shares(r, made[0]),
    }  # fmt: skip


@adapter("css", "space_labels")
def css_space_labels(r: Recording) -> dict[str, Any]:
    method, z = with_prototypes(r), r.tensor("rep")
    like = torch.zeros(len(z), *r.inputs["in_size"].tolist())
    evidence = tuple(method.student.enlarge(t, like.shape[-2:]) for t in (r.tensor("logits"), method.similarity(z)))
    (q1, y1), (q2, y2) = (t.softmax(1).max(1) for t in evidence)
    return {
        "out_label_rep": y2, "out_conf_rep": q2, "out_label_cls": y1, "out_conf_cls": q1,
        "out_label_mix": y1.where(method.agreed(evidence, LATE) > 0, VOID), "out_prob_all": method.close(z),
    }  # fmt: skip
