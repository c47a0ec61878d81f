"""Dual-level domain mixing: what each of the three networks sees, and the labels between the rounds."""

import numpy as np
import pytest
import torch
from torch import nn
from toy import toy_task

from s4kit import methods
from s4kit.data.task import VOID, Evaluation
from s4kit.engine import fit
from s4kit.engine.scores import class_scores
from s4kit.errors import S4Error
from s4kit.methods.base import Clock
from s4kit.methods.domains.ssda_dual_mix import ENSEMBLE, KEPT, medians
from s4kit.methods.parts.quotas import confident, tally
from s4kit.nets import evaluating
from s4kit.views.lab import match_colours, to_lab, to_rgb

NOW = Clock(50, 100)
SETTINGS = dict(batch=2, lr=1e-3, progress=False, device="cpu", workers=0, threads=1, probes=2, checkpoint_every=1)


def slow_ce(logits, label):
    """Pixel by pixel in numpy: the mean of -log p over the pixels with a label."""
    found = []
    for z, y in zip(logits.detach().double().numpy(), label.numpy()):
        for row, column in np.argwhere(y != VOID):
            of = z[:, row, column]
            found.append(np.log(np.exp(of - of.max()).sum()) + of.max() - of[y[row, column]])
    return np.mean(found)


def stage_of(method, words):
    return next(stage for stage in method.stages() if words in stage.name)


def test_a_box_of_the_source_lies_in_the_target_and_its_label_with_it(build, draw):
    method = build("ssda_dual_mix", match=False).eval()
    stage = stage_of(method, "1: region")
    batch = draw(method, plan=stage.views)
    seen = stage.losses(batch, NOW).seen
    x, d = batch.x, batch.d
    image, label = x.weak.clone(), x.label.clone()
    for b, box in enumerate(d.masks[0]):
        for row, column in box.nonzero().tolist():
            image[b, :, row, column], label[b, row, column] = d.weak[b, :, row, column], d.label[b, row, column]
    assert torch.equal(seen["region mixing/mixed"], image) and d.masks[0].any()
    losses = stage.losses(batch, NOW)
    assert set(losses) == {"x"} and losses["x"][0].item() == pytest.approx(
        slow_ce(method.region(image), label), rel=1e-5
    )
    for mask, other in ((True, d), (False, x)):
        d.masks[0].fill_(mask)
        alone = stage.losses(batch, NOW)
        assert torch.equal(alone.seen["region mixing/mixed"], other.weak)
        assert alone["x"][0].item() == pytest.approx(slow_ce(method.region(other.weak), other.label), rel=1e-5)


def test_boxes_have_the_share_that_was_asked_for(build, draw):
    method = build("ssda_dual_mix", area=(0.2, 0.3))
    share = draw(method, batch=8, plan=stage_of(method, "1: region").views).d.masks[0].float().mean((1, 2))
    assert share.min() > 0.15 and share.max() < 0.35


def test_the_sample_teacher_sees_both_domains_whole(build, draw):
    method = build("ssda_dual_mix", match=False).eval()
    stage = stage_of(method, "1: sample")
    batch = draw(method, plan=stage.views)
    losses = stage.losses(batch, NOW)
    for name, view in (("x", batch.x), ("x_source", batch.d)):
        assert losses[name][0].item() == pytest.approx(slow_ce(method.sample(view.weak), view.label), rel=1e-5)
        assert losses[name][1] == 1
    losses.total.backward()
    assert all(p.grad is None for net in (method.student, method.region) for p in net.parameters())


def test_the_student_learns_the_mean_of_both_teachers_and_no_gradient_reaches_them(build, draw):
    method = build("ssda_dual_mix", rounds=1, weight=0.7).eval()
    batch = draw(method)
    z = method.student(batch.u.weak).detach().requires_grad_()
    handed, student = [z], method.student

    class Answers(torch.nn.Module):
        def forward(self, image):
            return handed.pop() if torch.equal(image, batch.u.weak) else student(image)

    del method.student
    method.student = Answers()
    batch.u.valid[:, :5] = 0
    losses = method.losses(batch, NOW)
    loss = losses["u"][0] * losses["u"][1]
    loss.backward()
    with evaluating(method.region, method.sample):
        p, q = (net(batch.u.weak).double().softmax(1) for net in (method.region, method.sample))
    mean, own, used = (p + q) / 2, z.double().softmax(1), batch.u.valid.double()
    far = (mean * (mean.log() - own.log())).sum(1)
    assert loss.item() == pytest.approx(0.7 * ((far * used).sum() / used.sum()).item(), rel=1e-5)
    gradient = 0.7 * (own - mean) * used[:, None] / used.sum()  # of a KL whose first side is fixed
    torch.testing.assert_close(z.grad.double(), gradient, rtol=1e-4, atol=1e-9)
    assert all(p.grad is None for net in (method.region, method.sample) for p in net.parameters())
    assert losses.seen[f"{ENSEMBLE}/target"].weight.min() == 1  # no threshold


def test_a_student_like_equal_teachers_has_nothing_to_learn(build, draw):
    method = build("ssda_dual_mix", rounds=1).eval()
    for net in (method.region, method.sample):
        net.load_state_dict(method.student.state_dict())
    batch = draw(method)
    assert method.losses(batch, NOW)["u"][0].item() == pytest.approx(0, abs=1e-6)
    log_mean, _ = method.teach(batch.u)
    torch.testing.assert_close(log_mean.exp(), method.region(batch.u.weak).softmax(1).detach())


def test_the_student_never_sees_the_source(build):
    for stage in build("ssda_dual_mix").stages():
        sources = {stream.source for stream in stage.views.values()}
        assert ("domain" in sources) == ("teacher" in stage.name) and ("unlabelled" in sources) == (
            "student" in stage.name
        )


def bdl(labels, confidences, classes, sure):
    """The rule in numpy, all pixels at once: a class's pixel in the middle of the sorted ones, or 0.9, is its limit."""
    of = [np.sort(confidences[labels == c]) for c in range(classes)]
    limit = [min(found[len(found) // 2], sure) if len(found) else 0.0 for found in of]
    return np.array(limit), np.where(confidences >= np.array(limit)[labels], labels, VOID)


class Looks:
    """Stands for a sweep over given logits; what it says of them is what evaluation makes of them."""

    def __init__(self, logits):
        self.logits, self.kept = logits, {}

    def over(self, source):
        assert source == "unlabelled"
        return enumerate(self.logits)

    def scores(self, net, view, how=None):
        return class_scores(nn.Identity(), view, how or Evaluation())

    def sum(self, counts):
        return counts

    def keep(self, name, row, values):
        self.kept[row] = values.numpy()


def test_labels_of_a_round_are_those_of_bdl(build):
    torch.manual_seed(0)
    method = build("ssda_dual_mix")
    scale = torch.tensor([6.0, 1.0, 3.0, 0.5])[None, :, None, None]
    looks = Looks(
        [torch.randn(1, 4, 9, 11) * scale + torch.tensor([0.0, 0, 0, -30])[None, :, None, None] for _ in range(6)]
    )
    method.label(looks)
    pairs = [confident(z) for z in looks.logits]
    labels = np.stack([label[0].numpy() for label, _ in pairs])
    confidences = np.stack([c[0].numpy().astype(np.float32) for _, c in pairs])
    limit, wanted = bdl(labels, confidences, 4, 0.9)
    np.testing.assert_array_equal(np.stack([looks.kept[row] for row in range(6)]), wanted)
    np.testing.assert_allclose(method.threshold.numpy(), limit)
    assert limit[3] == 0 and limit.max() == 0.9 and 0.3 < limit[2] < 0.9
    for c in range(3):
        own = labels == c
        assert (wanted[own] == c).mean() >= 0.5 and (wanted[own & (confidences > 0.9)] == c).all()


@pytest.mark.parametrize("many", [1, 2, 3, 8, 9])
def test_the_median_is_the_pixel_in_the_middle(many):
    confidence = torch.rand(many, generator=torch.Generator().manual_seed(many)).half()
    counts = tally(torch.ones(many, dtype=torch.long), confidence, 3)
    found = medians(counts)
    assert found[1] == confidence.sort().values[many // 2].float() and found[0] == found[2] == 0


def test_labels_that_were_kept_join_the_target_of_all_three(build, draw, task):
    method = build("ssda_dual_mix", match=False).eval()
    for words, net in (("2: region", "region"), ("2: sample", "sample"), ("2: student", "student")):
        stage = stage_of(method, words)
        batch = draw(method, batch=8, plan=stage.views)
        x, losses = batch.x, stage.losses(batch, NOW)
        assert 0 < x.labelled.sum() < 8 and bool((x.maps["label"] != VOID).any())
        if net == "region":
            batch.d.masks[0].fill_(False)
            losses = stage.losses(batch, NOW)
        label = torch.where(x.labelled[:, None, None], x.label, x.maps["label"])
        total = (losses["x"][0] + losses["kept"][0]).item()
        assert total == pytest.approx(slow_ce(getattr(method, net)(x.weak), label), rel=1e-5)
    assert method.losses(draw(method, batch=8), NOW).seen[f"{KEPT}/loss"].any()


def test_rounds_begin_anew_and_a_round_alone_keeps_nothing(tmp_path):
    task = toy_task(n_labelled=4, n_unlabelled=6)
    torch.manual_seed(0)
    method = methods.create("ssda_dual_mix", task, net="tiny")
    first = {name: t.clone() for name, t in method.state_dict().items()}
    run = fit(method, task, 12, out=tmp_path / "run", **SETTINGS)
    assert [row["name"] for row in run.rounds] == [s.name for s in method.stages()] and len(run.rounds) == 6
    files = sorted(f.relative_to(run.path / "store").parts for f in (run.path / "store").rglob("*.png"))
    assert {(f[0], f[1]) for f in files} == {("3", "label")} and len(files) == len(task.unlabelled)
    assert (method.threshold > 0).any() and method.threshold.max() <= 0.9
    state = method.state_dict()
    assert any(not torch.equal(state[name], first[name]) for name in state if name.startswith("region"))
    alone = methods.create("ssda_dual_mix", task, net="tiny", rounds=1)
    assert not (fit(alone, task, 3, out=tmp_path / "one", **SETTINGS).path / "store").exists()


def test_without_a_second_domain_it_says_how_to_get_one(tmp_path):
    task = toy_task().with_(more={})
    with pytest.raises(S4Error, match=r"the list 'domain'.*--more domain=NAME"):
        fit(methods.create("ssda_dual_mix", task, net="tiny"), task, 12, out=tmp_path / "r", progress=False)


def test_colours_in_lab_are_those_of_the_tables_and_come_back():
    known = {  # sRGB under D65, to two digits
        (1.0, 1.0, 1.0): (100.0, 0.0, 0.0), (1.0, 0.0, 0.0): (53.24, 80.09, 67.20),
        (0.0, 1.0, 0.0): (87.73, -86.18, 83.18),
        (0.0, 0.0, 1.0): (32.30, 79.19, -107.86), (0.5, 0.5, 0.5): (53.39, 0.0, 0.0), (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
    }  # fmt: skip
    rgb = torch.tensor(list(known)).T[None, :, :, None]
    torch.testing.assert_close(to_lab(rgb)[0, :, :, 0].T, torch.tensor(list(known.values())), atol=0.02, rtol=0)
    image = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_rgb(to_lab(image)), image, atol=2e-4, rtol=0)


def test_the_source_takes_the_colours_of_the_target():
    draw = torch.Generator().manual_seed(0)
    image, like = (0.3 + 0.3 * torch.rand(2, 3, 12, 12, generator=draw) for _ in range(2))
    like = (like * torch.tensor([1.2, 0.8, 0.6])[None, :, None, None]).clamp(0, 1)
    valid = torch.ones(2, 12, 12)
    valid[:, :3] = 0
    made = match_colours(image, like, valid, torch.ones(2, 12, 12))
    assert torch.equal(made[:, :, :3], image[:, :, :3])  # padding
    for b in range(2):
        got, wanted = to_lab(made)[b, :, 3:].flatten(1), to_lab(like)[b].flatten(1)
        torch.testing.assert_close(got.mean(1), wanted.mean(1), atol=0.5, rtol=0)
        torch.testing.assert_close(got.std(1), wanted.std(1), atol=0.5, rtol=0)
    torch.testing.assert_close(match_colours(image, image, valid, valid), image, atol=5e-4, rtol=0)
