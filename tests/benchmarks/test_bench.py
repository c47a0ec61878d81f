"""`s4kit bench` runs and its figures make sense; how fast it is, is not for a test to judge."""

import json

import pytest

from s4kit.cli import main
from s4kit.report.benchmarking.bench import show

MAY_BE_ZERO = ("added", "added_by_heads", "pixels_apart")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["host", "step", "u2pl", "eval"])
def test_both_sides_are_measured(what, capsys):
    assert main(["bench", what, "--quick", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out.strip().splitlines()[-1])
    figures = found[what]
    assert all(v > 0 for k, v in figures.items() if isinstance(v, int | float) and k not in MAY_BE_ZERO)
    assert show(found) in told.err
    if what == "eval":
        assert figures["pixels_apart"] < 1e-3
        assert figures["ratio"] == pytest.approx(1, abs=0.05)
    if what == "host":
        assert figures["host_ratio"] == pytest.approx(figures["host_ms"] / figures["plain_ms"])


def test_the_plain_loop_has_the_losses_of_the_method():
    """Same network, same batch, dropout off: the yardstick trains on what UniMatch trains on."""
    import torch
    from toy import toy_task

    from s4kit.methods import create
    from s4kit.methods.base import Clock
    from s4kit.nets import copy_of
    from s4kit.report.benchmarking.loop import plain_unimatch
    from s4kit.views import draw_step, render

    torch.manual_seed(0)
    task = toy_task()
    method = create("unimatch", task, net="tiny", tau=0.26, drop=0.0)
    net = copy_of(method.student).requires_grad_(True)
    batch = render(draw_step(task, method.views, 3, 0, 0, 0), method.views)
    method.train()
    method.losses(batch, Clock(0, 10)).total.backward()
    sgd = torch.optim.SGD(net.parameters(), lr=0.0)
    plain_unimatch(net, sgd, tau=0.26, drop=0.0)(batch)
    pairs = list(zip(method.student.parameters(), net.parameters()))
    assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p, _ in pairs) > len(pairs) // 2
    for ours, plain in pairs:
        assert (ours.grad is None) == (plain.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-3, atol=1e-5)


# ---- price ----


@pytest.fixture()
def few(monkeypatch):
    """Only some methods, one of them broken: of a kind each, with stages, with evaluations, plain."""
    from s4kit.methods import get
    from s4kit.report.benchmarking import price

    def broken(self, batch, clock):
        raise RuntimeError("does not fit")

    monkeypatch.setattr(get("cps"), "losses", broken)
    monkeypatch.setattr(price, "files", lambda: dict.fromkeys(("cps", "psmt", "prevmatch", "supervised")))


@pytest.mark.slow
def test_price_of_each_method(few, tmp_path, capsys):
    assert main(["bench", "price", "--quick", "--json", "--out", str(tmp_path / "price.json")]) == 1  # one has failed
    told = capsys.readouterr()
    found = json.loads((tmp_path / "price.json").read_text())
    assert json.loads(told.out.strip().splitlines()[-1]) == found
    rows = {row["method"]: row for row in found["rows"]}
    assert set(rows) == {"fixmatch", "psmt", "prevmatch", "supervised"}
    assert rows["fixmatch"]["time"] == rows["fixmatch"]["memory"] == 1 and 0 <= found["exactness"] < 1
    assert rows["supervised"]["time"] < 1 and rows["supervised"]["memory"] < 1
    assert rows["prevmatch"]["memory"] > 1  # the stored networks
    assert [f["error"] for f in found["failed"]] == ["RuntimeError: does not fit"] and "cps FAILED" in told.err
    assert {"command", "date", "commit", "machine", "reference", "settings"} <= found.keys()


@pytest.mark.slow
def test_growth_of_what_is_known(tmp_path, capsys):
    out = tmp_path / "growth.json"
    assert main(["bench", "growth", "--quick", "--out", str(out)]) == 0
    shown, found = capsys.readouterr().out, json.loads(out.read_text())
    rows = {(row["axis"], row["method"], row["what"]): row for row in found["rows"]}
    assert {axis for axis, *_ in rows} == {"classes", "crop", "images", "processes"}
    crop = rows["crop", "supervised", "operations of a step"]
    assert crop["power"] == pytest.approx(2, abs=0.3)  # of a convolutional network in the side
    assert rows["processes", "unimatch", "operations in each"]["power"] == pytest.approx(-1, abs=0.05)
    assert rows["processes", "unimatch", "gradients that each sends"]["found"][0] == 0
    assert rows["classes", "u2pl", "memory at its peak"]["power"] > 0
    assert rows["images", "", "names and split, in memory"]["power"] == pytest.approx(1, abs=0.3)
    assert all(f"{axis}" in shown for axis in found["axes"]) and "crop^" in shown


def test_powers_and_amounts():
    from s4kit.report.benchmarking.growth import amount, grows, power

    assert power((1, 10, 100), (3, 30, 300)) == pytest.approx(1) and power((1, 2, 4), (5, 5, 5)) == pytest.approx(0)
    assert power((1, 2), (0, 3)) is None
    assert [amount(0.0345, "s"), amount(2.5e-6, "s"), amount(4.1e12, "FLOP"), amount(12, "FLOP")] == [
        "34.5 ms", "2.5 µs", "4.1 TFLOP", "12 FLOP"
    ]  # fmt: skip
    assert grows(0.01, "crop") == "not" and grows(1.96, "crop") == "crop^2.0" and grows(None, "crop") == ""


def test_a_walk_comes_through_all_stages_and_has_their_losses():
    import torch
    from toy import toy_task

    from s4kit.methods import create
    from s4kit.report.benchmarking.price import Walk

    torch.manual_seed(0)
    task = toy_task()
    walk = Walk(create("cafs", task, net="tiny", calibrate=0.5), task, 2, "cpu")
    moved = []
    for moment in range(4):
        walk.go(moment, 4)
        before = {name: p.detach().clone() for name, p in walk.method.named_parameters()}
        assert walk.step() > 0
        moved.append({n.split(".")[0] for n, p in walk.method.named_parameters() if not torch.equal(p, before[n])})
    assert moved == [{"scout"}, {"scout"}, {"student"}, {"student"}]
    assert [walk.clock.overall, walk.clock.stage] == [0.875, 1]


def test_the_stored_prices_are_of_methods_of_the_kit():
    from s4kit.methods import names
    from s4kit.report.benchmarking.price import measured

    found = measured()
    rows = {row["method"]: row for row in found["rows"]}
    assert rows["fixmatch"] == {"method": "fixmatch", "time": 1.0, "memory": 1.0} and not found["quick"]
    assert rows.keys() <= set(names()) and len(rows) >= 35
    assert all(0.1 < row[key] < 20 for row in rows.values() for key in ("time", "memory"))
