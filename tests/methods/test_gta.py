"""What a correct GTA-Seg shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock, Optim, PseudoLabels
from s4kit.methods.parts.losses import ce_map

MIDDLE = Clock(50, 100)


def test_equal_confidences_and_nothing_dropped_is_the_mean_cross_entropy(build) -> None:
    method, z = build("gta"), torch.randn(2, 4, 6, 6)
    label, ones = torch.randint(0, 4, (2, 6, 6)), torch.ones(2, 6, 6)
    target = PseudoLabels(label, 0.3 * ones, 1.3 * ones, ones)
    torch.testing.assert_close(method.unsupervised(z, target), ce_map(z, label).mean())


def test_four_fifths_are_kept_and_the_surer_weigh_more(build, draw) -> None:
    method = build("gta")
    u = draw(method).u
    u.valid.fill_(1)
    target = method.pseudo_labels(method.teach(u), u, MIDDLE)
    kept = target.weight > 0
    assert kept.float().mean() == pytest.approx(0.8, abs=0.02)
    assert torch.equal(target.weight[kept], 1 + target.confidence[kept])
    assert target.confidence[kept].min() > target.confidence[~kept].max()


def test_each_term_trains_its_own_network(build, draw) -> None:
    method = build("gta").train()
    batch = draw(method)
    for name, own, other in (("u", "assistant", "student"), ("x", "student", "assistant")):
        method.zero_grad()
        method.losses(batch, MIDDLE)[name][0].backward()
        assert sum(p.grad.abs().sum() for p in getattr(method, own).parameters()) > 0
        assert all(p.grad is None for net in (other, "teacher") for p in getattr(method, net).parameters())


def run(method, batch, clocks) -> None:
    """What the engine does in a step, with plain gradient descent; `method.order` lists who was stepped."""
    method.train()
    nets = {name: optim.nets[0] for name, optim in method.optimisers(Optim([], 0.05)).items()}
    method.order = []

    def update(losses, only):
        method.zero_grad()
        losses(batch, clock).total.backward()
        with torch.no_grad():
            for p in nets[only].parameters():
                p -= 0.05 * p.grad
        method.order.append(only)

    for clock in clocks:
        torch.manual_seed(clock.step)
        method.step(update, clock)


def test_the_classifier_knows_human_labels_alone(build, draw) -> None:
    """The student's classifier moves by its own step only; its features are the assistant's, plus its own step."""
    method = build("gta", warmup=0.1).train()
    batch = draw(method)
    run(method, batch, [Clock(10, 100)])
    assert method.order == ["assistant", "student"]
    before = {k: v.clone() for k, v in method.student.named_parameters()}
    with torch.no_grad():
        for p in method.assistant.parameters():
            p += 1.0
    method.pass_on(0)
    for name, p in method.student.named_parameters():
        judging = name.startswith(("decoder.convs", "decoder.classifier"))
        assert torch.equal(p, before[name] if judging else method.assistant.get_parameter(name))


def test_without_the_transmission_the_student_is_purely_supervised(build, draw) -> None:
    batch, students = draw(build("gta")), []
    for passed_on in (False, False, True):
        method = build("gta", warmup=0.0, follow=0.0, keep=(80.0, 10.0, 10.0)[len(students)])
        if not passed_on:
            method.pass_on = lambda since: None
        run(method, batch, [Clock(t, 100) for t in (5, 6)])
        students.append(torch.cat([p.flatten() for p in method.student.parameters()]))
    assert torch.equal(students[0], students[1]) and not torch.equal(students[0], students[2])


def test_until_the_warm_up_is_over_labels_alone_then_all_three_start_as_the_student(build, draw) -> None:
    method = build("gta", warmup=0.5, follow=0.25).train()
    batch = draw(method)
    statistics = method.teacher.state_dict()
    key = next(k for k in statistics if k.endswith("running_mean"))
    before = statistics[key].clone()
    assistant = {k: v.clone() for k, v in method.assistant.named_parameters()}
    run(method, batch, [Clock(0, 8), Clock(3, 8)])
    assert method.order == ["student", "student"]
    assert all(torch.equal(v, assistant[k]) for k, v in method.assistant.named_parameters())
    assert not torch.equal(method.teacher.state_dict()[key], before), "its norms are fed"
    run(method, batch, [Clock(4, 8), Clock(5, 8)])
    assert method.order == ["assistant", "student"] * 2
    run(method, batch, [Clock(6, 8)])
    far = [torch.equal(a, b) for a, b in zip(method.assistant.parameters(), method.student.parameters())]
    assert not all(far)
