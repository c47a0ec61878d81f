"""Our own recordings of methods for points; see `other_recordings`. Shapes are lists of points of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from other_recordings import Draw, gradients, variant
from torch import Tensor


def symmetric(p: Tensor, q: Tensor) -> Tensor:
    """Of one point: rows of K probabilities."""
    one, other = ((a * (a / b.clamp(1e-7, 1 - 1e-7) + 1e-7).log()).sum() for a, b in ((p, q), (q, p)))
    return (one + other) / 2


def of_shape(p: Tensor, q: Tensor) -> Tensor:
    return torch.stack([symmetric(a, b) for a, b in zip(p, q)]).mean()


def of_parts(p: Tensor, q: Tensor, first: int) -> Tensor:
    """Of one shape (n, K): the parts that p sees, class by class."""
    found = []
    for k in range(first, p.shape[1]):
        inside = [i for i in range(len(p)) if int(p[i].argmax()) == k]
        outside = [i for i in range(len(p)) if i not in inside]
        sides = [(p[rows, k].mean() - q[rows, k].mean()) ** 2 for rows in (inside, outside) if rows]
        found.append(sum(sides) / len(sides))
    return torch.stack(found).mean()


def merged(p: Tensor, up: np.ndarray) -> Tensor:
    return torch.stack([p[:, np.flatnonzero(up == k)].sum(1) for k in range(int(up.max()) + 1)], 1)


@variant("shape3d_consistency")
def consistency(d: Draw) -> dict[str, Any]:
    """Four shapes, two of them labelled, class 0 counts, other weights; a class that no point is of."""
    counts, labelled = (9, 14, 5, 11), (1, 0, 1, 0)
    shape = np.repeat(np.arange(4), counts)
    up = {"2": np.array([0, 0, 1, 2, 2, 3, 3]), "1": np.array([0, 1, 1, 0])}  # of level 3, of level 2
    sizes, weights = {"1": 2, "2": 4, "3": 7}, (0.3, 0.7, 0.2)
    names = [f"in_logit_{copy}{level}" for copy in "ab" for level in sizes]
    given = {name: d.logits(len(shape), sizes[name[-1]]) for name in names}
    truth = d.classes(7, len(shape))
    labels = {"3": truth, "2": up["2"][truth], "1": up["1"][up["2"][truth]]}
    rows = [np.flatnonzero(shape == k) for k in range(4)]

    def terms(*z: Tensor) -> dict[str, Tensor]:
        a, b = ({level: z[3 * k + i] for i, level in enumerate(sizes)} for k in (0, 1))
        p, q = ({level: x.softmax(1) for level, x in of.items()} for of in (a, b))
        out = {}
        for level in sizes:
            seg = [
                -torch.stack([of[level].log_softmax(1)[i, labels[level][i]] for i in rows[k]]).mean()
                for of in (a, b)
                for k in range(4)
                if labelled[k]
            ]
            out[f"out_seg_{level}"] = torch.stack(seg).mean()
            pairs = [(p[level][r], q[level][r]) for r in rows]
            out[f"out_point_{level}"] = torch.stack([of_shape(*pair) for pair in pairs]).mean()
            both = [(of_parts(x, y, 0) + of_parts(y, x, 0)) / 2 for x, y in pairs]
            out[f"out_part_{level}"] = torch.stack(both).mean()
        for fine, coarse in (("3", "2"), ("2", "1")):
            both = [
                (
                    of_shape(merged(p[fine][r], up[coarse]), q[coarse][r])
                    + of_shape(merged(q[fine][r], up[coarse]), p[coarse][r])
                )
                / 2
                for r in rows
            ]
            out[f"out_hier_{fine}{coarse}"] = torch.stack(both).mean()
        out["out_total"] = sum(
            value * {"seg": 1.0, "point": weights[0], "part": weights[1], "hier": weights[2]}[key.split("_")[1]]
            for key, value in out.items()
        )
        return out

    answers = {
        key: value.detach() for key, value in terms(*(torch.from_numpy(v).double() for v in given.values())).items()
    }
    _, *found = gradients(lambda *z: terms(*z)["out_total"], *given.values())
    answers |= {name.replace("in_logit", "out_grad"): g for name, g in zip(names, found)}
    keys = ("point_consistency_weight", "part_consistency_weight", "hierarchy_point_consistency_weight")
    return given | answers | {
        "in_batch_index": shape, "in_labelled": np.array(labelled, np.float32), "in_gt3": truth, "in_map_32": up["2"],
        "in_map_21": up["1"], "hyper": {"delete_0": False, **dict(zip(keys, weights))},
    }  # fmt: skip


@variant("shape3d_substitution")
def substitution(d: Draw) -> dict[str, Any]:
    """Axis by axis: a part that fits, one that leaves the box along one axis, and one without any extent along z."""
    out: dict[str, Any] = {"hyper": {"eps": 1e-4}}
    for k, (stretch, flat) in enumerate(((0.3, 1.0), (3.0, 1.0), (0.4, 0.0))):
        source, target = d.uniform(12, 3) * (1, 1, flat), 0.4 * d.uniform(9, 3) - 0.2
        whole = np.concatenate([source, source * (stretch, 1, flat)])
        box = np.array([[-0.5, -0.6, -0.7], [0.5, 0.9, 0.8]])
        source, target, whole = (v.astype(np.float32) for v in (source, target, whole))
        scale, shift = np.zeros(3), np.zeros(3)
        for axis in range(3):
            s, t, w = source[:, axis].astype(float), target[:, axis].astype(float), whole[:, axis].astype(float)
            scale[axis] = (t.max() - t.min()) / max(s.max() - s.min(), 1e-4)
            middle, goal = (s.max() + s.min()) / 2, (t.max() + t.min()) / 2
            ends = (w.min() - middle) * scale[axis] + goal, (w.max() - middle) * scale[axis] + goal
            if ends[0] < box[0, axis] - 1e-4 or ends[1] > box[1, axis] + 1e-4:
                scale[axis] = (box[1, axis] - box[0, axis]) / max(w.max() - w.min(), 1e-4)
            shift[axis] = goal - middle * scale[axis]
        out |= {f"in_source_{k}": source, f"in_target_{k}": target, f"in_whole_{k}": whole, f"in_bb_{k}": box}
        out |= {f"out_scale_{k}": scale, f"out_translation_{k}": shift}
    return out
