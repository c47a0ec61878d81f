"""Label noise: superpixels, attention along their graph, what counts as clean, and what is mended."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.parts.present import allowed
from s4kit.methods.parts.superpixels import node_means, painted, region_graph, superpixels, votes
from s4kit.methods.selftraining.label_noise import NOISY
from s4kit.nets import Decoded
from s4kit.nets.gat import GraphAttention, GraphClassifier
from s4kit.views import Batch

CLOCK = Clock(5, 10, stage=1)


def truthful(method, label) -> None:
    """A network of masks that knows them, with their classes as features."""
    one_hot = F.one_hot(label.where(label != VOID, 0), 4).movedim(-1, 1).float()
    width = method.clean.decoder.embedding_channels
    rest = one_hot.new_zeros(len(label), width - 4, *label.shape[1:])
    embedding = torch.cat([one_hot, rest], 1)
    method.clean.encode = lambda image: image

    method.clean.decode = lambda features, size=None: Decoded(10 * one_hot, embedding, embedding)


def test_superpixels_follow_colours() -> None:
    torch.manual_seed(0)
    image = torch.zeros(2, 3, 40, 52)
    image[:, 0, :, 23:] = 1.0
    image[1, 1, 17:] = 1.0
    image += 0.02 * torch.rand_like(image)
    index, count = superpixels(image, 30)
    assert count == 30 or abs(count - 30) < 8
    assert index.min() >= 0 and index.max() < count
    side = torch.zeros(2, 40, 52).long()
    side[..., 23:] = 1
    side[1, 17:] += 2
    for k in range(2):
        mixed = votes(side, index, count, 4, torch.ones(2, 40, 52))[k]
        assert ((mixed > 0).sum(1) <= 1).all(), "no superpixel lies on both sides of an edge"
    assert torch.equal(index, superpixels(image, 30)[0])
    assert superpixels(image, 1)[1] == 1


def test_means_votes_and_edges_are_those_of_loops() -> None:
    torch.manual_seed(1)
    index, maps = torch.randint(0, 5, (2, 6, 7)), torch.randn(2, 3, 6, 7)
    label, weight = torch.randint(0, 3, (2, 6, 7)), (torch.rand(2, 6, 7) > 0.3).float()
    label[0, 0, :3] = VOID
    means, size = node_means(maps, index, 6, weight)
    counted = votes(label, index, 6, 3, weight)
    features = torch.randn(2, 6, 3)
    there = torch.ones(2, 6, dtype=torch.bool)
    there[:, 5] = False
    edges, touching = region_graph(index, features, there, 1), region_graph(index, features, there, 0)
    for b in range(2):
        expected = np.eye(6, dtype=bool)
        for y in range(6):
            for x in range(7):
                for i, j in ((y + 1, x), (y, x + 1)):
                    if i < 6 and j < 7:
                        expected[index[b, y, x], index[b, i, j]] = expected[index[b, i, j], index[b, y, x]] = True
        assert np.array_equal(touching[b].numpy(), expected)
        for n in range(6):
            inside = (index[b] == n) & (weight[b] > 0)
            assert size[b, n] == inside.sum()
            if inside.any():
                torch.testing.assert_close(means[b, n], maps[b][:, inside].mean(1))
            assert counted[b, n].tolist() == [float((inside & (label[b] == c)).sum()) for c in range(3)]
            if n < 5:
                likeness = F.cosine_similarity(features[b, n][None], features[b, :5])
                likeness[n] = -2
                assert edges[b, n, int(likeness.argmax())] and edges[b, int(likeness.argmax()), n]
    assert torch.equal(painted(means, index)[0, :, 2, 3], means[0, index[0, 2, 3]])


def test_attention_is_a_mean_over_neighbours() -> None:
    torch.manual_seed(2)
    layer, nodes = GraphAttention(5, 3, heads=2), torch.randn(2, 6, 5)
    edges = (torch.rand(2, 6, 6) > 0.5) | torch.eye(6, dtype=torch.bool)
    h = layer.project(nodes).unflatten(2, (2, 3)).transpose(1, 2)
    a = layer.attention(h, edges)
    torch.testing.assert_close(a.sum(3), torch.ones(2, 2, 6))
    assert not a[~edges[:, None].expand_as(a)].any()
    i, u = 4, torch.cat([layer.centre[1], layer.neighbour[1]])
    near = edges[0, i].nonzero().flatten()
    score = torch.stack([F.leaky_relu(u @ torch.cat([h[0, 1, i], h[0, 1, j]]), 0.2) for j in near]).softmax(0)
    expected = sum(s * h[0, 1, j] for s, j in zip(score, near))
    torch.testing.assert_close(layer(nodes, edges)[0, i, 3:], expected)
    alone = torch.eye(6, dtype=torch.bool).expand(2, -1, -1)
    net = GraphClassifier(5, 4)
    torch.testing.assert_close(net(nodes, alone)[:, :1], net(nodes[:, :1], alone[:, :1, :1]))


def test_a_wrong_label_is_found_and_mended_by_what_is_alike(build, draw, task) -> None:
    method = build("label_noise", nodes=60).eval()
    view = draw(method, plan=method.stages()[1].views).u
    truth = view.maps["noisy"].clone()
    truth[:] = 0
    truth[:, 8:20, 6:22] = 1
    truth[:, 22:30, 4:30] = 2
    view.weak = F.one_hot(truth, 3).movedim(-1, 1).float()
    view.tags, view.valid = torch.tensor([[1.0, 1, 1, 0]] * 2), torch.ones_like(view.valid)
    truthful(method, truth)
    view.maps["noisy"] = truth
    nodes, _ = method.nodes_of(view)
    full = (votes(truth, nodes.index, nodes.clean.shape[1], 4, view.valid) > 0).any(2)
    assert torch.equal(nodes.clean, full), "true labels are clean"
    torch.testing.assert_close(method.corrected(view), truth)
    noisy = truth.clone()
    wrong = (torch.arange(32) >= 14) & (truth == 1)
    noisy[wrong] = 2
    view.maps["noisy"] = noisy
    nodes, target = method.nodes_of(view)
    assert torch.equal(target.weight > 0, noisy == truth)
    assert (~nodes.clean & full).any() and not painted(nodes.clean.float()[..., None], nodes.index)[:, 0][wrong].all()
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(method.graph.parameters(), 0.05)
    for _ in range(30):
        optimiser.zero_grad()
        losses = method.mend(Batch(u=view), CLOCK)
        losses.total.backward()
        optimiser.step()
    others = [p for name, p in method.named_parameters() if not name.startswith("graph")]
    assert all(p.grad is None for p in others), "the graph alone learns"
    assert float((method.corrected(view) == truth).float().mean()) > float((noisy == truth).float().mean())
    assert float((method.corrected(view) == truth).float().mean()) > 0.97
    view.tags[:, 1] = 0
    doubted = painted(nodes.clean.float()[..., None], nodes.index)[:, 0] == 0
    assert not (method.corrected(view)[doubted] == 1).any(), "a class without a tag is never said"


def test_activation_maps_name_tags_alone(build, draw) -> None:
    for background in (True, False):
        method = build("label_noise", background=background).eval()
        view = draw(method, batch=4, plan=method.stages()[1].views).u
        found, there = method.located(view), allowed(view, 4, background)
        for label, tags in zip(found, there):
            assert tags[label[label != VOID].unique()].all()
    view.tags[:] = torch.tensor([1.0, 0, 0, 0])
    assert set(method.located(view).unique().tolist()) <= {0, VOID}


def test_three_stages(tmp_path) -> None:
    task = toy_task(n_unlabelled=3)
    torch.manual_seed(0)
    method = methods.create("label_noise", task, net="tiny", nodes=30)
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=1, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=8, out=tmp_path / "run", **settings)
    assert run.weak_labels == "tags"
    for stage, name in ((1, "noisy"), (2, "label")):
        for row in task.unlabelled:
            found = Kept(str(run.path / "store"), stage).read(name, row)
            assert set(found.flatten().tolist()) <= {0, VOID, *task.train.label(row).flatten().tolist()}
    assert {row["name"] for row in run.pseudo()} == {NOISY, "kept labels"}
