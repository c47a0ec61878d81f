"""Noisy Boundaries: the boundary-preserving map, the tolerant head, thresholds by class, objects that are kept."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import tiny_net, toy_objects

from s4kit import methods
from s4kit.data.kept import Kept
from s4kit.data.task import OBJECTS, PER_CLASS
from s4kit.engine import fit
from s4kit.errors import S4Error
from s4kit.methods.instances.noisy_boundaries import boundary_map, class_thresholds, laid, mask_terms
from s4kit.nets.mask_branches import TolerantMasks


def slow_map(z):
    """Pixel by pixel: eight times the own probability less its neighbours', beyond the border 0; the mean is 3."""
    out = torch.zeros_like(z)
    for r, region in enumerate(z.sigmoid()):
        height, width = region.shape
        for y in range(height):
            for x in range(width):
                around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
                inside = sum(float(region[a, b]) for a, b in around if 0 <= a < height and 0 <= b < width)
                out[r, y, x] = abs(8 * float(region[y, x]) - inside)
        out[r] *= 3 / out[r].mean()
    return out


def test_the_map_is_what_a_slow_count_gives_and_carries_no_gradient():
    torch.manual_seed(0)
    z = torch.randn(3, 6, 5, requires_grad=True)
    torch.testing.assert_close(boundary_map(z), slow_map(z.detach()))
    assert not boundary_map(z).requires_grad
    torch.testing.assert_close(boundary_map(z).mean((1, 2)), torch.full((3,), 3.0))


def test_an_edge_weighs_more_than_what_is_inside():
    z = torch.full((1, 14, 14), -6.0)
    z[:, 4:10, 4:10] = 6.0
    w = boundary_map(z)[0]
    assert w[4, 4:10].min() > 3 > w[6:8, 6:8].max() and w[0, 0] < 3
    assert boundary_map(torch.zeros(2, 4, 4)).isfinite().all()


def test_the_official_order_is_three_times_the_plain_loss_and_the_papers_is_not():
    torch.manual_seed(0)
    target = (torch.rand(3, 8, 8) > 0.5).float()
    grads = {}
    for name in ("plain", "official", "paper"):
        z = torch.linspace(-2, 2, 192).view(3, 8, 8).requires_grad_()
        plain = F.binary_cross_entropy_with_logits(z, target)
        loss = plain if name == "plain" else mask_terms(z, target, name).mean()
        loss.backward()
        grads[name] = z.grad
    torch.testing.assert_close(grads["official"], 3 * grads["plain"])
    assert (grads["paper"] - grads["official"]).abs().max() > 1e-3
    with pytest.raises(S4Error, match="order='papr'"):
        methods.create("noisy_boundaries", toy_objects(), net="tiny", order="papr")


def test_thresholds_give_as_many_objects_as_labelled_images_have():
    g = np.random.default_rng(0)
    scores, labels = g.random(400).astype(np.float32), g.integers(1, 4, 400)
    wanted = np.array([0.0, 2.0, 0.7, 50.0, 0.0])  # of background; two usual classes; too many; none found or wanted
    found = class_thresholds(scores, labels, 20, wanted)
    for c in (1, 2, 3):
        apart = [abs((scores[labels == c] > t).sum() / 20 - wanted[c]) for t in np.linspace(0.1, 1, 91)]
        assert found[c] == np.linspace(0.1, 1, 91)[int(np.argmin(apart))]
    assert found[3] == found[0] == found[4] == 0.1, "the first of equals"
    none = class_thresholds(scores, labels, 20, np.zeros(5))
    assert (none[1:4] > 0.9).all(), "a class that no labelled image has keeps the fewest"


def test_the_coarse_branch_can_be_cut_off():
    torch.manual_seed(0)
    head = TolerantMasks(8, 3, mask_terms, weight=2.0)
    with torch.no_grad():
        head.join.weight[:, :3] = 0
    x = torch.randn(2, 8, 14, 14)
    before = head(x)
    assert before["final"].shape == (2, 3, 28, 28) and before["coarse"].shape == (2, 3, 14, 14)
    with torch.no_grad():
        head.coarse[-1].weight.add_(1)
    after = head(x)
    assert torch.equal(before["final"], after["final"]) and not torch.equal(before["coarse"], after["coarse"])
    own = {name: z[:, 1] for name, z in after.items()}
    terms = head.loss(own, lambda side: torch.ones(2, side, side))
    torch.testing.assert_close(terms["mask"], 2 * mask_terms(own["final"], torch.ones(2, 28, 28)).mean())
    empty = head.loss({name: z[:0] for name, z in own.items()}, lambda side: torch.ones(0, side, side))
    assert empty["mask"] == empty["coarse_mask"] == 0


def test_a_regions_terms_lie_in_its_box():
    maps = torch.stack([torch.full((4, 4), 2.0), torch.full((4, 4), 3.0)])
    found = laid(maps, torch.tensor([[0.0, 0.0, 4.0, 6.0], [2.0, 2.0, 2.2, 9.0]]), (8, 8))
    assert (found[:6, :4] == 2).all() and found.sum() == 48, "a box without a pixel lays nothing"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    task = toy_objects()
    torch.manual_seed(0)
    method = methods.create("noisy_boundaries", task, net=tiny_net(task), anew=False)
    with torch.no_grad():
        method.thresholds.fill_(0.9)
    out = tmp_path_factory.mktemp("run") / "run"
    return fit(method, task, 8, out=out, batch=2, lr=5e-3, optimiser="adamw", probes=2, evaluate_every=4, device="cpu",
               workers=0, threads=1, progress=False), method, task  # fmt: skip


def test_the_second_stage_learns_kept_objects(run):
    run, method, task = run
    assert run.score == "AP" and 0 <= run.last["ap"] <= 1 and [of["name"] for of in run.rounds] == ["labelled", "all"]
    folder = run.path / "store" / "1" / OBJECTS
    assert len(list(folder.glob("*.png"))) == len(task.unlabelled)
    assert bool(method.second) and method.predictors()["student"] is method.student
    assert (method.thresholds >= 0.1).all() and not (method.thresholds == 0.9).all()
    first = method.teacher.pyramid.body.stages[0]
    assert not torch.equal(*(next(net.pyramid.body.stages[0].parameters()) for net in (method.teacher, method.student)))
    assert all(p.grad is None for p in first.parameters()), "the first network stands still"
    rows = run.metrics()
    assert {"x_mask", "x_coarse_mask"} <= rows[-1].keys() and "x_coarse_mask" not in [
        k for k, v in rows[0].items() if v
    ]
    config = json.loads((run.path / "config.json").read_text())
    assert config["score"] == "AP" and not config["reveals"]


def test_what_is_kept_is_above_its_classs_threshold(run):
    run, _, task = run
    kept = run.load(task=task, device="cpu")[0]
    stored = Kept(str(run.path / "store"), 1)
    for row in task.unlabelled[:4]:
        image = task.train.read(row).image[None] / 255
        kept.teacher.eval()
        with torch.no_grad():
            (found,) = kept.teacher(image)
        sure = found.scores > kept.thresholds[found.labels]
        ids = torch.from_numpy(stored.read(OBJECTS, row))
        shown = {int(n) for n in ids.unique() if n >= PER_CLASS}
        assert shown <= {PER_CLASS * int(found.labels[k]) + int(k) + 1 for k in sure.nonzero()[:, 0]}
