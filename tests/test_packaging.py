"""Packaging: the two lists of dependencies agree, the import is light, the README is up to date."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONDA = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def test_environment_yml_lists_what_pyproject_lists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"]}.union(*project["optional-dependencies"].values())
    wanted = {name for name in wanted if not name.startswith(f"{project['name']}[")}  # an extra inside an extra
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    flat = [e for e in listed if isinstance(e, str)] + [e for d in listed if isinstance(d, dict) for e in d["pip"]]
    names = {re.sub(r"^[a-z0-9-]+", lambda m: CONDA.get(m[0], m[0]), entry) for entry in flat}
    assert wanted <= names, wanted - names
    assert names - wanted == {f"python{project['requires-python']}", "pip", "-e ."}


def test_import_is_light():
    heavy = {"torch", "numpy", "timm", "matplotlib", "PIL", "anywidget"}
    code = f"import sys, s4kit; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_every_public_name_resolves():
    import s4kit

    for name in dir(s4kit):
        assert getattr(s4kit, name) is not None


def test_public_names_are_those_of_notebooks_and_readmes():
    import s4kit

    pages = [*ROOT.glob("notebooks/**/*.ipynb"), *ROOT.glob("*.md"), *ROOT.glob("*/**/README.md")]
    used = {name for page in pages for name in re.findall(r"\bs4\.(\w+)", page.read_text(encoding="utf-8"))}
    names = set(dir(s4kit)) - {"__version__"}
    assert names <= used, f"nobody uses {names - used}"
    listed = s4kit.__doc__.partition("Train\n")[2]
    assert not [name for name in names if not re.search(rf"\b{name}\b", listed)], "help lists them"


@pytest.mark.slow
def test_help_is_a_table_of_contents():
    told = subprocess.run([sys.executable, "-c", "import s4kit; help(s4kit)"], capture_output=True, text=True, cwd=ROOT)
    assert "Train\n" in told.stdout and told.stdout.count("\n") < 100, "not the whole book"


def test_readme_commands_are_one_line_each_and_include_their_install():
    commands = re.findall(r"<!-- (\w+) -->\n```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.S)
    assert [name for name, _ in commands] == ["run", "test"]
    for _, command in commands:
        assert "\n" not in command and "pip install" in command


def test_nothing_imports_from_its_right():
    order = ["data", "views", "nets", "methods", "engine", "report", "explore", "walk"]
    for here, package in enumerate(order):
        for file in (ROOT / "s4kit" / package).rglob("*.py"):
            for right in order[here + 1 :]:
                assert not re.search(rf"^\s*from \.+{right}\b", file.read_text(), re.M), f"{file} imports {right}"


def methods_table() -> str:
    """The table of s4kit/methods/README.md."""
    from s4kit import methods

    rows = ["| name | paper | venue | family | checked against |", "|---|---|---|---|---|"]
    for m in sorted(methods.table(), key=lambda m: (m["family"], m["year"], m["name"])):
        paper = f"[{m['title']}](https://arxiv.org/abs/{m['arxiv']})" if m["arxiv"] else m["title"]
        checked = f"{m['parity']}; {m['note']}" if m["note"] else m["parity"]
        rows.append(f"| `{m['name']}` | {paper} | {m['venue']} {m['year']} | {m['family']} | {checked} |")
    return "\n".join(rows) + "\n"


def test_the_readme_lists_every_method():
    readme = (ROOT / "s4kit" / "methods" / "README.md").read_text()
    assert (
        readme[readme.index("<!-- methods -->") : readme.index("<!-- end -->")]
        == "<!-- methods -->\n" + methods_table()
    )


def test_every_link_between_the_readmes_leads_somewhere():
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / p / "README.md" for p in ("data", "notebooks", "notebooks/assignments", "s4kit/methods")),
    ]
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"
