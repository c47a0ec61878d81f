"""GCT against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.methods.cotraining import gct
from s4kit.methods.parts.flaws import blur, flaw_target, gaussian, handled
from s4kit.methods.parts.losses import pixel_ce
from s4kit.nets import FlawDetector
from s4kit.views import Batch


@adapter("gct", "blur")
def gct_blur(r: Recording) -> dict[str, Any]:
    answers: dict[str, Any] = {"out_y": blur(r.tensor("x"), r.hyper["y_kernel_size"])}
    for k, size in enumerate(r.inputs["in_sizes"].tolist()):
        answers[f"out_kernel_{k}"] = np.outer(gaussian(size), gaussian(size))
    return answers


@adapter(
    "gct", "flawmap_handler",
    skip={"out_input_after_call": "the release zeroes its input in place; the kit leaves it"},
)  # fmt: skip
def flawmap_handler(r: Recording) -> dict[str, Any]:
    return {"out_handled": handled(r.tensor("flawmap"), r.hyper["im_size"], r.hyper["clip_threshold"])}


@adapter("gct", "dc_target")
def dc_target(r: Recording) -> dict[str, Any]:
    given = (r.tensor(f"{side}_{what}") for what in ("prob", "flaw") for side in "lr")
    found = gct.exchange(*given, r.hyper["dc_threshold"])
    both = found.both.float()
    return {"out_l_target": found.p1, "out_r_target": found.p2, "out_l_fc_mask": both, "out_r_fc_mask": both}


@adapter("gct", "flaw_target")
def target(r: Recording) -> dict[str, Any]:
    h, p, label = r.hyper, r.tensor("prob"), r.tensor("label")[:, 0].long()
    label = torch.where(label == h["ignore_index"], 255, label)
    classes = torch.arange(p.shape[1])[:, None, None]
    return {
        "out_one_hot": (label[:, None] == classes).float(),
        "out_flaw_target": flaw_target(p, label, h["im_size"], h["mu"], h["nu"]),
    }


@adapter("gct", "flaw_detector")
def flaw_detector(r: Recording) -> dict[str, Any]:
    h = r.hyper
    net = FlawDetector(h["classes"], r.inputs["in_image"].shape[1], h["ndf"])
    state = dict(net.state_dict())
    for name in state:
        theirs = name.removeprefix("blocks.").replace(".0.", ".").replace(".1.", ".")
        if ".bnorm." in name:
            theirs = theirs.replace("conv", "ibn")
        if (key := f"in_w_{theirs.replace('.', '__')}") in r.inputs:
            state[name] = torch.as_tensor(r.inputs[key])
    net.load_state_dict(state)
    image, p = r.tensor("image"), r.tensor("prob", grad=True)
    map = net.train()(image, p)
    map.square().mean().backward()
    norms = {f"ibn{name[4:]}": block[1].bnorm for name, block in net.blocks.items()}
    stats = {
        f"out_state_{name}__bnorm__{what}": getattr(norm, what)
        for name, norm in norms.items() for what in ("running_mean", "running_var")
    }  # fmt: skip
    return stats | {
        "out_flawmap_train": map,
        "out_flawmap_eval_after": net.eval()(image, p.detach()),
        "out_grad_prob_of_mean_square": p.grad,
    }


class Given(nn.Module):
    """A detector that answers with a weighted sum of the probabilities."""

    def __init__(self, coef: Tensor, bias: float) -> None:
        super().__init__()
        self.coef, self.bias = coef, bias

    def forward(self, image: Tensor, p: Tensor) -> Tensor:
        return (self.coef[:, None, None] * p).sum(1, keepdim=True) - self.bias


@adapter("gct", "task_losses")
def task_losses(r: Recording) -> dict[str, Any]:
    """One network's part of `losses`, the other one's logits being constant."""
    h, n, z = r.hyper, r.hyper["labelled_in_batch"], r.tensor("logits", grad=True)
    label = r.tensor("label")[:, 0].long()[:n]
    label = torch.where(label == h["ignore_index"], 255, label)
    nets = iter([Recorded([z]), Recorded([z.detach()])])
    method = gct.GCT(
        task_of(z.shape[1]), net=lambda **_: next(nets), width=2, dc=h["dc_ssl_scale"], fc=h["fc_ssl_scale"], ramp=0.0,
        supervised=lambda logits, y: pixel_ce(logits, y, over="all"),
    )  # fmt: skip
    method.detector, method.dc = Given(r.tensor("flaw_coef"), h["flaw_bias"]), h["dc_rampup_value"] * method.dc
    method.net1.normalise = lambda image: image
    where, target = r.tensor("fc_mask") == 1, r.tensor("dc_target")
    nothing = torch.zeros_like(where)
    method.judged = lambda image: gct.Exchange(target, z.detach().softmax(1), nothing, nothing, where)
    blank = torch.zeros(len(z), 3, *z.shape[2:])
    x, u = views(blank[:n], label != 255, label), views(blank[n:], torch.ones(len(z) - n, *z.shape[2:]))
    found = method.losses(Batch(x=x, u=u), START)
    # the other network is at its target and its flaws are the same number: they are taken out of the sums
    fixed = (where * method.detector(blank, z.detach().softmax(1)).square()).mean()
    of = {
        "out_task_loss": found["x1"][0],
        "out_dc_loss": found["dc"][0] * found["dc"][1],
        "out_fc_loss": (found["fc"][0] - fixed) * found["fc"][1],
    }
    total = sum(of.values())
    total.backward()
    return of | {"out_loss": total, "out_grad_logits": grad_of(z)}


@adapter("gct", "fd_loss")
def fd_loss(r: Recording) -> dict[str, Any]:
    h, answers = r.hyper, {}
    goal = r.tensor("flaw_target")
    assert len(goal) == h["labelled_in_batch"]
    for name in ("clean", "as_in_code"):
        raw = r.tensor("flawmap", grad=True)
        seen = raw if name == "clean" else raw + (F.relu(raw) - raw).detach()  # zeroed in place, behind autograd's back
        loss = h["fd_scale"] * gct.mean_square(seen[: len(goal)], goal)
        loss.backward()
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": raw.grad}
    return answers
