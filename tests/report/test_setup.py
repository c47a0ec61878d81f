"""From a recipe to a training."""

import pytest
import torch

from s4kit.errors import S4Error
from s4kit.report import setup
from s4kit.walk.profiles import profile, setup_of


@pytest.mark.parametrize("method", ["fixmatch", "cps", "u2pl"])
def test_the_papers_network_is_named_but_not_fetched_unasked(method, capsys):
    assert "net" not in setup.of(method, "voc").options
    assert "weights='imagenet')" in capsys.readouterr().err
    assert setup.of(method, "voc", options={"net": "resnet18"}).options["net"] == "resnet18"
    assert capsys.readouterr().err == ""


def test_all_networks_of_the_paper_are_named_and_none_is_fetched_unasked(capsys):
    assert not {"net", "deep", "wide"} & setup.of("mgd", "voc").options.keys()
    said = capsys.readouterr().err
    assert '--backbone "resnet18(' in said and said.count("weights='imagenet')") == 3
    assert "--option deep=" in said and "--option wide=" in said
    assert setup.of("mgd", "scenes").options.keys() >= {"deep", "wide"}, "the kit's own are light"


def test_a_network_without_its_weights():
    assert setup.without_weights("tiny") == "tiny(weights='none')"
    spec = setup.without_weights("resnet50c(multi_grid=(2, 4, 8), weights='imagenet')")
    assert spec == "resnet50c(multi_grid=(2, 4, 8), weights='none')"


def test_what_was_asked_for_goes_over_the_recipe():
    chosen = setup.of("u2pl", "scenes", {"labelled": 20}, {"warmup": 0.2}, {"steps": 30, "batch": 2})
    assert chosen.task == {"name": "scenes", "labelled": 20} and chosen.options["warmup"] == 0.2
    assert chosen.fit["steps"] == 30 and chosen.fit["reference_batch"] == 4 and chosen.fit["warmup"] == 3


def test_the_list_says_what_the_paper_varies_but_baselines_train_as_long_as_the_others():
    assert setup.of("cps", "voc", {"labelled": "voc/cps/662"}).fit["epochs"] == 32
    baseline = setup.of("supervised", "voc", {"labelled": "voc/classic/183"}).fit
    assert baseline["epochs"] == 160 and "steps" not in baseline  # the published one has 80 of the labelled images


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    setup.note(tmp_path, seconds=1.0)
    setup.note(tmp_path, peak_memory=5)
    monkeypatch.setattr("s4kit.engine.distributed.rank", lambda: 1)
    setup.note(tmp_path, seconds=9.0)
    assert setup.extra(tmp_path) == {"seconds": 1.0, "peak_memory": 5}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_peak_memory_is_that_of_the_device_of_the_training(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: asked.append(device) or 7)
    assert setup.watch_memory(torch.device("cuda:1"))() == 7
    assert asked == [torch.device("cuda:1")] * 2
    assert setup.watch_memory(torch.device("cpu"))() == 0 and len(asked) == 2


def test_a_killed_session_counts_by_its_steps(tmp_path):
    def write(name, *rows):
        (tmp_path / name).write_text("\n".join(rows) + "\n")

    write("config.json", "{}")
    assert setup.spent(tmp_path) == 0
    write("metrics.csv", "step,loss", *(f"{step},1.0" for step in range(60)))
    write("timing.csv", "step,seconds_per_step", "19,9.0", "39,2.0", "59,4.0")
    assert setup.spent(tmp_path) == 60 * 5  # killed before it could note anything
    setup.note(tmp_path, seconds=1000.0, timed_steps=20)
    assert setup.spent(tmp_path) == 1000 + 40 * 3
    setup.note(tmp_path, seconds=2000.0, timed_steps=60)
    assert setup.spent(tmp_path) == 2000


def test_what_a_run_notes(run):
    noted = setup.extra(run)
    assert noted["timed_steps"] == 6 and noted["seconds"] == setup.spent(run) > 0


@pytest.mark.parametrize("data", ["scenes", "cityscapes", "coco"])
def test_the_baseline_of_single_objects_has_its_own_recipe(data):
    found, objects = setup.of("supervised", data, {"instances": True}), setup.of("mask_rcnn", data)
    assert (found.task, found.options, found.fit) == (objects.task, objects.options, objects.fit)
    assert found.fit != setup.of("supervised", data).fit, "that of pixels"


def test_data_are_loaded_as_what_the_methods_are_for():
    assert setup.meant(["supervised", "fixmatch"], "scenes") == {}
    assert setup.meant(["supervised", "fixmatch", "noisy_boundaries"], "scenes") == {"instances": True}
    assert setup.meant(["ssda_dual_mix"], "scenes") == {"more": {"domain": "plain"}}
    with pytest.raises(S4Error, match="no recipe"):
        setup.meant(["noisy_boundaries"], "scannet")


def test_the_papers_network_of_single_objects_is_the_baselines_too():
    chosen = profile("paper", "cityscapes")
    found = [setup_of(chosen, "cityscapes", name, {"instances": True}, {}, {}) for name in ("supervised", "mask_rcnn")]
    assert found[0].options == found[1].options and "freeze_bn='statistics'" in found[0].options["net"]
