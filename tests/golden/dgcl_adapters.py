"""DGCL against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.methods.contrastive.dgcl import DGCL
from s4kit.methods.parts.banks import Queues
from s4kit.methods.parts.contrast import rows
from s4kit.methods.parts.sparsity import density


def fill(memory: Queues, k: int, *columns: Tensor) -> None:
    """Rows of the memory of class k, given newest first."""
    found = torch.cat(columns, 1).flip(0)
    offered = torch.zeros(len(memory.count), len(found), dtype=torch.bool)
    offered[k] = True
    memory.write(found, offered)


@adapter("dgcl", "density")
def dgcl_density(r: Recording) -> dict[str, Any]:
    memory = r.tensor("memory")
    return {"out_density": density(r.tensor("feat"), memory, torch.tensor(len(memory)), r.inputs["in_k"].tolist())}


@adapter("dgcl", "contrast_loss")
def dgcl_contrast_loss(r: Recording) -> dict[str, Any]:
    h, z, f = r.hyper, r.tensor("rep", grad=True), r.tensor("feat", grad=True)
    stored = [r.tensor(f"{k}_memory") for k in ("feat", "proj", "density")]
    classes, bank, _ = stored[0].shape
    method = DGCL(
        task_of(classes), net="tiny", low=h["k_low"], high=h["k_high"], temperature=h["temperature"],
        scales=tuple(h["k_den_cal"]), most=r.inputs["in_label"].size,
    )  # fmt: skip
    method.memory = Queues([bank] * classes, f.shape[1] + z.shape[1] + 1)
    for k, (e, p, d) in enumerate(zip(*stored)):
        fill(method.memory, k, e, p, d[:, None])
    loss = method.sparse(rows(f.detach()), rows(z), r.label("label").flatten())
    loss.backward()
    return {"out_loss": loss, "out_grad_rep": grad_of(z)}


@adapter("dgcl", "memory_update")
def dgcl_memory_update(r: Recording) -> dict[str, Any]:
    """The release puts new rows to the front, the kit to the end: pixels are given, and rows read, the other way round.

    Its list of densities of a class that was never seen starts with a 0 that belongs to no row.
    """
    h, f, z = r.hyper, r.tensor("feat"), r.tensor("rep")
    before, dim = r.inputs["in_rows"].tolist(), f.shape[1]
    method = DGCL(
        task_of(len(before)), net="tiny", scales=tuple(h["k"]), least=h["density_min_rows"], fresh=h["max_new"]
    )
    method.memory = Queues([h["memory_per_class"]] * len(before), dim + z.shape[1] + 1)
    for k, number in enumerate(before):
        d = r.tensor(f"density{k}")[:number, None]
        fill(method.memory, k, r.tensor(f"feat_memory{k}"), torch.zeros(number, z.shape[1]), d)
    method.sparse(rows(f).flip(0), rows(z).flip(0), r.label("label").flatten().flip(0))
    count, answers, lengths = method.memory.count, {}, []
    for k, number in enumerate(before):
        stored = method.memory.take(k, torch.arange(int(count[k]))).flip(0)
        surplus = torch.zeros(len(r.inputs[f"in_density{k}"]) - number)
        answers[f"out_density{k}"] = torch.cat([stored[:, -1], surplus])[: h["memory_per_class"]]
        answers[f"out_feat_head{k}"] = stored[: len(r.expected[f"out_feat_head{k}"]), :dim]
        lengths.append(len(answers[f"out_density{k}"]))
    return answers | {"out_rows": count, "out_density_rows": torch.tensor(lengths)}
