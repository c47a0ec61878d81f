"""RankMatch against recordings of its official code."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import torch
from consistency_adapters import START, criterion_of, weak_to_strong_batch
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.methods.consistency.rankmatch import RankMatch
from s4kit.methods.parts.ranking import agents, ranking_kl, rankings
from s4kit.nets import Decoded, Features
from s4kit.nets.segnet import Fused


class Stub(Recorded):
    """Recorded logits and recorded ASPP maps."""

    def __init__(self, answers: list[Tensor], contexts: list[Tensor]) -> None:
        super().__init__(answers)
        self.contexts, self.decoder = list(contexts), SimpleNamespace(align_corners=True)

    def fuse(self, features: Features) -> Fused:
        return Fused(features.low, self.contexts.pop(0))

    def classify(self, map: Tensor, size: Any = None) -> Decoded:
        return self.decode(Features((map, map)), size)


class Drawn(RankMatch):
    """Starts at the recorded pixels."""

    def first(self, features: Tensor) -> Tensor:
        return self.drawn.pop(0)


def rankmatch(r: Recording, answers: list[Tensor], contexts: list[Tensor], classes: int, drawn: list[Tensor]) -> Drawn:
    method = Drawn(
        task_of(classes),
        net=lambda **_: Stub(answers, contexts),
        tau=r.hyper.get("conf_thresh", 0.95),
        agents=r.hyper["num_agents"],
        ranks=r.hyper.get("k", 4),
        weight=r.hyper.get("weight_c", 0.1),
        supervised=criterion_of(r.hyper),
    )
    method.drawn = drawn
    return method


@adapter("rankmatch", "step")
def rankmatch_step(r: Recording) -> dict[str, Any]:
    keys = ("x", "u_w", "u_s1", "u_s2", "u_w_fp")
    z_x, z_w, z_1, z_2, z_fp = leaves = [r.tensor(f"logits_{k}", grad=True) for k in keys]
    f_w, f_1, f_2 = maps = [r.tensor(f"feat_{k}", grad=True) for k in keys[1:4]]
    joint = torch.cat([torch.zeros_like(f_w), f_w, torch.zeros_like(f_w), torch.zeros_like(f_w)])
    method = rankmatch(
        r,
        [r.tensor("logits_u_w_mix"), torch.cat([z_x, z_w, z_x.detach(), z_fp]), torch.cat([z_1, z_2])],
        [r.tensor("feat_u_w_mix"), joint, torch.cat([f_1, f_2])],
        z_x.shape[1],
        [r.tensor("idx_first1"), r.tensor("idx_first2")],
    )
    r.inputs |= {f"in_img_u_s{k}": torch.zeros(len(z_1), 3, *z_1.shape[2:]).numpy() for k in "12"}
    batch = weak_to_strong_batch(r, ("1", "2"))
    losses = method.losses(batch, START)
    losses.total.backward()
    value = {name: term for name, (term, _) in losses.items()}
    return {
        "out_feat_w_pasted1": method.pasted(batch.u.masks[0], r.tensor("feat_u_w_mix"), f_w),
        "out_loss": losses.total,
        "out_loss_x": value["x"],
        "out_loss_u_s1": value["s1"],
        "out_loss_u_s2": value["s2"],
        "out_loss_u_w_fp": value["fp"],
        "out_loss_c_s1": value["c1"],
        "out_loss_c_s2": value["c2"],
        **{f"out_grad_logits_{k}": grad_of(z) for k, z in zip(keys, leaves)},
        **{f"out_grad_feat_{k}": grad_of(f) for k, f in zip(keys[1:4], maps)},
    }


@adapter("rankmatch", "corrloss")
def rankmatch_corrloss(r: Recording) -> dict[str, Any]:
    strong = r.tensor("feat_s", grad=True)
    loss = rankmatch(r, [], [], 2, [r.tensor("idx_first")]).rank_term(r.tensor("feat_w"), strong)
    loss.backward()
    return {"out_loss": loss, "out_grad_feat_s": strong.grad}


@adapter("rankmatch", "agents")
def rankmatch_agents(r: Recording) -> dict[str, Any]:
    weak, strong = (r.tensor(f"feat_{k}").flatten(2).transpose(1, 2) for k in "ws")
    chosen = agents(weak, r.hyper["num_agents"], r.tensor("idx_first"))
    rows = torch.arange(len(chosen))[:, None]
    return {"out_idx_agents": chosen, "out_agents_w": weak[rows, chosen], "out_agents_s": strong[rows, chosen]}


@adapter("rankmatch", "prob2rank")
def rankmatch_prob2rank(r: Recording) -> dict[str, Any]:
    p_w, scores, k = r.tensor("prob_w"), r.tensor("student_scores", grad=True), r.hyper["k"]
    p_s, top = scores.softmax(-1), p_w.topk(k, -1).indices
    loss = ranking_kl(p_w, p_s, k)
    loss.backward()
    return {
        "out_perms": torch.tensor(list(permutations(range(k)))),
        "out_rank_w": rankings(p_w, top),
        "out_rank_s": rankings(p_s.detach(), top),
        "out_loss": loss,
        "out_grad_scores": scores.grad,
    }
