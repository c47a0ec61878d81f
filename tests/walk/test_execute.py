"""`s4kit walk`: runs notebooks in order, stops at the first failing cell and says which, leaves pages and an index."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbformat
import pytest

from s4kit.cli import main
from s4kit.errors import S4Error
from s4kit.walk import execute, groups, pages

PARAMETERS = 'PROFILE = "cpu"\nDATA = "scenes"'


def write(folder: Path, name: str, *cells: str) -> None:
    """A notebook with a title, the parameters and these code cells."""
    new = nbformat.v4
    notebook = new.new_notebook(
        cells=[new.new_markdown_cell(f"# {name[:2]} · A <title>"), new.new_code_cell(PARAMETERS)]
    )
    notebook.cells[1].metadata.tags = ["parameters"]
    notebook.cells += [new.new_code_cell(cell) for cell in cells]
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / name)


@pytest.mark.slow
def test_a_walk_leaves_pages_runs_and_an_index(tmp_path, capsys, nursery):
    books = tmp_path / "books"
    train = 'import s4kit as s4\nlesson = s4.lesson(PROFILE, DATA)\nrun = lesson.train("supervised")'
    knob = "import ipywidgets\nipywidgets.interact(lambda tau=0.25: s4.plots.bars({'a': tau}, 'y'), tau=(0.0, 1.0));"
    write(books, "00_first.ipynb", train, knob)
    write(books, "01_second.ipynb", train)
    own = "@s4.methods.register('mine')\nclass Mine(Supervised):\n    'Gone with its kernel.'\nlesson.train('mine');"
    write(books, "02_own.ipynb", train, f"from s4kit.methods.baselines.supervised import Supervised\n{own}")
    out = tmp_path / "out"
    arguments = ["walk", "--profile", "test", "--notebooks", str(books), "--out", str(out)]
    with nursery.used():
        assert main(arguments) == 0
    assert "walk done" in capsys.readouterr().out
    index = (out / "index.html").read_text()
    assert "A &lt;title&gt;" in index and "01_second.html" in index and "supervised" in index
    assert json.loads((out / "walk.json").read_text())["notebooks"][1]["error"] == ""
    first, second = (nbformat.read(out / name, 4) for name in ("00_first.ipynb", "01_second.ipynb"))
    assert 'PROFILE = "test"' in first.cells[1].source and "*Outputs: profile `test`" in first.cells[0].source
    trained = first.cells[2].outputs
    assert [o.output_type for o in trained] == ["stream", "display_data"] and "image/png" in trained[1].data
    assert trained[0].name == "stdout" and str(tmp_path) not in trained[0].text
    assert "already trained" in second.cells[2].outputs[0].text
    assert "explorer.html" in index and "supervised" in (out / "explorer.html").read_text()
    note, picture = first.cells[3].outputs
    assert "tau = 0.25" in note.text and "image/png" in picture.data
    assert "data:image/png" in (out / "00_first.html").read_text()
    assert (
        main([*arguments, "--only", "01"]) == 0
    )  # with a kernel that begins with nothing; the others stay in the index
    assert [row["name"] for row in json.loads((out / "walk.json").read_text())["notebooks"]] == [
        "00_first",
        "01_second",
        "02_own",
    ]


def test_a_family_lies_in_its_folder_and_links_lead_from_page_to_page(tmp_path):
    books, out = tmp_path / "books", tmp_path / "out"
    write(books, "00_first.ipynb")
    (books / "families").mkdir()
    write(books / "families", "cotraining.ipynb", "import pathlib\nprint(pathlib.Path.cwd().name)")
    for folder, link in ((books, "families/cotraining"), (books / "families", "../00_first")):
        (file,) = folder.glob("*.ipynb")
        notebook = nbformat.read(file, 4)
        notebook.cells[0].source += f"\n\n[there]({link}.ipynb)"
        nbformat.write(notebook, file)
    assert [file.stem for file in execute.found(books)] == ["00_first", "cotraining"]
    found = execute.walk("test", "scenes", out, only=["00", "cotraining"], notebooks=books)
    assert [row["name"] for row in found["notebooks"]] == ["00_first", "families/cotraining"]
    assert 'href="families/cotraining.html"' in (out / "00_first.html").read_text()
    assert 'href="../00_first.html"' in (out / "families" / "cotraining.html").read_text()
    assert 'href="families/cotraining.html"' in (out / "index.html").read_text()
    executed = nbformat.read(out / "families" / "cotraining.ipynb", 4)
    assert executed.cells[2].outputs[0].text == "out\n", "runs are shared, so all are executed in one folder"


def test_a_lesson_beyond_still_images_keeps_its_own_data(tmp_path):
    (tmp_path / "beyond").mkdir()
    for folder in (tmp_path, tmp_path / "beyond"):
        write(folder, "video.ipynb")
        notebook = nbformat.read(folder / "video.ipynb", 4)
        notebook.cells[1].source = PARAMETERS.replace("scenes", "clips")
        found = execute.data_of(notebook, folder / "video.ipynb", "camvid")
        assert found == ("clips" if folder.name == "beyond" else "camvid")


@pytest.mark.parametrize("end", ["pass", "1 / 0"], ids=["done", "failed"])
def test_no_kernel_outlives_its_notebook(end, tmp_path):
    file = tmp_path / "pid"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"import os\nopen({str(file)!r}, 'w').write(str(os.getpid()))\n{end}")]
    )
    assert bool(execute.execute(notebook, tmp_path, "a.ipynb")) == (end != "pass")
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_a_failing_cell_is_named_and_stops_the_walk(tmp_path, capsys):
    books = tmp_path / "books"
    write(books, "00_fails.ipynb", "# why\nvalue = [1][5]", "print('not reached')")
    write(books, "01_never.ipynb", "1")
    out = tmp_path / "out"
    assert main(["walk", "--profile", "test", "--notebooks", str(books), "--out", str(out), "--json"]) == 1
    told = capsys.readouterr()
    for words in ("00_fails.ipynb", "cell 3", "value = [1][5]", "IndexError: list index out of range"):
        assert words in told.err
    answer = json.loads(told.out.splitlines()[-1])
    assert answer["ok"] is False and len(answer["notebooks"]) == 1
    assert "failed" in (out / "index.html").read_text()
    assert nbformat.read(out / "00_fails.ipynb", 4).cells[2].outputs[0].ename == "IndexError"
    assert not (out / "01_never.ipynb").exists()


def test_pages_side_by_side_are_of_one_group_and_a_failure_ends_before_the_next(tmp_path, capsys):
    names = ("00_a", "01_b", "02_c", "05_d", "06_e", "07_f", "08_g", "gallery")
    found = [[file.stem for file in group] for group in groups.together([Path(f"{name}.ipynb") for name in names])]
    assert found == [["00_a", "01_b"], ["02_c", "05_d"], ["06_e"], ["07_f", "08_g", "gallery"]]
    found = groups.together([Path(f"{name}.ipynb") for name in names], recorded=True)
    assert [[file.stem for file in group] for group in found] == [[n for n in names if n != "06_e"], ["06_e"]]

    books, out = tmp_path / "books", tmp_path / "out"
    wait = "import time, pathlib\npathlib.Path('{}').touch()\nwhile not pathlib.Path('{}').exists(): time.sleep(0.05)"
    write(books, "00_meets.ipynb", wait.format("a", "b"), "import os\nassert os.environ['OMP_NUM_THREADS']")
    write(books, "01_fails.ipynb", wait.format("b", "a"), "[1][5]")  # each waits for the other: they run together
    write(books, "02_never.ipynb", "1")
    assert main(["walk", "--profile", "test", "--notebooks", str(books), "--out", str(out), "--jobs", "2"]) == 1
    told = capsys.readouterr()
    assert "failed in 01_fails" in told.out and "IndexError" in told.err and "[1/3] 00_meets" in told.out
    assert (out / "00_meets.ipynb").exists() and not (out / "02_never.ipynb").exists()


def test_what_cannot_be_walked(tmp_path):
    with pytest.raises(S4Error, match="no notebooks in"):
        execute.walk(notebooks=tmp_path, out=tmp_path / "out")
    write(tmp_path / "books", "00_a.ipynb", "1")
    with pytest.raises(S4Error, match="no notebook '07'"):
        execute.walk(only=["07"], notebooks=tmp_path / "books", out=tmp_path / "out")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    with pytest.raises(S4Error, match="no cell that is tagged"):
        execute.parametrise(notebook, "a.ipynb", PROFILE="test")
    notebook.cells[0].metadata.tags = ["parameters"]
    with pytest.raises(S4Error, match="no line PROFILE"):
        execute.parametrise(notebook, "a.ipynb", PROFILE="test")


def test_pages_without_a_number_come_last_and_can_be_walked_alone(tmp_path):
    for name in ("gallery.ipynb", "01_b.ipynb", "00_a.ipynb", "notes.ipynb"):
        write(tmp_path, name, "")
    assert [file.name for file in execute.found(tmp_path)] == ["00_a.ipynb", "01_b.ipynb", "gallery.ipynb"]
    assert [file.name for file in execute.found(tmp_path, ["gallery"])] == ["gallery.ipynb"]
    (tmp_path / "beyond").mkdir()
    write(tmp_path / "beyond", "video.ipynb", "")
    assert len(execute.found(tmp_path)) == 3, "what is beyond still images is asked for"
    for asked in ("beyond", "video"):
        assert [file.name for file in execute.found(tmp_path, [asked])] == ["video.ipynb"]
    book = nbformat.read(tmp_path / "00_a.ipynb", 4)
    book.cells[0].source = "[all](gallery.ipynb) [next](01_b.ipynb) [mine](notes.ipynb)"
    pages.write_page(book, tmp_path / "00_a.html")
    linked = (tmp_path / "00_a.html").read_text()
    assert all(f'href="{name}"' in linked for name in ("gallery.html", "01_b.html", "notes.ipynb"))


def test_a_page_needs_no_network_and_its_formulas_are_typeset(tmp_path):
    new = nbformat.v4
    text = (
        r"# A"
        "\n\n"
        r"Take $\arg\max_c p_c$ and $\mathbf 1[c \ge \tau]$:"
        "\n\n"
        r"$$L_u = \frac{a}{b}, \quad \texttt{decay}$$"
    )
    claim = new.new_output("display_data", data={"text/markdown": "> **Measured here.** $x^2$"})
    code = new.new_code_cell("s4.claim('$not a formula$')", outputs=[claim], execution_count=1)
    pages.write_page(new.new_notebook(cells=[new.new_markdown_cell(text), code]), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert page.count("<math ") == 4 and page.count('display="block"') == 1 and "<mfrac>" in page
    assert "$$" not in page and "\\arg" not in page and 'style="font-weight:bold"' in page
    assert "$not a formula$" in page.replace("&#39;", "'")
    assert not re.findall(r"""(?:<script[^>]* src=|<link[^>]* href=|@import |import\()["']?https?:""", page)


@pytest.mark.parametrize("tex", [r"\left( a <", r"\unheard x <"])
def test_a_formula_that_cannot_be_translated_is_shown_as_its_source(tex):
    assert pages.mathml(tex) == f"<code>{tex.replace('<', '&lt;')}</code>"
