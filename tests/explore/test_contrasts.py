"""Who takes part in a contrast: from a training step to the pack of the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from explored import held, train_runs

import s4kit as s4
from s4kit.engine import roles
from s4kit.engine.writer import Writer
from s4kit.errors import S4Error
from s4kit.explore.packing import contrasts
from s4kit.explore.packing.codec import decode
from s4kit.explore.packing.pack import Pack
from s4kit.explore.view import View
from s4kit.methods.parts.roles import ROLES, Cast, Group


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_runs(tmp_path_factory.mktemp("contrast"), "reco")["reco"]


def cast(vectors: torch.Tensor, images: torch.Tensor) -> Cast:
    """Two anchors, of classes 0 and 2, a positive, a negative of a memory, prototypes of 0 and, not there yet, of 1."""
    label = torch.tensor
    anchor = Group(vectors[:2], label([0, 2]), label([5, 6 + 1]), label([0, 2]))
    positive = Group(vectors[2:3], label([0]), label([0]), label([0]))
    negative = Group(vectors[3:4], label([2]), label([-1]), label([255]))
    prototype = Group(torch.stack([vectors[4], vectors[4] * 0]), label([0, 1]), label([-1, -1]), label([0, 1]))
    groups = {"anchor": [anchor], "positive": [positive], "negative": [negative], "prototype": [prototype]}
    return Cast("x", (2, 3), images, groups)


def test_points_are_directions_on_their_principal_axes():
    torch.manual_seed(0)
    vectors, images = torch.randn(5, 7), torch.rand(2, 3, 8, 12)
    points, pictures = roles.arranged([cast(vectors, images)], 6)["x"]
    assert [ROLES[r] for r in points["role"]] == ["anchor", "anchor", "positive", "negative", "prototype"]
    assert points["label"].tolist() == [0, 2, 0, 2, 0] and points["own"].tolist() == [0, 2, 0, 255, 0]
    assert points["image"].tolist() == [0, 1, 0, 255, 255] and pictures.shape == (2, 4, 6, 3)
    assert np.allclose(points["pixel"][:3], [[0.75, 2.5 / 3], [0.25, 0.5], [0.25, 0.5 / 3]], atol=1e-3)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    near = (unit @ unit[4]).numpy()
    assert np.allclose(points["cosine"][[0, 2]], near[[0, 2]], atol=2e-3) and np.isnan(points["cosine"][[1, 3]]).all()
    centred = (unit - unit.mean(0)).double()
    values, axes = torch.linalg.eigh(centred.T @ centred)
    assert points["share"][0] == pytest.approx(float(values[-2:].sum() / values.sum()), abs=1e-3)
    assert np.allclose(np.abs(points["place"]), (centred @ axes[:, [-1, -2]]).abs(), atol=2e-3)
    longer = roles.arranged([cast(3 * vectors, images)], 6)["x"][0]["place"]
    assert np.allclose(longer, points["place"], atol=2e-3), "lengths do not count"
    assert roles.arranged([Cast("none", (2, 3), images)], 6) == {}


def test_a_run_keeps_them_and_a_pack_has_all_steps(run):
    snapshots = s4.open_run(run).snapshots()
    assert snapshots.role_steps == {"contrast": [1, 3, 5]}
    pack = Pack([run])
    assert pack.meta["tracks"][0]["roles"] == ["contrast"]
    arrays, header = decode(pack.pack("roles/0/0"))
    assert header["name"] == "contrast" and header["roles"] == list(ROLES) and len(header["share"]) == 3
    for s, step in enumerate((1, 3, 5)):
        points, pictures = snapshots.roles(step, "contrast")
        part = slice(*arrays["start"][s : s + 2].astype(int))
        for field in ("role", "label", "own", "image", "pixel"):
            assert np.array_equal(arrays[field][part], points[field].astype(arrays[field].dtype)), field
        assert np.array_equal(arrays["images"][s % len(arrays["images"])], pictures)
        far = [
            np.linalg.norm(p[:, None] - p[None], axis=2) for p in (arrays["place"][part], points["place"].astype(float))
        ]
        apart = far[1] > 0.05
        ratio = far[0][apart] / far[1][apart]
        assert ratio.std() / ratio.mean() < 0.02, "turned and scaled as a whole"
    assert np.ptp(arrays["place"], axis=0).max() == pytest.approx(1) and abs(arrays["place"] - 0.5).max() <= 0.501
    few = decode(Pack([run], steps=[5]).pack("roles/0/0"))[0]
    assert few["start"].tolist() == [0, len(points["role"])]
    with pytest.raises(S4Error, match="nothing under"):
        pack.pack("roles/0/1")


def test_turned_planes_are_turned_back():
    rng = np.random.default_rng(0)
    kinds = {"role": np.array([0, 0, 1, 3], np.uint8), "label": np.array([0, 1, 2, 0], np.uint8)}
    place = rng.normal(size=(4, 2)).astype(np.float32)
    mirrored = place @ np.array([[0.6, 0.8], [0.8, -0.6]], np.float32)
    found = contrasts.framed([kinds | {"place": place}, kinds | {"place": mirrored}])
    assert np.allclose(found[:4], found[4:], atol=1e-5)


def test_a_page_holds_them_and_methods_without_have_none(run, runs, tmp_path):
    view = View([str(run)])
    view.save_html(tmp_path / "e.html", s4.explore.state.start(view.meta, 0.9, {}), steps=[1, 5])
    state, packs = held(tmp_path / "e.html")
    assert state["meta"]["tracks"][0]["roles"] == ["contrast"]
    assert len(decode(packs["roles/0/0"])[1]["share"]) == 2
    assert Pack([runs["fixmatch"]]).meta["tracks"][0]["roles"] == []


def test_damaged_parts_are_refused(tmp_path):
    files = Writer(tmp_path, ("a", "b"), ((0, 0, 0), (9, 9, 9)), 8)
    points = roles.arranged([cast(torch.randn(5, 7), torch.rand(2, 3, 8, 8))], 8)
    index = {"classes": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]], "ids": ["i"], "height": 8, "width": 8, "crop": 8}
    index |= {"version": 1, "path": [8, 8], "evidence": "", "lost": ""}
    (tmp_path / "index.json").write_text(json.dumps(index))
    files.roles(3, points)
    with pytest.raises(S4Error, match="parts of 'x' make no sense"):  # class 2 of two
        files.there.roles(3, "x")
