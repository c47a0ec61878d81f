"""The offline lab: everything in one folder, no solution in it, and pip's failures in words."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from handed import ITEMS, source_notebook

from s4kit import cli
from s4kit.classroom import bundle
from s4kit.errors import S4Error


class FakePip:
    """Stands for pip: leaves a wheel, or fails with these words."""

    def __init__(self, fails=""):
        self.fails, self.asked, self.built = fails, [], []

    def __call__(self, command, **_):
        self.asked.append(command)
        self.stdout, self.returncode = io.StringIO("Collecting torch\n" + self.fails), int(bool(self.fails))
        folder = command[command.index("--wheel-dir") + 1]
        if "--no-deps" in command and not self.fails:
            self.built = sorted(os.listdir(command[command.index("--wheel-dir") + 2]))
            open(f"{folder}/s4kit-0.1.0-py3-none-any.whl", "w").close()
        elif not self.fails:
            open(f"{folder}/torch-2.6-cp311-linux.whl", "w").close()
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.fixture
def course(tmp_path, monkeypatch):
    folder = tmp_path / "assignments"
    folder.mkdir()
    (folder / "3_cutmix.ipynb").write_text(json.dumps(source_notebook()))
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in (f"scenes-v{bundle.VERSION}-0-4-8.npy", "scenes-v1-0-4-8.npy"):
        np.save(cache / name, np.zeros(4))
    monkeypatch.setenv("S4KIT_CACHE", str(cache))
    monkeypatch.setenv("S4KIT_DATA", str(tmp_path / "data"))
    return folder


@pytest.fixture
def pip(monkeypatch):
    fake = FakePip()
    monkeypatch.setattr(bundle.subprocess, "Popen", fake)
    return fake


def test_a_lab_in_a_folder(course, pip, tmp_path, capsys):
    out = tmp_path / "lab"
    assert cli.main(["classroom", "bundle", str(out), "--assignments", str(course)]) == 0
    assert "2 wheels" in capsys.readouterr().out
    own, needed = pip.asked
    assert own[1:4] == ["-m", "pip", "wheel"] and "--no-deps" in own
    assert {"s4kit", "pyproject.toml", "README.md"} <= set(pip.built), "built from a copy of the checkout"
    assert needed[-4].endswith("s4kit-0.1.0-py3-none-any.whl[notebooks]") and "--no-deps" not in needed
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert {"install.sh", "install.bat", "start.sh", "start.bat", "README.md"} <= names
    lessons = {
        "notebooks/02_cutmix.ipynb",
        *(f"notebooks/families/{name}.ipynb" for name in ("cotraining", "self_training")),
        "notebooks/beyond/points.ipynb",
        "notebooks/beyond/video.ipynb",
    }
    assert {*lessons, "notebooks/assignments/3_cutmix.ipynb"} <= names
    assert f"cache/scenes-v{bundle.VERSION}-0-4-8.npy" in names and "cache/scenes-v1-0-4-8.npy" not in names
    assert "--no-index --find-links wheels" in (out / "install.sh").read_text()
    assert b"\r\n" in (out / "install.bat").read_bytes() and b"\r" not in (out / "install.sh").read_bytes()
    assert not any(n.startswith("data/") for n in names), "camvid is not here"


def test_no_solution_goes_out(course, tmp_path):
    found = bundle.bundle(tmp_path / "lab", course, wheels=False)
    assert found["wheels"] == 0 and found["assignments"] == 1 and not (tmp_path / "lab" / "wheels").exists()
    written = "".join(p.read_text() for p in (tmp_path / "lab").rglob("*.ipynb"))
    assert "BEGIN SOLUTION" not in written and "BEGIN HIDDEN" not in written and "seed=7" not in written
    assert not any(body in written for _, body, _ in ITEMS.values())


def test_camvid_goes_along(course, tmp_path):
    camvid = tmp_path / "data" / "camvid"
    for part in bundle.registry.dataset("camvid").marker:
        (camvid / part).mkdir(parents=True, exist_ok=True)
    (camvid / "one.png").write_bytes(b"x")
    assert "camvid" in bundle.bundle(tmp_path / "lab", course, wheels=False)["data"]
    assert (tmp_path / "lab" / "data" / "camvid" / "one.png").is_file()


@pytest.mark.parametrize(
    "words, said",
    [
        ("WARNING: Retrying\nERROR: No matching distribution found for torch>=2.6\n", "does pip reach its index"),
        ("error: invalid command 'bdist_wheel'\n", "pip failed: error: invalid command"),
    ],
)
def test_pip_fails(course, pip, tmp_path, words, said):
    pip.fails = words
    with pytest.raises(S4Error, match=said):
        bundle.bundle(tmp_path / "lab", course)
    assert (tmp_path / "lab" / "notebooks" / "02_cutmix.ipynb").is_file()


def test_not_into_the_kit(course):
    with pytest.raises(S4Error, match="outside"):
        bundle.bundle(bundle.ROOT / "notebooks" / "lab", course)
    assert not (bundle.ROOT / "notebooks" / "lab").exists()
