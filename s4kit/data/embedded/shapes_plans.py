"""What the embedded shapes are: chairs, tables and lamps, their parts, and how each one is built of solids."""

from __future__ import annotations

import numpy as np

from .shapes_paint import Furniture, turned

# The finest parts, with the part of the middle and of the coarse level that each belongs to.
TREE = {
    "slab": ("back", "back panel"),
    "bar": ("back", "back panel"),
    "post": ("back", "back frame"),
    "rail": ("back", "back frame"),
    "seat board": ("seat", "seat top"),
    "seat apron": ("seat", "seat frame"),
    "arm rest": ("arm", "arm top"),
    "arm post": ("arm", "arm support"),
    "front leg": ("chair base", "chair legs"),
    "back leg": ("chair base", "chair legs"),
    "stretcher": ("chair base", "chair brace"),
    "column": ("chair base", "pedestal"),
    "foot": ("chair base", "pedestal"),
    "table board": ("table top", "table plane"),
    "table apron": ("table top", "table frame"),
    "table leg": ("table base", "table legs"),
    "table stretcher": ("table base", "table brace"),
    "table column": ("table base", "table pedestal"),
    "table plate": ("table base", "table pedestal"),
    "lamp plate": ("lamp base", "lamp stand"),
    "lamp foot": ("lamp base", "tripod"),
    "lamp pole": ("lamp body", "upright"),
    "lamp arm": ("lamp body", "boom"),
    "shade": ("lamp head", "screen"),
    "bulb": ("lamp head", "light"),
}
LEVELS = ("coarse", "middle", "fine")
SIGNS = (-1, 1)


def chair(rng: np.random.Generator) -> Furniture:
    """A seat with a back or none, on legs or on a column, with arms or without."""
    made = Furniture()
    wide, deep, high = rng.uniform(0.35, 0.6), rng.uniform(0.35, 0.6), rng.uniform(0.35, 0.6)
    thick, radius = rng.uniform(0.02, 0.07), rng.uniform(0.02, 0.045)
    if rng.random() < 0.2:
        made.rod("seat board", (0, high - thick, 0), (0, high + thick, 0), wide)
    else:
        made.box("seat board", (0, high, 0), (wide, thick, deep))
    stool = rng.random() < 0.15
    if rng.random() < 0.4:
        _apron(made, "seat apron", (wide, deep), high - thick, rng.uniform(0.03, 0.06), 0.85)
    if not stool:
        _back(rng, made, (wide, deep), high + thick, radius)
        if rng.random() < 0.5:
            _arms(rng, made, (wide, deep), high, thick, radius)
    if rng.random() < 0.7:
        feet = _legs(rng, made, (0.85 * wide, 0.85 * deep), high - thick, radius, ("front leg", "back leg"), 1.2)
        if rng.random() < 0.5:
            _stretchers(rng, made, "stretcher", feet, rng.uniform(0.2, 0.6), 0.55 * radius)
    else:
        made.rod("column", (0, 0.05, 0), (0, high - thick, 0), 1.5 * radius)
        for x, z in _star(rng, int(rng.integers(3, 6)), wide):
            made.rod("foot", (0, 0.08, 0), (x, 0.02, z), 0.9 * radius, 0.6 * radius)
    return made


def table(rng: np.random.Generator) -> Furniture:
    """A board, round or not, on legs or on a column."""
    made = Furniture()
    wide, deep, high = rng.uniform(0.6, 1.2), rng.uniform(0.45, 0.9), rng.uniform(0.35, 1.0)
    thick, radius = rng.uniform(0.02, 0.06), rng.uniform(0.025, 0.06)
    is_round = rng.random() < 0.3
    if is_round:
        deep = wide
        made.rod("table board", (0, high - thick, 0), (0, high + thick, 0), wide)
    else:
        made.box("table board", (0, high, 0), (wide, thick, deep))
    if rng.random() < 0.5:
        low, inner = rng.uniform(0.04, 0.1), rng.uniform(0.6, 0.85)
        _apron(made, "table apron", (wide, deep), high - thick, low, 0.8 * inner if is_round else inner)
    if rng.random() < 0.65:
        inner = 0.65 if is_round else 0.88
        names = ("table leg", "table leg")
        feet = _legs(rng, made, (inner * wide, inner * deep), high - thick, radius, names, 1.15)
        if rng.random() < 0.45:
            _stretchers(rng, made, "table stretcher", feet, rng.uniform(0.1, 0.5), 0.6 * radius)
        return made
    made.rod("table column", (0, 0.03, 0), (0, high - thick, 0), radius * rng.uniform(1, 3))
    reach = rng.uniform(0.4, 0.8) * min(wide, deep)
    if rng.random() < 0.5:
        made.rod("table plate", (0, 0, 0), (0, 0.04, 0), reach)
    else:
        for x, z in _star(rng, int(rng.integers(3, 5)), reach):
            made.rod("table plate", (0, 0.1, 0), (x, 0.02, z), radius, 0.7 * radius)
    return made


def lamp(rng: np.random.Generator) -> Furniture:
    """A standing lamp: what it stands on, a pole, and what shines."""
    made = Furniture()
    high, radius, reach = rng.uniform(0.7, 2.0), rng.uniform(0.015, 0.035), rng.uniform(0.18, 0.4)
    if rng.random() < 0.6:
        made.rod("lamp plate", (0, 0, 0), (0, rng.uniform(0.02, 0.06), 0), reach, reach * rng.uniform(0.6, 1))
    else:
        top = high * rng.uniform(0.2, 0.4)
        for x, z in _star(rng, 3, 1.2 * reach):
            made.rod("lamp foot", (x, 0, z), (0, top, 0), 0.8 * radius)
    made.rod("lamp pole", (0, 0, 0), (0, high, 0), radius)
    head, axis = np.array([0, high, 0]), np.array([0.0, 1.0, 0.0])
    if rng.random() < 0.5:
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.7)
        arm = length * np.array([np.cos(angle), rng.uniform(-0.2, 0.6), np.sin(angle)])
        made.rod("lamp arm", head, head + arm, 0.9 * radius)
        head, axis = head + arm, np.array([arm[0], -abs(arm[1]) - 0.6 * length, arm[2]])
        axis /= np.linalg.norm(axis)
    elif rng.random() < 0.3:
        axis = -axis
    wide, long = rng.uniform(0.16, 0.38), rng.uniform(0.2, 0.5)
    ends = head - 0.4 * long * axis, head + 0.6 * long * axis
    made.rod("shade", *ends, wide * rng.uniform(0.3, 0.9), wide, caps=False)
    if rng.random() < 0.7:
        made.ball("bulb", head + 0.15 * long * axis, wide * rng.uniform(0.25, 0.4))
    return made


KINDS = (chair, table, lamp)


def _back(rng: np.random.Generator, made: Furniture, seat: tuple[float, float], floor: float, radius: float) -> None:
    """A leaning frame, or none, round a slab or bars."""
    wide, deep = seat
    high, turn = rng.uniform(0.45, 1.1), turned(0, -rng.uniform(0, 0.25))

    def at(x: float, y: float) -> np.ndarray:
        return np.array([0, floor, -0.9 * deep]) + turn @ np.array([x, y, 0.0])

    if rng.random() < 0.6:
        for side in SIGNS:
            made.rod("post", at(0.92 * side * wide, 0), at(0.92 * side * wide, high), 0.9 * radius)
        made.box("rail", at(0, high - 0.04), (0.92 * wide, 0.04, 0.8 * radius), turn)
    low, top = rng.uniform(0.03, 0.3) * high, high - 0.1 * (rng.random() < 0.8)
    if rng.random() < 0.5:
        made.box("slab", at(0, (low + top) / 2), (0.8 * wide, (top - low) / 2, rng.uniform(0.015, 0.05)), turn)
        return
    number = int(rng.integers(3, 7))
    if rng.random() < 0.6:
        for x in np.linspace(-0.75, 0.75, number) * wide:
            made.rod("bar", at(x, 0), at(x, top), 0.55 * radius)
    else:
        for y in np.linspace(low, top, number):
            made.box("bar", at(0, y), (0.85 * wide, 0.02, 0.012), turn)


def _arms(
    rng: np.random.Generator, made: Furniture, seat: tuple[float, float], high: float, thick: float, radius: float
) -> None:
    wide, deep = seat
    up, second = high + thick + rng.uniform(0.18, 0.32), rng.random() < 0.3
    half = rng.uniform(0.025, 0.05), 0.02, deep * rng.uniform(0.6, 0.95)
    for side in SIGNS:
        made.box("arm rest", (1.02 * side * wide, up, 0), half)
        for z in (0.6 * deep, 0.0)[: 1 + second]:
            made.rod("arm post", (side * wide, high, z), (1.02 * side * wide, up, z), 0.7 * radius)


def _apron(made: Furniture, part: str, top: tuple[float, float], under: float, low: float, inner: float) -> None:
    """Four boards below a seat or a table top."""
    (wide, deep), y = top, under - low
    for side in SIGNS:
        made.box(part, (0, y, side * inner * deep), (inner * wide, low, 0.02))
        made.box(part, (side * inner * wide, y, 0), (0.02, low, inner * deep))


def _legs(
    rng: np.random.Generator,
    made: Furniture,
    corner: tuple[float, float],
    high: float,
    radius: float,
    names: tuple[str, str],
    widest: float,
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """Four legs, square or round, upright or splayed; their feet and tops by the signs of their corner."""
    square, splay = rng.random() < 0.5, rng.choice([1.0, rng.uniform(1, widest)])
    thin, ends = rng.uniform(0.5, 1), {}
    for x in SIGNS:
        for z in SIGNS:
            top = np.array([x * corner[0], high, z * corner[1]])
            foot, part = top * (splay, 0, splay), names[0] if z > 0 else names[1]
            if square and splay == 1:
                made.box(part, (top + foot) / 2, (radius, high / 2, radius))
            else:
                made.rod(part, foot, top, radius * thin, radius)
            ends[x, z] = foot, top
    return ends


def _stretchers(rng: np.random.Generator, made: Furniture, part: str, ends: dict, up: float, radius: float) -> None:
    """Bars between the legs: in an H or all round."""
    at = {corner: foot + up * (top - foot) for corner, (foot, top) in ends.items()}
    for x in SIGNS:
        made.rod(part, at[x, -1], at[x, 1], radius)
    if rng.random() < 0.5:
        made.rod(part, (at[-1, -1] + at[-1, 1]) / 2, (at[1, -1] + at[1, 1]) / 2, radius)
    else:
        for z in SIGNS:
            made.rod(part, at[-1, z], at[1, z], radius)


def _star(rng: np.random.Generator, count: int, reach: float) -> np.ndarray:
    """(count, 2) x and z of feet in a circle."""
    angle = rng.uniform(0, 2 * np.pi) + np.arange(count) * 2 * np.pi / count
    return reach * np.stack([np.cos(angle), np.sin(angle)], 1)
