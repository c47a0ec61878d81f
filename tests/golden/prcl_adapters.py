"""PRCL against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from harness import Recording, adapter, grad_of, task_of
from reco_adapters import draws_of, keeping, known, nothing, rotated_shares

from s4kit.methods.contrastive import prcl
from s4kit.methods.contrastive.prcl import PRCL
from s4kit.methods.contrastive.reco import Forward
from s4kit.methods.parts.gaussians import mutual_likelihood
from s4kit.methods.parts.schedules import rampdown
from s4kit.nets import VarianceHead


@adapter("prcl", "mls")
def prcl_mls(r: Recording) -> dict[str, Any]:
    leaves = {k: r.tensor(k, grad=True) for k in ("mu0", "var0", "mu1", "var1")}
    score = mutual_likelihood(*leaves.values())
    (score * r.tensor("cotangent")).sum().backward()
    return {"out_score": score} | {f"out_grad_{k}": grad_of(leaf) for k, leaf in leaves.items()}


@adapter("prcl", "contrast_loss")
def prcl_contrast_loss(r: Recording) -> dict[str, Any]:
    h, mean, variance = r.hyper, r.tensor("mu", grad=True), r.tensor("var", grad=True)
    method = PRCL(
        task_of(h["num_classes"]), net="tiny", hard=h["strong_threshold"], queries=h["num_queries"],
        negatives=h["num_negatives"], temperature=h["temp"],
    )  # fmt: skip
    label, made = known(r), []
    own, draws = Forward(r.tensor("prob").log(), torch.cat([mean, variance], 1)), draws_of(r, label, h["num_classes"])
    with patch.object(prcl, "OtherClasses", keeping(made)):
        loss = method.contrast([own], label, nothing(label), draws)
    loss.backward()
    return {
        "out_loss": loss, "out_grad_mu": grad_of(mean), "out_grad_var": grad_of(variance),
        "out_negative_class_prob": rotated_shares(r, made[0]),
    }  # fmt: skip


@adapter("prcl", "probability_head")
def prcl_probability_head(r: Recording) -> dict[str, Any]:
    first, second = r.tensor("fc1"), r.tensor("fc2")
    head = VarianceHead(first.shape[1], len(first))
    for norm in (head.norm, head.last):
        norm.eps, norm.momentum = r.hyper["bn_eps"], r.hyper["bn_momentum"]
    given = {
        head.first.weight: first[..., None, None], head.second.weight: second[..., None, None],
        head.norm.weight: r.tensor("bn1_weight"), head.norm.bias: r.tensor("bn1_bias"),
        head.gamma: r.tensor("gamma"), head.beta: r.tensor("beta"),
    }  # fmt: skip
    for parameter, value in given.items():
        parameter.data.copy_(value)
    answers = {"out_var_train": head.train()(r.tensor("x"))}
    for k, norm in enumerate((head.norm, head.last), 1):
        answers |= {f"out_running_mean{k}": norm.running_mean.clone(), f"out_running_var{k}": norm.running_var.clone()}
    return answers | {"out_var_eval": head.eval()(r.tensor("x"))}


def other_shape(r: Recording) -> dict[str, str]:
    usual = {"begin": 0, "max_value": 1, "min_value": 0, "mult": -5}
    same = all(float(r.inputs[f"in_{k}"]) == v for k, v in usual.items())
    return {} if same else {"out_value": "no configuration starts later, ends above 0 or falls at another rate"}


@adapter("prcl", "rampdown", skip=other_shape)
def prcl_rampdown(r: Recording) -> dict[str, Any]:
    epochs = int(r.inputs["in_max_epoch"])
    return {"out_value": np.array([rampdown(e / epochs) for e in range(len(r.expected["out_value"]))])}
