"""TriKD against recordings of its official code."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods.cotraining import tri_kd
from s4kit.methods.parts.losses import ohem, pixel_ce
from s4kit.nets import Features, FrequencyDecoder
from s4kit.nets.frequency import FrequencySelect, band
from s4kit.views import Batch

WHO, SETS = ("tiny", "cnn", "vit"), ("sup", "unsup")
STATE = (  # names of the release's modules, and the kit's
    (r"psp_module\.features", "pool.branches"),
    (r"psp_bottleneck\.conv", "pool.project.0"),
    (r"psp_bottleneck\.bn", "pool.project.1"),
    (r"lateral_convs\.(\d+)\.conv_atten", r"select.\1.weigh"),
    (r"lateral_convs\.(\d+)\.conv", r"select.\1.project"),
    (r"fpn_convs\.(\d+)\.conv", r"smooth.\1.0"),
    (r"fpn_convs\.(\d+)\.bn", r"smooth.\1.1"),
    (r"down_convs", "down"),
    (r"fpn_bottleneck\.conv", "bottleneck.0"),
    (r"fpn_bottleneck\.bn", "bottleneck.1"),
    (r"cls_seg", "classifier"),
)


def renamed(theirs: str) -> str:
    for pattern, ours in STATE:
        theirs, found = re.subn(f"^{pattern}", ours, theirs)
        if found:
            return theirs
    raise KeyError(theirs)


@adapter("tri_kd", "frequency_select")
def frequency_select(r: Recording) -> dict[str, Any]:
    answers = {}
    for name, low in (("low", True), ("high", False)):
        x = r.tensor("x", grad=True)
        block = FrequencySelect(x.shape[1], len(r.inputs["in_w_conv"]), low, r.hyper["D0"])
        block.load_state_dict({"weigh.weight": r.tensor("w_atten"), "project.weight": r.tensor("w_conv")})
        y = block(x)
        (y * r.tensor("cotangent")).sum().backward()
        filtered = band(x, low, r.hyper["D0"])
        answers |= {f"out_filtered_{name}": filtered, f"out_y_{name}": y, f"out_grad_x_{name}": x.grad}
    return answers


@adapter("tri_kd", "decoder")
def decoder(r: Recording) -> dict[str, Any]:
    h, weights = r.hyper, "in_w_"
    assert h["align_corners"] and tuple(h["pool_scales"]) == (1, 2, 3, 6), "the only ones that the kit has"
    width = len(r.inputs["in_w_fpn_bottleneck__conv__weight"])
    net = FrequencyDecoder(h["in_channels"], h["num_classes"], h["out_channels"], width, h["dropout"])
    given = {k.removeprefix(weights).replace("__", "."): k for k in r.inputs if k.startswith(weights)}
    state = {renamed(theirs): torch.as_tensor(r.inputs[key]) for theirs, key in given.items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    net.train(h["mode"] == "train")
    fused = net.fuse(Features(tuple(r.tensor(f"level{i}") for i in range(len(h["in_channels"])))))
    return {"out_logits": net.classify(fused.map)[0]}


class Answering(Recorded):
    """A network that answers with recorded logits, stride-4 maps and attention products."""

    def __init__(self, logits: list[Tensor], maps: list[Tensor], products: list[Tensor]) -> None:
        super().__init__(logits)
        self.maps, self.products = maps, products
        self.backbone = SimpleNamespace(channels=(1,), heads=1)

    def encode(self, image: Tensor, attention: bool = False) -> Features:
        return Features((self.maps.pop(0),), {"attention": self.products.pop(0)} if attention else {})


@adapter("tri_kd", "losses")
def losses(r: Recording) -> dict[str, Any]:
    h = r.hyper
    given = {f"{kind}_{who}": r.tensor(f"{kind}_{who}", grad=True) for kind in SETS for who in WHO}
    for what, owners in (("feat", ("tiny", "cnn")), ("attn", ("tiny", "vit"))):
        given |= {(k := f"{what}_{kind}_{who}"): r.tensor(k, grad=True) for kind in SETS for who in owners}

    def answering(who: str) -> Answering:
        logits = [given[f"{kind}_{who}"] for kind in SETS]
        maps = [given.get(f"feat_{kind}_{who}", z) for kind, z in zip(SETS, logits)]
        return Answering(logits, maps, [given.get(f"attn_{kind}_{who}", logits[0]) for kind in SETS])

    nets = {who: answering(who) for who in WHO}
    method = tri_kd.TriKD(
        task_of(given["sup_tiny"].shape[1]), *(lambda own=nets[who], **_: own for who in WHO),
        cps=h["cps_weight"], low=h["low_weight"], high=h["high_weight"],
        supervised=ohem(h["ohem_thresh"], h["ohem_min_kept"]),
    )  # fmt: skip
    nets["tiny"].heads.update({"low": nn.Identity(), "high": nn.Identity()})  # the recording begins behind them
    label = r.label("label")
    blank = torch.zeros(len(label), 3, *label.shape[1:])
    x = views(blank, label != VOID, label)
    z = [given[f"unsup_{who}"] for who in WHO]
    u = views(torch.zeros(len(z[0]), 3, *z[0].shape[2:]), torch.ones_like(z[0][:, 0]))
    found = method.losses(Batch(x=x, u=u), START)
    for name, weight in zip(("x_small", "x_cnn", "x_vit"), h["net_weights"]):
        found[name] = (found[name][0], weight)
    found.total.backward()
    y = [found.seen[f"{name}/target"] for name in tri_kd.NAMES]
    learned = {who: sum(pixel_ce(z[i], y[j], over="all") for j in range(3) if j != i) for i, who in enumerate(WHO)}
    return {
        **{f"out_loss_sup_{who}": found[f"x_{ours}"][0] for who, ours in zip(WHO, ("small", "cnn", "vit"))},
        **{f"out_cps_{who}": value for who, value in learned.items()},
        "out_low_mse": found["low"][0],
        "out_high_kl": found["high"][0],
        "out_loss": found.total,
        **{f"out_grad_{name}": grad_of(leaf) for name, leaf in given.items()},
    }
