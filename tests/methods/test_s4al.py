"""What a correct S4AL shows: what it asks, what that costs, and what comes of the answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from toy import toy_task

import s4kit as s4
from s4kit import methods
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.engine import Settings, checkpoint, stages
from s4kit.engine.records import read
from s4kit.engine.sweep import Sweep
from s4kit.engine.training import Training
from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.parts.masks import chosen_mask, draw_biased_mask
from s4kit.methods.parts.queries import cell_means, cells_asked
from s4kit.report import setup
from s4kit.report.comparing import figures
from s4kit.views import Stream

COLD, EARLY, LATE = (Clock(step, 100, stage=1) for step in (9, 20, 60))
SETTINGS = {"batch": 2, "lr": 1e-2, "optimiser": "sgd", "evaluate_every": 50, "probes": 2, "device": "cpu"}
SETTINGS |= {"checkpoint_every": 2}
SIDE, REGIONS = 8, 3


def asking(task, seed=0, net="tiny"):
    torch.manual_seed(seed)
    return methods.create("s4al", task, net=net, side=SIDE, regions=REGIONS)


@pytest.fixture(scope="module")
def small():
    return toy_task(n_unlabelled=6)


@pytest.fixture(scope="module")
def straight(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("asked") / "run"
    return s4.fit(asking(small), small, steps=8, out=out, progress=False, **SETTINGS)


# ---- the questions ----


def test_the_most_doubtful_cells_of_each_image_also_of_odd_grids():
    doubt = torch.rand(3, 13, 22, generator=torch.Generator().manual_seed(0))
    means, asked = cell_means(doubt, 5), cells_asked(doubt, 5, 4)
    assert means.shape == (3, 3, 5)
    for b in range(3):
        found = {}
        for i, j in np.ndindex(3, 5):
            cell = doubt[b, 5 * i : 5 * i + 5, 5 * j : 5 * j + 5]
            found[i, j] = cell.mean().item()
            assert means[b, i, j].item() == pytest.approx(found[i, j], rel=1e-5)
        best = sorted(found, key=found.get)[-4:]
        for y, x in np.ndindex(13, 22):
            assert asked[b, y, x] == ((y // 5, x // 5) in best)
    assert cells_asked(doubt, 5, 99).all()


def test_each_generation_asks_for_so_much_and_nothing_twice(small, straight):
    assert [s["name"] for s in straight.config["stages"]] == [f"generation {k}" for k in range(3)]
    assert [s["steps"] for s in straight.config["stages"]] == [2, 2, 4], "the last is twice as long"
    rows = read(straight.path / "store/cost.csv")
    assert [row["step"] for row in rows] == ["2"] * 6 + ["4"] * 6 and {row["pixels"] for row in rows} == {"1600"}
    assert {row["id"] for row in rows} == {small.train.ids[row] for row in small.unlabelled}
    assert all(int(row["asked"]) == REGIONS * SIDE**2 for row in rows)
    store = str(straight.path / "store")
    for row in small.unlabelled:
        before, after = (Kept(store, stage).read("asked", row) for stage in (1, 2))
        truth, label = Kept(store, 2).read("truth", row), small.train.read(row).label.numpy()
        assert before.sum() == REGIONS * SIDE**2 and after.sum() == 2 * before.sum() and (after >= before).all()
        assert np.array_equal(truth, np.where(after == 1, label, VOID))
        cells = after.reshape(5, SIDE, 5, SIDE)
        assert np.array_equal(cells.min((1, 3)), cells.max((1, 3))), "whole cells of the grid"
    assert straight.asked == pytest.approx(2 * REGIONS * SIDE**2 / 1600)


def test_tables_say_what_was_asked(straight):
    words = "asked: 24.0 % of the area"
    assert straight.told == words and f"s4al ({words})" in repr(straight)
    assert setup.summary(straight)["told"] == words
    assert figures.named({"method": "s4al", "told": words}) == f"s4al ({words})"
    assert f"s4al ({words})" in str(figures.beside({"s4al": straight}))


def test_it_asks_where_the_student_is_unsure_and_begins_anew(small, tmp_path, monkeypatch):
    """By the student as the generation before has left it, in eval mode, of the image as it is."""
    method, asked = asking(small), []
    method.student.decoder.classifier.weight.data.mul_(30)  # it is sure of some places
    initial = {k: v.clone() for k, v in method.student.state_dict().items()}
    truth = Sweep.truth

    def watched(self, row, where):
        if self._kept.stage == 1:
            image = small.train.read(row).image[None].float() / 255
            with torch.no_grad():
                p = method.student.eval()(image).softmax(1)[0].double().numpy()
            doubt = -(p * np.log(np.maximum(p, 1e-300))).sum(0).reshape(5, SIDE, 5, SIDE).mean((1, 3)).ravel()
            cells = {int(y // SIDE * 5 + x // SIDE) for y, x in where.nonzero().tolist()}
            rest = [doubt[k] for k in range(25) if k not in cells]
            assert len(cells) == REGIONS and min(doubt[k] for k in cells) > max(rest) - 1e-5 and np.ptp(doubt) > 1e-2
            assert not all(torch.equal(v, initial[k]) for k, v in method.student.state_dict().items())
            asked.append(row)
        return truth(self, row, where)

    monkeypatch.setattr(Sweep, "truth", watched)
    began = []
    losses = method.losses

    def first(batch, clock):
        if clock.step == 0:
            began.append(all(torch.equal(p, initial[k]) for k, p in method.student.named_parameters()))
        return losses(batch, clock)

    method.losses = first
    s4.fit(method, small, steps=8, out=tmp_path / "r", progress=False, **SETTINGS | {"probes": 0})
    assert sorted(asked) == sorted(small.unlabelled) and began and all(began)


def test_an_oracle_without_a_mask_says_so(small, tmp_path):
    kept = Kept(str(tmp_path / "store"), 0)
    sweep = Sweep(small, Stream("all"), kept, 0, torch.device("cpu"), "float32")
    where = torch.zeros(40, 40, dtype=torch.bool)
    where[:3] = True
    for _ in range(2):
        answer = sweep.truth(9, where)
    assert torch.equal(answer[:3], small.train.read(9).label[:3].long()) and (answer[3:] == VOID).all()
    with pytest.raises(S4Error, match="a mask of"):
        sweep.truth(9, where[:5])
    sweep.settle()
    assert read(tmp_path / "store/cost.csv") == [{"step": "0", "id": "train_9", "asked": "240", "pixels": "1600"}]
    small.train.labels[9], label = None, small.train.labels[9]
    with pytest.raises(S4Error, match="train_9 has no mask"):
        sweep.truth(9, where)
    small.train.labels[9] = label


# ---- a kill at any moment, two processes ----


class Killed(Exception):
    pass


def kill():
    raise Killed


def same(a, b) -> bool:
    one, two = (checkpoint.load(run.path / "last.pt")["method"] for run in (a, b))
    files = [{str(f.relative_to(r.path)): f.read_bytes() for f in (r.path / "store").rglob("*.*")} for r in (a, b)]
    return all(torch.equal(one[k], two[k]) for k in one) and files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "inside", "behind", "later"])
def test_answers_survive_a_kill_and_are_paid_once(when, small, straight, tmp_path, monkeypatch):
    method, out = asking(small), tmp_path / "r"
    truth, step, settle = Sweep.truth, Training._step, Sweep.settle

    def dying(self, row, where):
        answer = truth(self, row, where)
        return answer if self._kept.stage < 2 or row != small.unlabelled[3] else kill()

    if when == "before":
        monkeypatch.setattr("s4kit.engine.training.prepare", lambda t, i: kill() if i == 2 else stages.prepare(t, i))
    if when == "inside":
        monkeypatch.setattr(Sweep, "truth", dying)
    if when == "behind":  # paid, but no checkpoint stands for it
        monkeypatch.setattr(Sweep, "settle", lambda self: settle(self) or (kill() if self._kept.stage == 2 else None))
    if when == "later":
        monkeypatch.setattr(Training, "_step", lambda t, *a: kill() if t.done == 5 else step(t, *a))
    with pytest.raises(Killed):
        Training(method, small, Settings(steps=8, **SETTINGS), out, False, False).run()
    monkeypatch.undo()
    paid = sum(int(row["asked"]) for row in read(out / "store/cost.csv"))
    assert paid == (2 if when in ("behind", "later") else 1) * 6 * REGIONS * SIDE**2
    resumed = s4.fit(asking(small, seed=9), small, steps=8, out=out, resume=True, progress=False, **SETTINGS)
    assert same(straight, resumed) and resumed.asked == straight.asked


def two(rank: int, folder: str) -> None:
    task = toy_task(n_unlabelled=6)
    method = asking(task, net="tiny(norm='group')")
    s4.fit(method, task, steps=4, out=Path(folder) / "two", progress=False, **SETTINGS | {"batch": 1, "probes": 0})


@pytest.mark.slow
def test_two_processes_share_the_questions(small, tmp_path):
    ranks.both(two, str(tmp_path))
    run = s4.open_run(tmp_path / "two")
    rows = read(run.path / "store/cost.csv")
    assert len(rows) == 12 and all(int(row["asked"]) == REGIONS * SIDE**2 for row in rows)
    assert [row["id"] for row in rows[:6]] == [small.train.ids[row] for row in sorted(small.unlabelled)]
    assert run.told == "asked: 24.0 % of the area"
    for row in small.unlabelled:
        asked, truth = (Kept(str(run.path / "store"), 2).read(name, row) for name in ("asked", "truth"))
        assert np.array_equal(truth, np.where(asked == 1, small.train.read(row).label.numpy(), VOID))


# ---- the labels, the step ----


def test_what_was_asked_is_always_right(build, draw):
    method = build("s4al", tau=0.9)
    u = draw(method).u
    logits = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 3
    u.valid[1, 25:] = 0
    u.maps = {"asked": torch.zeros_like(u.label), "truth": torch.full_like(u.label, VOID)}
    u.maps["asked"][:, 10:20], u.maps["truth"][:, 10:20] = 1, 3
    u.maps["truth"][0, 10] = VOID  # a person may say that nothing is there
    target, p = method.pseudo_labels(logits, u, EARLY), logits.softmax(1)
    for b in range(2):
        sure = known = 0
        for y, x in np.ndindex(32, 32):
            asked = 10 <= y < 20
            void, padding = asked and b == 0 and y == 10, b == 1 and y >= 25
            confidence = 0.0 if padding else 1.0 if asked else p[b, :, y, x].max().item()
            sure, known = sure + (confidence >= 0.9), known + (not void and not padding)
            assert target.valid[b, y, x] == (not void and not padding)
            assert target.confidence[b, y, x].item() == pytest.approx(confidence, abs=1e-6)
            if not void:
                assert target.label[b, y, x] == (3 if asked else p[b, :, y, x].argmax())
        assert target.weight[b, 0, 0].item() == pytest.approx(sure / known * p[b, :, 0, 0].max().item(), rel=1e-5)
    u.maps["asked"][:], u.maps["truth"][:], u.valid[:] = 1, 2, 1
    everything = method.pseudo_labels(logits, u, EARLY)
    assert (everything.weight == 1).all() and (everything.label == 2).all()


def test_terms_come_one_after_another(build, draw):
    method = build("s4al")
    batch = draw(method)
    cold, early, late = (method.train().losses(batch, clock) for clock in (COLD, EARLY, LATE))
    assert set(cold) == {"x"} and cold["x"][1] == 1.5
    assert set(early) == {"x", "u"} and set(late) == {"x", "u", "rare"} and early["x"][1] == 1.0
    assert set(method.losses(batch, Clock(60, 100, stage=0))) == {"x", "u"}, "the first generation knows no rare mixing"
    last = [set(method.losses(batch, Clock(step, 100, stage=2))) for step in (4, 6, 14, 16)]  # twice as long
    assert last == [{"x"}, {"x", "u"}, {"x", "u"}, {"x", "u", "rare"}]
    late.total.backward()
    assert all(p.grad is None for p in method.teacher.parameters()) and method.teacher.training


def test_rare_classes_are_pasted_by_draws(build, draw):
    torch.manual_seed(0)
    head, label = torch.tensor([True, True, True, False, False, False, False]), torch.randint(0, 8, (400, 3, 5))
    label[label == 7] = VOID
    mask = draw_biased_mask(label, head, (2, 1))
    chosen = torch.zeros(400, 7, dtype=torch.bool)
    for b, c in np.ndindex(400, 7):
        pixels = mask[b][label[b] == c]
        assert len(pixels) == 0 or pixels.all() or not pixels.any(), "a class is pasted whole or not at all"
        chosen[b, c] = len(pixels) > 0 and bool(pixels.any())
    assert chosen[:, :3].sum(1).max() == 2 and chosen[:, 3:].sum(1).max() == 1 and not mask[label == VOID].any()
    full = torch.arange(7).repeat(400, 1)[:, None]
    counts = draw_biased_mask(full, head, (2, 1))[:, 0].float().mean(0)
    assert torch.allclose(counts, torch.tensor([2 / 3] * 3 + [1 / 4] * 4), atol=0.09)
    assert draw_biased_mask(full, head, (9, 9)).all() and not chosen_mask(full, torch.zeros(400, 7).bool()).any()


def test_head_classes_have_most_of_the_labelled_pixels(build):
    method = build("s4al")
    assert method.common(torch.tensor([50, 10, 35, 5])).tolist() == [True, False, True, False]
    assert method.common(torch.tensor([1, 97, 1, 1])).tolist() == [False, True, False, False]
    given = build("s4al", head=(1, 2))
    assert given.head.tolist() == [False, True, True, False] and not given.counted


def test_the_teacher_averages_parameters_alone(build, draw):
    method = build("s4al", decay=0.5)
    batch = draw(method)
    before = {k: v.clone() for k, v in method.teacher.named_parameters()}
    method.train().losses(batch, EARLY)
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    method.after_step(Clock(10, 100))
    assert all(torch.allclose(p, before[k] + 0.5, atol=1e-6) for k, p in method.teacher.named_parameters())
    pairs = list(zip(method.student.named_buffers(), method.teacher.buffers()))
    assert any(not torch.equal(a, b) for (name, a), b in pairs if "running" in name)
