"""Two processes equal one process that accumulates two micro-batches (CONTRACT rule: normalisers are per process)."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import ranks
import torch
import torch.multiprocessing as mp
from toy import tiny, toy_for, toy_task

import s4kit as s4
from s4kit.engine import checkpoint, distributed
from s4kit.errors import S4Error

NET = "tiny(norm='group')"  # batch statistics differ by construction, group norm makes the comparison exact
SETTINGS = dict(batch=2, lr=1e-2, optimiser="sgd", evaluate_every=10, checkpoint_every=10, probes=2, progress=False)
TINY = torch.finfo(torch.float32).tiny  # halves of gradients below it are rounded
VAL = (3, 1)  # validation images: not the same number for both ranks, and none for one of them
# Banks: both ranks write before either reads, so the paths differ by little, not by nothing.
BANKS = {
    "u2pl", "daw", "cac", "ael", "ucc", "rml", "ctt", "semiseg_contrastive", "allspark", "minority",
    "learning_pseudo_label",
}  # fmt: skip
# Centres, prototypes and thresholds of what all ranks show together, which one that accumulates sees in parts, one
# after the other: another path.
CENTRES = {"css", "pcr", "prcl", "prcl_global", "c3_semiseg", "np_semiseg", "np_semiseg_u2pl", "mllc"}


def build(name: str):
    torch.set_num_threads(1)
    task = toy_for(s4.methods.get(name))
    torch.manual_seed(3)
    return s4.methods.create(name, task, **tiny(name, task) | ({"net": NET} if task.crop else {})), task


def fit(method, task, out: Path, **options):
    """Three steps, or one of each stage; scored, watched and stored where they end."""
    steps = max(3, len(method.stages()))
    return s4.fit(method, task, out=out, device="cpu", **{"steps": steps} | SETTINGS | options)


def two(rank: int, names: list[str], folder: str) -> None:
    for name in names:
        method, task = build(name)
        fit(method, task, Path(folder) / "two" / name)
        weights = torch.cat([p.flatten() for p in method.parameters()])
        other = weights.clone()
        torch.distributed.broadcast(other, 0)
        assert torch.equal(weights, other), f"{name}: the ranks drifted apart"
    method, task = build("fixmatch")
    run = fit(method, task, Path(folder) / "two" / "epochs", steps=None, epochs=1, reference_batch=8)
    torch.distributed.barrier()
    assert run.config["fit"]["steps"] == 4  # 16 unlabelled images, two ranks of two
    assert run.config["fit"]["lr"] == pytest.approx(SETTINGS["lr"] * 4 / 8)
    for images in VAL:
        scores = s4.engine.evaluate(build("fixmatch")[0].student, toy_task(n_val=images))
        torch.save(scores.confusion, Path(folder) / f"confusion_{images}_{rank}.pt")
    distributed.agreed(7, "all have the same")
    with pytest.raises(S4Error, match="another step") if rank else nullcontext():
        distributed.agreed(rank, "another step")
    stumble(rank, Path(folder))


def stumble(rank: int, folder: Path) -> None:
    """One process fails in the middle of a step, while the other waits for its gradients."""
    method, task = build("fixmatch")
    losses = method.losses

    def stumbling(batch, clock):
        if rank == 1 and clock.step == 2:
            raise RuntimeError("process 1 stumbles")
        return losses(batch, clock)

    method.losses = stumbling
    try:
        fit(method, task, folder / "two" / "stumbles", steps=5)
    except RuntimeError as error:
        (folder / f"error_{rank}.txt").write_text(f"{distributed.lost(error)} {error}")
        raise


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder, names = tmp_path_factory.mktemp("ranks"), s4.methods.names()
    try:
        ranks.both(two, names, str(folder))
    except (mp.ProcessRaisedException, mp.ProcessExitedException):
        if not (folder / "error_1.txt").exists():
            raise
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("images", VAL)
def test_two_ranks_score_every_image_once(images, both):
    alone = s4.engine.evaluate(build("fixmatch")[0].student, toy_task(n_val=images)).confusion
    for rank in range(2):
        assert torch.equal(torch.load(both / f"confusion_{images}_{rank}.pt", weights_only=True), alone)


@pytest.mark.slow
def test_a_rank_that_fails_in_the_middle_of_a_step_ends_the_other(both):
    assert (both / "error_1.txt").read_text() == "False process 1 stumbles"
    other = both / "error_0.txt"  # it was ended while it waited, or noticed and says so
    assert not other.exists() or other.read_text().startswith("True ")


@pytest.mark.slow
@pytest.mark.parametrize("name", s4.methods.names())
def test_two_ranks_equal_one_that_accumulates_two(name, both):
    method, task = build(name)
    fit(method, task, both / "one" / name, accumulate=2)
    one, two = (checkpoint.load(both / side / name / "last.pt")["method"] for side in ("one", "two"))
    parameters = [n for n, p in method.named_parameters() if p.requires_grad]
    if name in CENTRES:  # `two` has seen that both ranks hold the same
        assert all(torch.isfinite(two[key]).all() for key in parameters)
    elif name in BANKS:
        start = build(name)[0].state_dict()
        apart = sum(float((one[key] - two[key]).square().sum()) for key in parameters)
        moved = sum(float((one[key] - start[key]).square().sum()) for key in parameters)
        assert apart <= 0.02**2 * moved, f"{name}: {(apart / moved) ** 0.5:.1%} of the way apart"
    else:
        for key in parameters:
            assert (two[key] - one[key]).abs().max() <= TINY, f"{name}: {key} differs"
    rows = [s4.open_run(both / side / name).evaluations() for side in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) > 0
    one, two = (s4.open_run(both / side / name).snapshots() for side in ("one", "two"))
    assert one.steps == two.steps and one.path_steps == two.path_steps
    for path in () if name in BANKS | CENTRES else one.path_steps:
        last = one.path_steps[path][-1]
        a, b = one.path(last, path, 0), two.path(last, path, 0)
        assert all((a[field] == b[field]).all() for field in a)
