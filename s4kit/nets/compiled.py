"""`torch.compile` of networks, in place: names, checkpoints and the methods' code stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import torch
from torch import nn

from ..errors import S4Error
from .segnet import SegNet

CHECKED = (2, 14)  # the oldest PyTorch whose translation was seen to keep the numbers; that of 2.6 does not
EACH = 8  # translations of one part: train and eval mode, with and without gradient, batches and images of other sizes


def compile_nets(module: nn.Module, backend: str = "inductor", fullgraph: bool = False) -> int:
    """Compile all networks inside a module; returns the number of parts that were.

    What is compiled is what a network calls as a whole: the stages of its backbone, the blocks of its decoder, its
    heads. So it helps every method, whether it calls `forward`, `joint`, or `encode` and `decode` with something in
    between. Each part is translated at its first call, once more for train and for eval mode, and for batches or images
    of another size. Random draws (dropout) are those of the uncompiled network.

    Args:
        fullgraph: fail where a part cannot be translated in one piece, rather than run the rest as it is.

    Raises:
        S4Error: there is no compiler to translate for the device of the module, or PyTorch is too old for it.
    """
    if backend == "inductor":
        _compiler(next(module.parameters()).device)
    nets = [net for net in module.modules() if isinstance(net, SegNet)]
    parts = dict.fromkeys(part for net in nets for part in parts_of(net))
    options = {"options": {"fallback_random": True}} if backend == "inductor" else {}
    _allow(len(parts))
    for part in parts:
        part.compile(backend=backend, fullgraph=fullgraph, **options)
    return len(parts)


def parts_of(net: SegNet) -> Iterator[nn.Module]:
    """The modules that the network calls as a whole, from the image to the logits; single layers are left out."""
    roots = [*net.backbone.parts(), *net.decoder.children(), *net.heads.children(), *([net.aux] if net.aux else [])]
    for root in roots:
        yield from (part for part in _called(root) if next(part.children(), None) is not None)


def _called(root: nn.Module) -> Iterator[nn.Module]:
    """What is called of a module: itself, or what it holds where it is a list or a decoder inside another one."""
    if isinstance(root, nn.ModuleList | nn.ModuleDict) or hasattr(root, "classify"):
        for child in root.children():
            yield from _called(child)
    else:
        yield root


def left_out(method: nn.Module) -> list[str]:
    """Names of what a method trains beside its networks: critics and the like, which `compile_nets` leaves as it is."""
    return [name for name, part in method.named_children() if not any(isinstance(m, SegNet) for m in part.modules())
            and next(part.parameters(), None) is not None]  # fmt: skip


def _allow(parts: int) -> None:
    """PyTorch counts the translations of all parts together and gives up, saying so only in a warning, after eight."""
    import torch._dynamo

    for name in ("recompile_limit", "cache_size_limit"):  # the name since 2.7, and before
        if hasattr(torch._dynamo.config, name):
            least = EACH * parts
            setattr(torch._dynamo.config, name, max(least, getattr(torch._dynamo.config, name)))
            total = f"accumulated_{name}"
            setattr(torch._dynamo.config, total, max(4 * least, getattr(torch._dynamo.config, total)))
            return


def _compiler(device: torch.device) -> None:
    if tuple(int(n) for n in torch.__version__.split(".")[:2]) < CHECKED:
        raise S4Error(
            f"compile was checked with PyTorch {'.'.join(map(str, CHECKED))} and later; with 2.6 translated networks "
            f"gave other numbers. This is {torch.__version__}: update it, or leave --compile away."
        )
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++", "cl")):
        raise S4Error(
            "compile needs a C++ compiler to translate for a CPU and found none: install g++, or leave --compile away."
        )
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise S4Error("compile needs Triton to translate for a GPU: `pip install triton`, or leave --compile away.")
