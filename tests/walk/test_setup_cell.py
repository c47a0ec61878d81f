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
    installed = {re.match(r"[\w-]+", spec)[0]: spec for spec in setup_cell.MISSING}
    assert wanted.keys() <= installed.keys() | set(setup_cell.PRESENT)
    assert all(spec == wanted[name] for name, spec in installed.items() if name in wanted)
    assert not {"torch", "torchvision", "numpy"} & installed.keys()


def test_the_cell_is_short():
    lines = [line for line in setup_cell.setup_cell().splitlines() if line.strip()]
    assert len(lines) <= 15 and max(map(len, lines)) <= 120


@pytest.fixture
def project(tmp_path):
    """A project with an address on GitHub."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "s4kit"\n\n[project.scripts]\ns4kit = "s4kit.cli:main"\n'
    )
    setup_cell.write_address("https://github.com/someone/else/", tmp_path)
    return tmp_path


@pytest.fixture
def installs(monkeypatch, tmp_path):
    """Runs a setup cell where timm and s4kit are missing; gives what pip is asked for."""
    import importlib.util
    import subprocess

    lacking, calls = {"s4kit", "timm"}, []
    found = importlib.util.find_spec
    (tmp_path / "class").mkdir()
    monkeypatch.chdir(tmp_path / "class")
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in lacking else found(name))

    def run(cell: str, present: tuple[str, ...] = ()) -> list[str]:
        lacking.difference_update(present)
        calls.clear()
        exec(compile(cell, "cell", "exec"), {})
        return calls[0][calls[0].index("--no-deps") + 1 :] if calls else []

    return run


def test_the_cell_takes_an_installed_kit_then_a_wheel_then_the_address(project, installs, monkeypatch, capsys):
    cell = setup_cell.setup_cell(project)
    timm = next(spec for spec in setup_cell.MISSING if spec.startswith("timm"))
    assert installs(cell) == ["s4kit @ git+https://github.com/someone/else", timm]
    for name in ("s4kit-0.1.0-py3-none-any.whl", "s4kit-0.2.0-py3-none-any.whl"):
        Path(name).touch()
    assert installs(cell) == ["s4kit-0.2.0-py3-none-any.whl", timm]
    assert installs(cell, present=("timm",)) == ["s4kit-0.2.0-py3-none-any.whl"]
    assert installs(cell, present=("s4kit",)) == []
    assert "torch" in capsys.readouterr().out


def test_without_wheel_and_address_one_sentence_says_what_to_do(tmp_path, installs):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "s4kit"\n')
    cell = setup_cell.setup_cell(tmp_path)
    assert "git+" not in cell and "address" not in cell
    with pytest.raises(ImportError, match=r"lay its wheel .* beside this notebook or in your Drive"):
        installs(cell)


CELLS = [
    {"cell_type": "markdown", "metadata": {}, "source": "# 00 · A\n\n[![Open in Colab](old)](old)\n\nmore"},
    {"cell_type": "code", "metadata": {"tags": ["setup"]}, "source": ["old"], "outputs": [1]},
]


def test_an_address_is_written_into_cell_and_badge_and_its_lack_takes_both_away(project):
    new = setup_cell.rewritten({"cells": CELLS}, "00_a.ipynb", project)
    title, cell = new["cells"]
    assert "git+https://github.com/someone/else" in "".join(cell["source"]) and cell["outputs"] == [1]
    assert isinstance(cell["source"], list) and len(cell["source"]) > 9
    badge = setup_cell.badge("00_a.ipynb", project)
    assert "colab.research.google.com/github/someone/else/blob/main/notebooks/00_a.ipynb" in badge
    assert title["source"] == f"# 00 · A\n\n{badge}\n\nmore"
    assert setup_cell.rewritten(new, "00_a.ipynb", project) == new
    assert "Colab" not in setup_cell.rewritten(new, "assignments/a.ipynb", project)["cells"][0]["source"]
    family = setup_cell.rewritten(new, "families/a.ipynb", project)["cells"][0]["source"]
    assert "/blob/main/notebooks/families/a.ipynb" in family
    (project / "pyproject.toml").write_text('[project]\nname = "s4kit"\n')
    assert setup_cell.rewritten(new, "00_a.ipynb", project)["cells"][0]["source"] == "# 00 · A\n\nmore"
    with pytest.raises(S4Error, match='0 cells are tagged "setup"'):
        setup_cell.rewritten({"cells": CELLS[:1]}, "00_a.ipynb", project)


def test_an_address_replaces_another_and_must_be_one(project):
    setup_cell.write_address("https://gitlab.com/a/b/c", project)
    assert setup_cell.address(project) == "https://gitlab.com/a/b/c" and setup_cell.badge("a.ipynb", project) == ""
    assert (project / "pyproject.toml").read_text().count("Repository") == 1
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["scripts"]
    for wrong in ("https://github.com/-owner-/s4kit'", "github.com/a/b", "https://github.com"):
        with pytest.raises(S4Error, match="no address of a repository"):
            setup_cell.write_address(wrong, project)


def test_the_module_rewrites_files_and_check_only_tells(tmp_path, capsys):
    file = tmp_path / "00_a.ipynb"
    cell = {"cell_type": "code", "metadata": {"tags": ["setup"]}, "source": ["old"]}
    file.write_text(json.dumps({"cells": [cell]}))
    assert setup_cell.main(["--check", str(file)]) == 1 and "old" in file.read_text()
    assert setup_cell.main([str(file)]) == 0 and setup_cell.main(["--check", str(file)]) == 0
    assert "rewritten" in capsys.readouterr().out
