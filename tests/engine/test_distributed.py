"""Two processes equal one process that accumulates two micro-batches (CONTRACT rule: normalisers are per process)."""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from toy import toy_task

import s4kit as s4
from s4kit.engine import checkpoint, distributed
from s4kit.errors import S4Error

NET = "tiny(norm='group')"  # batch statistics differ by construction, group norm makes the comparison exact
SETTINGS = dict(
    steps=5, batch=2, lr=1e-2, optimiser="sgd", evaluate_every=5, checkpoint_every=5, probes=2, progress=False
)
VAL = (3, 1)  # validation images: not the same number for both ranks, and none for one of them
# Banks: both ranks write before either reads, so the paths differ by little, not by nothing.
BANKS = {"u2pl", "daw", "cac", "ael", "ucc", "rml", "ctt", "semiseg_contrastive", "allspark", "minority", "mllc"}
