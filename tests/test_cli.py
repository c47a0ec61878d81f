"""The shell: every command, its JSON, its exit status, its mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from toy_folder import flags, write_folder

from s4kit import load, open_run
from s4kit.cli import main
from s4kit.report.text import finite


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("squares"))


def answer(capsys: pytest.CaptureFixture, *argv: str, status: int = 0) -> object:
    """What the last line of stdout says with --json, which must be all of stdout."""
    assert main([*argv, "--json"]) == status
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    return json.loads(lines[-1])


def test_train_eval_and_resume_to_the_same_figures(squares, tmp_path, capsys, monkeypatch):
    whole, broken = str(tmp_path / "whole"), str(tmp_path / "broken")
    train = ["train", "unimatch", *flags(squares), "--seed", "3", "--out"]
    found = answer(capsys, *train, whole)
    assert found["steps"] == 4 and 0 <= found["last"] <= found["best"] <= 1 and found["seconds"] > 0
    scores = answer(capsys, "eval", whole, "--which", "last")
    assert scores["miou"] == pytest.approx(found["last"], abs=1e-6)
    assert set(scores["predictors"]["student"]["iou"]) == {"ground", "red <b>", "blue", "yellow"}
    other = answer(capsys, "eval", whole, "--protocol", "voc/unimatch_v2", "--scales", "0.5,1", "--flip")
    assert (other["evaluation"]["multiple"], other["evaluation"]["scales"]) == (14, [0.5, 1.0])
    assert other["evaluation"]["flip"] and other["protocol"] == "voc/unimatch_v2" and 0 <= other["miou"] <= 1

    from s4kit.engine.training import Training

    between = Training._between_steps

    def dies(self, clock):
        between(self, clock)
        if self.done == 3:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_between_steps", dies)
        assert "killed" in answer(capsys, *train, broken, status=1)["error"]
    config = json.loads(Path(broken, "config.json").read_text())
    assert config["fit"].pop("compile") is False  # a run from before there was this setting goes on, too
    Path(broken, "config.json").write_text(json.dumps(config))
    again = answer(capsys, "train", "--resume", broken)
    assert again["last"] == found["last"]
    for name in ("metrics.csv", "evaluations.csv"):
        assert Path(broken, name).read_bytes() == Path(whole, name).read_bytes()
    assert answer(capsys, *train, broken, "--resume", broken)["last"] == found["last"]


def test_resume_says_where_it_cannot(tmp_path, capsys, squares):
    assert "no config.json" in answer(capsys, "train", "--resume", str(tmp_path / "none"), status=2)["error"]
    started = answer(capsys, "train", "supervised", *flags(squares, 2), "--resume", str(tmp_path / "new"))
    assert started["run"] == str(tmp_path / "new")


@pytest.fixture(scope="module")
def started(squares, tmp_path_factory) -> str:
    out = str(tmp_path_factory.mktemp("started") / "run")
    assert main(["train", "fixmatch", *flags(squares, 2), "--out", out]) == 0
    return out


@pytest.mark.parametrize(
    ("argv", "flag", "there", "now"),
    [
        (["--steps", "4800"], "--steps", "2", "4800"),
        (["--epochs", "50"], "--epochs", "0.5", "50"),
        (["--batch", "4"], "--batch", "2", "4"),
        (["--seed", "1"], "--seed", "0", "1"),
        (["--labelled", "1/2"], "--labelled", "4", "1/2"),
        (["--split-seed", "1"], "--split-seed", "0", "1"),
        (["--root", "/nowhere"], "--root", "squares", "/nowhere"),
        (["--size", "0.5"], "--size", "None", "0.5"),
        (["--data-option", "overlap=True"], "--data-option overlap", "False", "True"),
        (["--backbone", "resnet18"], "--backbone", "tiny", "resnet18"),
        (["--option", "tau=0.5"], "--option tau", "0.", "0.5"),
        (["--data", "scenes"], "--data", "folder", "scenes"),
    ],
)
def test_resume_refuses_another_set_up(started, capsys, argv, flag, there, now):
    said = answer(capsys, "train", "--resume", started, *argv, status=2)["error"]
    asked, has = said.split("has ", 1)
    assert asked.startswith(f"{flag} {now}") and there in has.split(", and going on")[0]
    assert "METHOD cps" in answer(capsys, "train", "cps", "--resume", started, status=2)["error"]


def test_resume_takes_the_same_set_up_and_another_machine(squares, started, capsys):
    same = ["--epochs", "0.5", "--option", "tau=0.95", "--workers", "1", "--device", "cpu", "--checkpoint-every", "9"]
    asked = [*flags(squares, 2)[:-6], "--evaluate-every", "2"]
    assert answer(capsys, "train", "fixmatch", *asked, *same, "--resume", started)["steps"] == 2


def test_only_the_first_process_speaks(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["methods"]) == main(["methods", "--json"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    assert answer(capsys, "methods")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train"], "which method"),
        (["train", "unimach", "--data", "scenes"], "unimatch"),
        (["train", "unimatch"], "which data set"),
        (["train", "unimatch", "--data", "scene"], "scenes"),
        (["train", "unimatch", "--data", "scenes", "--backbone", "resnet5"], "resnet50"),
        (["train", "unimatch", "--data", "scenes", "--option", "tua=1"], "tau"),
        (["train", "unimatch", "--data", "scenes", "--option", "tau"], "name=value"),
        (["train", "unimatch", "--data", "scenes", "--steps", "5", "--epochs", "2"], "not both"),
        (["train", "unimatch", "--data", "scenes", "--steps", "many"], "--steps"),
        (["train", "unimatch", "--data", "scenes", "--labelled", "2", "--batch", "4"], "labelled"),
        (["train", "unimatch", "--data", "camvid", "--root", "/nowhere"], "/nowhere"),
        (["compare", "unimatch", "--data", "scenes", "--seeds", "a"], "--seeds"),
        (["eval", "/nowhere"], "/nowhere"),
        (["diagnose", "/nowhere"], "/nowhere"),
        (["data", "get", "scenes"], "embedded"),
        (["data", "check"], "which data set"),
        (["fly"], "invalid choice"),
        ([], "what to do"),
    ],
)
def test_mistakes_are_answered_in_words(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in answer(capsys, *argv, status=2)["error"]
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.out == "" and words in told.err and "Traceback" not in told.err


def test_methods_and_data_list(capsys):
    rows = answer(capsys, "methods")
    assert {"supervised", "fixmatch", "unimatch", "cps", "u2pl"} <= {row["name"] for row in rows}
    for row in rows:
        assert {"name", "family", "title", "venue", "year", "code", "parity"} <= row.keys()
    assert main(["methods"]) == 0
    table = capsys.readouterr().out
    assert all(row["name"] in table and row["idea"].split()[0] in table for row in rows)
    assert re.search(r"^consistency \(\d+\)$", table, re.M) and "recordings" in table
    some = answer(capsys, "methods", "--family", "cotraining")
    assert [row for row in rows if row["family"] == "cotraining"] == some and "cps" in {row["name"] for row in some}
    assert "cotraining" in answer(capsys, "methods", "--family", "cotrainin", status=2)["error"]
    one = answer(capsys, "methods", "u2pl")
    assert one["year"] == 2022 and {"voc", "cityscapes"} <= set(one["recipes"])
    assert main(["methods", "u2pl"]) == 0
    told = capsys.readouterr().out
    assert all(words in told for words in ("checked    golden", "L_c = mean", "\nThe release\n", one["release"]))
    assert "unimatch" in answer(capsys, "methods", "unimach", status=2)["error"]
    assert {"scenes", "camvid", "voc", "cityscapes", "folder"} <= {
        row["name"] for row in answer(capsys, "data", "list")
    }


def test_data_check_fails_on_a_broken_file(tmp_path, capsys):
    root = write_folder(tmp_path / "d")
    assert answer(capsys, "data", "check", "folder", "--root", str(root))["ok"] is True
    (root / "images/train/train_3.png").write_bytes(b"no picture")
    found = answer(capsys, "data", "check", "folder", "--root", str(root), status=1)
    assert [problem["id"] for problem in found["problems"]] == ["train/train_3"]


def test_not_a_number_is_null_in_json():
    assert finite({"a": float("nan"), "b": [1.5, float("inf")]}) == {"a": None, "b": [1.5, None]}


def test_help_is_light():
    code = "import sys; from s4kit.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_what_is_watched_is_said_in_the_shell_and_the_whole_set_is_swept(tmp_path, capsys, squares):
    run = str(tmp_path / "run")
    task = load("folder", root=str(squares), labelled=4)
    ids = [task.train.ids[task.unlabelled[0]], task.val.ids[1]]
    answer(capsys, "train", "fixmatch", *flags(squares, 2), "--out", run, "--probes", ",".join(ids), "--probe-whole")
    read = open_run(run).snapshots()
    assert read.ids == ids and (read.height, read.width, read.kinds) == (40, 40, ["unlabelled", "val"])
    assert "s4kit sweep" in answer(capsys, "explore", run, "--add", "worst", status=2)["error"]
    swept = answer(capsys, "sweep", run, "--against", "best", "--device", "cpu")
    assert swept["images"] == swept["of"] == 11 and Path(swept["folder"], "rows.csv").is_file()
    added = answer(capsys, "explore", run, "--add", "worst")["added"][run]
    assert set(added) == {task.train.ids[row] for row in task.unlabelled[1:]}
    listed = tmp_path / "ids.txt"
    listed.write_text(task.val.ids[0] + "\n")
    assert answer(capsys, "explore", run, "--add", str(listed))["added"][run] == [task.val.ids[0]]
    assert open_run(run).snapshots().ids == [*ids, *added, task.val.ids[0]]
