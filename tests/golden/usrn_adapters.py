"""USRN against a recording of its official code."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from harness import Recording, adapter, grad_of, task_of

from s4kit.methods.parts.losses import ce, entropy
from s4kit.methods.selftraining.usrn import USRN


@adapter(
    "usrn", "losses",
    skip={"out_parent_of_sub": "the parents of a subclass map without void pixels, which is no input of the recording"},
)  # fmt: skip
def losses(r: Recording) -> dict[str, Any]:
    h, split = r.hyper, tuple(r.inputs["in_split"].tolist())
    classes = h["num_classes"]
    method = USRN(task_of(classes), net="tiny", split=split, tau=h["pos_thresh"])
    leaves = {name: r.tensor(f"logits_{name}", grad=True) for name in ("l", "weak", "strong")}
    z, s = leaves["l"].tensor_split([classes], 1)
    half = (lambda t: F.avg_pool2d(t, 2)) if h["downsample"] else (lambda t: t)
    weak, strong = (half(leaves[name]).tensor_split([classes], 1) for name in ("weak", "strong"))
    said = [t.detach() for t in weak]
    on_class, on_sub = method.costly(method.judged(*said), *strong)
    terms = {
        "sup": ce(z, r.label("label")),
        "sup_sub": ce(s, r.label("label_sub")),
        "unsup_sub": on_sub.mean(),
        "unsup_reg": on_class.mean(),
    }
    of_sub, of_u = h["loss_weight_subcls"], h["loss_weight_unsup"]
    total = terms["sup"] + of_sub * terms["sup_sub"] + of_sub * of_u * terms["unsup_sub"] + of_u * terms["unsup_reg"]
    total.backward()
    c, s = (t.detach() for t in leaves["weak"].tensor_split([classes], 1))
    return {
        "out_total": total,
        **{f"out_{name}": value for name, value in terms.items()},
        **{f"out_grad_logits_{name}": grad_of(leaf) for name, leaf in leaves.items()},
        "out_entropy_parent": entropy(c) / math.log(c.shape[1]),
        "out_entropy_sub": entropy(s) / math.log(s.shape[1]),
    }
