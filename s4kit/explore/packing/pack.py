"""What the browser gets: one description of the runs (`Pack.meta`), and packs of arrays that it asks for by key.

A *track* is one pseudo-label of one run; `cps` has two of them. All runs show the same probe images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...engine import Run, open_run
from ...errors import S4Error
from .. import corrections, policies
from . import cells, contrasts, story
from .cells import Cells
from .codec import encode
from .tracks import same_pixels, titles_of, tracks_of

VERSION = 1


class Pack:
    """Several runs, ready for the explorer; reads one image at a time.

    Args:
        runs: runs or their folders. titles: of the runs; default "<method> · seed <n>".
        images: indices of the probe images to offer; default all. They are numbered anew, in this order.
        steps: training steps to offer; default all.

    Raises:
        S4Error: a run without snapshots, runs of other classes or probe images, an image or steps that are not there.
    """

    def __init__(
        self,
        runs: Sequence[Run | str | Path],
        titles: Sequence[str] | None = None,
        images: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> None:
        if not runs:
            raise S4Error("Name at least one run to explore.")
        found = [run if isinstance(run, Run) else open_run(run) for run in runs]
        self.all = [run.snapshots() for run in found]
        self.first = self.all[0]
        for snapshots in self.all[1:]:
            same_pixels(self.first, snapshots)
        self.images = list(range(len(self.first))) if images is None else [int(k) for k in images]
        for k in self.images:
            if not 0 <= k < len(self.first):
                raise S4Error(f"There is no probe image {k}: the runs have {len(self.first)}, counted from 0.")
        titles = list(titles) if titles else titles_of(found)
        self.tracks = [t for run in zip(titles, found, self.all) for t in tracks_of(*run, steps)]
        self.maps = lru_cache(4)(self._maps)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What there is to see, as JSON.

        {"version", "classes", "palette", "height", "width", "images": [{"id", "known": has a truth, "kind": its list}],
        "left_out": ids of the other watched images,
        "tracks": [{"title", "run", "method", "name", "steps", "rounds": [{"name", "first": its step}] of a training in
        several stages, "evidence", "lost", "path": number of examples, "path_names": the path of each, "path_ids": its
        image, "" where that is not known, "roles": names of its contrasts, "quality": [[{"coverage", "precision",
        "accuracy", "bias"} per image] per step]}]}: quality is that of the method's own rule, see `policies.numbers`;
        accuracy is that of all pixels, bias the number of confirmed mistakes; None where there is nothing to judge; and
        "partial": by image (as text) that was not looked at every time, the step that is shown at each step; "objects":
        whether single objects were recorded; "unpaintable": why no label can be corrected, "" where one can.
        """
        first = self.first
        known = [bool((self.first.image(k)["truth"] != policies.VOID).any()) for k in self.images]
        return {
            "version": VERSION,
            "classes": first.classes,
            "palette": first.palette,
            "height": first.height,
            "width": first.width,
            "images": [{"id": first.ids[k], "known": w, "kind": first.kinds[k]} for k, w in zip(self.images, known)],
            "left_out": [image for k, image in enumerate(first.ids) if k not in self.images],
            "tracks": [self._describe(t) for t in range(len(self.tracks))],
        }

    def pack(self, key: str) -> bytes:
        """The arrays behind a key, see `codec`; (T, ...) are all steps of the track.

        "image/{k}": image (h, w, 3), truth, valid (h, w).
        "track/{t}/{k}": label, weight, entropy (T, h, w), top, prob (T, 3, h, w); confidence (T, h, w) where it is not
            the top probability; object (T, h, w), numbers of single objects, where they were recorded.
        "path/{t}/{k}": label (255 = none), weight, loss (T, h, w), present (T,); weak, mixed (T, h, w, 3), or (1, h, w,
            3) where they are the same at all steps; in the header loss_max, the loss of level 255, and name, the path.
            A step that is not present shows the pictures of another one and no loss.
        "roles/{t}/{c}": those who take part in a contrast, of all steps, from start[s] to start[s + 1]; start (T + 1,);
            role, label, own, image (n,), see `engine.roles`; place (n, 2) in [0, 1]; pixel (n, 2), row and column in
            [0, 1]; cosine (n,); images (T, B, h, w, 3), or (1, ...) where they are the same at all steps; in the header
            name, share of the variance at each step (None where there is no contrast) and roles.
        "summary/{t}": over the images of `judged`, pixels with known truth by label and level of prob: total, right (T,
            C, 256); truth_count (C,); in the header images, how many have a truth, and whether these are all.
        "cells/{t}": over all images and steps, pixels by image, truth and label: place, every, kept (n,), see `Cells`;
            in the header ids and kinds of the images counted.
        "story/{t}": the run's loss terms, see `story.losses`; in the header findings, see `story.verdicts`.

        Raises:
            S4Error: there is no such key.
        """
        kind, *numbers = str(key).split("/")
        try:
            makers = {"image": self._image, "track": self._track, "path": self._path, "summary": self._summary}
            makers |= {"cells": self._cells, "story": self._story, "roles": self._roles}
            return makers[kind](*(_index(n) for n in numbers))
        except S4Error:
            raise
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise S4Error(f"The explorer has nothing under {key!r}.") from error

    # ---- what the keys hold ----

    def _image(self, k: int) -> bytes:
        return encode(self.first.image(self.images[k]))

    def _track(self, t: int, k: int) -> bytes:
        maps = self.maps(t, k)
        same = np.array_equal(maps["confidence"], maps["prob"][:, 0])
        return encode({name: values for name, values in maps.items() if not (same and name == "confidence")})

    def _maps(self, t: int, k: int, *fields: str) -> dict[str, np.ndarray]:
        """All steps of a track on one image: label, weight, confidence, entropy (T, h, w), top, prob (T, 3, h, w), and
        object (T, h, w) where all of them have it."""
        track, image, seen = self.tracks[t], self.images[k], self.seen(t, k)
        found = {step: track.snapshots.read(step, track.name, image, *fields) for step in dict.fromkeys(seen)}
        common = [field for field in found[seen[0]] if all(field in maps for maps in found.values())]
        return {field: np.stack([found[step][field] for step in seen]) for field in common}

    def seen(self, t: int, k: int) -> list[int]:
        """The step that is shown of an image at each step of a track: its own nearest one, where it was added later.

        Raises:
            S4Error: the track has no snapshot of the image.
        """
        track = self.tracks[t]
        recorded = track.snapshots.recorded(track.name, self.images[k])
        if not recorded:
            raise S4Error(f"{track.run.path} has no snapshot of {self.first.ids[self.images[k]]}: add it once more.")
        return [min(recorded, key=lambda other: abs(other - step)) for step in track.steps]

    def _path(self, t: int, k: int) -> bytes:
        track = self.tracks[t]
        path, row = track.examples[k]
        recorded = track.snapshots.path_steps[path]
        present = np.array([step in recorded for step in track.steps])
        found = [track.snapshots.path(step if step in recorded else recorded[0], path, row) for step in track.steps]
        blank = np.zeros(track.snapshots.path_size, np.uint8)
        label, weight, loss, weak, mixed = (
            np.stack([maps.get(name, blank + (255 if name == "label" else 0)) for maps in found])
            for name in ("label", "weight", "loss", "weak", "mixed")
        )
        label[~present], weight[~present], loss[~present] = 255, 0, 0
        top = float(loss.max())
        arrays = {"label": label, "weight": weight, "loss": np.rint(loss * (255 / top if top else 0)).astype(np.uint8)}
        for name, pictures in (("weak", weak), ("mixed", mixed)):
            arrays[name] = pictures[:1] if (pictures == pictures[0]).all() else pictures
        return encode(arrays | {"present": present.astype(np.uint8)}, loss_max=top, name=path)

    def _roles(self, t: int, c: int) -> bytes:
        track = self.tracks[t]
        arrays, header = contrasts.over_time(track, track.contrasts[c])
        return encode(arrays, **header)

    def _summary(self, t: int) -> bytes:
        classes, steps, judged = len(self.first.classes), len(self.tracks[t].steps), self.judged(t)
        total, right = np.zeros((2, steps, classes * 256), np.uint32)
        truth_count, images = np.zeros(classes, np.uint32), 0
        for k in judged:
            scene, maps = self.first.image(self.images[k]), self._maps(t, k, "prob")
            known = (scene["valid"] > 0) & (scene["truth"] != policies.VOID)
            truth, images = scene["truth"][known], images + bool(known.any())
            truth_count += np.bincount(truth, minlength=classes).astype(np.uint32)
            for s in range(steps):
                label = maps["label"][s][known]
                place = label * np.int64(256) + maps["prob"][s, 0][known]
                total[s] += np.bincount(place, minlength=classes * 256).astype(np.uint32)
                right[s] += np.bincount(place[label == truth], minlength=classes * 256).astype(np.uint32)
        arrays = {"total": total.reshape(steps, -1, 256), "right": right.reshape(steps, -1, 256)}
        return encode(arrays | {"truth_count": truth_count}, images=images, all=len(judged) == len(self.images))

    def cells(self, t: int) -> Cells:
        """What a track makes of each class over all images and steps, see `counted`."""
        chosen = self.counted(t)

        def read(k: int) -> tuple[np.ndarray, ...]:
            scene, maps = self.first.image(self.images[chosen[k]]), self._maps(t, chosen[k], "weight")
            return scene["truth"], scene["valid"], maps["label"], maps["weight"]

        return cells.count(len(self.first.classes), len(chosen), len(self.tracks[t].steps), read)

    def counted(self, t: int) -> list[int]:
        """The images that were looked at every time; all, where there is none."""
        later = self._partial(t)
        return [k for k in range(len(self.images)) if str(k) not in later] or list(range(len(self.images)))

    def judged(self, t: int) -> list[int]:
        """Those of `counted` that are unlabelled, which is what pseudo-labels are for; all of them, where none is."""
        counted = self.counted(t)
        return [k for k in counted if self.first.kinds[self.images[k]] == "unlabelled"] or counted

    def _cells(self, t: int) -> bytes:
        found = self.cells(t)
        arrays = {name: getattr(found, name).astype(np.uint32) for name in ("place", "every", "kept")}
        images = [self.images[k] for k in self.counted(t)]
        return encode(arrays, ids=[self.first.ids[k] for k in images], kinds=[self.first.kinds[k] for k in images])

    def _story(self, t: int) -> bytes:
        run, steps, classes = self.tracks[t].run, self.tracks[t].steps, self.first.classes
        ids = [self.first.ids[self.images[k]] for k in self.counted(t)]
        return encode(story.losses(run), findings=story.verdicts(run, steps, classes, self.cells(t), ids))

    def _describe(self, t: int) -> dict[str, Any]:
        track = self.tracks[t]
        per_image = [self._quality(t, k) for k in range(len(self.images))]
        return {
            "title": track.title,
            "run": track.run.path.resolve().name,
            "method": str(track.run.config["method"]),
            "name": track.name,
            "steps": list(track.steps),
            "rounds": [{"name": stage["name"], "first": stage["first"]} for stage in track.run.rounds],
            "evidence": track.snapshots.evidence,
            "lost": track.snapshots.lost,
            "quality": [list(step) for step in zip(*per_image)],
            "partial": self._partial(t),
            "objects": "object" in self._maps(t, 0, "object"),
            "unpaintable": corrections.why_not(track.run),
            "path": len(track.examples),
            "path_names": [path for path, _ in track.examples],
            "roles": list(track.contrasts),
            "path_ids": [_at(track.snapshots.path_ids.get(path, []), k) for path, k in track.examples],
        }

    def _partial(self, t: int) -> dict[str, list[int]]:
        """The step that stands at each step, by image, of those that were not looked at every time."""
        seen = {str(k): self.seen(t, k) for k in range(len(self.images))}
        return {k: steps for k, steps in seen.items() if steps != list(self.tracks[t].steps)}

    def _quality(self, t: int, k: int) -> list[dict[str, Any]]:
        """Quality of the own rule on one image, for each step."""
        scene, maps = self.first.image(self.images[k]), self._maps(t, k, "weight")
        truth, valid = scene["truth"], scene["valid"]
        known, kept = (valid > 0) & (truth != policies.VOID), (maps["weight"] > 0) & (valid > 0)
        right = known & (maps["label"] == truth)
        bias = policies.bias_counts(maps["label"], maps["weight"], truth, valid)
        return [
            {
                "coverage": policies.ratio(kept[s].sum(), (valid > 0).sum()),
                "precision": policies.ratio((kept[s] & right[s]).sum(), (kept[s] & known).sum()),
                "accuracy": policies.ratio(right[s].sum(), known.sum()),
                "bias": bias[s],
            }
            for s in range(len(kept))
        ]


def _index(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _at(ids: Sequence[str], k: int) -> str:
    return ids[k] if k < len(ids) else ""
