"""The notebooks: every one runs, keeps to the rules of a good lesson, and states no number that it does not compute."""

from __future__ import annotations

import ast
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from s4kit.walk import execute, pages, profiles, setup_cell

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
TITLES = (
    "Gallery", "Family: co-training", "Family: contrast", "Family: self-training", "Own data", "Beyond images: video",
    "Beyond: domains", "Beyond images: single objects", "Beyond masks: weak labels", "Beyond chance: active selection",
    "Beyond images: points",
)  # fmt: skip
PAGES = {FOLDER / f"{name}.ipynb": title for name, title in zip(pages.PAGES, TITLES, strict=True)}
GALLERY = FOLDER / "gallery.ipynb"  # which is no lesson
SHOWN = (  # of each way to a picture one; what is in those of all methods is looked at in tests/explore/test_ideas.py
    "supervised", "cutmix", "cps", "st", "s4al", "rc2l", "np_semiseg", "slrnet", "self_correcting", "tri_kd", "ifr",
    "mask_rcnn", "shape3d", "twist",
)  # fmt: skip
PATHS = re.compile(r"(?<![\w.$])/(home|root|tmp|work|Users|usr|opt|content|var|mnt)/")
PLAIN = {"0", "1", "2", "100", "255"}  # constants of a computation: percent, void


@pytest.fixture(params=[*NOTEBOOKS, *PAGES], ids=lambda file: file.stem)
def file(request) -> Path:
    return request.param


@pytest.fixture
def notebook(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def of_kind(notebook: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def tagged(notebook: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if tag in cell["metadata"].get("tags", [])]


def outputs(notebook: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    return [(k, output) for k, cell in enumerate(notebook["cells"]) for output in cell.get("outputs", [])]


def texts(output: dict[str, Any]) -> str:
    """All that an output says in words."""
    shown = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    return "".join(output.get("text", "")) + "".join("".join(v) for v in shown.values() if isinstance(v, str | list))


def said(notebook: dict[str, Any]) -> None:
    """No errors, no stderr, no warnings, no paths of a machine in what a notebook shows."""
    for index, output in outputs(notebook):
        assert output["output_type"] != "error", f"cell {index + 1}: {output.get('ename')}"
        assert output.get("name") != "stderr", f"cell {index + 1} wrote to stderr: {texts(output)[:300]}"
        assert "Warning" not in texts(output), f"cell {index + 1}: {texts(output)[:300]}"
        assert not PATHS.search(texts(output)), f"cell {index + 1} shows a path: {texts(output)[:300]}"


# ---- running ----


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a walk, where a page finds the runs of those before it."""
    return tmp_path_factory.mktemp("walked")


@pytest.mark.slow
def test_every_cell_runs_without_a_word_on_stderr(file: Path, walked: Path, nursery):
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    execute.parametrise(notebook, file.name, PROFILE="test", DATA=execute.data_of(notebook, file, "scenes"))
    for cell in notebook.cells if file == GALLERY else ():
        cell.source = cell.source.replace("ideas(lesson, networks)", f"ideas(lesson, networks, {SHOWN})")
    with nursery.used():
        assert execute.execute(notebook, walked, file.name) == ""
    execute.keep_pictures(notebook)
    said(notebook)
    assert not any("widget-view" in kind for _, output in outputs(notebook) for kind in output.get("data", {}))
    for cell in tagged(notebook, "claim"):
        assert any("Measured here" in texts(output) for output in cell["outputs"]), source(cell)


# ---- the form ----


def test_cells_are_short(notebook):
    sizes = [len([line for line in source(c).splitlines() if line.strip()]) for c in of_kind(notebook, "code")]
    assert len(sizes) <= 30 and statistics.median(sizes) <= 8 and max(sizes) <= 40, sizes


def test_title_block(file, notebook):
    title = source(notebook["cells"][0])
    assert re.match(rf"# {PAGES.get(file, file.stem[:2])} · .+", title)
    badge = setup_cell.badge(file.relative_to(FOLDER).as_posix())
    assert badge in title if badge else "Open in Colab" not in title
    for words in ("**Time:**", "At the end you can", "**Next:**" if "**Next:**" in title else "**next:**"):
        assert words in title, words
    for link in re.findall(r"\(((?:\.\./)?\d\d_\w+\.ipynb)\)", title):
        assert (file.parent / link).is_file() or Path(link).name[:2] not in {n.name[:2] for n in NOTEBOOKS}, (
            f"{link} is not there"
        )


def test_setup_and_parameters_come_first_and_are_the_same_everywhere(file, notebook):
    code = of_kind(notebook, "code")
    assert code[0]["metadata"]["tags"] == ["setup"] and code[1]["metadata"]["tags"] == ["parameters"]
    assert source(code[0]) == setup_cell.setup_cell()
    assert re.search(r'^PROFILE = "cpu"', source(code[1]), re.M)
    data = re.search(r'^DATA = "(\w+)"', source(code[1]), re.M)[1]
    assert data in ("scenes", *(profiles.BEYOND if file.parent.name == "beyond" else ()))


def test_a_lesson_has_all_its_parts(file, notebook):
    if file == GALLERY:
        pytest.skip("a page to look things up, nothing is trained to be looked into")
    prose = "\n".join(source(cell) for cell in of_kind(notebook, "markdown"))
    code = "\n".join(source(cell) for cell in of_kind(notebook, "code"))
    assert prose.count("<details>") >= 3, "three questions with hidden answers"
    assert re.search(r"predict", prose, re.I), "something to predict before running"
    assert re.search(r"goes wrong", prose, re.I), "a box for when it goes wrong"
    assert any(
        f"{trains}(" in code for trains in ("lesson.train", "lesson.open", "lesson.runs", "lesson.compare", "s4.fit")
    )
    assert "lesson.explore(" in code or "s4.explore(" in code
    assert "s4.plots." in code
    assert "interact(" in code, "a knob to turn"
    if not file.stem.startswith("06"):  # which compares what the others explain
        assert "s4.show(" in code, "the true source"


def test_saved_outputs_are_small_and_clean(file, notebook):
    assert file.stat().st_size < (2.6e6 if file == GALLERY else 1.5e6)
    assert "widgets" not in notebook["metadata"]
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    said(notebook)
    if outputs(notebook):
        assert re.search(
            r"^\*Outputs: profile `\w+`, data `\w+`, \d{4}-\d\d-\d\d\.\*$", source(notebook["cells"][0]), re.M
        )
    else:
        assert all(cell["execution_count"] is None for cell in of_kind(notebook, "code"))


# ---- numbers ----


def constants(cell: dict[str, Any]) -> set[str]:
    """The numbers that are written in a cell: as values, or within its texts (format fields aside)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source(cell))):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            found.add(str(node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\d+(?:\.\d+)?", re.sub(r"\{[^}]*\}", "", node.value)))
    return found - PLAIN


def test_claims_compute_what_they_state(notebook):
    for cell in of_kind(notebook, "code"):
        assert ("s4.claim(" in source(cell)) == ("claim" in cell["metadata"].get("tags", [])), source(cell)
    for cell in tagged(notebook, "claim"):
        for output in cell["outputs"]:
            stated = set(re.findall(r"\d+(?:\.\d+)?", "".join(output.get("data", {}).get("text/markdown", ""))))
            assert not stated & constants(cell), f"written, not computed: {stated & constants(cell)}\n{source(cell)}"
        calls = [n for n in ast.walk(ast.parse(source(cell))) if isinstance(n, ast.Call)]
        claims = [call for call in calls if getattr(call.func, "attr", "") == "claim"]
        assert all(len(call.args) + len(call.keywords) > 1 for call in claims), "a claim states values"


def test_prose_holds_no_measured_number(notebook):
    for cell in of_kind(notebook, "markdown"):
        found = re.search(r"\b\d+\.\d+ ?%|\b\d+(\.\d+)? (points\b|mIoU\b)|\bmIoU (of )?\d", source(cell))
        assert not found, f"{found[0]!r} in: {source(cell)[:200]}"


def test_every_formula_is_typeset_on_the_pages(notebook):
    for cell in of_kind(notebook, "markdown"):
        for tex in re.findall(r"\$\$(.+?)\$\$", source(cell), re.S) + re.findall(r"(?<!\$)\$([^$\n]+)\$", source(cell)):
            assert pages.mathml(tex).startswith("<math "), tex


def test_the_numbers_of_the_notebooks_follow_each_other():
    numbers = [int(file.name[:2]) for file in NOTEBOOKS]
    assert numbers and numbers == list(range(len(numbers)))
