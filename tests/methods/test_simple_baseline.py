"""SimpleBaseline: two domains in every norm, and the loss that bears wrong labels (parity: tests/golden)."""

from __future__ import annotations

import copy

import torch
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.parts.corrected import corrected_map, reverse_ce_map, trust
from s4kit.methods.parts.losses import ce_map
from s4kit.methods.parts.rounds import KEPT
from s4kit.nets import TwoNorms, evaluating, first_domain, make, second_from_first, split_after, with_two_domains


def test_each_half_sees_a_network_of_its_own_domain(task) -> None:
    torch.manual_seed(0)
    plain = make("tiny", task).train()
    double = with_two_domains(copy.deepcopy(plain)).train()
    assert sum(isinstance(m, TwoNorms) for m in double.modules()) > 3
    weak, strong = torch.rand(2, 3, 32, 32), 3 * torch.rand(3, 3, 32, 32)
    with split_after(double, 2):
        z_w, z_s = double.joint(weak, strong)
    one, other = copy.deepcopy(plain), copy.deepcopy(plain)
    torch.testing.assert_close(z_w.logits, one(weak))
    torch.testing.assert_close(z_s.logits, other(strong))
    with evaluating(double, one):
        (
            torch.testing.assert_close(double(weak), one(weak)),
            "tested with the first domain, whatever the second has seen",
        )
    second_from_first(double)
    for norm in (m for m in double.modules() if isinstance(m, TwoNorms)):
        assert all(torch.equal(a, b) for a, b in zip(norm.main.state_dict().values(), norm.aux.state_dict().values()))


def test_frozen_norms_stay_one_and_the_first_domain_is_all_but_the_second(task) -> None:
    net = with_two_domains(make("tiny(freeze_bn=True, norm='group')", task))
    assert not any(isinstance(m, TwoNorms) for m in net.modules())
    net = with_two_domains(make("tiny", task))
    first = {id(p) for m in first_domain(net) for p in m.parameters()}
    second = {id(p) for m in net.modules() if isinstance(m, TwoNorms) for p in m.aux.parameters()}
    assert first and second and not first & second
    assert first | second == {id(p) for p in net.parameters()}


def test_the_loss_goes_from_cross_entropy_to_the_reverse() -> None:
    torch.manual_seed(0)
    z, label = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 5, 5))
    label[0, 0] = VOID
    zero, one = torch.zeros(2, 5, 5), torch.ones(2, 5, 5)
    torch.testing.assert_close(corrected_map(z, label, zero), ce_map(z, label))
    torch.testing.assert_close(corrected_map(z, label, one), reverse_ce_map(z, label))
    assert bool((corrected_map(z, label, one)[0, 0] == 0).all())
    onehot = torch.nn.functional.one_hot(label.where(label != VOID, 0), 4).movedim(-1, 1).float().clamp(min=1e-4)
    slow = -(z.softmax(1) * onehot.log()).sum(1) * (label != VOID)
    torch.testing.assert_close(reverse_ce_map(z, label), slow)
    sure = torch.tensor([9.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1).requires_grad_()
    reverse_ce_map(sure, torch.tensor([[[1]]])).sum().backward()
    assert float(sure.grad.abs().max()) < 2e-3 * float(torch.tensor(1e-4).log().abs()), "a sure network is left alone"
    assert (
        trust(torch.tensor([2.0, 0.0]).view(1, 2, 1, 1)) == 1 > trust(torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)) > 0.5
    )


def test_the_label_decides_which_loss_an_image_has(build, draw) -> None:
    method = build("simple_baseline")
    batch = draw(method, batch=4)
    assert 0 < int(torch.cat([v.labelled for v in batch.values()]).sum()) < 8
    losses = method.losses(batch, Clock(0, 10, stage=1))
    target, loss = losses.seen[f"{KEPT}/target"], losses.seen[f"{KEPT}/loss"]
    assert bool((target.weight[batch.u.labelled] == 0).all()) and bool((loss[batch.u.labelled] == 0).all())
    assert bool((loss[~batch.u.labelled].sum((1, 2)) > 0).all())


def test_a_round(tmp_path) -> None:
    task = toy_task(n_unlabelled=4)
    torch.manual_seed(0)
    method = methods.create("simple_baseline", task, net="tiny", scales=(1.0,))
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=1, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=6, out=tmp_path / "run", **settings)
    assert len(list((run.path / "store/1/label").iterdir())) == 4 and not bool(method.fresh)
    norm = next(m for m in method.student.modules() if isinstance(m, TwoNorms))
    assert not torch.equal(norm.main.running_mean, norm.aux.running_mean)
    assert [stage["name"] for stage in run.rounds] == ["labels alone", "round 1"]
