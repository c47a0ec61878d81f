"""The doctor: here all is in order; elsewhere it says what to do."""

import importlib.metadata
from types import SimpleNamespace

import pytest
import torch

import s4kit.report.doctor as of


def by_name(result):
    return {check["name"]: check for check in result["checks"]}


def test_this_installation_is_in_order():
    result = of.doctor()
    assert result["ok"], of.show(result)
    assert {"python", "torch", "GPU", "memory", "ImageNet weights", "data: scenes"} <= by_name(result).keys() | {"GPU"}


def test_missing_and_old_packages(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "einops":
            raise importlib.metadata.PackageNotFoundError
        return "0.9.16" if name == "timm" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    result = of.doctor()
    found = by_name(result)
    assert not result["ok"]
    assert found["einops"]["level"] == found["timm"]["level"] == "problem"
    assert "pip install" in found["einops"]["advice"] and "PROBLEM" in of.show(result)


def test_a_gpu_that_pytorch_cannot_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(of.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    found = by_name(of.doctor())["GPU"]
    assert found["level"] == "problem" and "CUDA build" in found["advice"]


def test_little_memory_means_few_images_for_batch_norm(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for memory, there in ((6e9, True), (16e9, False)):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda k, m=memory: SimpleNamespace(total_memory=m))
        told = []
        of._norms(lambda *words, told=told: told.append(words))
        assert bool(told) is there and all("norm='group'" in words[-1] for words in told)


def test_a_part_that_breaks_does_not_hide_the_others(monkeypatch):
    def breaks(say):
        raise OSError("no such device")

    monkeypatch.setattr(of, "_gpu", breaks)
    result = of.doctor()
    assert not result["ok"] and "memory" in by_name(result)


@pytest.mark.parametrize(("text", "numbers"), [("2.14.1+cu130", (2, 14, 1)), ("1.0.0rc1", (1, 0, 1)), ("10", (10,))])
def test_versions_as_numbers(text, numbers):
    assert of.numbers(text)[:2] == numbers[:2]


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        (["sm_80", "sm_90a", "sm_100f"], (10, 3), True),
        (["sm_80", "sm_90a", "sm_100f"], (9, 0), True),
        (["sm_75", "sm_120"], (7, 0), True),
        (["sm_75", "sm_100f"], (6, 0), False),
        (["sm_80", "compute_90"], (12, 0), True),
        (["compute_90"], (8, 0), False),
    ],
)
def test_which_gpus_a_build_has_kernels_for(built_for, capability, runs):
    assert of._runs_on(built_for, *capability) is runs
