"""Our own recordings of CCVC, CPCL, DSSN and n-CPS; see `other_recordings`."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, ce_of, exact, gradients, mean_ce, mixed, variant
from torch import Tensor

SIZE = (8, 11)


# ---- CCVC ----


@variant("ccvc_conflict_masks")
def ccvc_conflict_masks(d: Draw) -> dict[str, Any]:
    z, tau = [d.normal(3, 4, *SIZE, scale=1.5) for _ in range(2)], 1.3
    conflict = z[0].argmax(1) != z[1].argmax(1)
    sure = [conflict & (logits.max(1) > tau) for logits in z]
    out = {f"out_conflict_confident{k + 1}": s for k, s in enumerate(sure)}
    out |= {f"out_rest{k + 1}": ~s for k, s in enumerate(sure)}
    return {"in_logits1": z[0], "in_logits2": z[1], **out, "hyper": {"threshold": tau}}


def pushed(a: Tensor, b: Tensor) -> Tensor:
    """1 + mean cosine of the pixels, the mean of both stop-gradient sides."""

    def side(a: Tensor, b: Tensor) -> Tensor:
        return 1 + ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()).mean()

    return (side(a, b.detach()) + side(b, a.detach())) / 2


@variant("ccvc_losses_noaug")
def ccvc_losses_noaug(d: Draw) -> dict[str, Any]:
    batch, classes, tau, w_ce, w_con, w_dis, confident = 3, 4, 2.0, 3.0, 1.5, 0.5, 2.5
    given = {f"in_{part}{k}": d.logits(batch, classes, *SIZE) for part in ("lab", "unl") for k in "12"}
    given |= {f"in_{part}_feat{k}": d.normal(batch, 5, 4, 6) for part in ("lab", "unl") for k in "12"}
    label, ignore = d.label(classes, batch, *SIZE, void=255), d.padding(batch, *SIZE).astype(np.int64)
    counts = torch.from_numpy(ignore != 255).double()

    def terms(l1: Tensor, l2: Tensor, u1: Tensor, u2: Tensor, *f: Tensor) -> tuple[Tensor, ...]:
        conflict, con = u1.argmax(1) != u2.argmax(1), 0.0
        for teacher, learner in ((u1, u2), (u2, u1)):
            weight = torch.where(conflict & (teacher.max(1).values > tau), confident, 1.0)
            con = con + (ce_of(learner, teacher.argmax(1)) * weight * counts).sum() / counts.sum() / 2
        dis = (pushed(*f[:2]) + pushed(*f[2:])) / 2
        return w_ce * (mean_ce(l1, label, 255) + mean_ce(l2, label, 255)) / 2, w_con * con, w_dis * dis

    leaves = list(given.values())
    total, *grads = gradients(lambda *given: sum(terms(*given)), *leaves)
    ce, con, dis = terms(*exact(*leaves))
    hyper = {
        "classes": classes, "conf_threshold": tau, "ignore_value_unlabelled": 255, "mode_confident": "vote_threshold",
        "w_CE": w_ce, "w_con": w_con, "w_confident": confident, "w_dis": w_dis,
    }  # fmt: skip
    return {
        **given, "in_label": label, "in_ignore_mask": ignore,
        "out_loss_CE": ce, "out_loss_con": con, "out_loss_dis": dis, "out_loss": total,
        **{key.replace("in_", "out_grad_"): grad for key, grad in zip(given, grads)}, "hyper": hyper,
    }  # fmt: skip


@variant("ccvc_losses_aug")
def ccvc_losses_aug(d: Draw) -> dict[str, Any]:
    """The partner is the mirrored batch; what a mixed pixel weighs is decided on the unmixed images."""
    batch, classes, tau, w_ce, w_con, w_dis, confident = 3, 5, 2.0, 2.0, 0.7, 1.5, 3.0
    parts = ("lab", "raw", "mix")
    leaves = {f"in_{part}{k}": d.logits(batch, classes, *SIZE) for part in parts for k in "12"}
    leaves |= {f"in_{part}_feat{k}": d.normal(batch, 4, 5, 3) for part in parts for k in "12"}
    given = {f"in_eval{k}": d.logits(batch, classes, *SIZE) for k in "12"} | {"in_img_aug": d.uniform(batch, 3, *SIZE)}
    label, ignore = d.label(classes, batch, *SIZE, void=255), d.padding(batch, *SIZE).astype(np.int64)
    box = d.box(batch, *SIZE)
    taught = dict(zip("12", exact(given["in_eval1"], given["in_eval2"])))
    pseudo = {k: np.where(box == 1, y[::-1], y) for k, y in ((k, z.argmax(1).numpy()) for k, z in taught.items())}
    ignored = np.where(box == 1, ignore[::-1], ignore)
    image = np.where(box[:, None] == 1, given["in_img_aug"][::-1], given["in_img_aug"])

    def weights(teacher: Tensor, learner: Tensor) -> Tensor:
        unequal = teacher.argmax(1) != learner.argmax(1)
        return torch.where(unequal & (teacher.max(1).values > tau), confident, 1.0)

    def taken(z: Tensor, y: Any, weight: Tensor, ignored: np.ndarray) -> Tensor:
        counts = torch.from_numpy(ignored != 255).double()
        return (ce_of(z, y) * weight * counts).sum() / counts.sum()

    def terms(*given: Tensor) -> tuple[Tensor, ...]:
        of, con_mix, con_raw = dict(zip(leaves, given)), 0.0, 0.0
        for t, s in ("12", "21"):
            weight = weights(taught[t], taught[s])
            con_mix = con_mix + w_con * taken(of[f"in_mix{s}"], pseudo[t], weight, ignored) / 4
            raw = of[f"in_raw{t}"].detach(), of[f"in_raw{s}"]
            con_raw = con_raw + w_con * taken(raw[1], raw[0].argmax(1), weights(*raw), ignore) / 4
        far = {part: pushed(of[f"in_{part}_feat1"], of[f"in_{part}_feat2"]) for part in parts}
        ce = w_ce * (mean_ce(of["in_lab1"], label, 255) + mean_ce(of["in_lab2"], label, 255)) / 2
        return ce, con_mix, con_raw, w_dis * (far["lab"] + (far["raw"] + far["mix"]) / 2) / 2

    total, *grads = gradients(lambda *given: sum(terms(*given)), *leaves.values())
    ce, con_mix, con_raw, dis = terms(*exact(*leaves.values()))
    hyper = {
        "classes": classes, "conf_threshold": tau, "ignore_value_unlabelled": 255, "mode_confident": "vote_threshold",
        "w_CE": w_ce, "w_con": w_con, "w_confident": confident, "w_dis": w_dis,
    }  # fmt: skip
    return {
        **leaves, **given, "in_label": label, "in_ignore_mask": ignore, "in_box": box,
        "out_img_mixed": image, "out_ignore_mixed": np.where(ignored == 255, 255, 0), "out_pseudo1_mixed": pseudo["1"],
        "out_loss_CE": ce, "out_loss_con": con_mix + con_raw, "out_loss_dis": dis, "out_loss": total,
        "out_loss_con_mix": con_mix, "out_loss_con_raw": con_raw,
        **{key.replace("in_", "out_grad_", 1): grad for key, grad in zip(leaves, grads)}, "hyper": hyper,
    }  # fmt: skip


# ---- CPCL ----


@variant("cpcl_losses")
def cpcl_losses(d: Draw) -> dict[str, Any]:
    batch, classes, weight = 3, 4, 2.5
    keys = [f"{part}_{k}" for k in "12" for part in ("sup", "mix", "u0", "u1")]
    given = {f"in_logit_{key}": d.logits(batch, classes, *SIZE) for key in keys}
    label, m = d.label(classes, batch, *SIZE), d.box(batch, *SIZE)
    z = dict(zip(keys, exact(*given.values())))
    taught = [mixed(exact(m)[0], z[f"u1_{k}"], z[f"u0_{k}"]).softmax(1) for k in "12"]
    (c1, p1), (c2, p2) = (tuple(a.numpy() for a in p.max(1)) for p in taught)
    counts = np.eye(classes)
    for a, b in zip(p1.flatten(), p2.flatten()):
        counts[a, b] += 1
    w = np.array([1 - counts[c, c] / counts[:, c].sum() + 1 - counts[c, c] / counts[c].sum() for c in range(classes)])
    w = w / (w.sum() + 1e-6)
    union, sure = p2.copy(), c2.copy()
    for i in np.ndindex(p1.shape):
        if p1[i] == p2[i]:
            sure[i] = (c1[i] + c2[i]) / 2
        elif w[p1[i]] > w[p2[i]]:
            union[i], sure[i] = p1[i], c1[i]
    inter = np.where(p1 == p2, p1, VOID)
    both, s = torch.from_numpy((c1 + c2) / 2), torch.from_numpy(sure)

    def terms(x1: Tensor, x2: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, ...]:
        sup = mean_ce(x1, label) + mean_ce(x2, label)
        return sup, (ce_of(q1, inter) * both).mean(), (ce_of(q2, union) * s).mean()

    def total(*given: Tensor) -> Tensor:
        sup, l_inter, l_union = terms(*given)
        return sup + weight * (l_inter + l_union)

    names = ("sup_1", "sup_2", "mix_1", "mix_2")
    loss, *grads = gradients(total, *(given[f"in_logit_{name}"] for name in names))
    sup, l_inter, l_union = terms(*(z[name] for name in names))
    return {
        **given, "in_label": label, "in_mask": m[:, None],
        "out_class_disagreement": w, "out_pseudo_intersection": inter, "out_pseudo_union": union,
        "out_confidence_1": c1, "out_confidence_2": c2,
        "out_loss_sup": sup, "out_loss_inter": l_inter, "out_loss_union": l_union, "out_loss": loss,
        **{f"out_grad_{name}": grad for name, grad in zip(names, grads)},
        "hyper": {"classes": classes, "ignore_index": VOID, "unsup_weight": weight},
    }  # fmt: skip


# ---- DSSN ----


def chosen(p: np.ndarray, high: float, keep: float) -> np.ndarray:
    """(B, H, W) pixels that a class takes, image by image."""
    found = np.zeros((len(p), *p.shape[2:]), np.int64)
    for image, mask in zip(p, found):
        for of_class in image:
            best = of_class.max()
            mask += of_class > (keep * best if best > high else best)
    return found


@variant("dssn_adaptive_mask")
def dssn_adaptive_mask(d: Draw) -> dict[str, Any]:
    z = d.normal(3, 5, *SIZE, scale=1.7)
    mask = chosen(exact(z)[0].softmax(1).numpy(), 0.8, 0.9)
    return {"in_logits": z, "out_mask": mask, "hyper": {"high": 0.8, "keep": 0.9}}


@variant("dssn_losses_voc", "dssn_losses_city")
def dssn_losses(d: Draw, name: str) -> dict[str, Any]:
    batch, classes, w_strong, w_siamese, voc = 3, 5, 0.4, 0.3, name.endswith("voc")
    keys = ("w", "tea", "tea_mix", "x", "s1", "s2", "fp", "Fp")
    given = {f"in_logit_{key}": d.normal(batch, classes, *SIZE, scale=4.0) for key in keys}
    label = d.label(classes, batch, *SIZE, void=255)
    ignore, ignore_mix = (d.padding(batch, *SIZE).astype(np.int64) for _ in range(2))
    boxes, tau = [d.box(batch, *SIZE) for _ in range(2)], 0.6
    z = dict(zip(keys, exact(*given.values())))

    def taught(logits: Tensor, counts: np.ndarray) -> tuple[Tensor, Tensor]:
        """Label, and what is kept over what counts."""
        p = logits.softmax(1)
        keep = torch.from_numpy(chosen(p.numpy(), 0.92, 0.96) > 0) if voc else p.max(1).values >= tau
        counts = torch.from_numpy(counts != 255).double()
        return p.argmax(1), keep * counts / counts.sum()

    def pasted(box: np.ndarray) -> tuple[Tensor, Tensor]:
        m = exact(box)[0]
        counts = np.where(box == 1, ignore_mix, ignore)
        return taught(mixed(m, z["tea_mix"], z["tea"]), counts)

    y = {"s1": pasted(boxes[0]), "s2": pasted(boxes[1]), "fp": taught(z["w"], ignore), "Fp": taught(z["w"], ignore)}

    def standard(z: Tensor) -> Tensor:
        centred = z - z.mean(1, keepdim=True)
        return centred / (centred.square().sum(1, keepdim=True) / (classes - 1)).sqrt()

    def terms(x: Tensor, *views: Tensor) -> dict[str, Tensor]:
        of = dict(zip(("s1", "s2", "fp", "Fp"), views))
        found = {key: (ce_of(of[key], y[key][0]) * y[key][1]).sum() for key in of}
        found["siamese_image"] = (standard(of["s1"]) - standard(of["s2"])).square().mean()
        found["siamese_feature"] = (standard(of["fp"]) - standard(of["Fp"])).square().mean()
        return {"x": mean_ce(x, label, 255), **found}

    def total(*given: Tensor) -> Tensor:
        f = terms(*given)
        siamese = f["siamese_image"] + f["siamese_feature"]
        return 0.5 * (f["x"] + w_strong * (f["s1"] + f["s2"] + f["fp"] + f["Fp"]) + w_siamese * siamese)

    loss, *grads = gradients(total, *(given[f"in_logit_{key}"] for key in keys[3:]))
    return {
        **given, "in_label": label, "in_ignore": ignore, "in_ignore_mix": ignore_mix,
        "in_box1": boxes[0], "in_box2": boxes[1],
        "out_loss": loss, **{f"out_loss_{key}": value for key, value in terms(*(z[key] for key in keys[3:])).items()},
        "out_keep_rate": np.float32(0.996), "out_pseudo_mix1": y["s1"][0],
        **{f"out_grad_{key}": grad for key, grad in zip(keys[3:], grads)},
        "hyper": {"classes": classes, "dataset": "voc" if voc else "city", "conf_thresh": None if voc else tau,
                  "scale": 0.5, "w_strong": w_strong, "w_feature": w_strong, "w_siamese": w_siamese,
                  "warm_stage": False},
    }  # fmt: skip


@variant("dssn_update_teacher")
def dssn_update_teacher(d: Draw) -> dict[str, Any]:
    shapes = {"0__weight": (5, 2), "0__bias": (5,), "1__weight": (5,), "1__bias": (5,), "1__running_mean": (5,),
              "1__running_var": (5,)}  # fmt: skip
    keeps, counts = [0.7, 1.0, 0.25], {"student": 9, "teacher": 4}
    state = {who: {name: d.uniform(*shape) for name, shape in shapes.items()} for who in counts}
    given = {f"in_{who}_{name}": value for who, of in state.items() for name, value in of.items()}
    given |= {f"in_{who}_1__num_batches_tracked": np.int64(count) for who, count in counts.items()}
    out = {}
    for k, keep in enumerate(keeps):
        for name in shapes:
            out[f"out_teacher{k}_{name}"] = keep * state["teacher"][name] + (1 - keep) * state["student"][name]
        count = int(keep * counts["teacher"] + (1 - keep) * counts["student"])
        out[f"out_teacher{k}_1__num_batches_tracked"] = np.int64(count)
    return {**given, **out, "hyper": {"keep_rates": keeps}}


# ---- n-CPS ----


@variant("ncps_ensemble")
def ncps_ensemble(d: Draw) -> dict[str, Any]:
    z = d.logits(4, 3, 6, *SIZE)
    p = exact(z)[0].softmax(2)
    out = {"out_single": z[0], "out_soft_voting": p.sum(0), "out_max_confidence_softmax": p.amax(0)}
    return {"in_logits": z, **out, "hyper": {"n": 4}}


@variant("ncps_plain_loss")
def ncps_plain_loss(d: Draw) -> dict[str, Any]:
    """Four networks, a threshold, the constant taken out."""
    n, batch, classes, weight, tau = 4, 3, 4, 0.8, 0.6
    sup, unsup = d.logits(n, batch, classes, *SIZE), d.logits(n, batch, classes, *SIZE)
    y = d.label(classes, batch, *SIZE, void=255)

    def terms(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        both, l_cps = torch.cat([x, u], 1), 0.0
        for i, j in permutations(range(n), 2):
            p = both[j].detach().softmax(1)
            made = torch.where(p.max(1).values > tau, p.argmax(1), 255)
            l_cps = l_cps + mean_ce(both[i], made, 255) / (n - 1)
        return sum(mean_ce(x_i, y, 255) for x_i in x), l_cps

    def total(x: Tensor, u: Tensor) -> Tensor:
        l_sup, l_cps = terms(x, u)
        return l_sup + weight * 2 / n * l_cps

    loss, by_sup, by_unsup = gradients(total, sup, unsup)
    l_sup, l_cps = terms(*exact(sup, unsup))
    return {
        "in_label": y, "in_sup": sup, "in_unsup": unsup, "out_loss_sup": l_sup, "out_loss_cps": l_cps, "out_loss": loss,
        "out_grad_sup": by_sup, "out_grad_unsup": by_unsup,
        "hyper": {"n": n, "cps_weight": weight, "normalising_const": 1, "threshold": tau},
    }  # fmt: skip
