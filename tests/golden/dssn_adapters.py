"""DSSN against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import nn

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.cotraining.dssn import DSSN, class_wise
from s4kit.nets import copy_of, ema
from s4kit.views import Batch


@adapter("dssn", "adaptive_mask")
def adaptive_mask(r: Recording) -> dict[str, Any]:
    return {"out_mask": class_wise(r.tensor("logits").softmax(1), r.hyper["high"], r.hyper["keep"]).long()}


def losses(r: Recording) -> dict[str, Any]:
    h, voc = r.hyper, r.hyper["dataset"] == "voc"
    keys = ("x", "s1", "s2", "fp", "Fp")
    leaves = {key: r.tensor(f"logit_{key}", grad=True) for key in keys}
    x, w = leaves["x"], r.tensor("logit_w")
    dead = torch.zeros_like(x)  # the dropped copies of the labelled features are thrown away
    student = [torch.cat([x, w, dead, leaves["fp"], dead, leaves["Fp"]]), torch.cat([leaves["s1"], leaves["s2"]])]
    method = DSSN(
        task_of(h["classes"]), net=lambda **_: Recorded([]), tau=None if voc else h["conf_thresh"],
        warm=0 if voc else 5, weight=h["w_strong"], apart=h["w_siamese"],
    )  # fmt: skip
    method.student = Recorded(student)
    method.teacher = Recorded([r.tensor("logit_tea"), r.tensor("logit_tea_mix")])
    label, boxes = r.label("label"), [r.tensor(f"box{k}") == 1 for k in (1, 2)]
    blank = torch.zeros(len(label), 3, *label.shape[1:])
    u = views(blank, r.label("ignore") != VOID, strong=[blank, blank], masks=boxes)
    v = views(blank, r.label("ignore_mix") != VOID, strong=[blank, blank])
    clock = Clock(0 if h["warm_stage"] else 60, 100, epoch_steps=10)
    found = method.losses(Batch(x=views(blank, label != VOID, label), u=u, v=v), clock)
    found.total.backward()
    assert method.student.modes == [1, 1] and method.teacher.modes == [0, 0]
    names = {"x": "x", "s1": "s1", "s2": "s2", "fp": "fp", "Fp": "fq"}
    return {
        "out_loss": found.total,
        **{f"out_loss_{theirs}": found[ours][0] for theirs, ours in names.items()},
        "out_loss_siamese_image": found["siamese_image"][0],
        "out_loss_siamese_feature": found["siamese_feature"][0],
        "out_keep_rate": torch.tensor(0.0 if method.warming(clock) else method.decay),
        "out_pseudo_mix1": found.seen["strong views/target"].label,
        **{f"out_grad_{key}": grad_of(leaf) for key, leaf in leaves.items()},
    }


def other_weights(r: Recording) -> dict[str, str]:
    """Each term is answered by itself; the sum and its gradients need the release's weights."""
    if r.hyper["w_strong"] == r.hyper["w_feature"] and r.hyper["scale"] == 0.5:
        return {}
    touched = [key for key in r.expected if key == "out_loss" or key.startswith("out_grad")]
    return dict.fromkeys(touched, "the kit has one weight for the four terms, as all released configurations")


for data in ("voc", "city"):
    adapter("dssn", f"losses_{data}", skip=other_weights)(losses)


@adapter("dssn", "update_teacher")
def update_teacher(r: Recording) -> dict[str, Any]:
    def made(who: str) -> nn.Module:
        shape = r.inputs[f"in_{who}_0__weight"].shape
        net = nn.Sequential(nn.Linear(shape[1], shape[0]), nn.BatchNorm1d(shape[0]))
        state = {name: torch.as_tensor(r.inputs[f"in_{who}_{name.replace('.', '__')}"]) for name in net.state_dict()}
        net.load_state_dict(state)
        return net

    answers = {}
    for k, keep in enumerate(r.hyper["keep_rates"]):
        teacher = copy_of(made("teacher"))
        ema(teacher, made("student"), keep)
        answers |= {f"out_teacher{k}_{n.replace('.', '__')}": value for n, value in teacher.state_dict().items()}
    return answers
