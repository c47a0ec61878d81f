"""PS-MT against recordings of its official code."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from cct_adapters import released_noise
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.methods import Clock
from s4kit.methods.consistency import psmt
from s4kit.methods.consistency.psmt import PSMT, assisted
from s4kit.methods.parts.losses import ohem, pixel_ce
from s4kit.methods.parts.schedules import cosine_ramp
from s4kit.nets import Decoded
from s4kit.nets.segnet import resize
from s4kit.views import paste, rasterise
from s4kit.views.boxes import beta_boxes


def method_of(classes: int, **options: Any) -> PSMT:
    return PSMT(task_of(classes), net="tiny", **options)


def uneven(r: Recording) -> dict[str, str]:
    if r.hyper.get("gamma", 0.5) == 0.5:
        return {}
    return dict.fromkeys(("out_ensemble_id1", "out_ensemble_id2"), "the teachers weigh the same in every run")


@adapter("psmt", "assist", skip=uneven)
def psmt_assist(r: Recording) -> dict[str, Any]:
    """The filtered teacher is twice the ensemble less the teacher whose epoch it is; rule and picture agree."""
    l1, l2 = pair = r.tensor("teacher1_logits"), r.tensor("teacher2_logits")
    method = method_of(l1.shape[1], top=r.hyper["topk"])
    view = views(torch.zeros(len(l1), 3, *l1.shape[2:]), torch.ones(l1[:, 0].shape))
    first, second = assisted(l1, l2, method.top), assisted(l2, l1, method.top)
    for evidence, logits in ((pair, first), (pair[::-1], second)):
        assert torch.equal(method.pseudo_labels(evidence, view, START).soft, logits.softmax(1))
        assert torch.equal(method.probabilities(evidence), logits.softmax(1))
    return {
        "out_ensemble_id1": first,
        "out_ensemble_id2": second,
        "out_assist2": 2 * first - l1,
        "out_assist1": 2 * second - l2,
    }


@adapter("psmt", "semi_ce")
def psmt_semi_ce(r: Recording) -> dict[str, Any]:
    z, logits = r.tensor("student_logits", grad=True), r.tensor("teacher_logits")
    method = method_of(z.shape[1], tau=r.hyper["threshold"])
    view = views(torch.zeros(len(z), 3, *z.shape[2:]), torch.ones(z[:, 0].shape))
    target = method.pseudo_labels((logits, logits), view, START)
    loss = pixel_ce(z, target, over="kept")
    loss.backward()
    method.tau = 1.1
    return {
        "out_loss": loss,
        "out_grad_student_logits": grad_of(z),
        "out_confidence": target.confidence,
        "out_pass_rate": (target.weight > 0).float().mean(),
        "out_loss_none_confident": pixel_ce(z, method.pseudo_labels((logits, logits), view, START), over="kept"),
    }


@adapter("psmt", "cutmix")
def psmt_cutmix(r: Recording) -> dict[str, Any]:
    image, logits, p = (r.tensor(k) for k in ("image", "target_logits", "perm"))
    size = tuple(image.shape[2:])
    boxes = beta_boxes(r.inputs["in_lambda"], r.inputs["in_centre_rows"], r.inputs["in_centre_cols"], size)
    m = rasterise(torch.from_numpy(boxes)[:, None], size)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    return {
        "out_boxes": corners,
        "out_image": paste(m, image[p], image),
        "out_target_logits": paste(m, logits[p], logits),
    }


class Decoder(nn.Module):
    """The recorded stand-in for a teacher's classifier, in float64."""

    def __init__(self, r: Recording, name: str) -> None:
        super().__init__()
        given = {
            k[len(f"in_{name}_") :]: torch.from_numpy(v) for k, v in r.inputs.items() if k.startswith(f"in_{name}_")
        }
        (inner, inputs), kernel = given["conv1_w"].shape[:2], given["conv1_w"].shape[-1]
        self.conv1, self.bn = nn.Conv2d(inputs, inner, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, len(given["conv2_b"]), 1)
        self.double()
        own = {
            "conv1_w": self.conv1.weight,
            "bn_w": self.bn.weight,
            "bn_b": self.bn.bias,
            "bn_mean": self.bn.running_mean,
            "bn_var": self.bn.running_var,
            "conv2_w": self.conv2.weight,
            "conv2_b": self.conv2.bias,
        }
        with torch.no_grad():
            for key, tensor in own.items():
                tensor.copy_(given[key])

    def classify(self, f: Tensor, size: Any) -> Decoded:
        logits = resize(self.conv2(self.bn(self.conv1(f)).relu()), size, align_corners=True)
        return Decoded(logits, f, f)


@adapter("psmt", "tvat")
def psmt_tvat(r: Recording) -> dict[str, Any]:
    """`PSMT.noise` with the recorded direction, step and radius, which are no shares of the features' norm."""
    h, f, u = r.hyper, *(torch.from_numpy(r.inputs[f"in_{k}"]) for k in ("feature", "uniform"))
    method = method_of(len(r.inputs["in_t1_conv2_b"]))
    method.teacher1, method.teacher2 = Decoder(r, "t1"), Decoder(r, "t2")
    before = {k: v.clone() for k, v in method.state_dict().items() if "running" in k}
    found = {}
    for xi in (h["xi"], 1e-6):
        found[xi] = fed(method, f, u - 0.5, xi, h["eps"], h["output_size"])
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items() if k in before)
    return {
        "out_r_adv": found[h["xi"]],
        "out_norm": found[h["xi"]].flatten(1).norm(dim=1),
        "out_norm_xi1e6": found[1e-6].flatten(1).norm(dim=1),
    }


def fed(method: PSMT, f: Tensor, direction: Tensor, xi: float, radius: float, size: Any) -> Tensor:
    """`PSMT.noise` with draws and lengths of the release in the part that it calls."""

    def part(predict: Any, x: Tensor, *_: Any) -> Tensor:
        return released_noise(predict, x, direction, xi, radius)

    with patch.object(psmt, "adversarial_noise", part):
        return method.noise(f, size)


@adapter("psmt", "ema")
def psmt_ema(r: Recording) -> dict[str, Any]:
    """`after_step` in the first teacher's epoch on networks whose state is one vector; the second stays."""
    method = method_of(2, decay=r.hyper["keep_rate"])
    nets = [nn.ParameterList([r.tensor("teacher0").clone()]) for _ in range(3)]
    method.student, method.teacher1, method.teacher2 = nets
    rows, steps = [], len(r.inputs["in_students"])
    for i, state in enumerate(r.tensor("students")):
        method.student[0].data.copy_(state)
        method.after_step(Clock(i, 2 * steps, epoch_steps=steps, stage=1))
        rows.append(method.teacher1[0].detach().clone())
    assert torch.equal(method.teacher2[0], r.tensor("teacher0"))
    return {"out_teachers": torch.stack(rows)}


@adapter("psmt", "ohem")
def psmt_ohem(r: Recording) -> dict[str, Any]:
    answers = {}
    many = re.search(r"min_kept=(\d+)", r.text("out_loss_many"))
    for name, least in (("few", r.hyper["min_kept"]), ("many", int(many[1]) if many else 1_000_000)):
        z = r.tensor("logits", grad=True)
        loss = ohem(r.hyper["thresh"], least)(z, r.label("label"))
        loss.backward()
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad_of(z)}
    return answers


@adapter("psmt", "rampup")
def psmt_rampup(r: Recording) -> dict[str, Any]:
    h = r.hyper
    at = r.inputs["in_epoch"] * h["iters_per_epoch"] + r.inputs["in_iter"]
    whole = h["ramp_up_epochs"] * h["iters_per_epoch"]
    return {"out_weight": np.array([h["final_w"] * cosine_ramp(t, whole) for t in at.tolist()])}
