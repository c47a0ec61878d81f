"""The plain loops of `s4kit bench parity` have the kit's losses, gradients, views and score, and none of its code."""

import ast
import json
import random
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy import toy_task

from s4kit.cli import main
from s4kit.engine import evaluate, fit
from s4kit.errors import S4Error
from s4kit.methods import create
from s4kit.methods.base import Clock
from s4kit.methods.parts.schedules import poly
from s4kit.nets import copy_of, make
from s4kit.report import setup, text
from s4kit.report.benchmarking import parity
from s4kit.report.benchmarking.plain import loop, methods, views
from s4kit.report.setup import Setup
from s4kit.views import draw_step, rasterise, render
from s4kit.views.boxes import half_area_box, three_boxes, unimatch_box

PLAIN = Path(parity.__file__).parent / "plain"
OPTIONS = {"fixmatch": {"tau": 0.3}, "unimatch": {"tau": 0.3}, "cutmix": {"tau": 0.3}, "cps": {"weight": 1.5}}


def test_the_plain_code_takes_only_networks_from_the_kit():
    found = set()
    for file in PLAIN.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.level or node.module.startswith("s4kit")):
                found.add("." * node.level + (node.module or ""))
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith("s4kit") for name in node.names)
    assert found == {"....nets", ".methods", ".views"}


# ---- the same numbers from the same tensors ----


def plain_batches(batch):
    """The kit's drawn views as the plain loop has them."""
    x = {"image": batch.x.weak, "label": batch.x.label}
    found = [x]
    for stream in (batch[name] for name in ("u", "v") if name in batch):
        one = {"image": stream.weak, "ignored": stream.valid == 0}
        one |= {f"strong{k}": image for k, image in enumerate(stream.strong, 1)}
        found.append(one | {f"box{k}": mask for k, mask in enumerate(stream.masks, 1)})
    return found


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_the_losses_and_gradients_are_the_kits(name):
    torch.manual_seed(0)
    task = toy_task(crop=44)  # larger than some images: there is padding
    kit = create(name, task, net="tiny", **OPTIONS.get(name, {}))
    plain = methods.METHODS[name]
    if plain.teacher:  # one that differs from its student
        with torch.no_grad():
            for p in kit.teacher.parameters():
                p.mul_(1 + 0.2 * torch.randn_like(p))
    kit.train()
    trained = [net for net in kit.children() if any(p.requires_grad for p in net.parameters())]
    nets = [copy_of(net).requires_grad_(True).train() for net in trained]
    teacher = [copy_of(kit.teacher)] if plain.teacher else []
    batch = render(draw_step(task, kit.views, 4, 0, 0, 1), kit.views)
    if "u" in batch and plain.loss is not methods.cps:
        assert (batch.u.valid == 0).any()

    torch.manual_seed(1)
    expected = kit.losses(batch, Clock(0, 10)).total
    expected.backward()
    torch.manual_seed(1)
    loss = plain.loss(*nets, *teacher, *plain_batches(batch), **OPTIONS.get(name, {}))
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(trained, nets, strict=True):
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert p.grad is not None and q.grad is not None, key
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-5)
        for p, q in zip(ours.buffers(), theirs.buffers(), strict=True):  # batch norm saw the same forwards
            torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)
    if name in ("fixmatch", "unimatch"):  # the threshold divides: some pixels count, some do not
        supervised = methods.supervised(copy_of(nets[0]).train(), plain_batches(batch)[0])
        assert loss.detach() != supervised / 2


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_on_the_same_draws_a_training_ends_with_the_kits_weights(name, monkeypatch, tmp_path):
    """Optimiser, rates, warm-up, modes, teacher and order of the steps: with the kit's images nothing is left."""
    task, seed = toy_task(), 5
    options = {"net": "tiny", **OPTIONS.get(name, {}), **({"drop": 0.0} if name == "unimatch" else {})}
    setup.seed_everything(seed)
    kit = create(name, task, **options)
    nets = parity._fresh(Setup(name, {}, options), task, seed)
    told = {"steps": 8, "batch": 3, "warmup": 3, "lr": 2e-3, "head": 5.0, "weight_decay": 1e-2}
    run = fit(kit, task, out=tmp_path / "kit", seed=seed, progress=False, probes=0, evaluate_every=8, **told)

    def kits_draws(*_):
        steps = [plain_batches(render(draw_step(task, kit.views, 3, seed, 0, k), kit.views)) for k in range(8)]
        return [iter(stream) for stream in zip(*steps)]

    monkeypatch.setattr(loop, "streams", kits_draws)
    scored = loop.train(name, task, nets, told, seed, **{k: v for k, v in options.items() if k != "net"})
    theirs = next(iter(kit.predictors().values()))
    moved = 0
    for (key, p), q in zip(theirs.state_dict().items(), scored.state_dict().values(), strict=True):
        if p.is_floating_point():
            torch.testing.assert_close(q, p, rtol=1e-3, atol=5e-5, msg=key)
            moved += 1
    assert moved and loop.miou(scored, task) == pytest.approx(run.last["miou"], abs=5e-3)


def test_the_teacher_follows_as_the_kits():
    task = toy_task()
    kit = create("cutmix", task, net="tiny")
    teacher = copy_of(kit.teacher)
    with torch.no_grad():
        for p in (*kit.student.parameters(), *(b for b in kit.student.buffers() if b.is_floating_point())):
            p.add_(torch.randn_like(p))
    kit.after_step(Clock(0, 10))
    methods.average(teacher, kit.student, kit.decay)
    for (key, p), q in zip(kit.teacher.state_dict().items(), teacher.state_dict().values(), strict=True):
        if p.is_floating_point():
            torch.testing.assert_close(q, p, msg=key)


def test_rates_and_score_are_the_kits():
    theirs = poly(0.9, warmup=4)
    for step in range(20):
        assert loop.rate(step, 20, 4) == pytest.approx(theirs(Clock(step, 20)))
    task = toy_task()  # its labels have void pixels
    torch.manual_seed(0)
    net = make("tiny", task)
    assert loop.miou(net, task) == pytest.approx(evaluate(net, task).miou, abs=1e-12)


# ---- views: other draws of the same laws ----


@pytest.mark.parametrize(
    "plain, kit",
    [
        (views.unimatch_box, unimatch_box()),
        (views.half_area_box, half_area_box()),
        (views.three_boxes, three_boxes()),
    ],
)
def test_boxes_have_the_kits_law(plain, kit):
    random.seed(0)
    rng, side, n = np.random.default_rng(0), 40, 1500
    ours = torch.stack([plain(side) for _ in range(n)]).float()
    theirs = rasterise(torch.from_numpy(np.stack([kit.draw(rng, side) for _ in range(n)])), (side, side)).float()
    for statistic in (
        lambda m: m.mean((1, 2)),
        lambda m: m.amax(1).mean(1),
        lambda m: m[:, 20, 20],
        lambda m: m[:, 0, 0],
    ):
        a, b = statistic(ours), statistic(theirs)
        error = ((a.var() + b.var()) / n).sqrt()
        assert (a.mean() - b.mean()).abs() <= 4 * error + 1e-6


def test_a_labelled_view_moves_image_and_label_together():
    """An image that is its own label: every pixel of the view still says which class it is."""
    random.seed(0)
    label = torch.zeros(24, 24, dtype=torch.uint8)
    label[:, 12:], label[12:] = 1, label[12:] + 2
    image = (label * 60 + 30).expand(3, -1, -1).contiguous()
    for _ in range(20):
        view = views.labelled_sample(SimpleNamespace(image=image, label=label), 32, (0.8, 1.5))
        grey = view["image"][0] * 255
        known = view["label"] != 255
        right = ((grey[known] - 30) / 60 - view["label"][known]).abs() < 0.5
        assert right.float().mean() > 0.9 and (grey[~known] == 0).all()


def test_lists_are_passed_through_whole_again_and_again():
    random.seed(0)
    rows = loop.shuffled((3, 5, 7))
    passes = [[next(rows) for _ in range(3)] for _ in range(6)]
    assert all(sorted(one) == [3, 5, 7] for one in passes) and len({tuple(one) for one in passes}) > 1


# ---- the bench ----


def test_the_bench_trains_both_sides_keeps_runs_and_judges(tmp_path, capsys, monkeypatch):
    command = ["bench", "parity", "--quick", "--json", "--methods", "cutmix,cps", "--seeds", "0,1"]
    command += ["--runs", str(tmp_path), "--out"]
    assert main([*command, str(tmp_path / "parity.json")]) == 0
    told = capsys.readouterr()
    found = json.loads((tmp_path / "parity.json").read_text())
    assert json.loads(told.out.strip().splitlines()[-1]) == found and parity.show(found) in told.err
    assert [row["method"] for row in found["rows"]] == ["cutmix", "cps"] and found["quick"]
    assert all(0 < score < 1 for row in found["rows"] for side in ("kit", "plain") for score in row[side])

    def again(*_):
        raise AssertionError("a finished training is repeated")

    monkeypatch.setattr(parity, "_train_kit", again)
    monkeypatch.setattr(parity, "_train_plain", again)
    assert main([*command, str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == found["rows"]


def test_a_folder_of_other_trainings_and_one_seed_are_refused(tmp_path):
    folder = tmp_path / "supervised-kit-seed0"
    folder.mkdir()
    (folder / "parity.json").write_text('{"set_up": {}, "miou": 0.5}')
    with pytest.raises(S4Error, match="other settings"):
        parity.parity(quick=True, runs=tmp_path, methods=["supervised"])
    with pytest.raises(S4Error, match="at least two"):
        parity.parity(quick=True, runs=tmp_path, seeds=[0, 0])
    with pytest.raises(S4Error, match="no plain loop"):
        parity.parity(quick=True, runs=tmp_path, methods=["ael"])


def test_a_difference_beyond_the_spread_does_not_hold():
    near = parity._judged("cps", [0.50, 0.52, 0.54], [0.51, 0.53, 0.55])
    far = parity._judged("cps", [0.50, 0.52, 0.54], [0.55, 0.57, 0.59])
    assert near["spread"] == pytest.approx(0.04) and near["difference"] == pytest.approx(-0.01)
    assert near["holds"] and not far["holds"]
    result = {
        "machine": "",
        "settings": {"net": "", "steps": 1, "batch": 1},
        "seeds": [0],
        "rows": [far],
        "quick": False,
    }
    assert "-5.0" in parity.show(result) and "NO" in parity.show(result)


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_both_sides_begin_with_the_same_weights(name):
    task, chosen = toy_task(), Setup(name, {}, {"net": "tiny"})
    setup.seed_everything(3)
    kit = create(name, task, net="tiny")
    trained = [net for net in kit.children() if any(p.requires_grad for p in net.parameters())]
    for ours, plain in zip(trained, parity._fresh(chosen, task, 3), strict=True):
        for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
            assert torch.equal(p, q)


# ---- the stored result ----


def readme_table() -> str:
    """The table of notebooks/RESULTS.md of what was measured."""
    found = parity.measured()
    rows = [f"| method | kit | plain loop | difference, {len(found['seeds'])} seeds |", "|---|---|---|---|"]
    for row in found["rows"]:
        kit, plain = (text.spread(statistics.fmean(row[s]), statistics.stdev(row[s])) for s in parity.SIDES)
        rows.append(f"| `{row['method']}` | {kit} | {plain} | {text.difference(row['difference'])} |")
    return "\n".join(rows) + "\n"


def test_the_results_show_the_stored_one_which_is_of_these_settings():
    found = parity.measured()
    readme = (Path(__file__).parents[2] / "notebooks" / "RESULTS.md").read_text()
    assert readme[readme.index("<!-- parity -->") : readme.index("<!-- end parity -->")] == (
        "<!-- parity -->\n" + readme_table()
    )
    assert [row["method"] for row in found["rows"]] == list(methods.METHODS) and not found["quick"]
    assert found["settings"] == {"net": parity.NET, **found["settings"], **parity.FIT}
    for row in found["rows"]:
        assert len(row["kit"]) == len(row["plain"]) == len(found["seeds"]) >= 3
        assert parity._judged(row["method"], row["kit"], row["plain"]) == row
