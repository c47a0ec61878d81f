"""Made-up snapshots for the browser tests, in the explorer's own format: shapes, smooth confidences, mistakes at
borders and one object that stays wrong, a void ring, padding, an image without truth; better from step to step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from s4kit.explore import policies
from s4kit.explore.packing import cells
from s4kit.explore.packing.codec import encode

CLASSES = ["ground", "disc", "box", "band", "ring", "dot"]
PALETTE = [[0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0]]
STEPS = [9, 19, 49, 99, 199]
LOSSES = {
    "step": np.arange(4, 200, 5, dtype=np.uint32),
    "loss/x": np.linspace(2, 0.2, 40, dtype=np.float32),
    "loss/u": np.where(np.arange(40) < 8, np.nan, 0.5).astype(np.float32),
}
FINDINGS = [
    {"check": "classes", "level": "problem", "figures": "box starves", "advice": "More labels."}
    | {"at": 2, "class": 2, "image": "street_01"},
    {
        "check": "precision",
        "level": "warning",
        "figures": "it fell",
        "advice": "",
        "at": 2,
        "class": None,
        "image": None,
    },
    {"check": "last and best", "level": "warning", "figures": "worse", "advice": "", "at": 3, "class": None}
    | {"image": "street_99"},
]


@dataclass
class Made:
    """Arrays as numpy has them, and the same as the page gets them."""

    meta: dict[str, Any]
    scenes: list[dict[str, ndarray]] = field(default_factory=list)
    maps: list[list[dict[str, ndarray]]] = field(default_factory=list)  # [track][image]: (T, ...)
    paths: list[list[dict[str, ndarray]]] = field(default_factory=list)

    def packs(self) -> dict[str, bytes]:
        """What `Pack.pack` gives, by key."""
        found = {f"image/{k}": encode(scene) for k, scene in enumerate(self.scenes)}
        for t, images in enumerate(self.maps):
            found |= {f"track/{t}/{k}": encode(maps) for k, maps in enumerate(images)}
            found[f"summary/{t}"] = encode(self.summary(t), images=len(self.scenes) - 1)
            counts = {name: getattr(self.cells(t), name).astype(np.uint32) for name in ("place", "every", "kept")}
            about = {
                f"{name}s": [image.get(name, "unlabelled") for image in self.meta["images"]] for name in ("id", "kind")
            }
            found[f"cells/{t}"] = encode(counts, **about)
            found[f"story/{t}"] = encode(LOSSES, findings=FINDINGS)
            found[f"roles/{t}/0"] = encode(self.roles(t), name="contrast", share=[None, 0.5, 0.5, 0.6, 0.7])
            for k, way in enumerate(self.paths[t]):
                top = float(way["loss"].max())
                level = np.rint(way["loss"] * (255 / top)).astype(np.uint8)
                found[f"path/{t}/{k}"] = encode(way | {"loss": level}, loss_max=top, name="pseudo")
        return found

    def cells(self, t: int) -> cells.Cells:
        """Pixels by snapshot, image, truth and label."""

        def read(k: int) -> tuple[ndarray, ...]:
            scene, maps = self.scenes[k], self.maps[t][k]
            return scene["truth"], scene["valid"], maps["label"], maps["weight"]

        return cells.count(len(self.meta["classes"]), len(self.scenes), len(STEPS), read)

    def summary(self, t: int) -> dict[str, ndarray]:
        """Histograms over all images: total, right (T, C, 256) and truth_count (C,)."""
        classes, steps = len(self.meta["classes"]), len(STEPS)
        total, right = np.zeros((2, steps, classes, 256), np.uint32)
        truth_count = np.zeros(classes, np.uint32)
        for scene, maps in zip(self.scenes, self.maps[t]):
            known = (scene["valid"] > 0) & (scene["truth"] != 255)
            truth = scene["truth"][known]
            np.add.at(truth_count, truth, 1)
            for s in range(steps):
                label, level = maps["label"][s][known], maps["prob"][s, 0][known]
                np.add.at(total[s], (label, level), 1)
                np.add.at(right[s], (label[label == truth], level[label == truth]), 1)
        return {"total": total, "right": right, "truth_count": truth_count}

    def roles(self, t: int) -> dict[str, ndarray]:
        """A contrast, from the second snapshot on the same: of classes 1 and 2 three anchors, three positives, four
        negatives, the last one of which is a memory's, and a prototype, in two pictures."""
        random, kinds = np.random.default_rng(t), [0] * 3 + [1] * 3 + [2] * 4 + [3]
        n, times = 2 * len(kinds), len(STEPS) - 1
        one = {"role": np.array(kinds * 2, np.uint8), "label": np.repeat([1, 2], n // 2).astype(np.uint8)}
        one["own"] = np.where(one["role"] == 2, 3 - one["label"], one["label"]).astype(np.uint8)
        one["image"] = np.array([0, 1, 0, 0, 1, 0, 1, 0, 1, 255, 255] * 2, np.uint8)
        for name in ("place", "pixel"):  # on a grid of their own, so that nobody hides another
            spots = random.permutation(36)[:n]
            one[name] = np.stack([spots % 6 / 6 + 1 / 12, spots // 6 / 6 + 1 / 12], 1).astype(np.float32)
        one["cosine"] = random.uniform(-1, 1, n).astype(np.float32)
        arrays = {name: np.concatenate([values] * times) for name, values in one.items()}
        images = np.stack([scene["image"] for scene in self.scenes[:2]])[None]
        return arrays | {"start": np.array([0, 0, *range(n, n * times + 1, n)], np.uint32), "images": images}

    def numbers(self, policy: str, level: int, t: int, k: int, s: int) -> dict[str, Any]:
        """What numpy says of a policy on one image and snapshot."""
        scene, maps = self.scenes[k], self.at(t, k, s)
        mask = policies.kept(policy, level, maps, scene["valid"])
        return policies.numbers(mask, maps["label"], scene["truth"], scene["valid"], len(self.meta["classes"]))

    def at(self, t: int, k: int, s: int) -> dict[str, ndarray]:
        """The maps of one snapshot; prob is that of the most likely class."""
        maps = {name: values[s] for name, values in self.maps[t][k].items()}
        return maps | {"prob": maps["prob"][0]}


def make(height: int = 96, width: int = 128, tracks: int = 2, images: int = 3, seed: int = 0) -> Made:
    """`images` scenes (the last without a truth) as `tracks` methods see them at the STEPS."""
    random = np.random.default_rng(seed)
    made = Made({"version": 1, "classes": CLASSES, "palette": PALETTE, "height": height, "width": width})
    for k in range(images):
        made.scenes.append(_scene(random, height, width, known=k < images - 1, padding=8 if k == 1 else 0))
    hidden = [scene.pop("hidden") for scene in made.scenes]
    for t in range(tracks):
        made.maps.append([_beliefs(random, truth, start=0.8 + 0.4 * t) for truth in hidden])
        made.paths.append([_way(random, maps, scene) for maps, scene in zip(made.maps[t][:2], made.scenes)])
    for maps in made.maps[0]:  # the first track sees single objects: of each class but the ground and the band one
        maps["object"] = np.where(np.isin(maps["label"], (0, 3)), 0, maps["label"])
    made.meta["images"] = [{"id": f"street_{k:02d}", "known": k < images - 1} for k in range(images)]
    made.meta["left_out"] = []
    made.meta["tracks"] = [_about(made, t) for t in range(tracks)]
    return made


def _scene(random: np.random.Generator, height: int, width: int, known: bool, padding: int) -> dict[str, ndarray]:
    y, x = np.mgrid[:height, :width]
    truth = np.zeros((height, width), np.uint8)
    truth[(y > 0.7 * height) & (y < 0.85 * height)] = 3
    for c in (1, 2, 4, 5, 1, 2):
        cy, cx, r = random.uniform(0.15, 0.85) * height, random.uniform(0.15, 0.85) * width, height * 0.16
        far = np.hypot(y - cy, x - cx)
        shape = {1: far < r, 2: np.maximum(abs(y - cy), abs(x - cx)) < r, 4: (far < r) & (far > r / 2), 5: far < r / 3}
        truth[shape[c]] = c
    hidden = truth.copy()
    edge = (truth != np.roll(truth, 1, 0)) | (truth != np.roll(truth, 1, 1))
    truth[edge] = 255
    image = np.array(PALETTE, float)[hidden] * 0.5 + 60 + (y // 3 / height * 120)[..., None]
    image += np.repeat(random.normal(0, 8, (height, width // 4, 1)), 4, 1)[:, :width]
    valid = np.ones_like(truth)
    if padding:
        valid[:, -padding:] = 0
    if not known:
        truth[:] = 255
    image = image.clip(0, 255).astype(np.uint8) * valid[..., None]
    return {"image": image, "truth": truth, "valid": valid, "hidden": hidden}


def _smooth(maps: ndarray, by: int) -> ndarray:
    for axis in (-2, -1):
        maps = sum(np.roll(maps, shift, axis) for shift in range(-by, by + 1)) / (2 * by + 1)
    return maps


def _beliefs(random: np.random.Generator, truth: ndarray, start: float) -> dict[str, ndarray]:
    """What a network that learns says: blurred truth and fading noise; boxes are taken for discs for a long time."""
    believed = np.where((truth == 2) & (random.random() < 0.7), 1, truth)
    found: dict[str, list[ndarray]] = {}
    noise = _smooth(_smooth(random.normal(size=(len(CLASSES), *truth.shape)), 5), 4)
    noise *= 1.3 / noise.std()
    for s in range(len(STEPS)):
        source = truth if s == len(STEPS) - 1 and start > 1 else believed
        evidence = _smooth((source == np.arange(len(CLASSES))[:, None, None]).astype(float), 6 - s)
        logits = (start + 0.5 * s) * evidence * 2.2 + noise * (1 - 0.1 * s)
        probs = np.exp(logits - logits.max(0))
        probs /= probs.sum(0)
        top = np.argsort(-probs, axis=0, kind="stable")[:3]
        prob = np.take_along_axis(probs, top, 0)
        entropy = -(probs * np.log(probs + 1e-12)).sum(0) / np.log(len(CLASSES))
        weight = np.where(prob[0] > 0.85, 1.0, np.where(prob[0] > 0.7, 0.4, 0))  # a soft rule
        for name, values in {"prob": prob, "entropy": entropy, "confidence": prob[0]}.items():
            found.setdefault(name, []).append(np.rint(255 * values.clip(0, 1)).astype(np.uint8))
        found.setdefault("weight", []).append(np.ceil(255 * weight).astype(np.uint8))
        found.setdefault("top", []).append(top.astype(np.uint8))
        found.setdefault("label", []).append(top[0].astype(np.uint8))
    return {name: np.stack(values) for name, values in found.items()}


def _way(random: np.random.Generator, maps: dict[str, ndarray], scene: dict[str, ndarray]) -> dict[str, ndarray]:
    """An image's way through a step; the first snapshot has none."""
    weak = np.stack([scene["image"]] * len(STEPS))
    mixed = (255 - weak // 2).astype(np.uint8)
    loss = maps["entropy"].astype(np.float32) * (maps["weight"] > 0) / 100
    present = np.array([0] + [1] * (len(STEPS) - 1), np.uint8)
    arrays = {"weak": weak, "mixed": mixed, "loss": loss} | {name: maps[name].copy() for name in ("label", "weight")}
    arrays["label"][0] = 255
    for name in ("weak", "mixed", "weight", "loss"):
        arrays[name][0] = 0
    return arrays | {"present": present}


def _about(made: Made, t: int) -> dict[str, Any]:
    quality = []
    for s in range(len(STEPS)):
        row = []
        for k, scene in enumerate(made.scenes):
            own, maps = made.numbers("own", 0, t, k, s), made.maps[t][k]
            all_right = made.numbers("fixed", 0, t, k, s)["precision"]
            bias = policies.bias_counts(maps["label"], maps["weight"], scene["truth"], scene["valid"])[s]
            row.append({name: own[name] for name in ("coverage", "precision")} | {"accuracy": all_right, "bias": bias})
        quality.append(row)
    return {
        "title": ["fixmatch · seed 0", "unimatch · seed 0", "cps · seed 0"][t],
        "run": f"run{t}",
        "method": "fixmatch",
        "name": "pseudo",
        "steps": STEPS,
        "evidence": "rule on an eval forward",
        "lost": "probabilities are rounded to levels of 1/255; of 6 classes the 3 most likely are kept",
        "path": len(made.paths[t]),
        "roles": ["contrast"],
        "path_names": ["pseudo"] * len(made.paths[t]),
        "path_ids": [image["id"] for image in made.meta["images"][: len(made.paths[t])]],
        "quality": quality,
        "objects": t == 0,
    }
