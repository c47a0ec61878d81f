"""NP-SemiSeg against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from harness import Recording, adapter
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods.contrastive.np_semiseg import Memories
from s4kit.nets import NeuralProcessHead, divergence


def head_of(r: Recording) -> NeuralProcessHead:
    """The recorded networks; the decoder answers with its input."""
    h = r.hyper
    head = NeuralProcessHead(r.tensor("x_target").shape[1], h["num_classes"], h["latent_dim"])
    layers = {f"memory_dim_transform.Conv_1.{i}": head.describe[i] for i in (0, 3, 6)}
    layers |= {"mean_logvar_net.MLP.L0": head.moments[0], "mean_logvar_net.MLP.L1": head.moments[2]}
    for name, layer in layers.items():
        layer.load_state_dict({k: r.tensor(f"w.{name}.{k}") for k in layer.state_dict()})
    head.decoder = nn.Identity()
    return head


def released_rows(head: NeuralProcessHead, map: Tensor, label: Tensor, k: int) -> Tensor:
    """Descriptions at image size, of which the release makes rows without moving the channels behind the pixels."""
    u = head.describe(F.interpolate(map, label.shape[-2:], mode="bilinear", align_corners=True))
    return u[(label == k)[:, None].expand_as(u)].view(-1, u.shape[1])


@adapter("np_semiseg", "np_head")
@torch.no_grad()
def np_semiseg_np_head(r: Recording) -> dict[str, Any]:
    head, classes, most = head_of(r), r.hyper["num_classes"], r.hyper["memory_max_length"]
    memories = Memories(classes, r.hyper["latent_dim"], most, most)
    answers = {}
    given = {"lat": (memories.latent, "target"), "det": (memories.fixed, "context")}
    for name, (queues, of) in given.items():
        before, label = r.tensor(f"{name}_memory"), r.tensor(f"label_{of}")
        queues.append(before, torch.full((classes,), before.shape[1]))
        for k in range(classes):
            new = released_rows(head, r.tensor(f"x_{of}"), label.where(label < classes, VOID), k)[-most:]
            number = torch.zeros(classes).long()
            number[k] = len(new)
            queues.append(new[None].expand(classes, -1, -1), number)
            answers[f"out_{name}_memory{k}"] = queues.take(k, torch.arange(int(queues.count[k])))
    out, target, context = head(r.tensor("x_target"), *memories(), r.tensor("eps"))
    answers |= {"out_decoder_input": out, "out_decoder_input_eval": out, "out_kl": divergence(target, context)}
    for name, found in (("target", target), ("context", context)):
        answers |= {f"out_mean_{name}": found.mean, f"out_sigma_{name}": found.spread}
    return answers
