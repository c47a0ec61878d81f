"""What a correct DDFP shows."""

from __future__ import annotations

import math

import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.parts.density import component_log_prob, density_descent, log_prob, nll, some_places
from s4kit.nets.flow import MixtureFlow
from s4kit.report.planning.memory import tracked

MIDDLE = Clock(50, 100)


def wild(dim=6, classes=3):
    """A flow that is far from linear, in float64."""
    torch.manual_seed(0)
    flow = MixtureFlow(dim, classes, hidden=8).double()
    with torch.no_grad():
        for p in flow.blocks.parameters():
            p.mul_(8)
    return flow


def test_the_flow_can_be_undone_and_knows_its_volume():
    flow = wild()
    x = torch.randn(5, 6, dtype=torch.float64)
    z, logdet = flow(x)
    assert torch.allclose(flow.inverse(z), x, atol=1e-9) and logdet.abs().max() > 0.05
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], x[i])
        assert logdet[i].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-9)


def test_densities_by_loops():
    z, means = torch.randn(4, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    label = torch.tensor([0, -1, 1, -1])
    for i, found in enumerate(log_prob(z, means, label).tolist()):
        p = [
            math.exp(-sum((a - b) ** 2 for a, b in zip(z[i].tolist(), m.tolist())) / 2) / (2 * math.pi) ** 1.5
            for m in means
        ]
        assert found == pytest.approx(math.log(p[label[i]] if label[i] >= 0 else sum(p) / 2))


@pytest.mark.parametrize("offset, spread", [(0.0, 1.0), (100.0, 1.0), (0.0, 30.0)])
def test_distances_without_differences_are_as_exact_in_float32(offset, spread):
    """The terms of |z - m|^2 are much larger than itself where all lie far from the origin."""
    torch.manual_seed(0)
    means = offset + spread * torch.randn(21, 256, dtype=torch.float64)
    z = means[torch.randint(21, (500,))] + torch.randn(500, 256, dtype=torch.float64)
    exact = -((z[:, None] - means).square().sum(2) + 256 * math.log(2 * math.pi)) / 2
    found = component_log_prob(z.float().requires_grad_(), means.float())
    assert (found - exact).abs().max() / exact.abs().max() < 2e-6
    assert (found - exact).gather(1, exact.argmax(1, keepdim=True)).abs().max() < 1e-3 * spread**2
    assert found.requires_grad


def test_no_distance_has_a_vector_of_its_own():
    z, means = torch.randn(2000, 64), torch.randn(21, 64)
    with tracked() as peak:
        component_log_prob(z, means)
    assert peak.bytes < 2000 * 21 * 64 * 4 / 3


def test_a_density_on_the_line_integrates_to_one():
    torch.manual_seed(0)
    flow = wild(dim=2, classes=2)
    side = torch.linspace(-12, 12, 481, dtype=torch.float64)
    at = torch.cartesian_prod(side, side)
    assert (-nll(flow, flow.means, at)).exp().sum().item() * 0.05**2 == pytest.approx(1, abs=0.02)


def test_a_small_step_leads_to_rarer_features():
    flow = wild()
    f = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    kept = torch.ones(2, 8, 8, dtype=torch.bool)
    kept[1] = False

    def rare(f):
        return nll(flow, flow.means, f[0].flatten(1).mT).mean().item()

    r = density_descent(lambda f: f, flow, flow.means, f, kept, 0.01)
    assert rare(f - r) < rare(f) < rare(f + r)
    assert torch.allclose(r[0].norm(dim=0), torch.full((4, 4), 0.01, dtype=torch.float64)) and (r[1] == 0).all()
    for _ in range(5):  # no other direction of this length is better at a place
        other = torch.nn.functional.normalize(torch.randn_like(f), dim=1) * 0.01
        assert rare(f + other) < rare(f + r)


def test_places_are_those_that_count():
    torch.manual_seed(0)
    counts = torch.tensor([0, 1, 1, 0, 1, 1, 0, 1.0])
    found = [some_places(counts, 3) for _ in range(50)]
    assert all(real.all() and len(set(i.tolist())) == 3 and counts[i].all() for i, real in found)
    assert {i for index, _ in found for i in index.tolist()} == {1, 2, 4, 5, 7}
    index, real = some_places(counts, 100)
    assert len(index) == 8 and real.sum() == 5


def test_without_length_the_perturbed_stream_is_the_clean_one(build, draw):
    method = build("ddfp", eps=0.0, tau=0.0).eval()
    losses = method.losses(draw(method), MIDDLE)
    assert losses["r"][0].item() == pytest.approx(losses["u"][0].item(), rel=1e-5)
    method = build("ddfp", eps=4.0, tau=0.0).eval()
    losses = method.losses(draw(method), MIDDLE)
    assert abs(losses["r"][0].item() - losses["u"][0].item()) > 1e-3


def test_flow_and_networks_learn_apart(build, draw):
    method = build("ddfp", tau=0.0).train()
    losses = method.losses(draw(method), MIDDLE)
    flow = losses.pop("flow")[0]
    student, density = list(method.student.parameters()), list(method.flow.parameters())
    assert all(g is None for g in torch.autograd.grad(flow, student, allow_unused=True, retain_graph=True))
    assert all(g is not None for g in torch.autograd.grad(flow, density, retain_graph=True))
    assert all(g is None for g in torch.autograd.grad(losses.total, density, allow_unused=True))


def test_the_phases(build, draw):
    method = build("ddfp", alone=0.1, start=0.2)
    batch = draw(method)
    terms = [method.losses(batch, Clock(step, 100)) for step in (9, 10, 19, 20)]
    assert [set(t) for t in terms] == [{"x", "flow"}, *2 * [{"x", "u", "flow"}], {"x", "u", "r", "flow"}]
    assert [t["u"][1] for t in terms[1:]] == [1, 1, 0.5] and terms[0]["flow"][0] == 0
    method.after_step(Clock(10, 100))
    pairs = zip(method.teacher.parameters(), method.student.parameters())
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_flow_learns_the_density(build, draw):
    method = build("ddfp", places=256).train()
    batch = draw(method, batch=4)
    with torch.no_grad():
        g = torch.cat([d.embedding for d in method.teacher.joint(batch.x.weak, batch.u.weak)])
    optimiser = torch.optim.Adam(method.flow.parameters(), lr=5e-3)
    history = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = method.flow_loss(g, batch.x, batch.u)
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < history[0] - 5
