"""ALS4GAN against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.methods.active.als4gan import ALS4GAN
from s4kit.methods.parts.judging import human
from s4kit.views import Batch


def filled(critic: nn.Module, r: Recording) -> nn.Module:
    """The critic with the recorded weights, without dropout."""
    convs = [part for part in critic.body if isinstance(part, nn.Conv2d)] + [critic.score]
    with torch.no_grad():
        for conv, name in zip(convs, ("conv1", "conv2", "conv3", "conv4", "fc")):
            conv.weight.copy_(r.tensor(f"d_{name}_weight").view_as(conv.weight))
            conv.bias.copy_(r.tensor(f"d_{name}_bias"))
    return critic.eval()


@adapter("als4gan", "s4gan")
def s4gan(r: Recording) -> dict[str, Any]:
    """The kit's images are in [0, 1] from the start: the release's stretching is done here. Its maps are enlarged from
    small ones, whose cells all fit into the window that its critic pools."""
    h, z = r.hyper, r.tensor("pred", grad=True)

    def enlarged(x: Tensor) -> Tensor:
        return x.repeat_interleave(h["upsample"], -1).repeat_interleave(h["upsample"], -2)

    u, g, x = (r.tensor(f"image_{name}") for name in ("unlabelled", "gt", "labelled"))
    u, g = enlarged((u - u.min()) / (u.max() - u.min())), enlarged((g - g.min()) / (x.max() - x.min()))
    label, large = enlarged(r.label("gt")), enlarged(z)
    large.retain_grad()
    method = ALS4GAN(
        task_of(z.shape[1]), net=lambda **_: Recorded([torch.zeros_like(large), large]), tau=h["threshold"],
        start=-1.0, width=h["ndf"],
    )  # fmt: skip
    critic, valid = filled(method.critic, r), torch.ones(label.shape)
    losses = method.losses(Batch(x=views(u, valid), u=views(u, valid), g=views(g, valid, label)), START)
    losses["match"][0].backward(retain_graph=True)
    with torch.no_grad():
        fake, real = critic(large.softmax(1), u), critic(human(label, z.shape[1]), g)
    return {
        "out_d_fake": fake.score[:, 0].sigmoid(), "out_feat_fake": fake.traits,
        "out_d_real": real.score[:, 0].sigmoid(), "out_feat_real": real.traits,
        "out_fm": losses["match"][0], "out_grad_pred": grad_of(z),
        "out_selected": losses.seen["target"].weight[:, 0, 0], "out_st": losses["self"][0],
        "out_d_loss": losses["critic"][0],
    }  # fmt: skip
