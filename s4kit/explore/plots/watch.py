"""What happens inside one step of a method, seen from outside: what is pasted, what is done to features, what is drawn.

No method hands these out, and none has to: `paste` and the cuts of `SegNet` are the same for all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...nets import SegNet
from ...views import paste

SAME = 1e-4  # relative distance below which features are those that the encoder gave


@dataclass(frozen=True)
class Pasting:
    """One mixing of images: `inside` (B, 3, H, W) where `mask` (B, H, W), else `outside`; `made` came out."""

    mask: Tensor
    inside: Tensor
    outside: Tensor
    made: Tensor


@dataclass(frozen=True)
class Damage:
    """Features that a decoder got otherwise than they were encoded.

    Attributes:
        name: of the decoder, "" for the network's own.
        image: (B, 3, H, W) that was encoded. before, after: (B, F, h, w).
    """

    name: str
    image: Tensor
    before: Tensor
    after: Tensor


@dataclass
class Watched:
    """What was seen, in the order in which it happened.

    Attributes:
        drawn: what further heads drew, (B, 3, H, W), by their names.
        judged: what critics said, (B, h, w) logits, by their names.
    """

    pastings: list[Pasting] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    drawn: dict[str, Tensor] = field(default_factory=dict)
    judged: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def watching(method: nn.Module) -> Iterator[Watched]:
    """Look on while `method.losses` runs; afterwards everything is as before."""
    seen = Watched()
    old = {name: getattr(SegNet, name) for name in ("encode", "fuse", "classify", "branch")}
    modules = [m for c in type(method).__mro__ if (m := sys.modules.get(c.__module__)) and _pastes(m)]
    hooks = [module.register_forward_hook(_noting(seen, name)) for name, module in _others(method)]
    try:
        for name, spy in _spies(seen, old).items():
            setattr(SegNet, name, spy)
        for module in modules:
            module.paste = _pasting(seen)
        yield seen
    finally:
        for name, function in old.items():
            setattr(SegNet, name, function)
        for module in modules:
            module.paste = paste
        for hook in hooks:
            hook.remove()


def _pastes(module: Any) -> bool:
    return getattr(module, "paste", None) is paste


def _others(method: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that are no segmentation network: critics, and the further heads of networks."""
    for name, child in method.named_children():
        if isinstance(child, SegNet):
            yield from child.heads.items()
        else:
            yield name, child


def _pasting(seen: Watched) -> Callable[..., Any]:
    def spy(mask: Tensor, inside: Any, outside: Any) -> Any:
        made = paste(mask, inside, outside)
        if isinstance(made, Tensor) and made.dim() == 4 and made.shape[1] == 3:
            seen.pastings.append(Pasting(*(t.detach() for t in (mask, inside, outside, made))))
        return made

    return spy


def _noting(seen: Watched, name: str) -> Callable[..., None]:
    def hook(module: nn.Module, given: Any, out: Any) -> None:
        score = getattr(out, "score", None)
        if isinstance(score, Tensor) and score.dim() == 3:
            seen.judged[name] = score.detach()
        elif isinstance(out, Tensor) and out.dim() == 4 and out.shape[1] == 3:
            seen.drawn[name] = out.detach()

    return hook


class _Origins:
    """Maps that came out of a network, each with the image it is of."""

    def __init__(self) -> None:
        self.maps: list[tuple[Tensor, Tensor]] = []

    def add(self, rows: Tensor, images: Tensor) -> None:
        self.maps.append((rows.detach(), images.detach()))

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """For each row the nearest map of the same shape, its image, and their distance in units of its length."""
        fit = [(m, i) for m, i in self.maps if m.shape[1:] == rows.shape[1:]]
        if not fit or len({i.shape[1:] for _, i in fit}) > 1:
            return None
        maps, images = (torch.cat(parts) for parts in zip(*fit))
        flat, given = maps.flatten(1).float(), rows.detach().flatten(1).float()
        apart = torch.stack([(flat - row).norm(dim=1) for row in given])
        least, nearest = apart.min(1)
        return maps[nearest], images[nearest], least / flat[nearest].norm(dim=1).clamp(min=1e-12)


def _spies(seen: Watched, old: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    levels, fused = _Origins(), _Origins()

    def note(net: SegNet, name: str, origins: _Origins, rows: Tensor) -> Tensor | None:
        """Keep what was damaged in a forward that trains; returns the images of the rows."""
        found = origins.of(rows)
        if found is None:
            return None
        before, image, apart = found
        changed = apart > SAME
        if net.training and bool(changed.any()):
            seen.damages.append(Damage(name, image[changed], before[changed], rows.detach()[changed]))
        return image

    def encode(net: SegNet, image: Any, start: Any = None, after: Any = None, **more: Any) -> Any:
        def shown(level: Tensor) -> Tensor:
            out = after(level)
            if not shown.done and not torch.equal(out, level):
                seen.damages.append(Damage("", image.detach(), level.detach(), out.detach()))
            shown.done = True
            return out

        shown.done = not net.training
        features = old["encode"](net, image, start, shown if after else None, **more)
        if start is None:
            levels.add(features.low, image)
        return features

    def fuse(net: SegNet, features: Any) -> Any:
        images = note(net, "", levels, features.low)
        out = old["fuse"](net, features)
        if images is not None:
            fused.add(out.map, images)
        return out

    def classify(net: SegNet, map: Tensor, size: Any = None) -> Any:
        note(net, "", fused, map)
        return old["classify"](net, map, size)

    def branch(net: SegNet, name: str, map: Tensor, size: Any = None) -> Tensor:
        note(net, name, fused, map)
        return old["branch"](net, name, map, size)

    return {"encode": encode, "fuse": fuse, "classify": classify, "branch": branch}
