"""What a training and its data can be told in the shell: the flags that several commands share."""

from __future__ import annotations

import argparse
from typing import Any


def data_flags(data: Any) -> None:
    """What of a task can be said in the shell; `data check` takes all that `train` does."""
    data.add_argument("--root", metavar="DIR", help="where the data set lies")
    data.add_argument("--labelled", metavar="1/16", help="share, count, list file or folder of corrected labels")
    data.add_argument("--split", metavar="LIST", help="a published split: classic/183, 1_8 (`s4kit data splits`)")
    data.add_argument("--split-seed", type=int, metavar="S", help="of the labelled / unlabelled split (default 0)")
    data.add_argument("--size", metavar="S", help="resize images once: a factor (0.5) or a short side in pixels (180)")
    data.add_argument(
        "--data-option", action="append", default=[], metavar="NAME=VALUE", help="of `load`: cover=3, overlap=True, ..."
    )
    data.add_argument("--crop", type=int, metavar="C", help="side of the training crop in pixels")
    data.add_argument(
        "--more", action="append", default=[], metavar="NAME=DATA",
        help="a further labelled data set: domain=plain, domain=gta5(size=720), ...",
    )  # fmt: skip


def training_flags(new: argparse.ArgumentParser) -> None:
    """What `train` and `compare` share; None = the recipe's or the kit's value."""
    data, view, loop = (new.add_argument_group(t) for t in ("data", "network and views", "training"))
    data.add_argument("--data", metavar="NAME", help="see `s4kit data list`")
    data_flags(data)
    view.add_argument("--backbone", metavar="B", help="resnet50, efficientnet_lite0, ... or name(option=value)")
    view.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of the method")
    loop.add_argument("--steps", type=int, metavar="N", help="optimiser steps")
    loop.add_argument("--epochs", type=float, metavar="N", help="or passes over the unlabelled images")
    loop.add_argument("--batch", type=int, metavar="L", help="labelled images per step")
    loop.add_argument("--unlabelled-batch", type=int, metavar="U", help="unlabelled images per step (default: as many)")
    loop.add_argument("--accumulate", type=int, metavar="K", help="micro-batches per step")
    loop.add_argument("--lr", type=float, help="rate of the backbone; else the recipe's, scaled with the batch")
    loop.add_argument("--clip", type=float, metavar="NORM", help="clip the gradient norm")
    loop.add_argument("--checkpoint-every", type=int, metavar="K", help="steps between checkpoints (default 200)")
    loop.add_argument("--evaluate-every", type=int, metavar="K", help="steps between evaluations (default a tenth)")
    loop.add_argument("--probes", metavar="N|ID,ID|FILE|worst", help="images that the explorer shows (default 16)")
    loop.add_argument("--probe-whole", action="store_true", default=None, help="whole images instead of centre crops")
    loop.add_argument("--precision", choices=("auto", "float32", "bf16", "fp16"))
    loop.add_argument("--device", metavar="auto|cpu|cuda")
    loop.add_argument("--compile", action="store_true", default=None, help="translate the networks with torch.compile")
    loop.add_argument("--workers", metavar="N", help="decode processes (default: chosen)")
    loop.add_argument("--threads", metavar="N", help="on a CPU (default: timed, then chosen)")
