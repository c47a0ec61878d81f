"""MLLC's semantic graph against a recording of its official code."""

from __future__ import annotations

from typing import Any

import torch
from harness import Recording, adapter, grad_of

from s4kit.methods.selftraining.mllc import GraphLayer


@adapter("mllc", "graph")
def graph(r: Recording) -> dict[str, Any]:
    h, z = r.hyper, r.tensor("logits", grad=True)
    layer = GraphLayer(h["num_classes"], h["feat_dim"], h["neighbours"], h["conf"])
    out, settled = layer.mixed(z, r.tensor("feat"), r.tensor("class_weight"))
    out.square().mean().backward()
    return {"out_logits": out, "out_confident": settled.to(torch.uint8), "out_grad_logits": grad_of(z)}
