"""GPUs as the planner sees them: memory, bandwidth, peak arithmetic; all from the vendor's data sheets.

Sources: NVIDIA's data sheets of T4, V100, P100, A10, A40, A100, L4, L40S, H100, H200, and the white papers on Turing,
Ampere GA102, Ada and Blackwell for GeForce and RTX A6000. Tensor-core peaks are dense, without sparsity, with float32
accumulation; SXM variants where there are several. `single` is what PyTorch uses for float32 convolutions: TF32 on
tensor cores from Ampere on (its default), else plain float32. "A100" is the one with 40 GB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import S4Error, closest
from . import cards


@dataclass(frozen=True)
class GPU:
    """One GPU.

    Attributes:
        name: as one types it.
        memory: bytes.
        bandwidth: of its memory, bytes per second; 0 = unknown.
        half, single: peak operations per second in 16 bits and in float32, see above; 0 = unknown.
        bf16: whether it computes bfloat16 in hardware; otherwise the kit uses float16.
        flops_share, bandwidth_share: of the peaks that a step is expected to reach. launch: seconds that a kernel takes
            at least. slack: more bytes than predicted, for workspaces of cuDNN and gaps between allocations.
        like: name in the table of which the figures are, "" where they are of none.
        measured: when and how well, in words, where the figures were measured on this machine; "" elsewhere.
    """

    name: str
    memory: float
    bandwidth: float = 0.0
    half: float = 0.0
    single: float = 0.0
    bf16: bool = True
    flops_share: float = 0.5
    bandwidth_share: float = 0.75
    launch: float = 6e-6
    slack: float = 0.06
    like: str = ""
    measured: str = ""

    @property
    def timed(self) -> bool:
        """Whether enough is known to estimate times."""
        return bool(self.bandwidth and self.half and self.single)


def _table() -> dict[str, GPU]:
    """GB, GB/s, TFLOPS in 16 bits, TFLOPS in float32 (or TF32), bf16."""
    figures = {
        "T4": (16, 320, 65, 8.1, False),
        "P100": (16, 732, 21.2, 10.6, False),
        "V100": (16, 900, 125, 15.7, False),
        "V100-32GB": (32, 900, 125, 15.7, False),
        "RTX2080Ti": (11, 616, 53.8, 13.4, False),
        "RTX3090": (24, 936, 71, 35.6, True),
        "RTX4090": (24, 1008, 165.2, 82.6, True),
        "RTX5090": (32, 1792, 209.5, 104.8, True),
        "A6000": (48, 768, 154.8, 77.4, True),
        "A10": (24, 600, 125, 62.5, True),
        "A40": (48, 696, 149.7, 74.8, True),
        "L4": (24, 300, 121, 60, True),
        "L40S": (48, 864, 362, 183, True),
        "A100": (40, 1555, 312, 156, True),
        "A100-80GB": (80, 2039, 312, 156, True),
        "H100": (80, 3350, 989, 494, True),
        "H200": (141, 4800, 989, 494, True),
    }
    return {
        name: GPU(name, 1e9 * memory, 1e9 * speed, 1e12 * half, 1e12 * single, bf16)
        for name, (memory, speed, half, single, bf16) in figures.items()
    }


GPUS = _table()


def gpus(names: str | list[str] | tuple[str, ...]) -> list[GPU]:
    """GPUs by name: "T4", "T4,L4,A100", "24GB" (memory alone, no times), "auto" (the one of this machine).

    Of a card that `s4kit verify` has measured here the figures are those, see `cards`; else those of its data sheet.

    Raises:
        S4Error: an unknown name (offers the closest ones), or "auto" without a GPU.
    """
    words = names.replace(",", " ").split() if isinstance(names, str) else list(names)
    if not words:
        raise S4Error(f"Say which GPU: {', '.join(GPUS)}, 24GB or auto.")
    return list(dict.fromkeys(_gpu(word) for word in words))


def _gpu(name: str) -> GPU:
    if name == "auto":
        card = own()
        return _measured(card.name) or card
    if card := _measured(name):
        return card
    plain = {_plain(known): gpu for known, gpu in GPUS.items()}
    if _plain(name) in plain:
        return plain[_plain(name)]
    if amount := re.fullmatch(r"(\d+(?:\.\d+)?)\s*GB", name, re.IGNORECASE):
        return GPU(f"{float(amount[1]):g}GB", 1e9 * float(amount[1]))
    raise S4Error(f"No GPU is called {name!r}; memory alone works, too: 24GB. {closest(name, list(GPUS))}")


def _plain(name: str) -> str:
    """ "NVIDIA GeForce RTX 4090" -> "rtx4090"."""
    dropped = ("nvidia", "tesla", "geforce", "quadro", "-sxm4", "-sxm2", "-pcie", "graphics", "generation")
    text = name.lower()
    for word in dropped:
        text = text.replace(word, "")
    return re.sub(r"[^a-z0-9]", "", text).removesuffix("gb").replace("rtxa6000", "a6000")


def _measured(name: str) -> GPU | None:
    """A card that was measured here, by its own name or that of its data sheet."""
    for card in cards.kept().values():
        if _plain(name) in (_plain(card["name"]), _plain(card["like"])):
            words = (
                f"measured here on {card['date']}, {card['steps']} steps took {card['low']:.2f} to {card['high']:.2f} "
                f"times what such an estimate says; a look for the explorer took {1000 * card['look']:.0f} ms"
            )
            figures = {key: card[key] for key in ("half", "single", "bandwidth", "launch", "slack", "bf16", "like")}
            return GPU(name, card["memory"], flops_share=1.0, bandwidth_share=1.0, measured=words, **figures)
    return None


def own() -> GPU:
    """The GPU of this machine by its data sheet: its memory as it says, the rest from the table, where it is there.

    Raises:
        S4Error: PyTorch sees none.
    """
    import torch

    if not torch.cuda.is_available():
        raise S4Error(
            f"gpu='auto' asks for the GPU of this machine, but PyTorch sees none. Name one: {', '.join(GPUS)}."
        )
    found = torch.cuda.get_device_properties(0)
    name = _plain(found.name)
    base = {gpu: _plain(gpu.name.partition("-")[0]) for gpu in GPUS.values()}
    like = max(
        (gpu for gpu in base if name.startswith(base[gpu])),
        key=lambda gpu: (len(base[gpu]), -abs(gpu.memory - found.total_memory)),
        default=None,
    )
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if like is None:
        return GPU(found.name, found.total_memory, bf16=bf16)
    return GPU(found.name, found.total_memory, like.bandwidth, like.half, like.single, bf16, like=like.name)
