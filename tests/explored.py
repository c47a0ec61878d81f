"""Small true runs with snapshots, for whatever looks into them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
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


def by_hand(run: Path, name: str, step: int, k: int) -> dict[str, np.ndarray]:
    """The maps of one image, from the reader alone."""
    snapshots = s4.open_run(run).snapshots()
    return snapshots.image(k) | snapshots.read(step, name, k)


def texts(figure: Any) -> list[Any]:
    """All pieces of text in a figure."""
    from matplotlib.text import Text

    return figure.findobj(Text)


def held(path: Path) -> tuple[dict, dict[str, bytes]]:
    """The state and the packs of a page."""
    text = path.read_text()
    state = json.loads(re.search(r'id="state">(.*?)</script>', text, re.S)[1])
    return state, {k: base64.b64decode(v) for k, v in re.findall(r'data-pack="(.*?)">(.*?)</script>', text, re.S)}
