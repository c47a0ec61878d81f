"""Who plays which part in a step's contrasts (`methods.parts.roles`), brought into the plane and ready to be stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.task import VOID
from ..methods.parts.roles import ROLES, Cast, Group
from .maps import Arrays, pictures

PROTOTYPE = ROLES.index("prototype")
LEAST = 3  # points that make a plane


def arranged(casts: Sequence[Cast], side: int) -> dict[str, tuple[Arrays, np.ndarray]]:
    """The contrasts of a step, by name; without those in which too few take part.

    Args:
        side: longest side of the pictures.

    Returns:
        Of each its points and its pictures, (B, h, w, 3) uint8. The n points are role (index into `ROLES`), label, own
        (see `Group`; 255 = not known), image (255 = a pixel of none), uint8; place (n, 2), where their directions lie
        on the two principal axes of all of them; share (1,), of the variance that these hold; pixel (n, 2), row and
        column in [0, 1] of the image; cosine (n,) with the nearest prototype of their label, NaN without one; float16.
    """
    found = {}
    for cast in casts:
        role = [ROLES.index(name) for name, groups in cast.groups.items() for _ in groups]
        groups = [group for groups in cast.groups.values() for group in groups]
        if groups:
            points = _points(cast, torch.tensor(role), groups)
            if len(points["role"]) >= LEAST:
                found[cast.name] = points, pictures(cast.images, side)
    return found


def principal(values: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2) places of (N, D) vectors on their two principal axes, and (2,) the share of the variance along each."""
    centred = values - values.mean(0)
    _, lengths, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * torch.sign(axes[:2].sum(1, keepdim=True) + 1e-12)  # the sign is free: fix it
    variance = lengths.square()
    return centred @ axes.T, (variance / variance.sum().clamp(min=1e-12))[:2]


@torch.no_grad()
def _points(cast: Cast, role: Tensor, groups: Sequence[Group]) -> Arrays:
    role = role.repeat_interleave(torch.tensor([len(group.label) for group in groups]))
    vector, label, pixel, own = (torch.cat(parts).cpu() for parts in zip(*groups))
    vector = vector.float()
    length = torch.linalg.vector_norm(vector, dim=1)
    there = (length > 0) & length.isfinite()  # a prototype of 0 is none yet
    role, label, pixel, own, unit = (t[there] for t in (role, label, pixel, own, F.normalize(vector, dim=1)))
    if len(unit) < LEAST:
        return {"role": np.zeros(0, np.uint8)}
    place, share = principal(unit)
    height, width = cast.size
    cells = pixel.clamp(min=0) % (height * width)
    at = torch.stack([(cells // width + 0.5) / height, (cells % width + 0.5) / width], 1)
    image = torch.where(pixel < 0, VOID, pixel // (height * width))
    small = {"role": role, "label": label, "own": own, "image": image}
    exact = {"place": place, "share": share.sum()[None], "pixel": at, "cosine": _nearness(unit, role, label)}
    return {name: t.to(torch.uint8).numpy() for name, t in small.items()} | {
        name: t.numpy().astype(np.float16) for name, t in exact.items()
    }


def _nearness(unit: Tensor, role: Tensor, label: Tensor) -> Tensor:
    """(n,) cosine of each point with the nearest prototype of its label; NaN without one."""
    centre = role == PROTOTYPE
    alike = (unit @ unit[centre].T).masked_fill(label[:, None] != label[centre], -torch.inf)
    best = F.pad(alike, (0, 1), value=-torch.inf).amax(1)
    return best.masked_fill(best == -torch.inf, torch.nan)
