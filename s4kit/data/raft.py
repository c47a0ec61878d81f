"""Motion as a network sees it, where nobody knows it: torchvision's RAFT (Teed & Deng, ECCV 2020, arXiv 2003.12039).

It takes a CPU seconds for a pair of frames, so that each motion is estimated once and kept in the user's cache folder,
6 bytes a pixel. With a `reach` of n frames to either side a labelled frame needs up to 4 n of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error
from .fetching.cache import cache_folder, made_once, stamps
from .sources import FileSource

VERSION = 1  # of what is kept; raised when the estimate changes
FLOWS = 64  # motions in memory, of images of 480 x 360 pixels 1.4 MB each
STRIDE, LEAST = 8, 128  # sides that RAFT takes: a multiple, and what its coarsest correlation needs
AGREE = (0.01, 0.5)  # of the forward-backward check: share of the squared lengths, square pixels
HOW = (
    'torchvision.models.optical_flow.raft_small(weights="DEFAULT") fetches it once, into the folder checkpoints of '
    "torch.hub.get_dir(); raft_large is finer and slower"
)


def need_weights(path: str) -> str:
    """The path of a file of weights, if it is there.

    Raises:
        S4Error: it is not.
    """
    if not Path(path).is_file():
        raise S4Error(f"flow={path!r}: there is no such file of RAFT weights. {HOW}.")
    return str(Path(path).absolute())


def between(source: FileSource, a: int, b: int, weights: str | None) -> tuple[Tensor, Tensor]:
    """The motion (2, H, W) from frame `a` of a source to frame `b` and where it is seen (H, W), see `Source.flow`;
    estimated once, then read from the cache folder.

    Raises:
        S4Error: there are no weights, or the frames are of two clips.
    """
    if b not in source.clip(a):
        raise S4Error(f"{source.ids[a]} and {source.ids[b]} are of two clips: no motion leads from one to the other.")
    if weights is None:
        raise S4Error(
            f'How {source.ids[a]} moves to {source.ids[b]} is not known: load(..., flow="raft_small.pth") estimates it '
            f"by RAFT, with the file of torchvision's weights. {HOW}."
        )
    flow, seen = _moved(weights, source.image_path(a), source.image_path(b), source.size)
    return flow.clone(), seen.clone()


@lru_cache(maxsize=FLOWS)
def _moved(weights: str, first: str, second: str, size: float | int | None) -> tuple[Tensor, Tensor]:
    """As `estimate` has it, in half precision: to a sixteenth of a pixel up to 127 pixels."""

    def make() -> np.ndarray:  # (H, W, 3)
        pair = FileSource([first, second], [first, second], [None, None], "", 1, size, exif="ignore")
        there, seen = estimate(weights, *(pair.read(row, label=False).image for row in range(2)))
        return torch.cat([there, seen[..., None]], 2).half().numpy()

    path = _place((weights, first, second), size)
    moved = torch.from_numpy(made_once(path, make) if path else make())
    return moved[..., :2].float(), moved[..., 2] > 0


def _place(files: Sequence[str], size: float | int | None) -> Path | None:
    """The file of the motion that these files give; None where nothing can be kept, or one of them is gone."""
    folder = cache_folder()
    try:
        digest = blake2b(repr((VERSION, size, stamps(files))).encode(), digest_size=16).hexdigest()
    except OSError:
        return None
    return folder and folder / f"flow-{digest}.npy"


@torch.no_grad()
def estimate(path: str, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The motion between two pictures, and where it can be believed.

    A pixel counts as seen in the second picture if the way there and back ends near where it began: the squared rest is
    at most 1 % of the squared lengths of both ways and half a square pixel (Sundaram et al., ECCV 2010).

    Args:
        path: file of the weights. first, second: (3, H, W) uint8 RGB.

    Returns:
        (H, W, 2) float32, pixels (x, y) from the first picture to the second; (H, W) bool.

    Raises:
        S4Error: the file holds no weights of RAFT.
    """
    height, width = first.shape[-2:]
    sides = [max(LEAST, -(-side // STRIDE) * STRIDE) for side in (height, width)]
    pair = torch.stack([first, second]).float() / 127.5 - 1
    pair = F.pad(pair, (0, sides[1] - width, 0, sides[0] - height), mode="replicate")
    there, back = _net(path)(pair, pair.flip(0))[-1][..., :height, :width]
    return there.permute(1, 2, 0).contiguous(), agree(there, back)


def agree(there: Tensor, back: Tensor) -> Tensor:
    """(H, W) bool: where a motion (2, H, W) leads inside the picture, and the motion back leads home again."""
    height, width = there.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    to = torch.stack([x, y]) + there
    size = torch.tensor([width, height])
    found = F.grid_sample(back[None], ((to.permute(1, 2, 0) + 0.5) / size * 2 - 1)[None], align_corners=False)[0]
    share, rest = AGREE
    inside = ((to > -0.5) & (to < size[:, None, None] - 0.5)).all(0)
    lengths = there.square().sum(0) + found.square().sum(0)
    return inside & ((there + found).square().sum(0) <= share * lengths + rest)


@lru_cache(maxsize=1)
def _net(path: str) -> nn.Module:
    from torchvision.models.optical_flow import raft_large, raft_small

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        small = len(weights["feature_encoder.convnormrelu.0.weight"]) == 32
        net = (raft_small if small else raft_large)(weights=None)
        net.load_state_dict(weights)
    except Exception as why:  # whatever else the file is
        raise S4Error(f"{path} holds no weights of torchvision's RAFT ({type(why).__name__}). {HOW}.") from None
    return net.eval().requires_grad_(False)
