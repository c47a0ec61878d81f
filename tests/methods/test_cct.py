"""What a correct CCT shows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from s4kit import nets
from s4kit.methods import Clock
from s4kit.methods.parts.adversary import adversarial_noise
from s4kit.methods.parts.components import components, regions, windows
from s4kit.methods.parts.losses import ce

MIDDLE = Clock(50, 100)


def flood(mask: np.ndarray) -> np.ndarray:
    """Regions of 8-connected pixels, one after the other."""
    label, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask)):
        if label[start]:
            continue
        count += 1
        todo = [start]
        while todo:
            y, x = todo.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and not label[y, x]:
                label[y, x] = count
                todo += [(y + i, x + j) for i, j in itertools.product((-1, 0, 1), repeat=2)]
    return label


def blobs(seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    noise = torch.nn.functional.avg_pool2d(torch.randn(3, 1, 44, 36, generator=g), 5, 1)[:, 0]
    return noise > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_components_are_those_of_a_flood(seed):
    mask = blobs(seed)
    for ours, part in zip(components(mask), mask.numpy()):
        expected = flood(part)
        pairs = set(zip(ours.flatten().tolist(), expected.flatten().tolist()))
        assert len(pairs) == expected.max() + 1 == len({a for a, _ in pairs})
        assert (0, 0) in pairs


def test_windows_are_those_of_loops():
    mask, share, least = blobs(0), 0.4, 12
    uniform = torch.rand(3, 40 * 32 + 1, 2, generator=torch.Generator().manual_seed(1))
    number, found = components(mask), regions(mask)
    expected, drawn = torch.zeros_like(mask), 0
    for b in range(3):
        for n in number[b].unique().tolist()[1:]:
            ys, xs = (number[b] == n).nonzero().T
            rim = sum(
                any(
                    not (0 <= i < 40 and 0 <= j < 32 and mask[b, i, j])
                    for i, j in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                )
                for y, x in zip(ys.tolist(), xs.tolist())
            )
            assert rim == found.edge[b, n]
            if rim <= least:
                continue
            h, w = int(ys.max() - ys.min()), int(xs.max() - xs.min())
            top = int(ys.min()) + int(uniform[b, n, 0] * (int(h * (1 - share)) + 1))
            left = int(xs.min()) + int(uniform[b, n, 1] * (int(w * (1 - share)) + 1))
            expected[b, top : top + int(h * share), left : left + int(w * share)] = True
            drawn += 1
    assert drawn > 3 and torch.equal(windows(mask, uniform, share, least), expected)


def test_the_noise_is_what_the_network_feels_most():
    """Of a decoder with two logits the worst direction is known: along the difference of its two weights."""
    torch.manual_seed(0)
    head = torch.nn.Conv2d(6, 2, 1).double()
    x = torch.randn(2, 6, 1, 1, dtype=torch.double)
    noise = adversarial_noise(head, x, torch.rand_like(x) - 0.5, 0.01, 3.0)
    worst = (head.weight[0] - head.weight[1]).detach()
    cosine = torch.nn.functional.cosine_similarity(noise.flatten(1), worst.flatten()[None])
    assert torch.allclose(cosine.abs(), torch.ones(2).double(), atol=1e-6)
    assert torch.allclose(noise.flatten(1).norm(dim=1), torch.full((2,), 3.0).double(), rtol=1e-3)


def test_vat_has_its_length_and_leaves_the_statistics_alone(build, draw):
    method = build("cct", radius=0.3).train()
    f = torch.rand(2, method.student.decoder.fused_channels, 8, 8, requires_grad=True)
    head = method.student.heads["vat0"]
    before = {k: v.clone() for k, v in head.state_dict().items()}
    changed = method.damage("vat0", f, torch.zeros(2, 32, 32).long())
    moved = (changed - f).flatten(1).norm(dim=1) / f.flatten(1).norm(dim=1)
    assert torch.allclose(moved, torch.full((2,), 0.3), rtol=1e-3)
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items())
    assert all(p.grad is None for p in head.parameters())


def test_context_and_objects_add_up_to_the_whole(build):
    method = build("cct", background=(0, 2))
    f, label = torch.rand(2, 8, 8, 8), torch.randint(0, 4, (2, 32, 32))
    hidden = [method.damage(f"{kind}0", f, label) for kind in ("context", "objects")]
    assert torch.equal(sum(hidden), f) and all(part.abs().sum() > 0 for part in hidden)


def plain(method):
    """No damage, and decoders that are copies of the main one."""
    method.damage = lambda name, f, label: f
    main = torch.nn.Sequential(method.student.decoder.convs, method.student.decoder.classifier)
    for head in method.student.heads.values():
        head.load_state_dict(main.state_dict())
    return method


def test_equal_decoders_of_whole_features_agree(build, draw):
    method = plain(build("cct")).train()
    losses = method.losses(draw(method), MIDDLE)
    assert losses["u"][0].item() == pytest.approx(0, abs=1e-10)


def test_who_learns_from_the_consistency(build, draw):
    method = build("cct").train()
    method.losses(draw(method), MIDDLE)["u"][0].backward()
    net = method.student
    assert all(p.grad is None for part in (net.decoder.convs, net.decoder.classifier) for p in part.parameters())
    for part in (net.backbone, *net.heads.values()):
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0


def test_the_term_by_loops(build, draw):
    """Two decoders whose damage is known, the mean over decoders, pixels and classes written out."""
    method = build("cct", counts={"context": 1, "objects": 1}, background=(0, 1)).eval()
    batch = draw(method)
    u = batch.u
    u.valid[0, :5] = 0
    net = method.student
    with torch.no_grad():
        f = net.fuse(net.encode(u.weak)).map
        q = net(u.weak).softmax(1).double()
        ground = q.argmax(1) <= 1
        small = ground[:, ::4, ::4]  # nearest: every fourth pixel
        answers = [net.branch(n, f * k[:, None], (32, 32)) for n, k in (("context0", ~small), ("objects0", small))]
    total = 0.0
    for b, y, x in np.ndindex(2, 32, 32):
        for z in answers:
            p = z[b, :, y, x].double().softmax(0)
            total += float(u.valid[b, y, x]) * float(((p - q[b, :, y, x]) ** 2).mean()) / 2
    losses = method.losses(batch, MIDDLE)
    assert losses["u"][0].item() == pytest.approx(total / float(u.valid.sum()), rel=1e-4)
    assert losses["u"][1] == 30 and losses.total.item() == pytest.approx((losses["x"][0] + 30 * losses["u"][0]).item())


def test_the_weight_rises(build, draw):
    method = build("cct")
    batch = draw(method)
    weights = [method.losses(batch, Clock(i, 100))["u"][1] for i in (0, 5, 10, 60)]
    assert weights[0] == pytest.approx(30 * np.exp(-5)) and weights[0] < weights[1] < weights[2] == weights[3] == 30


def test_the_annealed_term_starts_with_the_wrong_pixels_only(build, draw):
    method = build("cct", annealed=True).eval()
    batch = draw(method)
    z = method.student(batch.x.weak)
    early, late = (method.losses(batch, Clock(i, 100))["x"][0] for i in (0, 99))
    true = z.softmax(1).gather(1, batch.x.label.clamp(max=3)[:, None])[:, 0]
    kept = (true <= 1 / 4) & (batch.x.label != 255)
    expected = torch.nn.functional.cross_entropy(z, torch.where(kept, batch.x.label, 255), ignore_index=255)
    assert early.item() == pytest.approx(expected.item(), rel=1e-5)
    assert late.item() == pytest.approx(ce(z, batch.x.label).item(), rel=0.05) and late < early


def test_the_pairwise_term_reaches_the_decoders(build, draw):
    method = build("cct", pairwise=1.0).train()
    losses = method.losses(draw(method), MIDDLE)
    value, weight = losses["pairwise"]
    value.backward()
    assert value > 0 and weight == 1
    assert all(p.grad.abs().sum() > 0 for p in method.student.heads["noise0"][-1].parameters())


def test_the_papers_decoder():
    torch.manual_seed(0)
    net = nets.make("tiny(output_stride=8, decoder='psp', channels=12)", 5).eval()
    with torch.no_grad():
        f = net.fuse(net.encode(torch.rand(2, 3, 48, 64))).map
        assert f.shape == (2, 12, 6, 8) and net.classify(f).logits.shape == (2, 5, 48, 64)
        assert net(torch.rand(1, 3, 33, 41)).shape == (1, 5, 33, 41) and net.classify(f).logits.min() >= 0
        other = net.decoder.branch()
        blocks = other.doublings[0].weight.view(5, 4, -1)
    assert torch.equal(blocks, blocks[:, :1].expand_as(blocks)), "ICNR: the four pixels of a map start equal"
    assert not torch.equal(other.reduce.weight, net.decoder.classifier.reduce.weight)


def test_a_step_with_the_papers_decoder(build, draw):
    method = build("cct", net="tiny(output_stride=8, decoder='psp', channels=12)", counts={"noise": 2}).train()
    losses = method.losses(draw(method), MIDDLE)
    losses.total.backward()
    assert losses.total.isfinite() and all(p.grad is not None for p in method.parameters())
