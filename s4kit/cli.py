"""The shell command `s4kit`, thin: flags in, one function of the kit, a table or one JSON object out.

With `--json` everything meant for people goes to stderr and the last line of stdout is one JSON value. The exit status
is 0, 1 when the answer is "no" (a broken file, a missing package) or something unforeseen failed, 2 for a mistake in
what was asked, 75 after SIGTERM or SIGUSR1 (the same command, or `train --resume`, goes on), 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from . import commands
from .errors import S4Error, S4Warning
from .preemption import STATUS, Preempted, preemptible
from .report.text import finite

_JOBS = "trainings at a time, each on its GPU or with its share of the cores (default: one for each free GPU, or one)"


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that `--json` can answer in JSON here too."""

    def error(self, message: str) -> None:
        raise S4Error(f"{message}. `{self.prog} --help` lists what it takes.")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's chatter about missing GPUs
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # and about memory from before its time
    as_json = "--json" in argv
    status, answer = _answer(argv, as_json)
    if as_json and answer is not None and _leads():
        print(json.dumps(finite(answer), default=str), flush=True)
    if "torch.distributed" in sys.modules:
        from .engine import distributed

        distributed.leave(status)
    return status


def _leads() -> bool:
    """Whether this process is the one that speaks: the first of those that torchrun has started, or the only one."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1 or os.environ.get("RANK", "0") == "0"


def _which() -> str:
    """Which process speaks, where it is not the first of several."""
    return "" if _leads() else f" (process {os.environ.get('RANK')})"


def _answer(argv: list[str], as_json: bool) -> tuple[int, Any]:
    try:
        arguments = parser().parse_args(argv)
        if "call" not in arguments:
            parser().print_help(sys.stderr)
            raise S4Error("Say what to do: one of the commands above.")
        with open(os.devnull, "w") as nowhere:
            told = nowhere if not _leads() else sys.stderr if as_json else sys.stdout
            with redirect_stdout(told), _plain_warnings(), preemptible():
                answer = arguments.call(arguments)
    except S4Error as error:
        print(f"s4kit{_which()}: {error}", file=sys.stderr)
        return 2, {"error": str(error)}
    except KeyboardInterrupt:
        print("s4kit: interrupted", file=sys.stderr)
        return 130, {"error": "interrupted", "interrupted": True}
    except BrokenPipeError:  # `s4kit ... | head`: who reads has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the interpreter closes it)
        return 0, None
    except Preempted as told:
        return STATUS, {"error": told.words, "interrupted": True}
    except SystemExit as leave:  # --help, --version
        return int(leave.code or 0), None
    except Exception as error:
        return 1, _unforeseen(error)
    if isinstance(answer, dict):
        return 130 if answer.get("interrupted") else 1 if answer.get("ok") is False else 0, answer
    return 0, answer


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """The kit's warnings as one line each, from the process that speaks; others as ever."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, S4Warning):
                shown(message, category, *rest, **more)
            elif _leads():
                print(f"s4kit: warning: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def _unforeseen(error: Exception) -> dict[str, str]:
    """A mistake of the kit, or the GPU's memory: the latter has a mend."""
    if type(error).__name__ == "OutOfMemoryError":
        mend = "Use a smaller --batch with --accumulate, a smaller --crop, or --precision bf16 / fp16."
        print(f"s4kit{_which()}: the GPU's memory is too small for this training. {mend}", file=sys.stderr)
        return {"error": f"out of GPU memory. {mend}"}
    if "torch.distributed" in sys.modules:
        from .engine import distributed

        if distributed.lost(error):
            words = "another process of this training is gone; what it said before tells why"
            print(f"s4kit{_which()}: {words}.", file=sys.stderr)
            return {"error": words}
    traceback.print_exc()
    return {"error": f"{type(error).__name__}: {error}"}


# ---- flags ----


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from . import __version__

    top = _Parser(prog="s4kit", description="Semi-supervised semantic segmentation: train, compare, look inside.")
    top.add_argument("--version", action="version", version=f"s4kit {__version__}")
    top.add_argument("--json", action="store_true", help=argparse.SUPPRESS)  # before the command, too
    several = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, call: Any, help: str, **extra: Any) -> argparse.ArgumentParser:
        new = several.add_parser(name, help=help, description=help, **extra)
        new.add_argument("--json", action="store_true", help="one JSON value on the last line of stdout")
        new.set_defaults(call=call)
        return new

    train = command(
        "train", commands.train, "Train one method. Everything not given comes from its recipe for the data set."
    )
    train.add_argument("method", nargs="?", metavar="METHOD", help="see `s4kit methods`")
    train.add_argument("--resume", metavar="DIR", help="continue the run in DIR; nothing else is needed")
    train.add_argument("--seed", type=int, help="of the training (default 0)")
    train.add_argument("--out", metavar="DIR", help="folder of the run (default runs/METHOD-DATA-seedS)")
    _training_flags(train)

    compare = command("compare", commands.compare, "Train several methods under one protocol and write a report.")
    compare.add_argument("methods", nargs="*", metavar="METHOD", help="see `s4kit methods`")
    compare.add_argument(
        "--family", action="append", default=[], metavar="NAME", help="all methods of a family: consistency, ..."
    )
    compare.add_argument("--seeds", default="0", metavar="0,1,2", help="seeds of the training, the split stays")
    compare.add_argument("--out", metavar="DIR", default="runs/compare", help="folder of the comparison")
    compare.add_argument("--jobs", type=int, default=0, metavar="N", help=_JOBS)
    compare.add_argument("--no-baselines", action="store_true", help="without the three lines to hold against")
    compare.add_argument("--no-oracle", action="store_true", help="without supervised on all labels, the third of them")
    _training_flags(compare)

    plan = command("plan", commands.plan, "Memory, time and the batch that fits, on GPUs that need not be here.")
    plan.add_argument("method", metavar="METHOD", help="see `s4kit methods`")
    plan.add_argument("--data", required=True, metavar="NAME", help="its files need not be here")
    plan.add_argument("--split", metavar="LIST", help="classic/183, cps/1323, 1_8, ... of the data set")
    plan.add_argument(
        "--gpu", default="T4,L4,A100,H100", metavar="NAMES", help="T4,A100-80GB,24GB; auto = the one here"
    )
    plan.add_argument("--root", metavar="DIR", help="plan for the images that lie here")
    plan.add_argument("--batch", type=int, metavar="L", help="labelled images per step (default: the recipe's)")
    plan.add_argument("--crop", type=int, metavar="C", help="side of the training crop in pixels")
    plan.add_argument("--backbone", metavar="B", help="resnet50c, efficientnet_lite0, ... or name(option=value)")
    plan.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of the method")
    plan.add_argument("--precision", default="auto", choices=("auto", "float32", "bf16", "fp16"))

    reproduce = command(
        "reproduce",
        commands.reproduce,
        "A line of a paper's table: its set-up, the reported number, the plan, the training, and what was obtained.",
    )
    reproduce.add_argument("method", metavar="METHOD", help="see `s4kit methods`")
    reproduce.add_argument("--data", required=True, metavar="NAME", help="voc, cityscapes, coco or ade20k")
    reproduce.add_argument("--split", metavar="LIST", help="classic/183, cps/1323, 1_8, ... of the data set")
    reproduce.add_argument("--dry-run", action="store_true", help="no training: needs no data, no GPU, no network")
    reproduce.add_argument("--gpu", metavar="NAME", help="plan for this one (default: the one here, else T4)")
    reproduce.add_argument("--root", metavar="DIR", help="where the data set lies")
    reproduce.add_argument("--out", metavar="DIR", help="folder of the run; one that is there goes on")
    reproduce.add_argument("--seed", type=int, help="of the training (default 0)")
    reproduce.add_argument("--accumulate", type=int, metavar="K", help="micro-batches of the batch (default: plan's)")
    for flag, help in (("steps", "a trial of so many"), ("crop", "another crop"), ("batch", "another batch, in all")):
        reproduce.add_argument(f"--{flag}", type=int, metavar="N", help=f"{help}; no longer comparable")
    reproduce.add_argument("--backbone", metavar="B", help="another network; compared with that network's numbers")
    reproduce.add_argument("--precision", choices=("auto", "float32", "bf16", "fp16"))
    reproduce.add_argument("--device", metavar="auto|cpu|cuda")
    reproduce.add_argument("--workers", metavar="N", help="decode processes (default: chosen)")

    evaluate = command("eval", commands.evaluate, "Score a run on the validation set.")
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--which", choices=("last", "best"), default="last", help="which checkpoint")
    evaluate.add_argument("--protocol", metavar="NAME", help="a paper's way to score: cityscapes/cps, voc/u2pl, ...")
    evaluate.add_argument("--scales", metavar="0.75,1,1.25", help="add up the scores of several sizes of the image")
    evaluate.add_argument("--flip", action="store_true", help="and of the mirrored image")
    evaluate.add_argument("--now", action="store_true", help="on the val images as they are now, not the run's own")
    evaluate.add_argument("--device", default="auto")

    predict = command("predict", commands.predict, "Segment images: colour masks and index maps.")
    predict.add_argument("run", metavar="RUN")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders of them")
    predict.add_argument("--out", metavar="DIR", required=True)
    predict.add_argument("--which", choices=("last", "best"), default="last", help="which checkpoint")
    predict.add_argument("--device", default="auto")

    methods = command("methods", commands.methods, "List the methods by family, each with its idea.")
    methods.add_argument("--family", metavar="NAME", help="only these: baselines, consistency, ...")

    data = command("data", commands.data, "List, fetch, check or look at data sets; compare splits.")
    data.add_argument("action", choices=("list", "get", "check", "look", "splits"))
    data.add_argument("name", nargs="?", metavar="NAME", help="a data set; of splits: a data set or a published split")
    data.add_argument("other", nargs="?", metavar="NAME2", help="splits: compare it with this one")
    data.add_argument("--out", metavar="FILE", help="look: write it there, as .html (default NAME.html) or .png")
    data.add_argument("--images", type=int, default=12, metavar="N", help="look: how many are shown (default 12)")
    _data_flags(data.add_argument_group("check and look: as of train"))

    bench = command(
        "bench",
        commands.bench,
        "Measure the kit against plain code: its speed, or (parity) what its trainings come to; or (price) what a step "
        "of each method costs; or (growth) what grows with classes, crop, images and processes.",
    )
    parts = ("host", "step", "eval", "u2pl", "all", "price", "growth", "parity")
    bench.add_argument("what", nargs="?", default="all", choices=parts, help="all: the four before it")
    bench.add_argument("--out", metavar="FILE", help="write the result as JSON, too")
    bench.add_argument("--quick", action="store_true", help="small sizes and few repeats: is everything in order?")
    bench.add_argument("--seeds", default="0,1,2", metavar="0,1,2", help="parity: of the trainings")
    bench.add_argument("--methods", default="", metavar="fixmatch,cps", help="parity: only these (default all five)")
    bench.add_argument("--runs", default="runs/parity", metavar="DIR", help="parity: keeps finished trainings")
    bench.add_argument("--jobs", type=int, default=0, metavar="N", help=f"parity: {_JOBS}")

    diagnose = command("diagnose", commands.diagnose, "Look at a run's health and say what to do.")
    diagnose.add_argument("run", metavar="RUN")

    explore = command(
        "explore",
        commands.explore,
        "The pseudo-label explorer of runs: on a local page that follows them, as a page of its own, or as a picture.",
    )
    explore.add_argument("runs", nargs="+", metavar="RUN", help="folders; several are shown side by side")
    explore.add_argument("--html", metavar="FILE", help="write the page; it needs no kernel and no network")
    explore.add_argument("--png", metavar="FILE", help="write a picture of what the page opens with")
    explore.add_argument(
        "--port", type=int, default=0, metavar="N", help="of the local page (default: one that is free)"
    )
    explore.add_argument("--no-browser", action="store_true", help="only say where the local page is")
    explore.add_argument("--add", metavar="ID,ID", help="watch these images, too: ids, or a file of them; then end")
    explore.add_argument("--images", metavar="0,3", help="of the probe set (default: as many as fit in 8 MB)")
    explore.add_argument("--steps", metavar="99,199", help="training steps with snapshots (default: all)")

    sweep = command("sweep", commands.sweep, "One row per unlabelled and validation image: what a run says of it.")
    sweep.add_argument("run", metavar="RUN")
    sweep.add_argument("--which", choices=("last", "best"), default="last", help="which checkpoint")
    sweep.add_argument("--against", metavar="best|RUN", help="another checkpoint: in how many pixels they differ")
    sweep.add_argument("--workers", default="auto", metavar="N", help="decode processes (default: chosen)")
    sweep.add_argument("--device", default="auto")

    walk = command("walk", commands.walk, "Execute the notebooks in order; write them, their pages and an index.")
    walk.add_argument("--profile", default="cpu", metavar="cpu|gpu|paper", help="how long to train (default cpu)")
    walk.add_argument("--data", default="scenes", metavar="NAME", help="scenes, camvid, voc or cityscapes")
    walk.add_argument("--out", default="runs/walk", metavar="DIR", help="for notebooks, pages and runs")
    walk.add_argument("--only", default="", metavar="02,05", help="numbers of the notebooks (default all)")
    walk.add_argument("--notebooks", metavar="DIR", help="where they are (default ./notebooks)")
    walk.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="side by side (default: one per GPU, or 2 with cpu)"
    )

    record = command("record", commands.record, "Keep trainings without their weights, as the notebooks open them.")
    record.add_argument("comparison", metavar="DIR", help="of s4kit compare --out, or any folder with runs in it")
    record.add_argument("--out", metavar="DIR", help="for the recordings (default: those that the kit ships)")
    record.add_argument("--named", nargs="+", default=(), metavar="RUN", help="these experiments of a lesson instead")
    record.add_argument("--bare", action="store_true", help="without what they believed of the probe images")

    room = command("classroom", commands.classroom, "Set assignments, grade them, and rank the open project.")
    room.add_argument("action", choices=("build", "bundle", "grade", "hidden-set", "rank"))
    room.add_argument("paths", nargs="+", metavar="PATH", help="build OUT | bundle OUT | grade SUBMISSIONS OUT | "
                      "hidden-set OUT | rank SUBMISSIONS SECRET OUT")  # fmt: skip
    room.add_argument("--assignments", metavar="DIR", help="source notebooks (default notebooks/assignments)")
    room.add_argument("--seed", metavar="S", help="of hidden inputs (grade: a number; hidden-set: 32 hex digits)")
    room.add_argument("--images", type=int, default=64, metavar="N", help="of the hidden set (default 64)")
    room.add_argument("--jobs", type=int, default=1, help="notebooks graded at a time")
    room.add_argument("--no-wheels", action="store_true", help="bundle: without packages, where s4kit is installed")

    verify = command(
        "verify", commands.verify, "Does the kit hold on this GPU? Ten minutes, no network, and a report to send."
    )
    verify.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    verify.add_argument("--quick", action="store_true", help="everything tiny: is verify itself in order?")
    verify.add_argument("--out", metavar="DIR", default="runs/verify", help="for report.html and report.json")
    verify.add_argument("--only", default="", metavar="steps,speed", help="some parts (default all)")
    verify.add_argument("--methods", default="", metavar="fixmatch,cps", help="only these (default all)")
    verify.add_argument("--minutes", type=float, metavar="M", help="that it may take (default 8; before Ampere 15)")

    command("doctor", commands.doctor, "Check the installation: versions, GPU, memory, disk, data sets.")
    return top


def _data_flags(data: Any) -> None:
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


def _training_flags(new: argparse.ArgumentParser) -> None:
    """What `train` and `compare` share; None = the recipe's or the kit's value."""
    data, view, loop = (new.add_argument_group(t) for t in ("data", "network and views", "training"))
    data.add_argument("--data", metavar="NAME", help="see `s4kit data list`")
    _data_flags(data)
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
