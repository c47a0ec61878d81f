"""The setup cell: one source, every dependency accounted for, rewritten in place."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from s4kit.errors import S4Error
from s4kit.walk import setup_cell

ROOT = Path(__file__).parents[2]


def test_all_notebooks_agree_with_pyproject():
    assert setup_cell.main(["--check"]) == 0


def test_every_dependency_is_there_on_colab_or_is_installed_by_the_cell():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.match(r"[\w-]+", spec)[0]: spec for spec in project["dependencies"]}
    installed = {re.match(r"[\w-]+", spec)[0]: spec for spec in setup_cell.MISSING.values()}
    assert wanted.keys() <= installed.keys() | set(setup_cell.PRESENT)
    assert all(spec == wanted[name] for name, spec in installed.items() if name in wanted)
    assert not {"torch", "torchvision", "numpy"} & installed.keys()


def test_the_cell_installs_only_what_is_missing_and_without_dependencies(monkeypatch):
    import importlib.util
    import subprocess

    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    code = compile(setup_cell.setup_cell(), "cell", "exec")
    exec(code, {})
    assert calls == []
    found = importlib.util.find_spec
    lacking = ("s4kit", "timm")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else found(name))
    exec(code, {})
    [command] = calls
    specs = command[command.index("--no-deps") + 1 :]
    assert specs == [f"s4kit @ git+{setup_cell.address()}", setup_cell.MISSING["timm"]]


def test_another_address_is_written_into_cell_and_badge(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/someone/else/"\n')
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# 00 · A\n\n[![Open in Colab](old)](old)\n\nmore"},
        {"cell_type": "code", "metadata": {"tags": ["setup"]}, "source": "old", "outputs": [1]},
    ]
    new = setup_cell.rewritten({"cells": cells}, "00_a.ipynb", tmp_path)
    assert 'git+https://github.com/someone/else"' in new["cells"][1]["source"] and new["cells"][1]["outputs"] == [1]
    assert "colab.research.google.com/github/someone/else/blob/main/notebooks/00_a.ipynb" in new["cells"][0]["source"]
    assert new["cells"][0]["source"].endswith("\n\nmore")
    with pytest.raises(S4Error, match='0 cells are tagged "setup"'):
        setup_cell.rewritten({"cells": cells[:1]}, "00_a.ipynb", tmp_path)


def test_the_module_rewrites_files_and_check_only_tells(tmp_path, capsys):
    file = tmp_path / "00_a.ipynb"
    cell = {"cell_type": "code", "metadata": {"tags": ["setup"]}, "source": ["old"]}
    file.write_text(json.dumps({"cells": [cell]}))
    assert setup_cell.main(["--check", str(file)]) == 1 and "old" in file.read_text()
    assert setup_cell.main([str(file)]) == 0 and setup_cell.main(["--check", str(file)]) == 0
    assert "rewritten" in capsys.readouterr().out
