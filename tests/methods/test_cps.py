"""CPS in limiting cases (parity with the release: tests/golden)."""

from dataclasses import replace

import pytest
import torch
from toy import toy_task

from s4kit.methods import Clock, Optim, create
from s4kit.methods.cotraining.cps import CPS
from s4kit.views import Batch, draw_step, render

CLOCK = Clock(0, 10)


def made(cutmix: bool = True, same: bool = False, **options) -> tuple[CPS, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("cps", task, net="tiny", cutmix=cutmix, **options)
    if same:
        method.net2.load_state_dict(method.net1.state_dict())
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def gradients(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in net.parameters()])


@pytest.mark.parametrize("cutmix", [True, False])
def test_equal_networks_teach_each_other_the_same(cutmix: bool) -> None:
    method, batch = made(cutmix, same=True)
    losses = method.losses(batch, CLOCK)
    losses.total.backward()
    assert torch.equal(losses["x1"][0], losses["x2"][0])
    by_1, by_2 = (losses.seen[f"{name}/target"] for name in ("1 teaches 2", "2 teaches 1"))
    assert torch.equal(by_1.label, by_2.label)
    assert torch.equal(gradients(method.net1), gradients(method.net2))


@pytest.mark.parametrize("inside", [False, True])
def test_an_empty_and_a_full_mask_train_on_one_image(inside: bool) -> None:
    method, batch = made()
    full = replace(batch.u, masks=[torch.full_like(batch.u.masks[0], inside)])
    losses = method.losses(Batch(x=batch.x, u=full, v=batch.v), CLOCK)
    image = (batch.v if inside else batch.u).weak
    z1, z2 = method.net1(image), method.net2(image)  # train mode: the statistics of this batch, as in the step
    ce = torch.nn.functional.cross_entropy
    torch.testing.assert_close(losses["cps"][0], ce(z1, z2.argmax(1)) + ce(z2, z1.argmax(1)))


@pytest.mark.parametrize("cutmix", [True, False])
def test_weight_zero_is_two_supervised_networks(cutmix: bool) -> None:
    method, batch = made(cutmix, weight=0.0)
    method.losses(batch, CLOCK).total.backward()
    together = gradients(method.net2)
    method.zero_grad()
    method.supervised(method.net2(batch.x.weak), batch.x.label).backward()
    torch.testing.assert_close(together, gradients(method.net2))


def test_labelling_moves_the_batch_statistics() -> None:
    counts = {}
    for cutmix in (True, False):
        method, batch = made(cutmix)
        method.losses(batch, CLOCK)
        counts[cutmix] = {int(b) for name, b in method.net1.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {True: {4}, False: {2}}, "x, u, v and the mixed image; x and u"


def test_every_pixel_counts_padded_ones_too() -> None:
    method, batch = made(cutmix=False)
    u = replace(batch.u, valid=torch.zeros_like(batch.u.valid))
    first = method.losses(batch, CLOCK)["cps"][0]
    assert torch.equal(first, method.losses(Batch(x=batch.x, u=u), CLOCK)["cps"][0])


def test_labels_do_not_pass_gradients() -> None:
    method, batch = made()
    losses = method.losses(batch, CLOCK)
    ce = torch.nn.functional.cross_entropy
    from_2 = ce(method.net1(losses.seen["mixed"]), losses.seen["2 teaches 1/target"].label)
    from_2.backward()
    assert all(p.grad is None for p in method.net2.parameters())


def test_two_optimisers_two_predictors_two_rules() -> None:
    method, batch = made()
    specs = method.optimisers(Optim([], 1e-2))
    assert [spec.nets for spec in specs.values()] == [[method.net1], [method.net2]]
    assert next(iter(method.predictors().values())) is method.net1
    found = method.pseudo_labels(method.teach(batch.u), batch.u, CLOCK)
    assert set(found) == {"1 teaches 2", "2 teaches 1"}
    assert all((labels.weight == 1).all() for labels in found.values())
    shared = {id(p) for p in method.net1.parameters()} & {id(p) for p in method.net2.parameters()}
    assert not shared and any(not torch.equal(a, b) for a, b in zip(method.net1.parameters(), method.net2.parameters()))


def test_weight_follows_the_variant() -> None:
    assert made(True)[0].weight == 1.0 and made(False)[0].weight == 1.5
