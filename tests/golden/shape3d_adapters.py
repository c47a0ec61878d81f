"""shape3d against recordings of its official code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from harness import Recording, adapter, grad_of
from torch import Tensor

from s4kit.data.points.substituted import fitted
from s4kit.data.task import VOID
from s4kit.methods.parts.nested import Nested, per_shape_ce, shape_means
from s4kit.methods.points.shape3d import Shape3D, divergence, part_differences


@adapter("shape3d", "substitution")
def substitution(r: Recording) -> dict[str, Any]:
    out, k = {}, 0
    while f"in_source_{k}" in r.inputs:
        given = (r.inputs[f"in_{key}_{k}"].astype(float) for key in ("source", "target", "whole", "bb"))
        out[f"out_scale_{k}"], out[f"out_translation_{k}"] = fitted(*given, eps=r.hyper["eps"])
        k += 1
    return out


class Ragged:
    """The recording has the points of all shapes in one list; here shapes stand beside each other, padded."""

    def __init__(self, shape: Tensor) -> None:
        counts = shape.bincount()
        self.at = torch.arange(len(shape)) - (counts.cumsum(0) - counts)[shape]
        self.shape, self.size = shape, (len(counts), int(counts.max()))
        self.valid = self.padded(torch.ones(len(shape)))

    def padded(self, rows: Tensor) -> Tensor:
        """(n, ...) to (B, N, ...)."""
        return rows.new_zeros(*self.size, *rows.shape[1:]).index_put((self.shape, self.at), rows)


@adapter("shape3d", "consistency")
def consistency(r: Recording) -> dict[str, Any]:
    h, ragged = r.hyper, Ragged(r.tensor("batch_index"))
    finest, to_2, to_1 = torch.arange(r.inputs["in_logit_a3"].shape[1]), r.tensor("map_32"), r.tensor("map_21")
    parents = {"1": tuple(to_1[to_2].tolist()), "2": tuple(to_2.tolist()), "3": tuple(finest.tolist())}
    nested, dropped = Nested(SimpleNamespace(parents=parents)), int(h["delete_0"])
    leaves = {f"{copy}{level}": r.tensor(f"logit_{copy}{level}", grad=True) for copy in "ab" for level in nested.names}
    z = {key: ragged.padded(leaf).mT for key, leaf in leaves.items()}
    p, q = ({level: z[copy + level].softmax(1) for level in nested.names} for copy in "ab")
    shown = r.tensor("labelled")[ragged.shape] > 0
    truth = ragged.padded(torch.where(shown, r.tensor("gt3"), VOID))
    truth = torch.where(ragged.valid > 0, truth, VOID)
    out, total = {}, 0.0
    for level, label in nested.labels(truth).items():
        label = torch.where((label == 0) & bool(dropped), VOID, label)
        seg = 0.5 * sum(per_shape_ce(z[copy + level], label, ragged.valid) for copy in "ab")
        point = shape_means(divergence(p[level], q[level]), ragged.valid).mean()
        part = part_differences(p[level], q[level], ragged.valid)[:, dropped:].mean()
        out |= {f"out_seg_{level}": seg, f"out_point_{level}": point, f"out_part_{level}": part}
        total = total + seg + h["point_consistency_weight"] * point + h["part_consistency_weight"] * part
    for coarse, fine in nested.steps:
        between = Shape3D.between(SimpleNamespace(nested=nested), p, q, coarse, fine, ragged.valid)
        out[f"out_hier_{fine}{coarse}"] = between
        total = total + h["hierarchy_point_consistency_weight"] * between
    total.backward()
    gradients = {f"out_grad_{key}": grad_of(leaf) for key, leaf in leaves.items() if f"out_grad_{key}" in r.expected}
    return out | gradients | {"out_total": total}
