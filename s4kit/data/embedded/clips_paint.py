"""How a clip is painted: the table and the objects of the scenes under a moving camera, some of the objects moving.

Everything of a clip is drawn once (table, objects, their paths, light); a frame is what the camera sees of it at a
moment. The camera moves by whole pixels of the table, so that the motion of every pixel is known exactly. Motion asks
which object a pixel shows, not what that looks like: neither the table nor a surface is painted for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..seeding import generator
from . import scenes_paint as scene
from .outlines import outline

VERSION = 2  # of the pictures, see `scenes_paint.VERSION`
OBJECTS, STICKS = (7, 14), (6, 16)  # how many lie on the table (the end excluded); the camera sees a part of it
RADIUS, PEG = (10, 20), (7, 9)  # of objects, in nominal pixels, see `scenes_paint`
CAMERA, OBJECT, TURN = (0.6, 2.2), 1.8, 0.12  # speeds: nominal pixels a frame, at most, radians a frame
RESTING = 0.3  # share of the objects that lie still


@dataclass(frozen=True)
class Thing:
    """One object: class and number; radius and squash; where it is in the middle of the clip and how it moves, in fine
    pixels (x, y) of the picture and radians a frame."""

    kind: int
    number: int
    r: float
    squash: float
    at: np.ndarray
    speed: np.ndarray
    turn: float
    spin: float


class Clip:
    """Clip `index`, `frames` pictures of `side` pixels; a pure function of its arguments."""

    def __init__(self, seed: int, index: int, side: int = scene.NOMINAL, frames: int = 5) -> None:
        self.seed, self.index, self.side, self.frames = seed, index, side, frames
        g = generator("clips", seed, index)
        self.fine = 2 * side
        self.unit = self.fine / scene.NOMINAL
        self.margin = self.fine // 2  # of table around what a resting camera sees
        angle = g.uniform(0, 2 * np.pi)
        self.light = scene.Light(math.cos(angle), math.sin(angle), g.uniform(0.12, 0.35))
        self.camera = self._path(g)
        self.things = [self._thing(g, number) for number in range(1, int(g.integers(*OBJECTS)) + 1)]
        self.kinds = np.array([0, *(thing.kind for thing in self.things)], np.uint8)
        self.level, self.fall = g.uniform(0.65, 1.25), g.uniform(0.05, 0.45)
        self.cast = g.uniform(0.85, 1.15, 3).astype(np.float32)
        self.haze, self.grey, self.grain = g.uniform(0, 0.2), g.uniform(0.45, 0.8), g.uniform(0.005, 0.03)
        self.drift = g.uniform(-0.04, 0.04)  # of the exposure, a frame
        self._owners: dict[int, np.ndarray] = {}

    @cached_property
    def table(self) -> np.ndarray:
        """(F + 2 M, F + 2 M, 3) float32, what lies under the objects."""
        g = generator("clips", "table", self.seed, self.index)
        table = scene._ground(g, self.fine + 2 * self.margin, self.unit)
        for _ in range(g.integers(*STICKS)):
            scene._stick(g, table, self.unit, self.light)
        return table

    def _path(self, g: np.random.Generator) -> np.ndarray:
        """(T, 2) whole fine pixels: a straight path with a slow sway, at rest in the middle of the table."""
        angle, speed = g.uniform(0, 2 * np.pi), g.uniform(*CAMERA) * self.unit
        sway = g.uniform(-2, 2, 2) * self.unit
        t = self._moments()[:, None]
        path = speed * t * np.array([[math.cos(angle), math.sin(angle)]]) + sway * np.sin(0.7 * t)
        return np.round(np.clip(path, -self.margin, self.margin)).astype(int)

    def _moments(self) -> np.ndarray:
        """(T,) frames from the middle one on."""
        return np.arange(self.frames) - (self.frames - 1) / 2

    def _thing(self, g: np.random.Generator, number: int) -> Thing:
        kind = int(g.choice(7, p=scene.FREQUENCY))
        r = g.uniform(*(PEG if kind == 6 else RADIUS)) * self.unit
        at, squash, turn = g.uniform(-0.25, 1.25, 2) * self.fine, g.uniform(0.7, 1.0), g.uniform(0, 2 * np.pi)
        angle, speed, spin = g.uniform(0, 2 * np.pi), g.uniform(0, OBJECT) * self.unit, g.uniform(-TURN, TURN)
        if g.random() < RESTING:
            speed = spin = 0.0
        return Thing(kind, number, r, squash, at, speed * np.array([math.cos(angle), math.sin(angle)]), turn, spin)

    def pose(self, thing: Thing, frame: int) -> tuple[np.ndarray, float]:
        """Where an object's centre is (x, y), in fine pixels of the picture, and how it is turned."""
        k = self._moments()[frame]
        return thing.at + thing.speed * k - self.camera[frame], thing.turn + thing.spin * k

    def frame(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (S, S, 3) and label (S, S) with a void ring of 1 pixel around objects, uint8."""
        x, y = self.camera[frame] + self.margin
        image = self.table[y : y + self.fine, x : x + self.fine].copy()
        for thing, turn, (rows, columns, x, y) in self._seen(frame):
            self._draw(image[rows, columns], thing, turn, x, y)
        rows = image[::2] + image[1::2]
        small = (rows[:, ::2] + rows[:, 1::2]) / 4
        return self._develop(small, frame), scene._label(self._owned(frame), self.kinds)

    def owner(self, frame: int) -> np.ndarray:
        """(S, S) uint8, the number of the object that a pixel's middle shows, 0 = the table; remembered."""
        if frame not in self._owners:
            self._owners[frame] = self._owned(frame)[1::2, 1::2].astype(np.uint8)
        return self._owners[frame]

    def _owned(self, frame: int) -> np.ndarray:
        """(F, F) int16, whose each fine pixel is."""
        owned = np.zeros((self.fine, self.fine), np.int16)
        for thing, turn, (rows, columns, x, y) in self._seen(frame):
            edge = outline(thing.kind, x, y, thing.r, turn, thing.squash)
            owned[rows, columns][edge < 0] = thing.number
        return owned

    def _seen(self, frame: int) -> Iterator[tuple[Thing, float, tuple[slice, slice, np.ndarray, np.ndarray]]]:
        """Objects that reach into the picture, the lowest first: how each is turned, and the window with its shadow."""
        for thing in self.things:
            (x, y), turn = self.pose(thing, frame)
            window = scene._box(float(x), float(y), 1.45 * thing.r + 2 * self._height(thing), self.fine)
            if window is not None:
                yield thing, turn, window

    def _height(self, thing: Thing) -> float:
        """How far its shadow reaches, in fine pixels."""
        return (1.0 if thing.kind == 1 else 0.55) * self.light.reach * thing.r + self.unit

    def _draw(self, part: np.ndarray, thing: Thing, turn: float, x: np.ndarray, y: np.ndarray) -> None:
        """One object over what is there, its shadow first; its surface is the same in every frame."""
        light, form, height = self.light, (thing.r, turn, thing.squash), self._height(thing)
        scene._shade(part, outline(thing.kind, x + light.x * height, y + light.y * height, *form), height)
        body = scene._thing(thing.kind, x, y, *form)
        g = generator("clips", "surface", self.seed, self.index, thing.number)
        surface = scene._body(g, body, turn, scene.Setting(self.unit, light, plain=False))
        scene._blend(part, surface, np.clip(0.5 - body.sdf, 0, 1))

    def _develop(self, image: np.ndarray, frame: int) -> np.ndarray:
        """Uneven light, colour cast and haze of the clip, exposure and grain of the frame; to uint8."""
        ramp = (np.arange(self.side, dtype=np.float32) + 0.5) / self.side - 0.5
        level = self.level * (1 + self.drift * self._moments()[frame])
        level = level - self.fall * (ramp[None] * self.light.x + ramp[:, None] * self.light.y)
        image = image * level[..., None].astype(np.float32) * self.cast
        image = image * (1 - self.haze) + self.haze * self.grey
        g = generator("clips", "grain", self.seed, self.index, frame)
        image = image + self.grain * g.standard_normal(image.shape, dtype=np.float32)
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)

    def flow(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        """(S, S, 2) float32, the way in pixels (x, y) from a pixel of frame `a` to where its surface is in frame `b`;
        and (S, S) bool, whether it is seen there: inside the picture and not covered."""
        owner, other = self.owner(a), self.owner(b)
        centres = 2 * np.arange(self.side, dtype=np.float64) + 1  # in fine pixels
        x, y = np.meshgrid(centres, centres)
        flow = np.empty((self.side, self.side, 2))
        flow[:] = self.camera[a] - self.camera[b]
        for thing in self.things:
            at = owner == thing.number
            (first, turned), (then, now) = self.pose(thing, a), self.pose(thing, b)
            c, s = math.cos(now - turned), math.sin(now - turned)
            dx, dy = x[at] - first[0], y[at] - first[1]
            flow[at] = np.stack([then[0] + dx * c - dy * s - x[at], then[1] + dx * s + dy * c - y[at]], 1)
        flow /= 2
        to = np.round(np.stack([x, y], 2) / 2 - 0.5 + flow).astype(int)
        inside = ((to >= 0) & (to < self.side)).all(2)
        column, row = np.clip(to, 0, self.side - 1).transpose(2, 0, 1)
        return flow.astype(np.float32), inside & (other[row, column] == owner)
