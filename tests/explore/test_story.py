"""The training beside the snapshots: the loss curves are metrics.csv's, a finding leads to where it can be seen."""

from __future__ import annotations

import numpy as np

from s4kit.explore.packing import story
from s4kit.explore.packing.cells import count
from s4kit.explore.packing.codec import decode
from s4kit.explore.packing.pack import Pack


class Told:
    """A run with these rows of metrics.csv."""

    path = None

    def __init__(self, *rows: dict) -> None:
        self.rows = rows

    def metrics(self) -> list[dict]:
        return [{"step": k, "stage": 0, "lr": 0.1} | row for k, row in enumerate(self.rows)]


def test_a_loss_curve_is_the_mean_of_each_part_and_has_gaps():
    rows = [{"x": float(k), "u": None if k < 160 else 2.0, "kept_u": 0.5} for k in range(320)]
    found = story.losses(Told(*rows))
    assert list(found) == ["step", "loss/x", "loss/u"] and len(found["step"]) == story.POINTS
    assert found["step"].tolist() == list(range(1, 320, 2))
    assert found["loss/x"].tolist() == [k + 0.5 for k in range(0, 320, 2)]
    assert np.isnan(found["loss/u"][:80]).all() and (found["loss/u"][80:] == 2).all()
    assert story.losses(Told()) == {}


def test_a_verdict_leads_to_where_the_class_began_to_starve_and_to_its_worst_image(monkeypatch):
    truth = [np.repeat([0, 1], [12, 4]), np.repeat([0, 1], [6, 10])]
    weights = np.ones((4, 16), np.uint8)
    weights[2:, :] = 0  # from the third snapshot on nothing is kept of class 1

    def read(k):
        kept = np.where(truth[k] == 0, 1, weights)
        return truth[k], np.ones(16), np.stack([truth[k]] * 4), kept

    cells = count(2, 2, 4, read)
    finding = {"level": "problem", "figures": "few", "advice": "more", "step": None, "classes": []}
    told = [
        finding | {"check": "starved", "classes": ["cat", "no class of these"]},
        finding | {"check": "precision", "level": "warning", "step": 130},
        finding | {"check": "fine", "level": "ok"},
    ]
    monkeypatch.setattr(story, "diagnose", lambda path: {"findings": told})
    found = story.verdicts(Told(), [0, 100, 200, 300], ["sky", "cat"], cells, ["one", "two"])
    assert [(f["check"], f["at"], f["class"], f["image"]) for f in found] == [
        ("starved", 2, 1, "two"),
        ("precision", 1, None, None),  # nothing that is kept is wrong
    ]


def test_the_pack_of_a_run_has_both(runs):
    arrays, header = decode(Pack([runs["fixmatch"]]).pack("story/0"))
    assert {"step", "loss/x", "loss/u"} <= arrays.keys() and len(arrays["step"]) == 6
    for found in header["findings"]:
        assert found["level"] in ("problem", "warning") and found["figures"] and 0 <= found["at"] < 3
