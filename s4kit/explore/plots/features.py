"""Embeddings of pixels in the plane: principal components, or t-SNE where scikit-learn is there."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.task import Task
from ...engine.roles import principal
from ...errors import S4Error
from ...report.plots import Picture, dress, figure

MARKERS = ("o", "*", "^", "s", "D", "P", "X")


def project(vectors: Tensor, how: str = "auto", seed: int = 0) -> tuple[np.ndarray, str]:
    """(N, D) vectors to (N, 2) and the name of the method.

    Args:
        how: "pca", "tsne", "umap", or "auto": t-SNE where scikit-learn is installed, else principal components.

    Raises:
        S4Error: "tsne" without scikit-learn, "umap" without umap-learn, or fewer than three vectors.
    """
    if how == "umap" and importlib.util.find_spec("umap") is None:
        raise S4Error("how='umap' needs umap-learn (pip install umap-learn); 'pca' needs nothing.")
    there = importlib.util.find_spec("sklearn") is not None
    if how not in ("auto", "pca", "tsne", "umap") or (how == "tsne" and not there):
        raise S4Error(f"how={how!r}: use 'pca' or 'auto'; 'tsne' needs scikit-learn (pip install scikit-learn).")
    if vectors.ndim != 2 or len(vectors) < 3:
        raise S4Error(f"Give at least three vectors (N, D), not {tuple(vectors.shape)}.")
    values = vectors.detach().float().cpu()
    if how == "umap":
        from umap import UMAP

        return UMAP(n_components=2, random_state=seed).fit_transform(values.numpy()), "UMAP"
    if how == "pca" or not there:
        return principal(values)[0].numpy(), "PCA"
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(values) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(values.numpy()), "t-SNE"


def embeddings(
    vectors: Tensor,
    labels: Any,
    task: Task,
    groups: Sequence[str] | None = None,
    how: str = "auto",
    most: int = 1500,
    title: str = "",
) -> Picture:
    """Pixels in the plane of their embeddings, coloured by class.

    Args:
        vectors: (N, D). labels: (N,) class index. task: whose names and colours are taken.
        groups: N names such as "anchor", "negative", "bank": each has its own marker, the first ones are drawn last.
        how: see `project`. most: at most so many points, drawn at random. title: before what is drawn.
    """
    kinds = np.asarray(groups if groups is not None else [""] * len(vectors))
    label = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if len(vectors) > most:
        chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[:most])
        vectors, label, kinds = vectors[torch.from_numpy(chosen)], label[chosen], kinds[chosen]
    points, name = project(vectors, how)
    fig = figure((7.6, 5.0))
    axis = fig.subplots()
    order = list(dict.fromkeys(kinds))
    for k, kind in reversed(list(enumerate(order))):
        for c in np.unique(label):
            on = (kinds == kind) & (label == c)
            shade = np.array(task.palette[c]) / 255
            axis.scatter(
                *points[on].T, s=24 if k == 0 else 40, marker=MARKERS[k % 7], color=[shade], edgecolor="#222", lw=0.4
            )
    _legend(fig, task, np.unique(label), [kind for kind in order if kind])
    words = f"{name} of {len(points)} pixels' embeddings"
    axis.set(xticks=[], yticks=[], title=f"{title}: {words}" if title else words)
    dress(axis)
    return fig


def _legend(fig: Any, task: Task, classes: np.ndarray, kinds: list[str]) -> None:
    from matplotlib.lines import Line2D

    def mark(name: str, marker: str, shade: Any) -> Line2D:
        return Line2D([], [], ls="", marker=marker, color=shade, markeredgecolor="#222", markersize=7, label=name)

    marks = [mark(task.classes[c], "o", np.array(task.palette[c]) / 255) for c in classes]
    marks += [mark(kind, MARKERS[k % 7], "white") for k, kind in enumerate(kinds)]
    fig.legend(handles=marks, loc="outside right upper", frameon=False, fontsize=9)
