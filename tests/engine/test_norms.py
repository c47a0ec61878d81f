"""What a run records of batch norm: the network of the batch statistics beside that of the running ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy import toy_task

import s4kit as s4
from s4kit.engine.probe import Probe, apart
from s4kit.engine.watched import chosen
from s4kit.nets import by_batch, live_norms, make

SMALL = dict(steps=4, batch=2, lr=1e-2, evaluate_every=2, probes=4, progress=False, device="cpu")


@pytest.fixture(scope="module")
def task():
    return toy_task(n_val=2)


def method(name: str, task, net: str = "tiny"):
    torch.manual_seed(0)
    return s4.methods.create(name, task, net=net)


def test_apart_is_the_share_of_pixels_by_a_slow_count(task):
    torch.manual_seed(0)
    net, probe = make("tiny", task), Probe(task, chosen(task, 5))
    for norm in live_norms(net):
        nn.init.uniform_(norm.running_mean, -1, 1)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    differ = known = 0
    batches = list(probe.batches(2, torch.device("cpu")))
    batches[0][1][1, :20] = 0
    assert len(batches) == 2  # the fifth image fills no batch
    for images, valid in batches:
        copy = make("tiny", task)
        copy.load_state_dict(net.state_dict())
        with torch.no_grad():
            trained, scored = copy.train()(images).argmax(1), net.eval()(images).argmax(1)
        for k in range(2):
            for row in range(task.crop):
                for column in range(task.crop):
                    if valid[k, row, column]:
                        known += 1
                        differ += int(trained[k, row, column] != scored[k, row, column])
    net.train()
    assert apart(net, batches) == pytest.approx(differ / known) and 0 < differ < known
    assert net.training and all(norm.training for norm in live_norms(net))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_inside_by_batch_only_the_norms_train():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm2d(4)))
    net[3].own_mode = True
    x = torch.rand(2, 3, 5, 5)
    with by_batch(net):
        assert [m.training for m in net] == [False, True, False, False]
        assert torch.equal(net(x), net(x)) and not net(x).requires_grad
    assert live_norms(net) == [net[1]] and all(m.training for m in net.modules())


@pytest.mark.parametrize(
    ("name", "net", "predictors"),
    [
        ("supervised", "tiny", {"student"}),
        ("mean_teacher", "tiny", {"student"}),  # the teacher is never normalised by a batch
        ("cps", "tiny", {"net 1", "net 2"}),
        ("supervised", "tiny(norm='group')", set()),
        ("supervised", "tiny(freeze_bn=True, norm='group')", set()),
    ],
)
def test_a_run_records_it_for_every_network_that_batches_reach(task, tmp_path, name, net, predictors):
    run = s4.fit(method(name, task, net), task, out=tmp_path / "run", **SMALL)
    assert {row["predictor"] for row in run.norms()} == predictors
    assert all(0 <= row["apart"] <= 1 and row["step"] in (1, 3) for row in run.norms())
    assert (run.path / "norms.csv").is_file() is bool(predictors)
