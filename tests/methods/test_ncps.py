"""n-CPS in limiting cases (parity with the release: tests/golden)."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from toy import toy_task

from s4kit.errors import S4Error
from s4kit.methods import Clock, create
from s4kit.nets import Ensemble
from s4kit.views import Batch, draw_step, render

CLOCK = Clock(0, 10)
CE = torch.nn.functional.cross_entropy


def made(n: int = 3, **options) -> tuple[torch.nn.Module, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("ncps", task, net="tiny", n=n, **options)
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


@pytest.mark.parametrize("cutmix", [True, False])
def test_two_networks_are_cps(cutmix: bool) -> None:
    method, batch = made(2, cutmix=cutmix, weight=1.5)
    torch.manual_seed(0)
    cps = create("cps", toy_task(), net="tiny", cutmix=cutmix, weight=1.5).train()
    a, b = method.losses(batch, CLOCK), cps.losses(batch, CLOCK)
    a.total.backward()
    b.total.backward()
    torch.testing.assert_close(a.total, b.total)
    for p, q in zip(method.parameters(), cps.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


def test_equal_networks_teach_n_times_one() -> None:
    method, batch = made(4, cutmix=False)
    for net in method.networks[1:]:
        net.load_state_dict(method.net1.state_dict())
    losses = method.losses(batch, CLOCK)
    z = torch.cat([method.net1(batch.x.weak), method.net1(batch.u.weak)])
    torch.testing.assert_close(losses["cps"][0], 4 * CE(z, z.argmax(1)))
    assert made(4, constant=True)[0].weight == 1.5 * 2 / 4


def test_every_ordered_pair_teaches() -> None:
    method, batch = made(3, cutmix=False)
    losses = method.losses(batch, CLOCK)
    images = (batch.x.weak, batch.u.weak)
    z = [torch.cat([net(image) for image in images]) for net in method.networks]  # train mode, as in the step
    wanted = sum(CE(z[i], z[j].argmax(1)) for i, j in permutations(range(3), 2)) / 2
    torch.testing.assert_close(losses["cps"][0], wanted)
    assert method.names == ["1 teaches 2 and 3", "2 teaches 1 and 3", "3 teaches 1 and 2"]


def test_a_threshold_of_one_teaches_nothing() -> None:
    method, batch = made(3, cutmix=False, tau=1.0)
    losses = method.losses(batch, CLOCK)
    losses.total.backward()
    assert losses["cps"][0] == 0 and losses.total.isfinite()


def test_ensembles_do_not_know_an_order_and_equal_networks_are_one() -> None:
    method, batch = made(3)
    nets, image = [net.eval() for net in method.networks], batch.u.weak
    with torch.no_grad():
        for combine in ("vote", "confident"):
            answers = [Ensemble(*order, combine=combine)(image) for order in permutations(nets)]
            for answer in answers[1:]:
                torch.testing.assert_close(answer, answers[0])
            same = Ensemble(nets[0], nets[0], combine=combine)(image)
            torch.testing.assert_close(same, nets[0](image).log_softmax(1))
        p = torch.stack([net(image).softmax(1) for net in nets])
        torch.testing.assert_close(Ensemble(*nets, combine="vote")(image).exp(), p.mean(0))
        torch.testing.assert_close(Ensemble(*nets, combine="confident")(image).exp(), p.max(0).values)


@pytest.mark.parametrize(("options", "said"), [({"n": 1}, "at least two"), ({"tau": 0.5}, "cutmix=False")])
def test_what_cannot_be_is_refused(options: dict, said: str) -> None:
    with pytest.raises(S4Error, match=said):
        create("ncps", toy_task(), net="tiny", **options)
    with pytest.raises(S4Error, match="confident"):
        Ensemble(combine="hard")
