"""The explorer in a true JupyterLab, in headless Chromium: the browser's numbers are numpy's, Python hears the browser
and the browser hears Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explored import train_runs
from lab import jupyter_lab, open_notebook, run_cell, write_notebook

import s4kit as s4

pytestmark = pytest.mark.slow
MOVE = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); }"
CELLS = [
    "import s4kit as s4\nexplorer = s4.explore('cps', tracks=[1], policy='fixed', threshold=0.3)\nexplorer",
    "heard = []\nexplorer.observe(lambda change: heard.append(change['new']), 'threshold')",
    "print([explorer.threshold, explorer.policy, explorer.image, explorer.hidden, heard])",
    "explorer.image = 3\nexplorer.threshold = 0.25",
    "explorer.policy = 'none of them'",
    "print(explorer.selection)",
    "from s4kit.explore.gallery.listing import Gallery\nGallery(s4.methods.table()[:2], {})",
]
COMMANDS = "ddbaxm"  # of the notebook, on its cells: delete, insert below and above, cut, to Markdown


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """JupyterLab with a notebook whose first cell shows the explorer of a run of CPS."""
    for package in ("jupyterlab", "anywidget", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed: JupyterLab is not tested")
    folder = tmp_path_factory.mktemp("lab")
    train_runs(folder, "cps")
    write_notebook(folder / "explore.ipynb", CELLS)
    with jupyter_lab(folder) as address:
        page = open_notebook(browser, address % "explore.ipynb")
        page.folder, page.address = folder, address
        run_cell(page, 0)
        page.locator("[data-testid=coverage]").wait_for(timeout=60_000)
        page.context.set_default_timeout(60_000)
        yield page
        page.close()


def counts(page: Any) -> tuple[int, int]:
    """Kept pixels, and the right ones of them, as the browser counts them."""
    found = page.locator("[data-testid=coverage]").evaluate("e => ({...e.dataset})")
    return int(found["kept"]), int(found["right"])


def by_numpy(folder: Path, image: int, level: int, step: int = 5) -> tuple[int, int]:
    snapshots = s4.open_run(folder / "cps").snapshots()
    maps = snapshots.image(image) | snapshots.read(step, "2 teaches 1", image)
    kept = (maps["valid"] > 0) & (maps["prob"][0] >= level)
    return int(kept.sum()), int((kept & (maps["label"] == maps["truth"]) & (maps["truth"] != 255)).sum())


def says(page: Any) -> list[Any]:
    """What Python knows: threshold, policy, image, hidden, the thresholds that an observer has heard."""
    return ast.literal_eval(run_cell(page, 2).inner_text().strip())


def save(page: Any) -> None:
    """Save the notebook by its own keys, though one of the explorer's controls has the focus."""
    path = page.folder / "explore.ipynb"
    before = path.stat().st_mtime_ns
    page.locator("[data-testid=tau]").focus()
    page.keyboard.press("Control+s")
    until(page, True, lambda: path.stat().st_mtime_ns > before and "s4x-still" in path.read_text())


def until(page: Any, wanted: Any, ask: Any) -> None:
    for _ in range(300):
        if ask() == wanted:
            return
        page.wait_for_timeout(100)
    assert ask() == wanted


def test_the_widget_appears_with_numpys_numbers(page):
    wanted = by_numpy(page.folder, 0, 77)  # 0.3 * 255, rounded half up
    assert 0 < wanted[1] < wanted[0]
    until(page, wanted, lambda: counts(page))


def test_the_slider_moves_numbers_at_once_and_python_hears_the_end_of_the_drag(page):
    run_cell(page, 1)
    slider = page.locator("[data-testid=tau]")
    prob = s4.open_run(page.folder / "cps").snapshots().read(5, "2 teaches 1", 0)["prob"][0]
    level = int(np.median(prob))
    for on_the_way in (level - 9, level - 3, level + 4):
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", on_the_way)
        assert counts(page) == by_numpy(page.folder, 0, on_the_way)  # no round trip: it is there when the event ends
    slider.evaluate(MOVE, level)
    assert counts(page) == by_numpy(page.folder, 0, level)
    page.wait_for_timeout(600)
    threshold, policy, image, hidden, heard = says(page)
    assert threshold == pytest.approx(level / 255) and heard == [threshold]
    assert (policy, image, hidden) == ("fixed", 0, [])


def test_a_class_is_hidden_and_an_image_is_chosen_in_the_browser(page):
    page.locator("[data-testid=class-2]").click()
    page.locator("[data-testid=image]").select_option("1")
    page.wait_for_timeout(600)
    assert says(page)[2:4] == [1, [2]]


def test_the_browser_follows_python(page):
    run_cell(page, 3)
    until(page, by_numpy(page.folder, 3, 64), lambda: counts(page))
    assert page.locator("[data-testid=image]").input_value() == "3"


def test_python_refuses_what_makes_no_sense(page):
    assert "is none of own, fixed, entropy, adaptive" in run_cell(page, 4).inner_text()
    assert says(page)[1] == "fixed"


def test_full_resolution_comes_from_the_kernel(page):
    def sides():
        return page.locator("[data-testid=panel-pseudo] canvas").evaluate("c => [c.width, c.height]")

    assert sides() == [32, 32]
    page.locator("[data-testid=full]").click()
    until(page, [40, 40], sides)
    stage = page.locator("[data-testid=panel-pseudo] .s4x-stage")
    box = stage.bounding_box()
    stage.click(position={"x": box["width"] - 2, "y": box["height"] - 2})  # a pixel that the snapshots do not have
    until(page, "39", lambda: page.locator("[data-testid=pixel]").get_attribute("data-x"))
    page.locator("[data-testid=full]").click()
    until(page, [32, 32], sides)
    stage.click(position={"x": box["width"] - 2, "y": 2})
    page.wait_for_timeout(600)
    assert ast.literal_eval(run_cell(page, 5).inner_text().strip()) == {"kind": "pixel", "x": 31, "y": 0}


def test_keys_are_the_explorers_and_the_gallerys_alone(page):
    def cells():
        """The first line of each; none of a cell that is there and not drawn yet."""
        words = page.locator(".jp-Notebook .jp-Cell").all_inner_texts()
        return [text.splitlines()[0] if text.strip() else None for text in words]

    table = run_cell(page, 6)  # the last one: the notebook puts an empty cell behind it
    until(page, [True] * (len(CELLS) + 1), lambda: [words is not None for words in cells()])
    before = cells()
    page.locator("[data-testid=choose-fixed]").click()
    places = ["tau", "image", "scrub", "tab-whatif", "blend"]
    for place in [*(page.locator(f"[data-testid={name}]") for name in places), table.locator("th button").first]:
        place.focus()
        for key in COMMANDS:
            page.keyboard.press(key)
    assert cells() == before
    assert page.locator(".jp-Notebook.jp-mod-commandMode").count() == 1  # where these keys would have acted
    save(page)


def test_the_controls_stay_in_view_beside_the_curve(page):
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.locator("[data-testid=tab-whatif]").click()
    page.locator("[data-testid=curve]").scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    for name in ("tau", "curve"):
        box = page.locator(f"[data-testid={name}]").bounding_box()
        assert box["y"] > 60 and box["y"] + box["height"] <= 1080, name


def test_a_reopened_notebook_shows_the_picture(page):
    """Saved, its kernel gone, opened again: no widget lives there, the picture does."""
    assert not page.locator(".s4x-still").is_visible()  # while the explorer lives
    save(page)
    base, token = page.address.split("/doc/")[0], page.address.split("token=")[1]
    head = {"Authorization": f"token {token}"}
    for session in page.request.get(f"{base}/api/sessions", headers=head).json():
        page.request.delete(f"{base}/api/sessions/{session['id']}", headers=head)
    page.goto("about:blank")
    page.goto(page.address % "explore.ipynb")
    picture = page.locator(".s4x-still img")
    picture.wait_for()
    page.wait_for_timeout(4000)  # the widgets' manager looks for the model for two seconds
    assert picture.evaluate("image => image.naturalWidth") > 600
    assert page.locator(".s4x").count() == 0 and not page.get_by_text("Error displaying widget").is_visible()
