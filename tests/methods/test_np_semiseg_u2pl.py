"""What a correct NP-SemiSeg on U2PL shows: the host's step on the answers of a neural process."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from s4kit.methods import Clock
from s4kit.methods.contrastive.u2pl import U2PL

MIDDLE = Clock(50, 100)


def test_the_teacher_answers_with_the_mean_of_its_samples(build, draw) -> None:
    method = build("np_semiseg_u2pl").train()
    image = draw(method).u.weak
    method.losses(draw(method), MIDDLE)
    method.after_step(MIDDLE)
    teacher = method.teacher.eval()
    with torch.no_grad():
        found = method.through(teacher, image)
        map = teacher.fuse(teacher.encode(image)).map
        one = [
            teacher.heads["process"](map, *method.centres, noise.expand(1, len(map), -1))[0][0].softmax(1)
            for noise in method.noise[: method.samples]
        ]
    assert max((a - one[0]).abs().max() for a in one[1:]) > 1e-6, "the samples differ"
    torch.testing.assert_close(found.logits.exp(), torch.stack(one).mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.z, teacher.heads["projection"](map))


def test_all_terms_of_the_host_are_of_these_answers(build, draw, monkeypatch) -> None:
    method = build("np_semiseg_u2pl").train()
    batch = draw(method)
    answers, answer = [], method.answer

    def kept(image, label, n):
        answers.append((answer(image, label, n), label))
        return answers[0][0]

    monkeypatch.setattr(method, "answer", kept)
    losses = method.losses(batch, MIDDLE)
    ((own, label),), n = answers, len(batch.x)
    z = method.student.enlarge(own.logits, batch.x.label.shape[-2:])
    torch.testing.assert_close(losses["x"][0], cross_entropy(z[:n], batch.x.label, ignore_index=255))
    target = losses.seen["target"]
    assert torch.equal(label[n:], target.label) and torch.equal(label[:n], batch.x.label)
    count = target.weight > 0
    cost = cross_entropy(z[n:], target.label, reduction="none")
    share = count.float().mean()
    torch.testing.assert_close(losses["u"][0], cost[count].mean() / share)
    assert torch.equal(losses["kl"][0], own.kl) and losses["kl"][1] == pytest.approx(0.005) and own.kl > 0
    assert losses["contrast"][0] > 0 and isinstance(method, U2PL)


def test_memories_get_what_the_student_is_taught(build, draw) -> None:
    method = build("np_semiseg_u2pl").train()
    batch = draw(method)
    batch.x.label.fill_(2)
    method.losses(batch, MIDDLE)
    fixed, latent = method.memories.fixed.count, method.memories.latent.count
    assert fixed[2] > 0 and fixed.sum() == fixed[2], "the labelled images alone"
    assert (latent >= fixed).all() and latent.sum() > latent[2], "and pseudo-labels"
