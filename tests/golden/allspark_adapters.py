"""AllSpark against recordings of its official code."""

from __future__ import annotations

from typing import Any

from harness import Recording, adapter, grad_of
from torch import Tensor, nn

from s4kit.methods.contrastive.allspark import AllSpark
from s4kit.methods.parts.channels import ChannelMemory
from s4kit.nets import Spark

NAMES = {"q": "query", "k": "key", "v": "value", "out": "out"}


def block(r: Recording) -> Spark:
    """The recorded block; where it widens the stage, our convolutions of the same name do."""
    h, spark = r.hyper, Spark(r.hyper["channels"], r.hyper["num_heads"], dropout=0.0)
    inputs = r.tensor("feat").shape[1]
    spark.enter[0], spark.leave[0] = nn.Conv2d(inputs, h["channels"], 1), nn.Conv2d(h["channels"], inputs, 1)
    layers = {"map_in.0": spark.enter[0], "map_out.0": spark.leave[0], "attn_norm": spark.norm}
    layers["encoder_norm"] = spark.norm_out
    layers |= {
        f"attn.{a}_{b}": flow[c] for b, flow in (("u", spark.own), ("l2u", spark.cross)) for a, c in NAMES.items()
    }
    for name, layer in layers.items():
        layer.load_state_dict({k: r.tensor(f"w.{name}.{k}") for k in layer.state_dict()})
    return spark


class Bare(AllSpark):
    """The block and the memory without a network."""

    def __init__(self, spark: Spark, queue: Tensor, place: Tensor) -> None:
        nn.Module.__init__(self)
        side = round(queue.shape[2] ** 0.5)
        self.student = nn.Module()
        self.student.heads = nn.ModuleDict({"spark": spark})
        self.memory = ChannelMemory(*queue.shape[:2], (side, side))
        self.memory.maps.copy_(queue.view_as(self.memory.maps)), self.memory.place.copy_(place)


@adapter("allspark", "channel_attention")
def allspark_channel_attention(r: Recording) -> dict[str, Any]:
    """In eval mode the release doubles the batch and lets every image see all of it."""
    spark, feat, logits = block(r), r.tensor("feat", grad=True), r.tensor("prob_map")
    method, n = Bare(spark, r.tensor("queue"), r.tensor("ptr")), len(feat) // 2
    answers = {}
    first = method.reborn(feat, n, logits, False)
    first.sum().backward()
    answers |= {"out_train_nomem": first, "out_grad_feat_nomem": grad_of(feat)}
    answers |= {"out_queue": method.memory.maps.flatten(2).clone(), "out_ptr": method.memory.place.clone()}
    second = method.reborn(feat, n, logits, True)
    answers |= {"out_train_mem": second, "out_queue2": method.memory.maps.flatten(2), "out_ptr2": method.memory.place}
    plain, t = spark.tokens(feat[:n])
    return answers | {"out_eval": spark.restore(plain, spark.across(t, t), feat[:n])}
