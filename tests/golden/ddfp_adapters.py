"""DDFP against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from harness import Recording, adapter, grad_of

from s4kit.data.task import VOID
from s4kit.methods.parts.density import component_log_prob, density_descent, log_prob, nll
from s4kit.nets.flow import MixtureFlow


def recorded_flow(r: Recording) -> MixtureFlow:
    h, means = r.hyper, r.tensor("means")
    flow = MixtureFlow(h["D"], len(means), h["n_blocks"], h["hidden"], h["clamp"])
    with torch.no_grad():
        flow.means.copy_(means)
        for b, block in enumerate(flow.blocks):
            block.order.copy_(r.tensor(f"idx_perm{b}"))
            for s, subnet in (("s1", block.first), ("s2", block.second)):
                for k, layer in enumerate(subnet[::2]):
                    layer.weight.copy_(r.tensor(f"b{b}_{s}_w{k}"))
                    layer.bias.copy_(r.tensor(f"b{b}_{s}_c{k}"))
    return flow


@adapter("ddfp", "gmm")
def ddfp_gmm(r: Recording) -> dict[str, Any]:
    z, means, y, logdet = r.tensor("z", grad=True), r.tensor("means"), r.tensor("y"), r.tensor("logdet")
    found = log_prob(z, means, y.where(y != r.hyper["unlabelled_code"], -1))
    loss = -(found + logdet).mean()
    loss.backward()
    return {
        "out_component_logprob": component_log_prob(z, means),
        "out_logprob": found,
        "out_nll": loss,
        "out_nll_unlabelled": -(log_prob(z, means) + logdet).mean(),
        "out_grad_z": grad_of(z),
    }


@adapter(
    "ddfp", "flow", skip={"out_inverse_error": "how far rounding takes an inverse off; the kit's is tested itself"}
)
def ddfp_flow(r: Recording) -> dict[str, Any]:
    flow, x = recorded_flow(r), r.tensor("x", grad=True)
    z, logdet = flow(x)
    loss = nll(flow, flow.means, x).mean()
    loss.backward()
    return {"out_z": z, "out_logdet": logdet, "out_nll": loss, "out_grad_x": grad_of(x)}


@adapter("ddfp", "attack")
def ddfp_attack(r: Recording) -> dict[str, Any]:
    flow, weight, bias = recorded_flow(r), r.tensor("conv_weight"), r.tensor("conv_bias")
    kept = r.label("label") != VOID

    def embed(f: torch.Tensor) -> torch.Tensor:
        return F.conv2d(f, weight, bias, padding=weight.shape[-1] // 2).tanh()

    noise = density_descent(embed, flow, flow.means, r.tensor("features"), kept, r.hyper["eps"])
    return {"out_noise": noise}
