"""Colours for what is right and wrong that no class of the data has: blue for right may be the blue of a class."""

from __future__ import annotations

from collections.abc import Sequence

Colour = tuple[int, int, int]
APART = 60.0  # distance in RGB from which two colours of flat areas are not taken for each other
# Of each role the first that is apart from all classes and from the roles before. Right is pale and wrong is not, first
# is pale and second is not, whatever is taken: lightness tells them apart to all kinds of colour vision.
ROLES: dict[str, tuple[Colour, ...]] = {
    "right": ((186, 226, 255), (255, 226, 186), (190, 255, 214), (226, 200, 255), (232, 236, 240)),
    "wrong": ((214, 0, 96), (255, 64, 0), (150, 40, 255), (0, 120, 60), (120, 60, 0)),
    "first": ((120, 235, 205), (255, 190, 240), (255, 240, 130), (170, 200, 255), (214, 255, 120)),
    "second": ((120, 70, 220), (0, 110, 130), (200, 60, 160), (60, 90, 0), (150, 70, 20)),
    "neither": ((250, 250, 250), (255, 214, 0), (200, 200, 205)),
}


def outcomes(palette: Sequence[Sequence[int]]) -> dict[str, Colour]:
    """The colour of each of the ROLES beside a palette; where none is apart, the one furthest from the others."""
    taken, found = [tuple(colour) for colour in palette], {}
    for role, candidates in ROLES.items():
        apart = [min((_far(colour, other) for other in taken), default=APART) for colour in candidates]
        best = next((k for k, far in enumerate(apart) if far >= APART), apart.index(max(apart)))
        found[role] = candidates[best]
        taken.append(candidates[best])
    return found


def _far(one: Sequence[int], other: Sequence[int]) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other)) ** 0.5
