"""`s4kit verify` on a CPU: every part runs tiny, what fails is named, and what only a GPU can show is said."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from s4kit.cli import main
from s4kit.engine.device import autocast
from s4kit.methods import get
from s4kit.report.planning import cards
from s4kit.report.planning.gpus import GPU, GPUS, gpus
from s4kit.report.planning.planner import plan
from s4kit.report.verify import PARTS, fake
from s4kit.report.verify.card import fitted
from s4kit.report.verify.draws import SameDraws
from s4kit.report.verify.grid import Step
from s4kit.report.verify.steps import _judged, apart

CPU = torch.device("cpu")


def verify(folder, *words: str, status: int = 0) -> dict:
    """`report.json`, which the shell says with --json too."""
    argv = ["verify", "--device", "cpu", "--quick", "--out", str(folder), *words]
    assert main(argv) == status
    return json.loads((folder / "report.json").read_text())


def checks(found: dict, part: str) -> dict[str, dict]:
    (one,) = [p for p in found["parts"] if p["part"] == part]
    return {check["name"]: check for check in one["checks"]}


@pytest.mark.slow
def test_steps_of_a_method_in_all_precisions(tmp_path, capsys):
    found = verify(tmp_path, "--only", "steps", "--methods", "u2pl")
    assert found["ok"] and checks(found, "steps")["u2pl"]["level"] == "ok"
    (part,) = found["parts"]
    apart = part["figures"]["u2pl"]["apart"]
    assert apart["float32"] == 0 < apart["fp16"] < apart["bf16"] < 0.1
    page = (tmp_path / "report.html").read_text()
    assert "nothing has failed" in page and "u2pl" in page and "Nothing has failed" in capsys.readouterr().out


@pytest.mark.slow
def test_what_fails_is_named_with_its_place(tmp_path, capsys, monkeypatch):
    of_fixmatch, of_cps = (get(name).losses for name in ("fixmatch", "cps"))

    def waiting(self, batch, clock):
        found = of_fixmatch(self, batch, clock)
        torch.tensor([1.0], device=batch.x.weak.device)  # blocks on a GPU
        return found

    def infinite(self, batch, clock):
        found = of_cps(self, batch, clock)
        return found.add("more", found.total * torch.inf)

    monkeypatch.setattr(get("fixmatch"), "losses", waiting)
    monkeypatch.setattr(get("cps"), "losses", infinite)
    found = verify(tmp_path, "--only", "steps", "--methods", "fixmatch,cps", status=1)
    told = checks(found, "steps")
    assert not found["ok"] and told["fixmatch"]["level"] == told["cps"]["level"] == "FAILED"
    assert "copy from cpu to lazy that blocks" in told["fixmatch"]["found"]
    assert "weights not finite in bf16" in told["cps"]["found"]
    said = capsys.readouterr()
    assert "Send" in said.out and "report.json" in said.out and "fixmatch FAILED" in said.err


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path):
    found = verify(tmp_path, "--methods", "fixmatch", "--minutes", "60")
    assert found["ok"] and [p["part"] for p in found["parts"]] == [part.name for part in PARTS]
    told = {p["part"]: {c["name"]: c for c in p["checks"]} for p in found["parts"]}
    skipped = [(part, name) for part, checks in told.items() for name, c in checks.items() if c["level"] == "skipped"]
    assert skipped == [
        ("ranks", "NCCL"),
        ("ranks", "synchronised batch norm"),
        ("planning", "time"),
        ("speed", "the device computes"),
        ("card", "figures kept for later plans"),
    ]
    assert all("only on cuda" in told[part][name]["found"] for part, name in skipped)
    assert "to the last bit" in told["resuming"]["kill and resume, float32"]["found"]
    assert "to the last bit" in told["ranks"]["2 processes over gloo = 2 micro-batches"]["found"]
    figures = {p["part"]: p["figures"] for p in found["parts"]}
    assert 0.9 < figures["planning"]["memory"]["low"] <= figures["planning"]["memory"]["high"] < 1.2
    assert sum(figures["speed"]["time"]["ms"].values()) > 0
    assert all(found["apart"] == 0 for found in figures["speed"]["compile"].values())
    assert all(figures["card"][key] > 0 for key in ("half", "single", "bandwidth", "launch", "look"))


def test_a_threshold_that_jumps_is_told_from_a_wrong_term():
    def of(share, jump):
        found = {"finite": {"bf16": True}, "apart": {"bf16": share}, "left": 0, "waits": "", "losses": {"bf16": {}}}
        return _judged(found | {"jumps": jump})

    assert not of(0.04, {}) and of(0.2, {"bf16": 0.03}) and not of(0.2, {"bf16": 0.1})
    assert apart({"x": (1.1, 1.0), "u": (0.0, 0.5)}, {"x": (1.0, 1.0), "u": (0.0, 0.5)}) == pytest.approx(0.1)
    small = apart({"x": (1.0, 1.0), "u": (0.002, 0.5)}, {"x": (1.0, 1.0), "u": (0.001, 0.5)})  # of all terms
    assert small == pytest.approx(0.0005 / (0.05 * 1.0005))


SHEET = GPU("NVIDIA T4", 15.8e9, 320e9, 65e12, 8.1e12, bf16=False, like="T4")
SPEEDS = {"half": 40e12, "single": 6e12, "bandwidth": 250e9, "launch": 5e-6, "look": 0.12}


def measured(seconds: float, ideal: float, memory: int = 103) -> Step:
    return Step("fixmatch", "resnet50c", 321, 4, 12, "fp16", seconds, memory, 100, None, ideal, 1e12)


def test_later_plans_go_by_the_measured_card(tmp_path, monkeypatch):
    monkeypatch.setenv("S4KIT_CACHE", str(tmp_path))
    sheet = plan("fixmatch", "scenes", "T4", options={"net": "tiny"}, host=False)
    assert "not measured on any GPU" in str(sheet) and gpus("T4")[0] is GPUS["T4"]
    kept = fitted(SHEET, SPEEDS, [measured(0.2, 0.1), measured(0.8, 0.1, memory=120)])
    assert kept["half"] == pytest.approx(10e12) and kept["launch"] == pytest.approx(20e-6)  # four times slower
    assert (kept["low"], kept["high"]) == pytest.approx((0.5, 2.0)) and kept["slack"] == pytest.approx(0.2)
    assert cards.keep(kept) == cards.where() == tmp_path / "gpus.json"
    for name in ("T4", "NVIDIA T4", "Tesla T4"):
        (card,) = gpus([name])
        assert card.half == kept["half"] and card.timed and not card.bf16 and card.flops_share == 1
    assert gpus("A100")[0] is GPUS["A100"]
    found = plan("fixmatch", "scenes", "T4,A100", options={"net": "tiny"}, host=False)
    told = " ".join(str(found).split())
    assert "T4: measured here on" in told and "2 steps took 0.50 to 2.00 times" in told
    assert "by data sheets where nothing else is said" in told and not found.gpus[1].measured
    assert found.gpus[0].step_seconds > sheet.gpus[0].step_seconds
    assert max(map(len, str(found).splitlines())) <= 100


def test_where_nothing_can_be_kept(monkeypatch):
    monkeypatch.setenv("S4KIT_CACHE", "off")
    assert cards.where() is None and cards.kept() == {} and cards.keep({"name": "T4"}) is None


@pytest.mark.slow
def test_what_there_is_no_time_for_is_named(tmp_path):
    found = verify(tmp_path, "--minutes", "0.0001")
    assert found["ok"] and all(c["level"] == "skipped" for p in found["parts"] for c in p["checks"])
    assert [p["part"] for p in found["parts"]] == [part.name for part in PARTS]


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: F.dropout(x, 0.4, True),
        lambda x: x * torch.rand_like(x),
        lambda x: x + torch.randn(x.shape[1:], dtype=x.dtype, device=x.device),
        lambda x: x * torch.empty_like(x).bernoulli_(0.3),
        lambda x: x[torch.randperm(len(x), device=x.device)],
    ],
)
def test_draws_are_the_same_in_every_precision(draw):
    x, found = torch.ones(6, 5), []
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        with SameDraws(), autocast(CPU, "float32"):
            found.append(draw(x.to(kind)))
        assert found[-1].dtype == kind
    assert torch.allclose(found[0], found[1].float(), atol=0.05) and torch.allclose(
        found[0], found[2].float(), atol=0.01
    )


def test_dropout_is_drawn_as_on_a_cpu():
    """A GPU calls another operation for it."""
    x = torch.rand(4, 5)
    torch.manual_seed(0)
    usual = F.dropout(x, 0.4, True)
    torch.manual_seed(0)
    with SameDraws():
        fused = torch.native_dropout(x, 0.4, True)[0]
    torch.testing.assert_close(fused, usual)


def test_the_fake_device_sees_what_would_be_waited_for():
    with fake.no_values():
        t, at = fake.on_device(torch.rand(3, 3)), fake.DEVICE
        rows = fake.on_device(torch.tensor([0, 2]))
        for mistake in (
            lambda: torch.tensor([1.0, 2.0], device=at),
            lambda: t.new_tensor([1.0]),
            lambda: torch.ones(3).to(at),
            lambda: t.cpu(),
            lambda: t.copy_(torch.ones(3, 3)),
            lambda: t[[0, 2]],
            lambda: t.index_put_((t > 0,), rows.float()),
            lambda: t.multinomial(1),
            lambda: torch.histc(t, 4),
        ):
            with pytest.raises(fake.WaitError):
                mistake()
        t[t > 0.5] = 0.0  # a value for all: no positions are asked for
        t[rows] = t[rows] + torch.ones(3).to(at, non_blocking=True)
        t.multinomial(2, replacement=True)
