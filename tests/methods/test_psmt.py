"""What a correct PS-MT shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import toy_task

from s4kit import engine, methods
from s4kit.engine.settings import Settings, pass_steps, share_out
from s4kit.methods import Clock
from s4kit.methods.consistency.psmt import assisted
from s4kit.methods.parts.losses import ce
from s4kit.methods.parts.schedules import cosine_ramp
from s4kit.report.reproducing.reproduce import prepare
from s4kit.views import beta_box
from s4kit.views.boxes import beta_boxes

PASSES = "{} passes over the unlabelled images and 5 over the labelled ones before"
MIDDLE = Clock(50, 100, epoch_steps=10, stage=1)  # epoch 5: the second teacher's


def test_the_filter_by_loops():
    g = torch.Generator().manual_seed(0)
    now, other = torch.randn(2, 6, 3, 4, generator=g), torch.randn(2, 6, 3, 4, generator=g)
    found = assisted(now, other, 2)
    for b, y, x in np.ndindex(2, 3, 4):
        a, o = now[b, :, y, x].tolist(), other[b, :, y, x].tolist()
        best = sorted(o)[-2:]
        mean = [(i + (j if j in best else i)) / 2 for i, j in zip(a, o)]
        assert found[b, :, y, x].tolist() == pytest.approx(mean)
    assert torch.allclose(assisted(now, now, 2), now)
    assert torch.equal(assisted(now, other, 6), assisted(now, other, 9))
    assert torch.allclose(assisted(now, other, 6), (now + other) / 2)


def still(method):
    """The student in eval mode with the teachers' weights, the classifier's biases apart."""
    for net in method.teachers:
        net.load_state_dict(method.student.state_dict())
        net.decoder.classifier.bias.data += torch.randn(4, generator=torch.Generator().manual_seed(0))
    method.student.decoder.classifier.bias.data -= 0.5 * torch.arange(4)
    return method.eval()


def test_the_term_by_loops(build, draw, monkeypatch):
    """With the permutation known and without T-VAT."""
    method = still(build("psmt", radius=0.0))
    batch = draw(method, batch=3)
    u, m = batch.u, batch.u.masks[0]
    u.valid[0, :5] = 0
    m[0, 4:20, 4:20] = True
    turn = torch.tensor([2, 0, 1])
    monkeypatch.setattr(torch, "randperm", lambda n, **_: turn)
    with torch.no_grad():
        mixed = torch.where(m[:, None], u.strong[0][turn], u.strong[0])
        z, t = method.student(mixed).double(), (method.teacher1(u.weak) / 2 + method.teacher2(u.weak) / 2).double()
        method.tau = t.softmax(1).amax(1).median().item()
        losses = method.losses(batch, MIDDLE)
    total, count = 0.0, 0
    for b, y, x in np.ndindex(*m.shape):
        source = int(turn[b]) if m[b, y, x] else b
        q = t[source, :, y, x].softmax(0)
        if float(q.max()) >= method.tau and u.valid[source, y, x] > 0:
            total -= float(q.max()) * float(z[b, :, y, x].log_softmax(0)[int(q.argmax())])
            count += 1
    assert torch.equal(losses.seen["mixed"], mixed)
    assert count > 100 and losses["u"][0].item() == pytest.approx(total / count, rel=3e-3)  # a pixel at tau
    assert losses["u"][1] == 1.5
    assert losses["x"][0].item() == pytest.approx(ce(method.student(batch.x.strong[0]), batch.x.label).item(), rel=1e-5)


def test_nothing_sure_is_no_loss(build, draw):
    method = build("psmt", tau=1.1).train()
    assert method.losses(draw(method), MIDDLE)["u"][0] == 0


@pytest.mark.parametrize(("epoch", "moved"), [(0, "teacher1"), (1, "teacher2"), (2, "teacher1")])
def test_every_epoch_moves_one_teacher(epoch, moved, build):
    method = build("psmt", decay=0.5)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.after_step(Clock(10 * epoch, 100, epoch_steps=10, stage=1))
    changed = {k.split(".")[0] for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert changed - {"turn"} == {moved}
    method.after_step(Clock(0, 100, stage=0))
    name = "decoder.classifier.weight"
    student, teacher = method.student.state_dict()[name], before[f"{moved}.{name}"]
    assert torch.allclose(method.state_dict()[f"{moved}.{name}"], (student + teacher) / 2)


def test_the_rule_hears_the_teacher_whose_epoch_it_is(build, draw):
    method = build("psmt", top=1).eval()
    view = draw(method).u
    for step, now, other in ((8, "teacher1", "teacher2"), (9, "teacher2", "teacher1"), (19, "teacher1", "teacher2")):
        method.after_step(Clock(step, 100, epoch_steps=10, stage=1))  # ten steps an epoch: who speaks in the next one
        a, b = method.teach(view)
        with torch.no_grad():
            assert torch.equal(a, getattr(method, now)(view.weak)) and torch.equal(b, getattr(method, other)(view.weak))
        p = method.probabilities((a, b))
        assert torch.equal(method.pseudo_labels((a, b), view, MIDDLE).soft, p)
        assert not torch.equal(p, method.probabilities((b, a)))


def test_the_noise_has_its_length_and_fools_the_teachers(build, draw):
    method = build("psmt", radius=0.2).train()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with torch.no_grad():
        f = method.student.fuse(method.student.encode(draw(method).u.weak)).map
    before = {k: v.clone() for k, v in method.state_dict().items()}
    r = method.noise(f, (32, 32))
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert torch.allclose(r.flatten(1).norm(dim=1), 0.2 * f.flatten(1).norm(dim=1), rtol=1e-3)
    assert method.training and all(t.training for t in method.teachers)

    def moved(by):
        with torch.no_grad():
            for t in method.teachers:
                t.eval()
            says = [sum(t.classify(x).logits for t in method.teachers).div(2).log_softmax(1) for x in (f, f + by)]
        return torch.nn.functional.kl_div(says[1], says[0], log_target=True, reduction="sum").item()

    other = torch.randn_like(f)
    other = other / other.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * r.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert moved(r) > 4 * moved(other)


def test_the_boxes_of_beta():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([beta_box().draw(rng, 64) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (top + height <= 64).all() and (left + width <= 64).all()
    assert beta_boxes(np.array(0.75), 32, 20, (64, 40)).tolist() == [16, 10, 32, 20]
    assert beta_boxes(np.array(0.0), 60, 60, (64, 64)).tolist() == [28, 28, 36, 36]
    inside = beta_boxes(rng.beta(4, 4, 4000), 500, 500, (1000, 1000))  # in the middle nothing is cut off
    assert (inside[:, 2] * inside[:, 3] / 1e6).mean() == pytest.approx(0.5, abs=0.01)


def test_the_ramp():
    assert [cosine_ramp(t, 0.2) for t in (0.0, 0.1, 0.2, 0.9)] == pytest.approx([0, 0.5, 1, 1])


def test_phases_are_counted_in_passes_as_published():
    """Five passes over the labelled list on top of the epochs, a ramp of twelve, whatever the number of epochs."""
    for split, start, ramp, steps in (("classic/92", 15, 12 * 328, 80 * 328), ("cps/5291", 5 * 166, 1992, 300 * 166)):
        asked = prepare("psmt", "voc", split)
        assert asked.steps == start + steps and asked.passes == PASSES.format(300 if start > 15 else 80)
        task = toy_task().with_(labelled=range(asked.counts["labelled"]), unlabelled=range(asked.counts["unlabelled"]))
        each = pass_steps(task, Settings(asked.steps, batch=32))
        method = methods.create("psmt", task, **asked.recipe["method"] | {"net": "tiny"})
        (warm_up, _, count), (_, first, rest) = share_out(method.stages(), asked.steps, each)
        assert (count, first, rest) == (start, start, steps)
        assert warm_up.schedule(Clock(count - 1, count)) == 1
        clock = Clock(0, rest, each["unlabelled"], labelled_steps=each["labelled"])
        assert clock.steps_of(method.ramp_up) == ramp


def test_both_stages_run_and_the_run_holds_the_teachers(tmp_path):
    task = toy_task()
    method = methods.create("psmt", task, net="tiny", warm_up=0.5, decay=0.9)
    start = {k: v.clone() for k, v in method.teacher2.named_parameters()}
    run = engine.fit(
        method, task, steps=6, batch=4, lr=0.01, out=tmp_path / "run", progress=False, probes=2, workers=0,
        evaluate_every=6, device="cpu",
    )  # fmt: skip
    assert any(not torch.equal(p, start[k]) for k, p in method.teacher2.named_parameters()), "the warm-up trains it"
    stored = run.load(task=task, device="cpu")[0].state_dict()
    assert all(torch.equal(v, stored[k]) for k, v in method.state_dict().items())
