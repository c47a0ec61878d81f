"""Points of the feature space: their vectors are the network's, and they know their image, pixel, label and truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.explore.plots.features import project
from s4kit.explore.view import View


def test_points_are_the_networks_and_know_their_pixels(runs):
    view = View([str(runs["fixmatch"]), str(runs["cps"])])
    found = view.answer({"kind": "embedding", "track": 1})
    json.dumps(found)
    method, _, _ = view.loaded(1).all
    net = next(iter(method.predictors().values()))
    image, pixel = np.array(found["image"]), np.array(found["pixel"])
    assert np.array_equal(np.unique(image), np.arange(5))
    vectors = []
    for k in range(5):
        scene, maps = view.data.first.image(k), view.data.maps(1, k)
        here = pixel[image == k]
        assert len(set(here)) == len(here) and (scene["valid"].ravel()[here] > 0).all()
        assert np.array_equal(np.array(found["truth"])[image == k], scene["truth"].ravel()[here])
        assert np.array_equal(np.array(found["label"])[image == k], maps["label"][-1].ravel()[here])
        with torch.no_grad():
            weak = torch.tensor(scene["image"]).permute(2, 0, 1)[None].float() / 255
            (embedding,) = net.decode(net.encode(weak)).embedding
        step = 32 // embedding.shape[-1]
        vectors.append(embedding[:, here // 32 // step, here % 32 // step].T)
    flat, name = project(torch.cat(vectors), "pca")
    flat = (flat - flat.min(0)) / (flat.max(0) - flat.min(0))
    assert name == found["how"] == "PCA"
    assert np.allclose(flat, np.stack([found["x"], found["y"]], 1), atol=2e-3)
    with pytest.raises(S4Error, match="how="):
        view.answer({"kind": "embedding", "track": 1, "how": "x"})
