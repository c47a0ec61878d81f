"""The EMA teacher against its algebra and against recorded trajectories of official code."""

import pytest
import torch
from torch import nn

from s4kit import nets
from s4kit.errors import S4Error


def pair() -> tuple[nets.SegNet, nets.SegNet]:
    torch.manual_seed(0)
    student = nets.make("tiny", 3)
    teacher = nets.copy_of(student)
    student.train()
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
    for seed in range(3):
        student(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)))
    return student, teacher


def states(*nets_):
    return [{k: v.clone() for k, v in n.state_dict().items()} for n in nets_]


def test_warm():
    assert [nets.warm(0.99, k) for k in (0, 1, 3, 10**6)] == [0, 0.5, 0.75, 0.99]


@pytest.mark.parametrize("buffers", ["average", "copy", "none"])
def test_parameters_and_buffers(buffers):
    student, teacher = pair()
    s, t = states(student, teacher)
    nets.ema(teacher, student, 0.9, buffers=buffers)
    parameters = dict(student.named_parameters())
    for name, value in teacher.state_dict().items():
        mean = 0.9 * t[name] + 0.1 * s[name]
        if name in parameters or (buffers == "average" and value.is_floating_point()):
            assert torch.allclose(value, mean, atol=1e-6), name
        elif buffers == "average":
            assert value == mean.long(), f"{name}: the counter is averaged and truncated"
        else:
            assert torch.equal(value, (s if buffers == "copy" else t)[name]), name
    assert all(torch.equal(v, s[k]) for k, v in student.state_dict().items()), "the source must not change"


def test_decay_0_is_the_source_and_1_the_target():
    student, teacher = pair()
    s, t = states(student, teacher)
    nets.ema(teacher, student, 1)
    assert all(torch.equal(v, t[k]) for k, v in teacher.state_dict().items())
    nets.ema(teacher, student, 0)
    assert all(torch.equal(v, s[k]) for k, v in teacher.state_dict().items())


def test_constants_do_not_drift():
    student, teacher = pair()
    for _ in range(20):
        nets.ema(teacher, student, 0.37)
    assert torch.equal(teacher.mean, student.mean)
    assert torch.equal(teacher.std, student.std)


def test_excluded_prefix():
    student, teacher = pair()
    _, t = states(student, teacher)
    nets.ema(teacher, student, 0.5, but=("decoder.classifier", "decoder.conv"))
    assert torch.equal(teacher.decoder.classifier.weight, t["decoder.classifier.weight"])
    assert not torch.equal(teacher.decoder.convs[0][0].weight, t["decoder.convs.0.0.weight"]), "prefixes end at a dot"


def test_mistakes_are_named():
    student, teacher = pair()
    with pytest.raises(S4Error, match="average, copy, none"):
        nets.ema(teacher, student, 0.9, buffers="mean")
    student.heads["projection"] = nn.Conv2d(1, 1, 1)
    with pytest.raises(S4Error, match=r"heads\.projection"):
        nets.ema(teacher, student, 0.9)
