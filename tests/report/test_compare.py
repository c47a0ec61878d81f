"""Comparisons: the figures, the files, and going on after an interruption."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from PIL import Image
from toy import toy_task
from toy_folder import flags

from s4kit import preemption
from s4kit.cli import main
from s4kit.data import load
from s4kit.engine import open_run
from s4kit.errors import S4Error
from s4kit.methods import files, get
from s4kit.report import html, pictures, plots, setup, text
from s4kit.report.comparing import figures, processes, trainings
from s4kit.report.comparing.figures import collect
from s4kit.report.comparing.selection import buildable, choose, families, remarks
from s4kit.report.setup import Setup, match


@pytest.fixture(scope="module")
def compared(squares, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare")
    argv = ["compare", "fixmatch", *flags(squares), "--seeds", "0,1", "--out", str(out)]
    assert main(argv) == 0
    return out, argv


def test_every_run_both_baselines_and_all_labels(compared):
    found = json.loads((compared[0] / "compare.json").read_text())
    assert [m["method"] for m in found["methods"]] == ["supervised", "supervised_strong", "fixmatch", "all labels"]
    assert [(run["method"], run["seed"]) for run in found["runs"] if run["method"] == "all labels"] == [
        ("all labels", 0)
    ]
    assert len(found["runs"]) == 7
    for run in found["runs"]:
        assert 0 <= run["last"] <= run["best"] <= 1
        assert run["seconds"] > 0 and run["peak_memory"] > 1e5
    for row in found["methods"]:
        own = [run["last"] for run in found["runs"] if run["method"] == row["method"]]
        assert row["last"] == pytest.approx(np.mean(own))
        assert row["last_sd"] == (None if len(own) == 1 else pytest.approx(np.std(own, ddof=1)))
    first, _, last, _ = found["methods"]
    assert last["over_supervised"] == pytest.approx(last["last"] - first["last"])


def test_the_third_line_hides_nothing_and_trains_as_long(compared):
    bound, base = (open_run(compared[0] / "runs" / f"{name}-seed0") for name in ("all_labels", "supervised"))
    assert bound.config["method"] == "supervised" and bound.config["task"]["labelled"] == "all"
    assert len(bound.task().labelled) > len(base.task().labelled) and not bound.task().unlabelled
    assert bound.config["fit"] | {"probes": 0} == base.config["fit"] | {"probes": 0}


def test_it_is_left_out_where_nothing_is_hidden_and_where_it_is_not_wanted(squares):
    compare = import_module("s4kit.report.comparing.compare")
    task = load("folder", root=str(squares), labelled=4, crop=32)
    chosen = Setup("supervised", task.config, {"net": "tiny"}, {"steps": 2, "batch": 2})
    found, tasks = compare._trainings([chosen], task, [2, 1, 2], True)
    assert [(p.name, seed) for p, seed in found] == [("supervised", 2), ("all labels", 2), ("supervised", 1)]
    assert found[1][0].task == tasks["all labels"].config
    assert [p.name for p, _ in compare._trainings([chosen], task, [0], False)[0]] == ["supervised"]
    every = load("folder", root=str(squares), labelled="all", crop=32)
    assert [p.name for p, _ in compare._trainings([replace(chosen, task=every.config)], every, [0], True)[0]] == [
        "supervised"
    ]


def lines(base, sd, top):
    rows = [("supervised", base, sd), ("supervised_strong", base, None), ("all labels", top, None), ("cps", 0.6, 0.1)]
    return [{"method": name, "last": last, "last_sd": spread} for name, last, spread in rows]


def test_the_share_of_the_gap():
    rows = lines(0.5, 0.01, 0.7)
    room = figures.head_room(rows)
    assert room["gap"] == pytest.approx(0.2) and room["spread"] == 0.01 and room["enough"]
    assert [figures.gap_closed(row, room) for row in rows] == [None, 0, None, pytest.approx(0.5)]
    assert figures.no_room(room) == [] and text.closed(0.5) == "50 %"


@pytest.mark.parametrize("sd, top, enough", ((0.11, 0.7, False), (0.1, 0.7001, True), (None, 0.49, False)))
def test_without_head_room_it_says_so_and_what_to_do(sd, top, enough):
    rows = lines(0.5, sd, top)
    room = figures.head_room(rows)
    assert room["enough"] == enough and (figures.gap_closed(rows[-1], room) is not None) == enough
    said = figures.no_room(room)
    assert bool(said) != enough and all("no head-room" in words and "--labelled" in words for words in said)
    assert figures.head_room(rows[:2]) is None and figures.no_room(None) == []


def test_files_are_whole_and_the_page_stands_alone(compared):
    for name in ("curves.png", "grid.png"):
        with Image.open(compared[0] / name) as picture:
            picture.load()
            assert min(picture.size) > 300
    page = (compared[0] / "report.html").read_text()
    assert "red &lt;b&gt;" in page and "red <b>" not in page
    assert "data:image/png;base64," in page and "http" not in page.replace("http-equiv", "")
    assert not [f for f in compared[0].iterdir() if f.name.startswith((".", "tmp"))]


def test_the_report_leads_to_the_explorer_of_each_run(compared):
    found = json.loads((compared[0] / "compare.json").read_text())["runs"]
    report = (compared[0] / "report.html").read_text()
    assert {run["method"] for run in found if run["explorer"]} == {"supervised", "supervised_strong", "fixmatch"}
    for run in found:
        if run["explorer"]:
            page = compared[0] / run["explorer"]
            assert f'<a href="{run["explorer"]}">' in report and page.stat().st_size < 3_000_000
            assert f"{run['method']} · seed {run['seed']}" in page.read_text()
    assert report.count("its pseudo-labels") == 6


def test_finished_runs_are_kept_and_new_seeds_added(compared, capsys):
    out, argv = compared
    before = {f: f.stat().st_mtime_ns for f in out.glob("runs/*/last.pt")}
    more = [*argv]
    more[more.index("0,1")] = "0,1,2"
    assert main([*more, "--json"]) == 0
    told = capsys.readouterr()
    assert "7 are there" in told.err
    assert len(json.loads(told.out)["runs"]) == 10
    assert all(f.stat().st_mtime_ns == when for f, when in before.items())


def test_another_setting_is_refused(compared, capsys):
    _, argv = compared
    assert main([*argv, "--lr", "0.01", "--json"]) == 2
    assert "lr" in json.loads(capsys.readouterr().out)["error"]


def test_a_setting_younger_than_a_run_had_its_default(compared):
    folder = compared[0] / "runs" / "fixmatch-seed0"
    whole = (folder / "config.json").read_text()
    config = json.loads(whole)
    chosen = Setup("fixmatch", config["task"], config["options"], config["fit"])
    del config["fit"]["nesterov"], config["fit"]["lr"]
    (folder / "config.json").write_text(json.dumps(config))
    task, said = open_run(folder).task(), import_module("s4kit.report.comparing.compare").difference
    assert said(chosen, 0, folder, task).startswith("lr: 0.0006 there")
    chosen.fit = {**chosen.fit, "lr": 6e-4, "nesterov": True}
    assert said(chosen, 0, folder, task) == "nesterov: False there, True now"
    (folder / "config.json").write_text(whole)


def test_an_unfinished_run_goes_on(compared, capsys):
    out, argv = compared
    folder = out / "runs" / "fixmatch-seed0"
    rows = (folder / "metrics.csv").read_bytes()
    (folder / "last.pt").write_bytes(b"cut by a kill")
    assert main(argv) == 0
    assert "1 continue" in capsys.readouterr().err
    assert (folder / "metrics.csv").read_bytes() == rows


@pytest.mark.slow
def test_jobs_give_the_same_figures(squares, tmp_path, monkeypatch):
    argv = ["compare", *flags(squares), "--no-baselines", "--seeds", "0,1"]
    import torch

    with_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main([*argv[:1], "supervised", *argv[1:], "--out", str(tmp_path / "one")]) == 0
    torch.set_num_threads(with_threads)
    assert main([*argv[:1], "supervised", *argv[1:], "--out", str(tmp_path / "two"), "--jobs", "2"]) == 0
    one, two = (json.loads((tmp_path / name / "compare.json").read_text()) for name in ("one", "two"))
    assert [r["last"] for r in one["runs"]] == pytest.approx([r["last"] for r in two["runs"]], abs=1e-3)


def test_one_protocol_for_all():
    setups = [
        Setup("cps", {"crop": 800}, {"net": "resnet101c", "weight": 6.0}, {"lr": 0.02}),
        Setup("supervised", {"crop": 321}, {"net": "resnet50"}, {"lr": 1e-3}),
    ]
    matched = match(setups)
    assert matched[0] == Setup("cps", {"crop": 321}, {"net": "resnet50", "weight": 6.0}, {"lr": 1e-3})


def test_one_seed_has_no_spread(run):
    row = collect([(Setup("fixmatch", {}), 0, run)])["methods"][0]
    assert row["last_sd"] is None
    assert "±" not in text.spread(row["last"], row["last_sd"])


def test_bands_over_the_steps_that_all_runs_have():
    steps, mean, sd = plots.band([[(1, 0.2), (2, 0.4), (3, 0.5)], [(1, 0.4), (2, 0.4)]])
    assert steps.tolist() == [1, 2]
    assert mean == pytest.approx([0.3, 0.4]) and sd == pytest.approx([0.1 * 2**0.5, 0])


def test_a_method_keeps_its_colour():
    few, many = ["unimatch", "mine"], ["cps", "fixmatch", "mine", "supervised", "unimatch", "yours"]
    assert plots.style("unimatch", few)["color"] == plots.style("unimatch", many)["color"]
    looks = [(s["color"], str(s["linestyle"])) for s in (plots.style(n, many) for n in many)]
    assert len(set(looks)) == len(many)


def test_cells_and_tables_escape():
    assert html.cell("<script>") == "<td>&lt;script&gt;</td>"
    assert "<script>" not in html.table(["<script>"], []) + html.page("<script>", "")


def test_text_tables_align_wide_letters():
    lines = text.table(("name", "n"), [("日本", 1), ("ab", 22)], right="lr").splitlines()
    assert [text.width(line) for line in lines] == [8, 8, 8, 8]
    assert text.duration(3725) == "1 h 02 min" and text.size(1.5e9) == "1.5 GB" and text.percent(float("nan")) == "—"


@pytest.fixture()
def broken(monkeypatch):
    """`fixmatch` fails in its second step."""
    from s4kit.methods import get

    def fail(self, batch, clock):
        if clock.step:
            raise RuntimeError("no <such> thing")
        return whole(self, batch, clock)

    whole = get("fixmatch").losses
    monkeypatch.setattr(get("fixmatch"), "losses", fail)
    return monkeypatch


@pytest.mark.slow
def test_a_failed_training_does_not_stop_the_others(broken, squares, tmp_path, capsys):
    # several at a time, in threads, so that they know the broken method, too
    broken.setattr(processes, "ProcessPoolExecutor", lambda jobs, *rest: ThreadPoolExecutor(1))
    argv = ["compare", "--no-baselines", "fixmatch", "supervised", *flags(squares, 2), "--out", str(tmp_path)]
    assert main([*argv, "--json", "--jobs", "2"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [m["method"] for m in found["methods"]] == ["supervised"] and not found["ok"]
    assert [(f["method"], f["error"]) for f in found["failed"]] == [("fixmatch", "RuntimeError: no <such> thing")]
    assert "in fail" in (tmp_path / "failed" / "fixmatch-seed0.txt").read_text()
    assert "FAILED: RuntimeError: no &lt;such&gt; thing" in (tmp_path / "report.html").read_text()
    broken.undo()
    assert main([*argv, "--json", "--jobs", "1"]) == 0  # the same command trains what failed
    assert [m["method"] for m in json.loads(capsys.readouterr().out)["methods"]] == ["fixmatch", "supervised"]
    assert not list((tmp_path / "failed").iterdir())


def test_where_every_training_fails_the_command_does(broken, squares, tmp_path, capsys):
    assert main(["compare", "fixmatch", "--no-baselines", *flags(squares, 2), "--out", str(tmp_path)]) == 2
    assert "no <such> thing" in capsys.readouterr().err


def test_a_preempted_comparison_leaves_with_its_status_and_goes_on(squares, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as told:
        now = lambda self, clock: clock.step == 1 and os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        told.setattr(get("fixmatch"), "after_step", now)
        argv = ["compare", "fixmatch", "--no-baselines", *flags(squares, 4), "--out", str(tmp_path), "--json"]
        assert main(argv) == preemption.STATUS
    told = capsys.readouterr()
    assert json.loads(told.out)["interrupted"] and "told to stop, saved after 2 steps" in told.err
    assert main(argv) == 0
    assert "1 continue" in capsys.readouterr().err


def test_a_killed_process_ends_the_comparison(monkeypatch, tmp_path):
    stopped = []

    def one(chosen, *rest, **more):
        raise BrokenProcessPool("killed")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda jobs, *rest: ThreadPoolExecutor(1))
    monkeypatch.setattr(trainings, "_train_one", one)
    shut = lambda pool, _: stopped.append(pool.shutdown(wait=False, cancel_futures=True))  # noqa: E731
    monkeypatch.setattr(processes, "stop", shut)
    with pytest.raises(BrokenProcessPool):
        trainings.train_all([(Setup(name, {}), 0, None, False) for name in ("bad", "good")], 2, [None, None], tmp_path)
    assert stopped


# ---- families ----


def test_a_family_is_all_its_methods_once():
    found = choose(["supervised", "unimatch"], ["consistency"])
    of = [name for name, path in files().items() if ".consistency." in path]
    assert found[:2] == ["supervised", "unimatch"] and sorted(found[1:]) == sorted(of) and len(of) >= 28
    years = [get(name).card.year for name in found[2:]]
    assert years == sorted(years)


@pytest.mark.parametrize("argv, said", ((["--family", "consistancy"], "consistency"), ([], "--family")))
def test_a_family_that_is_none(argv, said, capsys):
    assert main(["compare", *argv, "--data", "scenes"]) == 2
    assert said in capsys.readouterr().err


def test_a_whole_family_is_built_and_what_differs_said(squares):
    """That each trains is in tests/methods; `--family` on the shell leads to the same function."""
    names = families()["consistency"]
    task = {"root": str(squares), "labelled": 4, "crop": 32}
    setups = setup.match([setup.of(n, "folder", task, {"net": "tiny"}, {"steps": 2, "batch": 2}) for n in names])
    kept, left_out, said = import_module("s4kit.report.comparing.compare")._prepare(setups, load(**setups[0].task), [])
    assert [chosen.method for chosen in kept] == names and left_out == []
    assert {chosen.options["net"] for chosen in kept} == {"tiny"}
    assert any(words.startswith("uscs: draws 2 times") for words in said)
    assert any(words.startswith("cct: published with") for words in said)


@pytest.mark.slow
def test_a_family_from_the_shell(squares, tmp_path, capsys):
    argv = ["compare", "supervised", "--family", "baselines", "--no-baselines", *flags(squares, 2)]
    assert main([*argv, "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(m["method"] for m in found["methods"]) == families()["baselines"] and found["ok"]


def test_many_methods_have_a_panel_each_and_more_lines():
    many = {f"method {i}": [[(1, 0.2), (2, i / 100)]] for i in range(20)} | {"supervised": [[(1, 0.1), (2, 0.2)]]}
    shown = [axis for axis in plots.curves(many, {}).axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == [f"method {i}  {i}.0" for i in range(19, -1, -1)]
    assert len(plots.curves({"a": many["method 1"]}, {}).axes) == 1
    task = toy_task()
    truth = [task.val.read(0).label.numpy()]
    axes = pictures.grid(task, [0], dict.fromkeys(many, truth)).axes
    assert [axis.get_title() for axis in axes if axis.get_visible()] == ["image", "truth", *many]
    assert len({round(axis.get_subplotspec().rowspan.start) for axis in axes}) == 3


def test_rounds_are_marked_where_they_begin_once_each():
    points = [[(4, 0.2), (9, 0.3)]]
    two = [{"name": "labels", "first": 0, "steps": 5}, {"name": "a_$^", "first": 5, "steps": 5}]
    rounds = {"st": two, "st, recorded": two, "fixmatch": []}
    names = dict.fromkeys((*rounds, "dars"), points)
    axis, shares = plots.curves(names, {"st": [(6, 0.1), (9, 0.2)]}, rounds=rounds | {"dars": two[:1]}).axes
    upright = [line for line in axis.lines if line.get_linewidth() < 1]
    assert [list(line.get_xdata()) for line in upright] == [[6, 6]]
    assert [t.get_text() for t in axis.texts] == [" labels", " a_$^"], "once, though three have them"
    low, high = axis.get_xlim()
    assert all(low <= t.get_position()[0] <= high for t in axis.texts), "the first evaluation is behind the first step"
    assert [t.get_text() for t in shares.texts] == [" a_$^"], "nothing was kept in the first round"
    assert {t.get_color() for t in axis.texts} == {plots.style("st", list(names))["color"]}
    axis.figure._repr_png_()  # a name is no formula
    many = {f"method {i}": points for i in range(20)}
    shown = [axis for axis in plots.curves(many, {}, rounds={"method 3": two}).axes if axis.get_visible()]
    marked = [axis.get_title() for axis in shown if any(set(line.get_xdata()) == {6} for line in axis.lines)]
    assert marked == ["method 3  30.0"]


def test_what_the_shared_network_does_not_fit_is_named():
    task = toy_task()
    aux = Setup("fixmatch", {}, {"net": "tiny(aux=True)"})
    found, method = buildable(aux, task, named=True)
    assert found.options == {"net": "tiny"} and method.student.aux is None
    assert remarks(aux, found, method) == ["fixmatch: trains no auxiliary head, so its network has none."]
    kept, method = buildable(replace(aux, method="ael"), task, named=False)
    assert kept.options == aux.options and method.student.aux is not None
    cannot = replace(aux, method="cac", options={"net": "tiny(decoder='psp')"})
    assert "psp" in buildable(cannot, task, named=False)[1]
    with pytest.raises(S4Error, match="psp"):
        buildable(cannot, task, named=True)


def test_a_method_that_looks_at_the_validation_set_is_marked():
    assert figures.notes({"methods": [{"method": "fixmatch"}]}) == []
    found = figures.notes({"methods": [{"method": "prevmatch"}, {"method": "fixmatch"}]})
    assert found == ["prevmatch: steered by the validation mIoU."]
