"""RIST's course, and that a round sees one kind of labels alone."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.errors import S4Error
from s4kit.methods import Clock

CE = torch.nn.functional.cross_entropy
CLOCK = Clock(0, 10, stage=1)


def test_the_course_is_a_coin_s_or_what_is_asked_for(build) -> None:
    one, again, other = (build("gist_rist", rounds=12, toss=toss) for toss in (0, 0, 1))
    assert one.course == again.course != other.course and set(one.course) == {"h", "p"}
    assert build("gist_rist", course="mmh").course == "mmh"
    for wrong in ("", "hx"):
        with pytest.raises(S4Error, match="letter h, p or m"):
            build("gist_rist", course=wrong)


def test_a_round_sees_one_list_alone(build, draw) -> None:
    method = build("gist_rist", course="hpm")
    _, human, own, both = method.stages()
    assert set(human.views) == {"x"} and human.prepare is None and set(own.views) == {"u"} and both.views is None
    batch = draw(method)
    method.eval().requires_grad_(False)
    z_x, z_u = method.student(batch.x.weak), method.student(batch.u.weak)
    l_x, l_u = (CE(z, label, ignore_index=255) for z, label in ((z_x, batch.x.label), (z_u, batch.u.maps["label"])))
    torch.testing.assert_close(human.losses(batch, CLOCK).total, l_x)
    torch.testing.assert_close(own.losses(batch, CLOCK).total, l_u)
    torch.testing.assert_close(method.losses(batch, CLOCK).total, (l_x + l_u) / 2)


def test_labels_are_made_anew_before_each_round_that_reads_them(tmp_path) -> None:
    task = toy_task(n_unlabelled=3)
    torch.manual_seed(0)
    method = methods.create("gist_rist", task, net="tiny", course="php", start=1.0)
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=1, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=8, out=tmp_path / "run", **settings)
    assert sorted(f.parent.parent.name for f in (run.path / "store").rglob("0000008.png")) == ["1", "3"]
    assert [stage["name"][:7] for stage in run.rounds] == ["human l", "round 1", "round 2", "round 3"]
    assert None not in [stage["miou"] for stage in run.rounds], "scored at the end of each, also where nothing is made"
    rows = run.metrics()
    assert [row["u"] is None for row in rows] == [True, True, False, False, True, True, False, False]
    assert [row["x"] is None for row in rows] == [False, False, True, True, False, False, True, True]
