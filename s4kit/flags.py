"""The flags of `s4kit`: a function for each command, in the order in which `s4kit --help` lists them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from . import commands
from .errors import S4Error
from .training_flags import data_flags, training_flags

JOBS = "trainings at a time, each on its GPU or with its share of the cores (default: one for each free GPU, or one)"
Command = Callable[..., argparse.ArgumentParser]  # name, what it calls, what `--help` says of it


class Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that `--json` can answer in JSON here too."""

    def error(self, message: str) -> None:
        """Raises S4Error with the message and where to read what the command takes."""
        raise S4Error(f"{message}. `{self.prog} --help` lists what it takes.")


def parser() -> Parser:
    """The whole command line."""
    from . import __version__

    top = Parser(prog="s4kit", description="Semi-supervised semantic segmentation: train, compare, look inside.")
    top.add_argument("--version", action="version", version=f"s4kit {__version__}")
    top.add_argument("--json", action="store_true", help=argparse.SUPPRESS)  # before the command, too
    several = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)

    def command(name: str, call: Callable[[argparse.Namespace], Any], help: str) -> argparse.ArgumentParser:
        new = several.add_parser(name, help=help, description=help)
        new.add_argument("--json", action="store_true", help="one JSON value on the last line of stdout")
        new.set_defaults(call=call)
        return new

    for add in COMMANDS:
        add(command)
    return top


# ---- a command each ----


def _train(command: Command) -> None:
    new = command(
        "train", commands.train, "Train one method. Everything not given comes from its recipe for the data set."
    )
    new.add_argument("method", nargs="?", metavar="METHOD", help="see `s4kit methods`")
    new.add_argument("--resume", metavar="DIR", help="continue the run in DIR; nothing else is needed")
    new.add_argument("--seed", type=int, help="of the training (default 0)")
    new.add_argument("--out", metavar="DIR", help="folder of the run (default runs/METHOD-DATA-seedS)")
    training_flags(new)


def _compare(command: Command) -> None:
    new = command("compare", commands.compare, "Train several methods under one protocol and write a report.")
    new.add_argument("methods", nargs="*", metavar="METHOD", help="see `s4kit methods`")
    new.add_argument(
        "--family", action="append", default=[], metavar="NAME", help="all methods of a family: consistency, ..."
    )
    new.add_argument("--seeds", default="0", metavar="0,1,2", help="seeds of the training, the split stays")
    new.add_argument("--out", metavar="DIR", default="runs/compare", help="folder of the comparison")
    new.add_argument("--jobs", type=int, default=0, metavar="N", help=JOBS)
    new.add_argument("--no-baselines", action="store_true", help="without the three lines to hold against")
    new.add_argument("--no-oracle", action="store_true", help="without supervised on all labels, the third of them")
    training_flags(new)


def _plan(command: Command) -> None:
    new = command("plan", commands.plan, "Memory, time and the batch that fits, on GPUs that need not be here.")
    new.add_argument("method", metavar="METHOD", help="see `s4kit methods`")
    new.add_argument("--data", required=True, metavar="NAME", help="its files need not be here")
    new.add_argument("--split", metavar="LIST", help="classic/183, cps/1323, 1_8, ... of the data set")
    new.add_argument("--gpu", default="T4,L4,A100,H100", metavar="NAMES", help="T4,A100-80GB,24GB; auto = the one here")
    new.add_argument("--root", metavar="DIR", help="plan for the images that lie here")
    new.add_argument("--batch", type=int, metavar="L", help="labelled images per step (default: the recipe's)")
    new.add_argument("--crop", type=int, metavar="C", help="side of the training crop in pixels")
    new.add_argument("--backbone", metavar="B", help="resnet50c, efficientnet_lite0, ... or name(option=value)")
    new.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="option of the method")
    new.add_argument("--precision", default="auto", choices=("auto", "float32", "bf16", "fp16"))


def _reproduce(command: Command) -> None:
    new = command(
        "reproduce",
        commands.reproduce,
        "A line of a paper's table: its set-up, the reported number, the plan, the training, and what was obtained.",
    )
    new.add_argument("method", metavar="METHOD", help="see `s4kit methods`")
    new.add_argument("--data", required=True, metavar="NAME", help="voc, cityscapes, coco or ade20k")
    new.add_argument("--split", metavar="LIST", help="classic/183, cps/1323, 1_8, ... of the data set")
    new.add_argument("--dry-run", action="store_true", help="no training: needs no data, no GPU, no network")
    new.add_argument("--gpu", metavar="NAME", help="plan for this one (default: the one here, else T4)")
    new.add_argument("--root", metavar="DIR", help="where the data set lies")
    new.add_argument("--out", metavar="DIR", help="folder of the run; one that is there goes on")
    new.add_argument("--seed", type=int, help="of the training (default 0)")
    new.add_argument("--accumulate", type=int, metavar="K", help="micro-batches of the batch (default: plan's)")
    for flag, help in (("steps", "a trial of so many"), ("crop", "another crop"), ("batch", "another batch, in all")):
        new.add_argument(f"--{flag}", type=int, metavar="N", help=f"{help}; no longer comparable")
    new.add_argument("--backbone", metavar="B", help="another network; compared with that network's numbers")
    new.add_argument("--precision", choices=("auto", "float32", "bf16", "fp16"))
    new.add_argument("--device", metavar="auto|cpu|cuda")
    new.add_argument("--workers", metavar="N", help="decode processes (default: chosen)")


def _evaluate(command: Command) -> None:
    new = command("eval", commands.evaluate, "Score a run on the validation set.")
    new.add_argument("run", metavar="RUN")
    new.add_argument("--which", choices=("last", "best"), default="last", help="which checkpoint")
    new.add_argument("--protocol", metavar="NAME", help="a paper's way to score: cityscapes/cps, voc/u2pl, ...")
    new.add_argument("--scales", metavar="0.75,1,1.25", help="add up the scores of several sizes of the image")
    new.add_argument("--flip", action="store_true", help="and of the mirrored image")
    new.add_argument("--now", action="store_true", help="on the val images as they are now, not the run's own")
    new.add_argument("--device", default="auto")


def _predict(command: Command) -> None:
    new = command("predict", commands.predict, "Segment images: colour masks and index maps.")
    new.add_argument("run", metavar="RUN")
    new.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders of them")
    new.add_argument("--out", metavar="DIR", required=True)
    new.add_argument("--which", choices=("last", "best"), default="last", help="which checkpoint")
    new.add_argument("--device", default="auto")


def _methods(command: Command) -> None:
    new = command("methods", commands.methods, "List the methods by family, or tell all about one.")
    new.add_argument("name", nargs="?", metavar="NAME", help="this method: idea, equations, options, release")
    new.add_argument("--family", metavar="NAME", help="only these: baselines, consistency, ...")


def _data(command: Command) -> None:
    new = command("data", commands.data, "List, fetch, check or look at data sets; compare splits.")
    new.add_argument("action", choices=("list", "get", "check", "look", "splits"))
    new.add_argument("name", nargs="?", metavar="NAME", help="a data set; of splits: a data set or a published split")
    new.add_argument("other", nargs="?", metavar="NAME2", help="splits: compare it with this one")
    new.add_argument("--out", metavar="FILE", help="look: write it there, as .html (default NAME.html) or .png")
    new.add_argument("--images", type=int, default=12, metavar="N", help="look: how many are shown (default 12)")
    data_flags(new.add_argument_group("check and look: as of train"))


def _bench(command: Command) -> None:
    new = command(
        "bench",
        commands.bench,
        "Measure the kit against plain code: its speed, or (parity) what its trainings come to; or (price) what a step "
        "of each method costs; or (growth) what grows with classes, crop, images and processes.",
    )
    parts = ("host", "step", "eval", "u2pl", "all", "price", "growth", "parity")
    new.add_argument("what", nargs="?", default="all", choices=parts, help="all: the four before it")
    new.add_argument("--out", metavar="FILE", help="write the result as JSON, too")
    new.add_argument("--quick", action="store_true", help="small sizes and few repeats: is everything in order?")
    new.add_argument("--seeds", default="0,1,2", metavar="0,1,2", help="parity: of the trainings")
    new.add_argument("--methods", default="", metavar="fixmatch,cps", help="parity: only these (default all five)")
    new.add_argument("--runs", default="runs/parity", metavar="DIR", help="parity: keeps finished trainings")
    new.add_argument("--jobs", type=int, default=0, metavar="N", help=f"parity: {JOBS}")


def _diagnose(command: Command) -> None:
    new = command("diagnose", commands.diagnose, "Look at a run's health and say what to do.")
    new.add_argument("run", metavar="RUN")


def _explore(command: Command) -> None:
    new = command(
        "explore",
        commands.explore,
        "The pseudo-label explorer of runs: on a local page that follows them, as a page of its own, or as a picture.",
    )
    new.add_argument("runs", nargs="+", metavar="RUN", help="folders; several are shown side by side")
    new.add_argument("--html", metavar="FILE", help="write the page; it needs no kernel and no network")
    new.add_argument("--png", metavar="FILE", help="write a picture of what the page opens with")
    new.add_argument("--port", type=int, default=0, metavar="N", help="of the local page (default: one that is free)")
    new.add_argument("--no-browser", action="store_true", help="only say where the local page is")
    new.add_argument("--add", metavar="ID,ID", help="watch these images, too: ids, or a file of them; then end")
    new.add_argument("--images", metavar="0,3", help="of the probe set (default: as many as fit in 8 MB)")
    new.add_argument("--steps", metavar="99,199", help="training steps with snapshots (default: all)")


def _sweep(command: Command) -> None:
    new = command("sweep", commands.sweep, "One row per unlabelled and validation image: what a run says of it.")
    new.add_argument("run", metavar="RUN")
    new.add_argument("--which", choices=("last", "best"), default="last", help="which checkpoint")
    new.add_argument("--against", metavar="best|RUN", help="another checkpoint: in how many pixels they differ")
    new.add_argument("--workers", default="auto", metavar="N", help="decode processes (default: chosen)")
    new.add_argument("--device", default="auto")


def _query(command: Command) -> None:
    new = command(
        "query",
        commands.query,
        "Which images should be labelled: a classifier asks for those it is least sure of; their ids, as a list file.",
    )
    new.add_argument("--data", required=True, metavar="NAME", help="see `s4kit data list`")
    new.add_argument("--budget", required=True, metavar="N", help="how many: a count or a share (1/16)")
    new.add_argument("--out", required=True, metavar="FILE", help="for the ids: FILE of `train --labelled FILE`")
    new.add_argument("--by", choices=("margin", "entropy"), default="margin", help="what it is unsure by")
    new.add_argument("--alpha", type=float, default=0.1, help="share of N that starts the classifier (default 0.1)")
    new.add_argument("--beta", type=float, default=0.5, help="share of these that a round asks for (default 0.5)")
    new.add_argument("--passes", type=int, default=50, metavar="P", help="over the tagged images a round (default 50)")
    new.add_argument("--backbone", metavar="B", help="of the classifier (default a light one)")
    new.add_argument("--tags", metavar="FILE", help="a line `id,tag,tag` for each image (default: of scenes or masks)")
    new.add_argument("--seed", type=int, default=0, help="of the first images and the classifier (default 0)")
    new.add_argument("--device", default="auto")
    data_flags(new.add_argument_group("data: as of train"))


def _walk(command: Command) -> None:
    new = command("walk", commands.walk, "Execute the notebooks in order; write them, their pages and an index.")
    new.add_argument("--profile", default="cpu", metavar="cpu|gpu|paper", help="how long to train (default cpu)")
    new.add_argument("--data", default="scenes", metavar="NAME", help="scenes, camvid, voc or cityscapes")
    new.add_argument("--out", default="runs/walk", metavar="DIR", help="for notebooks, pages and runs")
    new.add_argument("--only", default="", metavar="02,beyond", help="numbers, names, folders (default not beyond)")
    new.add_argument("--notebooks", metavar="DIR", help="where they are (default ./notebooks)")
    new.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="side by side (default: one per GPU, or 2 with cpu)"
    )


def _record(command: Command) -> None:
    new = command("record", commands.record, "Keep trainings without their weights, as the notebooks open them.")
    new.add_argument("comparison", metavar="DIR", help="of s4kit compare --out, or any folder with runs in it")
    new.add_argument("--out", metavar="DIR", help="for the recordings (default: those that the kit ships)")
    new.add_argument("--named", nargs="+", default=(), metavar="RUN", help="these experiments of a lesson instead")
    new.add_argument("--bare", action="store_true", help="without what they believed of the probe images")


def _classroom(command: Command) -> None:
    new = command("classroom", commands.classroom, "Set assignments, grade them, and rank the open project.")
    new.add_argument("action", choices=("build", "bundle", "grade", "hidden-set", "rank"))
    new.add_argument("paths", nargs="+", metavar="PATH", help="build OUT | bundle OUT | grade SUBMISSIONS OUT | "
                      "hidden-set OUT | rank SUBMISSIONS SECRET OUT")  # fmt: skip
    new.add_argument("--assignments", metavar="DIR", help="source notebooks (default notebooks/assignments)")
    new.add_argument("--seed", metavar="S", help="of hidden inputs (grade: a number; hidden-set: 32 hex digits)")
    new.add_argument("--images", type=int, default=64, metavar="N", help="of the hidden set (default 64)")
    new.add_argument("--jobs", type=int, default=1, help="notebooks graded at a time")
    new.add_argument("--no-wheels", action="store_true", help="bundle: without packages, where s4kit is installed")


def _verify(command: Command) -> None:
    new = command(
        "verify", commands.verify, "Does the kit hold on this GPU? Ten minutes, no network, and a report to send."
    )
    new.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    new.add_argument("--quick", action="store_true", help="everything tiny: is verify itself in order?")
    new.add_argument("--out", metavar="DIR", default="runs/verify", help="for report.html and report.json")
    new.add_argument("--only", default="", metavar="steps,speed", help="some parts (default all)")
    new.add_argument("--methods", default="", metavar="fixmatch,cps", help="only these (default all)")
    new.add_argument("--minutes", type=float, metavar="M", help="that it may take (default 8; before Ampere 15)")


def _doctor(command: Command) -> None:
    command("doctor", commands.doctor, "Check the installation: versions, GPU, memory, disk, data sets.")


COMMANDS = (
    _train,
    _compare,
    _plan,
    _reproduce,
    _evaluate,
    _predict,
    _methods,
    _data,
    _bench,
    _diagnose,
    _explore,
    _sweep,
    _query,
    _walk,
    _record,
    _classroom,
    _verify,
    _doctor,
)
