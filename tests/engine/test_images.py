"""A run keeps its own images: whatever is added to the folder, taken away or drawn anew, it is said and never used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import toy_arrays, toy_task
from toy_folder import flags, write_folder

import s4kit as s4
from s4kit.cli import main
from s4kit.data.gathered import Gathered
from s4kit.engine import images
from s4kit.errors import S4Error
from s4kit.report.diagnosing.diagnose import diagnose


@pytest.fixture(autouse=True)
def _unsaid():
    images._said.clear()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("kept")
    write_folder(base / "data")
    assert main(["train", "fixmatch", *flags(base / "data"), "--out", str(base / "run")]) == 0
    return base


@pytest.fixture
def base(trained: Path, tmp_path: Path) -> Path:
    """A copy of the data and the run; the run's config names the copy."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path


def add(base: Path, count: int = 12, part: str = "train") -> None:
    for i, (image, label) in enumerate(zip(*toy_arrays(count, 40, 4, seed=7))):
        Image.fromarray(image).save(base / "data" / "images" / part / f"added_{i}.png")
        Image.fromarray(label).save(base / "data" / "labels" / part / f"added_{i}.png")


def used(task) -> dict[str, list[str]]:
    return {name: ids for name, ids in images.lists(task).items() if name in images.USED}


def test_a_run_stores_its_images_and_opens_unchanged_without_a_word(base, capsys):
    found = json.loads((base / "run" / "images.json").read_text())
    assert len(found["labelled"]) == 4 and found["unlabelled"] is None and len(found["val"]) == 3
    assert found["probe"] == s4.open_run(base / "run").snapshots().ids
    task = s4.open_run(base / "run").task()
    assert used(task)["labelled"] == found["labelled"] and len(task.unlabelled) == 8
    assert not s4.open_run(base / "run").changes() and capsys.readouterr().err == ""


def test_images_that_are_added_are_named_and_not_used(base, capsys):
    before = used(s4.open_run(base / "run").task())
    add(base)
    add(base, 2, "val")
    run = s4.open_run(base / "run")
    assert used(run.task()) == before != used(run.task(now=True))
    run.task()
    said = capsys.readouterr().err
    assert said.count("12 training new (train/added_0") == 1 and "2 scored (val) new" in said
    assert next(iter(run.evaluate(device="cpu").values())).miou == pytest.approx(run.last["miou"])
    assert main(["eval", str(base / "run"), "--now", "--device", "cpu"]) == 0
    finding = next(f for f in diagnose(run.path)["findings"] if f["check"] == "images")
    assert finding["level"] == "ok" and "12 training new" in finding["figures"]


def test_resuming_goes_on_as_if_nothing_had_been_added(trained, base):
    more = ["--resume", str(base / "run")]
    edit(base / "run" / "config.json", lambda config: config["fit"].update(steps=8))
    shutil.copytree(base / "run", base / "plain")
    assert main(["train", "--resume", str(base / "plain")]) == 0
    add(base)
    assert main(["train", *more]) == 0
    assert (base / "run" / "metrics.csv").read_text() == (base / "plain" / "metrics.csv").read_text()


def edit(path: Path, change) -> None:
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_a_missing_image_stops_what_needs_it_and_nothing_else(base, capsys):
    run = s4.open_run(base / "run")
    (gone,) = used(run.task())["labelled"][:1]
    for part in ("images", "labels"):
        (base / "data" / part / f"{gone}.png").unlink()
    edit(base / "run" / "config.json", lambda config: config["fit"].update(steps=8))
    assert main(["train", "--resume", str(base / "run")]) == 2
    said = capsys.readouterr().err
    assert f"cannot go on: 1 labelled missing ({gone})" in said and "Put them back" in said
    run.evaluate(device="cpu")
    with pytest.raises(S4Error, match=f"{gone} is not in the data set any more"):
        run.task().train.read(run.task().labelled[0])
    assert run.changes().missing == {"labelled": [gone]}
    finding = next(f for f in diagnose(run.path)["findings"] if f["check"] == "images")
    assert finding["level"] == "warning" and gone in finding["figures"]


def test_a_missing_scored_image_is_not_left_out_of_the_score(base):
    (base / "data" / "images" / "val" / "val_1.png").unlink()
    with pytest.raises(S4Error, match=r"cannot be scored: 1 scored \(val\) missing \(val/val_1\).*--now"):
        s4.open_run(base / "run").evaluate(device="cpu")
    assert main(["eval", str(base / "run"), "--now", "--device", "cpu"]) == 0


def test_a_corrected_label_is_other_content_and_a_copy_is_not(base):
    run = s4.open_run(base / "run")
    label = base / "data" / "labels" / f"{used(run.task())['labelled'][1]}.png"
    pixels = np.array(Image.open(label))
    Image.fromarray(pixels).save(label)  # the same bytes at another time
    assert not run.changes()
    pixels[5:9, 5:9] = 2
    Image.fromarray(pixels).save(label)
    assert run.changes().content == [f"train/{label.stem}"] and "other content" in str(run.changes())
    add(base, 1)
    assert run.changes().content and run.changes().added


def test_a_val_set_drawn_from_the_folder_stays_what_it_was(tmp_path, capsys):
    write_folder(tmp_path / "data", n_train=15)
    told = [*flags(tmp_path / "data"), "--data-option", "holdout=5", "--out", str(tmp_path / "run")]
    assert main(["train", "supervised", *told]) == 0
    run = s4.open_run(tmp_path / "run")
    before = run.task()
    add(tmp_path, 9)
    after = run.task()
    assert images.lists(after) == images.lists(before) != images.lists(run.task(now=True))
    assert all((after.val.read(k).image == before.val.read(k).image).all() for k in range(len(before.val)))
    assert run.changes().moved and "on the other side of val" in capsys.readouterr().err


def test_a_comparison_does_not_mix_splits(base, capsys):
    told = [*flags(base / "data", 2), "--no-baselines", "--out", str(base / "both")]
    assert main(["compare", "supervised", *told]) == 0
    add(base)
    assert main(["compare", "supervised", "fixmatch", *told]) == 2
    said = capsys.readouterr().err
    assert "another set-up (labelled images:" in said and "Give another --out" in said


def test_python_resumes_only_on_the_same_images(tmp_path):
    task = toy_task()
    small = dict(batch=2, probes=2, progress=False, device="cpu", out=tmp_path / "run", checkpoint_every=2)
    s4.fit(s4.methods.create("supervised", task, net="tiny"), task, steps=2, **small)
    other = task.with_(labelled=(1, 2, 3, 4, 5, 6, 7, 8), unlabelled=task.unlabelled[1:])
    with pytest.raises(S4Error, match="other labelled images: train_0 there and not now, train_8 now"):
        s4.fit(s4.methods.create("supervised", other, net="tiny"), other, steps=4, resume=True, **small)
    run = s4.fit(s4.methods.create("supervised", task, net="tiny"), task, steps=4, resume=True, **small)
    assert len(run.metrics()) == 4


def test_a_run_of_an_older_version_opens_and_keeps_its_images_from_then_on(base, capsys):
    (base / "run" / "images.json").unlink()
    run = s4.open_run(base / "run")
    assert len(run.task().labelled) == 4 and len(run.task().labelled) == 4
    assert capsys.readouterr().err.count("images were not stored") == 1
    edit(base / "run" / "config.json", lambda config: config["fit"].update(steps=6))
    assert main(["train", "--resume", str(base / "run")]) == 0
    assert (base / "run" / "images.json").is_file()
    (base / "run" / "images.json").write_text("{")
    with pytest.raises(S4Error, match=r"images\.json is damaged"):
        run.task()


def test_gathered_images_come_from_several_sources_in_their_own_order():
    task = toy_task(2, 2, 2)
    found = Gathered(["val_1", "gone", "train_3"], [task.train, task.val])
    assert found.missing == ["gone"] and len(found) == 3
    assert (found.read(0).image == task.val.read(1).image).all() and found.read(2).id == "train_3"
    with pytest.raises(S4Error, match="gone"):
        found.read(1)
