"""ADS against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from harness import Recording, adapter, grad_of, relative_error
from torch import Tensor

from s4kit.methods.cotraining import ads
from s4kit.methods.cotraining.gct import mean_square
from s4kit.methods.parts.judging import accepted, sharpening, traits_apart
from s4kit.nets import Critic
from s4kit.views.blocks import BLOCKS, control_points, warped, warping


def as_sampled(flow: Tensor, corners: bool) -> Tensor:
    """The release's grid for a flow (1, H, W, 2) of rows and columns, which it exchanges; without `corners` as PyTorch
    reads it since 1.3, where the outermost pixels' centres no longer lie at -1 and 1."""
    height, width = flow.shape[1:3]
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([column - flow[..., 0], row - flow[..., 1]], -1) * 2 / (width - 1) - 1
    if corners:
        return grid
    sides = torch.tensor([width, height])
    return ((grid + 1) * sides - 1) / (sides - 1) - 1


def in_single(answer: Any, expected: np.ndarray, key: str) -> float:
    """The release's spline is in float32, whose pixels are off by some 1e-5; an image of noise changes by as much."""
    return relative_error(answer, expected, key) / 5


@adapter("ads", "dgw_warp", error=in_single)
def dgw_warp(r: Recording) -> dict[str, Any]:
    """The kit's flow; the release's grid, which exchanges its axes, is made of it here and then read by the kit."""
    h, image = r.hyper, r.tensor("image", grad=True)
    size = image.shape[1:3]
    assert h["num_split"] == BLOCKS and h["fix_corner"] and h["interpolation_order"] == 1
    source, to = control_points(r.tensor("randn"), size, h["src_rand_range"], h["dst_rand_range"])
    sides = torch.tensor(size) - 1
    taken = (warping(source, to, size).flip(-1) + 1) / 2 * sides  # where each pixel comes from
    own = torch.stack(torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij"), -1)
    flow = own - taken
    x = image.permute(0, 3, 1, 2)
    found = {f"out_warped_align_{str(at).lower()}": warped(x, as_sampled(flow, at)) for at in (True, False)}
    (found["out_warped_align_false"] * r.tensor("cotangent")).sum().backward()
    return found | {
        "out_source": source[None], "out_dest": to[None], "out_flow": flow,
        "out_grad_image_align_false": image.grad,
    }  # fmt: skip


@adapter("ads", "stabilization")
def stabilization(r: Recording) -> dict[str, Any]:
    h = r.hyper
    a = [r.tensor(f"{k}_warped_input", grad=True) for k in "lr"]
    b = [r.tensor(f"{k}_warped_output") for k in "lr"]
    says = ads.exchange(a[0], b[0], a[1], b[1], h["stable_threshold"])
    con = [h["consistency_weight"] * mean_square(x.softmax(1), y.softmax(1)) for x, y in zip(a, b)]
    stab = [h["stabilization_weight"] * mean_square(x.softmax(1), t.softmax(1)) for x, t in zip(a, (says.t1, says.t2))]
    sum(con + stab).backward()
    return {
        "out_l_consistency": con[0],
        "out_r_consistency": con[1],
        "out_l_stabilization": stab[0],
        "out_r_stabilization": stab[1],
        "out_target_for_l": says.t1,
        "out_target_for_r": says.t2,
        "out_grad_l": grad_of(a[0]),
        "out_grad_r": grad_of(a[1]),
    }


@adapter("ads", "discriminator")
def discriminator(r: Recording) -> dict[str, Any]:
    """The kit gives the class maps and the image one by one, and scores by a 1x1 convolution."""
    h, x = r.hyper, r.tensor("x", grad=True)
    critic = Critic(x.shape[1] - 3, width=h["ndf"]).eval()
    convs = [part for part in critic.body if isinstance(part, torch.nn.Conv2d)] + [critic.score]
    with torch.no_grad():
        for conv, name in zip(convs, ("conv1", "conv2", "conv3", "conv4", "fc")):
            conv.weight.copy_(r.tensor(f"w_{name}__weight").view_as(conv.weight))
            conv.bias.copy_(r.tensor(f"w_{name}__bias"))
    found = critic(x[:, :-3], x[:, -3:])
    p = found.score.sigmoid()
    p.sum().backward()
    return {"out_prob": p[:, 0], "out_feature": found.traits[:, :, None, None], "out_grad_x": x.grad}


@adapter("ads", "selftrain_fm")
def selftrain_fm(r: Recording) -> dict[str, Any]:
    h, z, fake = r.hyper, r.tensor("logits", grad=True), r.tensor("d_feature_pred", grad=True)
    kept = accepted(r.tensor("d_score").view(-1, 1, 1), h["threshold_st"], z.shape[-2:])
    own = h["lambda_st"] * sharpening(z, kept)
    matching = h["lambda_fm"] * traits_apart(r.tensor("d_feature_real")[:, :, 0, 0], fake[:, :, 0, 0])
    (own + matching).backward()
    return {
        "out_n_selected": kept[:, 0, 0].sum(),
        "out_selftrain_loss": own,
        "out_grad_logits": grad_of(z),
        "out_fm_loss": matching,
        "out_grad_d_feature_pred": grad_of(fake),
    }
