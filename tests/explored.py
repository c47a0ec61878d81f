"""Small true runs with snapshots, for whatever looks into them."""

from __future__ import annotations

from pathlib import Path

import torch
from toy_folder import write_folder

import s4kit as s4


def train_runs(folder: Path, *names: str, seed: int = 0) -> dict[str, Path]:
    """A few seconds' training of each method on the squares: snapshots at steps 1, 3 and 5 on 5 probe images."""
    data = folder / "data"
    if not data.exists():
        write_folder(data)
    task = s4.load("folder", root=str(data), labelled=4, crop=32)
    found = {}
    for name in names:
        torch.manual_seed(seed)
        method = s4.methods.create(name, task, net="tiny", **({} if name == "cps" else {"tau": 0.4}))
        found[name] = folder / name
        s4.fit(
            method, task, steps=6, batch=2, lr=2e-3, evaluate_every=2, probes=5, seed=seed, out=found[name],
            device="cpu", progress=False,
        )  # fmt: skip
    return found
