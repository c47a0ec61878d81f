"""MGD's three granularities and where its teachers come from (parity with the release: tests/golden)."""

from __future__ import annotations

import json

import pytest
import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.errors import S4Error
from s4kit.methods import Clock, create
from s4kit.methods.cotraining.mgd import NAMES, image_distance, likenesses, region_distance
from s4kit.views import Batch, draw_step, render

CLOCK = Clock(0, 10)
CE = torch.nn.functional.cross_entropy


def made(task=None, **options) -> tuple[torch.nn.Module, Batch]:
    torch.manual_seed(0)
    task = task or toy_task()
    method = create("mgd", task, **{"net": "tiny", **options})
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def test_equal_answers_have_no_distance_and_regions_no_scale_and_no_axes() -> None:
    torch.manual_seed(0)
    z, f = torch.randn(2, 4, 9, 9), torch.randn(2, 6, 9, 9)
    assert image_distance(z, z) == 0 and region_distance(f, f, 7) == 0
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    turned = 3.0 * torch.einsum("ij,bjhw->bihw", turn, f)
    assert region_distance(turned, f, 7) < 1e-10 < 1e-3 < region_distance(torch.randn(2, 6, 9, 9), f, 7)
    assert region_distance(torch.randn(2, 3, 5, 8), f, 4).isfinite(), "the maps may differ in channels and size"


def test_likenesses_of_two_halves() -> None:
    f = torch.zeros(1, 2, 4, 4)
    f[0, 0, :, :2], f[0, 1, :, 2:] = 1.0, 5.0  # left and right are orthogonal
    left = torch.tensor([True, False, True, False])
    assert torch.equal(likenesses(f, 2)[0], (left[:, None] == left).float())


def test_the_image_term_is_of_means_per_class() -> None:
    z = torch.zeros(2, 3, 4, 4)
    z[0, 1, :2] = 4.0  # mean 2
    z[1, 2] = -1.0
    assert image_distance(z, torch.zeros_like(z)) == (2 + 1) / 2


def test_without_the_coarse_terms_each_teacher_is_one_direction_of_cps() -> None:
    method, batch = made(image=0.0, region=0.0)
    losses = method.losses(batch, CLOCK)
    seen, z = losses.seen, method.student(batch.x.weak)
    expected = sum(
        CE(seen[f"{name}/student"], seen[f"{name}/target"].label) + CE(z, teacher(batch.x.weak).argmax(1))
        for name, teacher in zip(NAMES, (method.deep, method.wide))
    )
    torch.testing.assert_close(losses.total, CE(z, batch.x.label, ignore_index=255) + expected)
    of_u, of_v = method.deep(batch.u.weak), method.deep(batch.v.weak)
    label = torch.where(batch.u.masks[0], of_v.argmax(1), of_u.argmax(1))
    assert torch.equal(seen[f"{NAMES[0]}/target"].label, label)


def test_teachers_stand_still_but_for_their_statistics() -> None:
    method, batch = made()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.losses(batch, CLOCK).total.backward()
    for teacher in (method.deep, method.wide):
        assert all(p.grad is None for p in teacher.parameters())
    moved = {name.split(".")[0] for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"student", "deep", "wide"}
    counts = {int(v) for k, v in method.state_dict().items() if k.startswith("student") and "num_batches" in k}
    assert counts == {4}, "labelled, mixed, and both unlabelled batches"


def test_the_stage_of_the_teachers_is_cps_between_them() -> None:
    method, batch = made(cps=2.0)
    first, last = method.stages()
    assert first.train == (method.deep, method.wide) and last.train == (method.student,)
    losses = first.losses(batch, CLOCK)
    losses.total.backward()
    assert all(p.grad is None for p in method.student.parameters())
    seen = losses.seen
    by_deep, by_wide = (seen[f"{name}/target"].label for name in ("deep teaches wide", "wide teaches deep"))
    expected = CE(method.wide(seen["mixed"]), by_deep) + CE(method.deep(seen["mixed"]), by_wide)
    torch.testing.assert_close(losses["cps"][0], expected)
    assert losses["cps"][1] == 2.0


def test_teachers_from_runs(tmp_path) -> None:
    task = toy_task()
    torch.manual_seed(1)
    of_cps = methods.create("cps", task, net="tiny")
    run = fit(of_cps, task, steps=2, batch=2, probes=0, workers=0, out=tmp_path / "run", progress=False).path
    runs = {"deep": str(run), "wide": str(run)}
    method, batch = made(task, **runs)
    state = torch.load(run / "last.pt", weights_only=True)["method"]
    assert all(torch.equal(value, state[f"net1.{name}"]) for name, value in method.deep.state_dict().items())
    assert [stage.name for stage in method.stages()] == ["student"]
    assert not any(p.requires_grad for teacher in (method.deep, method.wide) for p in teacher.parameters())
    assert method.losses(batch, CLOCK).total.isfinite()
    with pytest.raises(S4Error, match="both folders of runs"):
        made(task, deep=str(run))
    with pytest.raises(S4Error, match="do not fit this task of 3 classes"):
        made(toy_task(classes=3), **runs)
    (run / "last.pt").unlink()
    with pytest.raises(S4Error, match=r"no checkpoint last\.pt"):
        made(task, **runs)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"not_stored": ["supervised"]}))
    with pytest.raises(S4Error, match="function as supervised"):
        made(task, **runs)


def test_the_recipe_takes_a_deep_and_a_wide_teacher() -> None:
    recipe = methods.recipe("mgd", "voc", "cps/1_8")
    assert recipe["method"]["deep"].startswith("resnet101c") and recipe["method"]["wide"].startswith("wide_resnet50_2")
    assert recipe["fit"]["lr"] == 0.0025 and recipe["published"]["divided"] == "all"
