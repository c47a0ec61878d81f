"""ST's rounds: what is chosen, what is labelled, and that each network begins anew (parity: tests/golden)."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import fit, methods, plots
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.explore.packing.pack import Pack
from s4kit.methods import Clock
from s4kit.methods.parts.losses import ce, union_ce
from s4kit.methods.parts.reliability import class_iou, stability
from s4kit.methods.parts.rounds import KEPT, NOW, believed, hard
from s4kit.report.comparing import figures

SMALL = dict(batch=2, lr=1e-2, optimiser="sgd", probes=2, progress=False, device="cpu", evaluate_every=99)


def test_images_are_as_reliable_as_their_labels_are_stable() -> None:
    torch.manual_seed(0)
    last = torch.randint(0, 3, (2, 8, 8))
    assert torch.equal(stability([last, last], last, 5), torch.ones(2)), "absent classes do not count"
    other = last.clone()
    other[0, :4] = 4
    found = stability([other, last], last, 5)
    assert found[0] < found[1] == 1
    swap = torch.tensor([2, 1, 0, 3, 4])
    torch.testing.assert_close(stability([swap[other]], swap[last], 5), stability([other], last, 5))
    a, b = torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2).long()
    b[0, 0] = 1
    assert class_iou(a, b, 3)[0].tolist()[:2] == [0.5, 0.0] and class_iou(a, b, 3)[0, 2].isnan()


def test_what_is_not_kept_is_believed_of_no_class() -> None:
    label = torch.tensor([[[2, VOID]]])
    assert hard(label, 4)[0, :, 0].T.tolist() == [[0, 0, 1, 0], [0.25] * 4]


def test_one_mean_over_both_lists(build, draw) -> None:
    method = build("st").eval()
    method.requires_grad_(False)
    batch = draw(method, batch=3)
    torch.manual_seed(0)
    losses = method.losses(batch, Clock(0, 10, stage=2))
    seen, target = losses.seen["mixed"], losses.seen[f"{KEPT}/target"]
    box = batch.u.masks[0]
    label = torch.where(box, VOID, batch.u.maps["label"])
    both = torch.cat([method.student(batch.x.weak), method.student(seen)])
    torch.testing.assert_close(losses.total, ce(both, torch.cat([batch.x.label, label])))
    assert torch.equal(seen.where(~box[:, None], 0.0), batch.u.strong[0].where(~box[:, None], 0.0))
    assert bool((target.weight[box] == 0).all()) and bool(box.any()), "what is erased has no label"


def test_kept_truth_is_supervised_training_on_everything(build, draw) -> None:
    method = build("st").train()
    batch = draw(method)
    batch.u.masks = [torch.zeros_like(batch.u.masks[0])]
    batch.u.strong = [batch.u.weak]
    truth = batch.u.maps["label"]
    z_x, z_u = method.student.joint(batch.x.weak, batch.u.weak)
    expected = ce(torch.cat([z_x.logits, z_u.logits]), torch.cat([batch.x.label, truth]))
    torch.testing.assert_close(method.losses(batch, Clock(0, 10, stage=2)).total, expected)
    l_x, l_u = union_ce(z_x.logits, batch.x.label, z_u.logits, believed(torch.full_like(truth, VOID), batch.u))
    assert l_u == 0
    torch.testing.assert_close(l_x, ce(z_x.logits, batch.x.label))


@pytest.mark.parametrize("selective", [True, False])
def test_rounds(selective, tmp_path) -> None:
    task = toy_task(n_unlabelled=6)
    torch.manual_seed(0)
    method = methods.create("st", task, net="tiny", selective=selective, scales=(1.0,), start=0.5)
    run = fit(method, task, steps=12, out=tmp_path / "run", **SMALL)
    names = [stage["name"] for stage in run.config["stages"]]
    assert names == (["supervised", "reliable", "all"] if selective else ["supervised", "all"])
    store, last = str(run.path / "store"), len(names) - 1
    made = {
        row: [s for s in range(1, last + 1) if Kept(store, s).path("label", row).is_file()] for row in task.unlabelled
    }
    assert all(len(stages) == 1 for stages in made.values()), "labelled once, each image"
    assert sorted(s for (s,) in made.values()) == ([1] * 3 + [2] * 3 if selective else [1] * 6)
    assert bool(method.chosen.all())
    rows = [row for row in run.pseudo() if row["name"] == KEPT]
    assert rows[0]["coverage"] == 0 < rows[-1]["coverage"] and {r["name"] for r in run.pseudo()} == {KEPT, NOW}
    assert len(run.evaluations()) == len(names)
    tracks = {track["name"]: track for track in Pack([run]).meta["tracks"]}
    begins = [{"name": stage["name"], "first": stage["first"]} for stage in run.rounds]
    assert set(tracks) == {KEPT, NOW} and all(track["rounds"] == begins for track in tracks.values())
    told = figures.beside({"st": run}).note
    assert "The time is that of all 12 steps." in told
    assert all(f"{stage['name']} {100 * stage['miou']:.1f} ({stage['steps']})" in told for stage in run.rounds)
    for picture in (plots.curves(run, kept=False), plots.losses(run, ["x"]), plots.quality(run)):
        assert [text.get_text().strip() for text in picture.axes[0].texts] == names


def test_the_copies_are_of_a_third_and_two_thirds(build) -> None:
    method = build("st")
    for step in range(9):
        with torch.no_grad():
            for p in method.student.parameters():
                p.fill_(step)
        method.after_step(Clock(step, 9))
    assert [float(next(net.parameters()).flatten()[0]) for net in method.early] == [2, 5]
    assert not any(p.requires_grad for p in method.early.parameters())
    method.after_step(Clock(8, 9, stage=1))
    assert [float(next(net.parameters()).flatten()[0]) for net in method.early] == [2, 5]
