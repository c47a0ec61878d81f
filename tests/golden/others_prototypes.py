"""PCR's prototypes, by loops over pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from other_recordings import VOID, Draw, variant


@variant("pcr_proto_predict")
def pcr_proto_predict(d: Draw) -> dict[str, Any]:
    """A feature that is nearly 0 keeps its direction's share: lengths below 0.01 count as 0.01."""
    feat, prototypes = d.normal(3, 5, 4, 6), d.normal(12, 5)
    feat[0, :, 1, 2] *= 1e-3
    logits, match = np.zeros((3, 4, 4, 6)), np.zeros((3 * 4 * 6, 4), np.int64)
    for n, (b, y, x) in enumerate(np.ndindex(3, 4, 6)):
        f = feat[b, :, y, x].astype(np.float64)
        f = f / max(np.sqrt((f**2).sum()), 1e-2)
        for c in range(4):
            scores = [f @ p / np.sqrt((p**2).sum()) for p in prototypes[3 * c : 3 * c + 3].astype(np.float64)]
            match[n, c] = int(np.argmax(scores))
            logits[b, c, y, x] = max(scores) / 0.2
    return {
        "in_feat": feat, "in_prototypes": prototypes, "out_logits": logits, "out_match": match,
        "hyper": {"temperature": 0.2, "num_micro_proto": 3, "num_classes": 4},
    }  # fmt: skip


@variant("pcr_proto_update")
def pcr_proto_update(d: Draw) -> dict[str, Any]:
    """Nobody is of class 3; a map of 7 x 7 with a grid of 3 x 3."""
    feat, prototypes, select = d.normal(2, 4, 7, 7), d.normal(8, 4), np.zeros((7, 7), np.uint8)
    for i, j in np.ndindex(3, 3):
        select[2 * i + d.rng.integers(2), 2 * j + d.rng.integers(2)] = 1
    target = d.rng.choice([0, 1, 2, VOID], size=(2, 7, 7))
    match, condition = d.rng.integers(0, 2, (18, 4)), d.rng.integers(0, 2, 18)
    groups: dict[int, list[np.ndarray]] = {}
    pixels = [(b, y, x) for b in range(2) for y, x in zip(*np.nonzero(select))]
    for n, (b, y, x) in enumerate(pixels):
        c = target[b, y, x]
        if c != VOID and condition[n]:
            groups.setdefault(2 * c + match[n, c], []).append(feat[b, :, y, x])
    after = prototypes.copy()
    for k, members in groups.items():
        after[k] = 0.8 * prototypes[k] + 0.2 * np.mean(members, 0)
    return {
        "in_feat": feat, "in_prototypes": prototypes, "in_select": select, "in_target": target, "in_match": match,
        "in_cond": condition, "in_momentum": np.float32(0.8), "out_prototypes": after,
        "hyper": {"num_micro_proto": 2, "grid": 3, "num_classes": 4, "ignore": VOID},
    }  # fmt: skip
