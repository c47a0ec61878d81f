"""How one scene is painted.

Everything is a signed distance in pixels (negative inside), drawn at twice the resolution with soft edges and averaged
down, so that edges, rings and stripes are antialiased. A scene is the same at every size: only the grain of the sensor
is of the pixels. numpy and PIL only; about 8 ms of one core for an image of 96 pixels.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..seeding import generator
from ..task import PER_CLASS, VOID
from .outlines import outline, turned

VERSION = 3  # of the pictures: raise it whenever they change, stored copies carry it in their name
NOMINAL = 96  # object sizes are in pixels of a scene of this side
GROUND_HUES = (0.08, 0.1, 0.12, 0.3, 0.55, 0.62)  # wood, sand, moss, slate, denim
FREQUENCY = (0.0, 0.17, 0.17, 0.17, 0.17, 0.17, 0.15)  # of the classes among objects
RADIUS, PEG = (14, 24), (8, 11)  # of objects; a peg must fill some cells of a stride-4 map to be learnt at all
OBJECTS, STICKS = (3, 6), (0, 3)  # how many (the end excluded)
HUES = tuple(k / 6 for k in range(-1, 6))  # middle of a class's hues, by its number
PLAIN = 1 / 3  # turns by which the hues of plain objects are others
SPREAD = 0.25  # turns to both sides: a class has half of all hues, so that colour is a hint and no more


@dataclass(frozen=True)
class Light:
    """Where the light comes from: unit direction in the picture, and the length of shadows per pixel of height."""

    x: float
    y: float
    reach: float


@dataclass(frozen=True)
class Setting:
    """What all objects of a scene share: fine pixels per nominal one, the light, and whether it is painted plainly."""

    unit: float
    light: Light
    plain: bool


@dataclass(frozen=True)
class Thing:
    """One object in its own frame: `u`, `v` are turned coordinates, `d` the distance from the centre, all over `r`."""

    kind: int
    r: float
    u: np.ndarray
    v: np.ndarray
    sdf: np.ndarray


def paint(seed: int, index: int, side: int = NOMINAL, plain: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scene `index`: image (S, S, 3) uint8 and label (S, S) uint8 with a void ring of 1 pixel around objects.

    Args:
        plain: the same scene as a simple renderer draws it: a table of one colour, no clutter, no shadow, no relief,
            other hues (`PLAIN`), and no camera.
    """
    g = generator("scenes", seed, index)
    image, owner, kinds, light = _draw(g, side, plain)
    rows = image[::2] + image[1::2]
    small = (rows[:, ::2] + rows[:, 1::2]) / 4
    return _bytes(small) if plain else _develop(g, small, light), _label(owner, kinds)


def paint_objects(seed: int, index: int, side: int = NOMINAL) -> np.ndarray:
    """(S, S) int16 of scene `index`: 1000 * class + number of the object that a pixel shows, 0 = ground; no ring."""
    _, owner, kinds, _ = _draw(generator("scenes", seed, index), side)
    owner = owner[::2, ::2]
    return np.where(owner > 0, PER_CLASS * kinds.astype(np.int16)[owner] + owner, 0).astype(np.int16)


def _draw(g: np.random.Generator, side: int, plain: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, Light]:
    """The scene at twice the side, the number of the object that each place shows, 0 = ground, the class of each
    number, and the light."""
    fine = 2 * side
    unit = fine / NOMINAL  # fine pixels per nominal pixel
    angle = g.uniform(0, 2 * np.pi)
    light = Light(math.cos(angle), math.sin(angle), g.uniform(0.12, 0.35))
    image = _ground(g, fine, unit)
    if plain:
        image[:] = image.mean((0, 1))
    owner = np.zeros((fine, fine), np.int16)
    kinds = [0]
    for _ in range(g.integers(*STICKS)):
        _stick(g, image.copy() if plain else image, unit, light)  # what it draws is drawn in both
    for number in range(1, int(g.integers(*OBJECTS)) + 1):
        kinds.append(int(g.choice(7, p=FREQUENCY)))
        _place(g, image, owner, number, kinds[-1], Setting(unit, light, plain))
    return image, owner, np.array(kinds, np.uint8), light


# -- the table -------------------------------------------------------------------------------------------------------


def _noise(g: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """(S, S) smooth noise in about 0..1 with `cells` bumps along a side."""
    small = Image.fromarray(g.random((cells, cells), dtype=np.float32))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def _hsv(h: float, s: float, v: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(h % 1, s, v), np.float32)


def _ground(g: np.random.Generator, side: int, unit: float) -> np.ndarray:
    """A muted table: two close colours mixed by noise at several sizes; sometimes with a woven or planked grain."""
    hue, value = float(g.choice(GROUND_HUES)) + g.normal(0, 0.03), g.uniform(0.35, 0.75)
    low = _hsv(hue, g.uniform(0.05, 0.4), value)
    high = _hsv(hue + g.normal(0, 0.03), g.uniform(0.05, 0.35), min(1, value + g.uniform(0.08, 0.28)))
    mix = 0.5 * _noise(g, side, int(g.integers(3, 7))) + 0.3 * _noise(g, side, 16) + 0.2 * _noise(g, side, NOMINAL // 2)
    if g.random() < 0.5:  # grain: noise stretched along one axis
        grain = Image.fromarray(g.random((NOMINAL, 5), dtype=np.float32))
        grain = np.asarray(grain.resize((side, side), Image.Resampling.BICUBIC))
        mix = 0.55 * mix + 0.45 * (grain if g.random() < 0.5 else grain.T)
    return low + (high - low) * mix[..., None].astype(np.float32)


def _blend(image: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
    image += alpha[..., None] * (colour - image)


def _box(cx: float, cy: float, reach: float, side: int) -> tuple[slice, slice, np.ndarray, np.ndarray] | None:
    """The window around a centre, with its coordinates relative to it; None if it lies outside the picture."""
    x0, x1 = max(0, int(cx - reach)), min(side, int(cx + reach) + 2)
    y0, y1 = max(0, int(cy - reach)), min(side, int(cy + reach) + 2)
    if x0 >= x1 or y0 >= y1:
        return None
    x = np.arange(x0, x1, dtype=np.float32)[None] + 0.5 - cx
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - cy
    return slice(y0, y1), slice(x0, x1), x, y


def _stick(g: np.random.Generator, image: np.ndarray, unit: float, light: Light) -> None:
    """Clutter that is ground: a thin stick or a pebble, with its shadow."""
    side = len(image)
    cx, cy = g.uniform(0, side, 2)
    half = g.uniform(8, 40) * unit if g.random() < 0.6 else 0.0
    thick = (g.uniform(0.5, 1.0) if half else g.uniform(1.2, 2.4)) * unit
    angle = g.uniform(0, np.pi)
    window = _box(cx, cy, half + 4 * thick + 2, side)
    if window is None:
        return
    rows, columns, x, y = window
    part = image[rows, columns]
    shadow = _capsule(x - light.x * thick, y - light.y * thick, angle, half) - thick
    part *= 1 - 0.35 * np.clip(0.5 - shadow / (1.5 * unit), 0, 1)[..., None]
    body = _capsule(x, y, angle, half) - thick
    colour = _hsv(g.random(), g.uniform(0.1, 0.7), g.uniform(0.3, 0.95))
    _blend(part, colour, np.clip(0.5 - body, 0, 1))


def _capsule(x: np.ndarray, y: np.ndarray, angle: float, half: float) -> np.ndarray:
    """Distance to a segment of length 2 * half through the origin."""
    along, across = turned(x, y, angle)
    return np.hypot(along - np.clip(along, -half, half), across)


# -- objects ---------------------------------------------------------------------------------------------------------


def _place(g: np.random.Generator, image: np.ndarray, owner: np.ndarray, number: int, kind: int, at: Setting) -> None:
    """Draw one object over what is there: its shadow, then its body; `owner` takes its number."""
    side, unit, light = len(image), at.unit, at.light
    r = g.uniform(*(PEG if kind == 6 else RADIUS)) * unit
    margin = 4 * unit
    cx, cy = g.uniform(margin, side - margin, 2)
    turn = g.uniform(0, 2 * np.pi)
    squash = g.uniform(0.7, 1.0)
    height = (1.0 if kind == 1 else 0.55) * light.reach * r + unit
    window = _box(cx, cy, 1.45 * r + 2 * height, side)
    if window is None:
        return
    rows, columns, x, y = window
    if not at.plain:
        _shade(image[rows, columns], outline(kind, x + light.x * height, y + light.y * height, r, turn, squash), height)
    thing = _thing(kind, x, y, r, turn, squash)
    alpha = np.clip(0.5 - thing.sdf, 0, 1)
    _blend(image[rows, columns], _body(g, thing, turn, at), alpha)
    owner[rows, columns][alpha > 0.5] = number


def _shade(part: np.ndarray, sdf: np.ndarray, height: float) -> None:
    """A cast shadow, softer the higher the object."""
    part *= 1 - 0.5 * np.clip(0.5 - sdf / (1.0 + 0.8 * height), 0, 1)[..., None]


def _thing(kind: int, x: np.ndarray, y: np.ndarray, r: float, turn: float, squash: float) -> Thing:
    u, v = turned(x, y, turn)
    return Thing(kind, r, u, v, outline(kind, x, y, r, turn, squash))


def _soft(wave: np.ndarray, steepness: float) -> np.ndarray:
    """0..1 from a wave around zero, with an edge about one fine pixel wide."""
    return np.clip(0.5 + wave * steepness, 0, 1)


def _body(g: np.random.Generator, thing: Thing, turn: float, at: Setting) -> np.ndarray:
    """(h, w, 3) the object's surface: two tones of a hue of its class in the texture of its class, then its relief."""
    unit, light, plain = at.unit, at.light, at.plain
    hue = HUES[thing.kind] + PLAIN * plain + g.uniform(-SPREAD, SPREAD)
    first = _hsv(hue, g.uniform(0.45, 0.95), g.uniform(0.55, 0.95))
    second = first * g.uniform(0.25, 0.5) if g.random() < 0.5 else 1 - (1 - first) * g.uniform(0.12, 0.35)
    period = g.uniform(7, 10) * unit
    phase = g.uniform(0, 2 * np.pi)
    lu, lv = turned(light.x, light.y, turn)
    u, v, r = thing.u, thing.v, thing.r
    if thing.kind == 1:
        return np.broadcast_to(first, (*u.shape, 3)) if plain else _ball(first, u, v, r, lu, lv)
    d = np.hypot(u, v)
    if thing.kind == 2:
        m = _soft(np.cos(d * (2 * np.pi / period)), period / 6)
        relief = 1.0
    elif thing.kind == 3:
        m = _soft(np.sin(u * (2 * np.pi / period) + phase), period / 6)
        relief = np.where(thing.sdf > -1.6 * unit, 0.7, 1.0)  # a dark rim
    elif thing.kind == 4:
        a, b = np.mod(u + phase, period) - period / 2, np.mod(v + phase, period) - period / 2
        m = _soft(0.3 * period - np.hypot(a, b), 1.0)
        relief = 1 + 0.22 * np.tanh(u / unit) * (-1 if lu > 0 else 1)  # two sides of a ridge
    elif thing.kind == 5:
        angle = np.arctan2(v, u) * 5
        m = _soft(np.sin(angle), 4.0)
        relief = 1 + 0.15 * np.clip(1 - d / r, 0, 1)
    else:
        m = _soft(np.sin(u * (1.4 / unit)) * np.sin(v * (1.4 / unit)), 3.0)
        relief = 1.0
    tones = second + (first - second) * m[..., None]
    return tones * np.asarray(relief, np.float32)[..., None] if np.ndim(relief) and not plain else tones


def _ball(colour: np.ndarray, u: np.ndarray, v: np.ndarray, r: float, lu: float, lv: float) -> np.ndarray:
    """A glossy sphere: diffuse shade, a highlight, and light bounced off the table at the far rim."""
    a, b = u / r, v / r
    height = np.sqrt(np.clip(1 - a * a - b * b, 0, 1))
    facing = (a * lu + b * lv) * -0.66 + height * 0.75
    shade = 0.22 + 0.85 * np.clip(facing, 0, 1) + 0.12 * (1 - height)
    gloss = np.clip(facing, 0, 1) ** 24
    return colour * shade[..., None] + (0.75 * gloss)[..., None]


# -- the camera ------------------------------------------------------------------------------------------------------


def _develop(g: np.random.Generator, image: np.ndarray, light: Light) -> np.ndarray:
    """Uneven light, colour cast, haze and sensor noise; to uint8."""
    side = len(image)
    ramp = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    level = g.uniform(0.65, 1.25) - g.uniform(0.05, 0.45) * (ramp[None] * light.x + ramp[:, None] * light.y)
    image = image * level[..., None] * g.uniform(0.85, 1.15, 3).astype(np.float32)
    haze = g.uniform(0, 0.2)
    image = image * (1 - haze) + haze * g.uniform(0.45, 0.8)
    level = g.uniform(0.005, 0.03)  # before the grain, whose size is the picture's: it is the last that is drawn
    return _bytes(image + level * g.standard_normal((side, side, 3), dtype=np.float32))


def _bytes(image: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _label(owner: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """(S, S) classes from the fine owner map; a pixel that touches two owners is void."""
    padded = np.pad(owner, ((0, 1), (0, 1)), mode="edge")
    window = [padded[dy : dy + owner.shape[0] : 2, dx : dx + owner.shape[1] : 2] for dy in range(3) for dx in range(3)]
    label = kinds[window[0]]
    mixed = np.zeros(label.shape, bool)
    for other in window[1:]:
        mixed |= other != window[0]
    label[mixed] = VOID
    return label
