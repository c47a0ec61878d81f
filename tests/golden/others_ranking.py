"""Our own recordings of RankMatch; see `other_recordings`."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import (
    Draw,
    exact,
    gradients,
    mean_ce,
    mixed,
    resized,
    variant,
)
from others_steps import KEYS, SIZE, Pasted, standard, weak_to_strong
from torch import Tensor


def ranking_term(weak: Tensor, strong: Tensor, chosen: Tensor, k: int) -> Tensor:
    """KL of the rankings of the agents; features (B, D, h, w), agents at the positions (B, M)."""
    f_w, f_s = (f.flatten(2).transpose(1, 2) for f in (weak, strong))
    rows = torch.arange(len(f_w))[:, None]
    p_w, p_s = ((f @ f[rows, chosen].transpose(1, 2)).softmax(2) for f in (f_w, f_s))
    return rank_kl(p_w, p_s, k)


def rank_kl(p_w: Tensor, p_s: Tensor, k: int) -> Tensor:
    top = p_w.topk(k, -1).indices
    r_w, r_s = (orderings(p.gather(-1, top)) for p in (p_w, p_s))
    return (r_w * (r_w.log() - (r_s + 1e-10).log())).mean()


def orderings(g: Tensor) -> Tensor:
    """(..., k!) Plackett-Luce probabilities of all orders of k values."""
    found = []
    for order in permutations(range(g.shape[-1])):
        p = 1.0
        for j in range(len(order)):
            p = p * g[..., order[j]] / (sum(g[..., order[i]] for i in range(j, len(order))) + 1e-10)
        found.append(p)
    return torch.stack(found, -1)


def agents(weak: Tensor, number: int, first: np.ndarray) -> Tensor:
    """(B, M) positions, in the order of space: each the one most unlike all before."""
    rows = []
    for f, start in zip(weak.flatten(2).transpose(1, 2), first):
        unit = F.normalize(f, dim=1)
        chosen = [int(start)]
        while len(chosen) < number:
            like = (unit @ unit[chosen].T).abs().amax(1)
            like[chosen] = 9
            chosen.append(int(like.argmin()))
        rows.append(sorted(chosen))
    return torch.tensor(rows)


@variant("rankmatch_agents")
def rankmatch_agents(d: Draw) -> dict[str, Any]:
    w, s, first = d.normal(3, 6, 5, 8), d.normal(3, 6, 5, 8), d.classes(40, 3)
    chosen = agents(exact(w)[0], 11, first)
    rows = torch.arange(3)[:, None]
    a_w, a_s = (f.flatten(2).transpose(1, 2)[rows, chosen] for f in exact(w, s))
    return {
        "in_feat_w": w, "in_feat_s": s, "in_idx_first": first, "out_idx_agents": chosen, "out_agents_w": a_w,
        "out_agents_s": a_s, "hyper": {"num_agents": 11},
    }  # fmt: skip


@variant("rankmatch_corrloss")
def rankmatch_corrloss(d: Draw) -> dict[str, Any]:
    w, s, first = d.normal(3, 6, 5, 8, scale=0.5), d.normal(3, 6, 5, 8, scale=0.5), d.classes(40, 3)
    (weak,) = exact(w)
    loss, grad = gradients(lambda s: ranking_term(weak, s, agents(weak, 9, first), 3), s)
    return {
        "in_feat_w": w, "in_feat_s": s, "in_idx_first": first, "out_loss": loss, "out_grad_feat_s": grad,
        "hyper": {"num_agents": 9, "k": 3},
    }  # fmt: skip


@variant("rankmatch_prob2rank")
def rankmatch_prob2rank(d: Draw) -> dict[str, Any]:
    p_w, z = exact(d.logits(3, 4, 6, 7))[0].softmax(-1).float().numpy(), d.normal(3, 4, 6, 7)
    (p,) = exact(p_w)
    top = p.topk(3, -1).indices
    loss, grad = gradients(lambda z: rank_kl(p, z.softmax(-1), 3), z)
    return {
        "in_prob_w": p_w, "in_student_scores": z, "out_perms": np.array(list(permutations(range(3)))),
        "out_rank_w": orderings(p.gather(-1, top)), "out_rank_s": orderings(exact(z)[0].softmax(-1).gather(-1, top)),
        "out_loss": loss, "out_grad_scores": grad, "hyper": {"k": 3},
    }  # fmt: skip


@variant("rankmatch_step")
def rankmatch_step(d: Draw) -> dict[str, Any]:
    given, grid = weak_to_strong(d, KEYS), (5, 8)
    given |= {f"in_feat_{k}": d.normal(3, 6, *grid, scale=0.5) for k in ("u_w", "u_w_mix", "u_s1", "u_s2")}
    given |= {f"in_idx_first{k}": d.classes(40, 3) for k in "12"}
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("1", "2"))
    large = [resized(exact(given[f"in_feat_{k}"])[0], SIZE) for k in ("u_w_mix", "u_w")]
    pasted = {k: resized(mixed(exact(given[f"in_cutmix_box{k}"])[0], *large), grid) for k in "12"}
    chosen = {k: agents(pasted[k], 12, given[f"in_idx_first{k}"]) for k in "12"}
    terms = [lambda z: mean_ce(z, given["in_mask_x"], 255), *standard(given, own, 0.55)]
    terms += [lambda f, k=k: ranking_term(pasted[k], f, chosen[k], 3) for k in "12"]
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{k}"] for k in names] + [given[f"in_feat_u_s{k}"] for k in "12"]
    weights = (0.5, 0.125, 0.125, 0.25, 0.2, 0.2)
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip(weights, terms, z)), *leaves)
    losses = zip((*names, "c_s1", "c_s2"), terms, leaves)
    return given | {
        "out_feat_w_pasted1": pasted["1"], "out_loss": total,
        **{f"out_loss_{k}": f(*exact(z)) for k, f, z in losses},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)},
        **{f"out_grad_feat_u_s{k}": g for k, g in zip("12", grads[4:])},
        "out_grad_feat_u_w": torch.zeros_like(grads[4]), "out_grad_logits_u_w": torch.zeros_like(grads[0]),
        "hyper": {"conf_thresh": 0.55, "num_agents": 12, "k": 3, "weight_c": 0.4},
    }  # fmt: skip
