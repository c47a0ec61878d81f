"""Where the watched pixels lie in a network's feature space: points in the plane that know their image and pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...engine import probe, watched
from ...errors import S4Error
from ..plots.features import project

POINTS = 1500


@torch.no_grad()
def points(view: Any, track: int, how: str = "pca", most: int = POINTS) -> dict[str, Any]:
    """Pixels of the watched images by the last weights' embedding, the map before the last convolution.

    Args:
        view: a `View`. track: its index. how: see `plots.features.project`. most: points over all images.

    Returns:
        {"x", "y" in [0, 1], "image", "pixel" (of the stored map, row by row), "label", "truth" at the last snapshot:
        lists of equal length; "how": the projection's name}.

    Raises:
        S4Error: the checkpoint or the data is not there, or the network shows no embedding.
    """
    method, task, _ = view.loaded(track).all
    net = next(iter(method.predictors().values()))
    if not hasattr(net, "decode"):
        raise S4Error(f"The network of {view.data.tracks[track].run.path} shows no embedding of its pixels.")
    settings, ids = view.data.tracks[track].run.settings, [image["id"] for image in view.meta["images"]]
    watch = probe.Probe(task, watched.find(task, ids), method, settings.probe_whole)
    places = {name: k for k, name in enumerate(ids)}
    vectors, found = [], []
    for chosen, views, _ in watch.chunks(next(method.parameters()).device):
        maps = net.decode(net.encode(views.weak)).embedding.float().cpu()
        for image, vector in zip((places[watch.items[k].id] for k in chosen), maps):
            cells, rows = _drawn(view, track, image, tuple(vector.shape[1:]), max(1, most // len(ids)), settings)
            vectors.append(vector[:, cells[0], cells[1]].T)
            found += rows
    flat, name = project(torch.cat(vectors), how)
    flat = (flat - flat.min(0)) / np.maximum(flat.max(0) - flat.min(0), 1e-9)
    columns = dict(zip(("image", "pixel", "label", "truth"), map(list, zip(*found))))
    lies = {"x": flat[:, 0].round(4).tolist(), "y": flat[:, 1].round(4).tolist()}
    return lies | columns | {"how": name}


def _drawn(
    view: Any, track: int, image: int, size: tuple[int, int], many: int, settings: Any
) -> tuple[tuple[np.ndarray, np.ndarray], list[tuple[int, int, int, int]]]:
    """Cells of an embedding map of `size` (rows, columns), drawn at random; (image, pixel, label, truth) of each."""
    scene = view.data.first.image(view.data.images[image])
    valid, label = scene["valid"] > 0, view.data.maps(track, image)["label"][-1]
    held = (valid.any(1).sum(), valid.any(0).sum()) if settings.probe_whole else valid.shape  # whole: at the top left
    y, x = (((2 * np.arange(n) + 1) * of // (2 * n)) for n, of in zip(size, held))
    there = np.argwhere(valid[y[:, None], x])
    there = there[np.sort(np.random.default_rng(image).permutation(len(there))[:many])]
    at = y[there[:, 0]], x[there[:, 1]]
    pixels = at[0] * valid.shape[1] + at[1]
    rows = [(image, int(i), int(c), int(of)) for i, c, of in zip(pixels, label[at], scene["truth"][at])]
    return (there[:, 0], there[:, 1]), rows
