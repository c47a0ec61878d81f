"""The local page in headless Chromium: it shows what the runs hold, and what comes while it is open."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explored import train_runs
from PIL import Image

import s4kit as s4
from s4kit.engine import later, probe, survey, watched
from s4kit.engine.survey_file import Pages
from s4kit.explore import corrections
from s4kit.explore.serving import serve

pytestmark = pytest.mark.slow

COUNT = """(c, [r, g, b]) => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let i = 0; i < d.length; i += 4) n += d[i] === r && d[i + 1] === g && d[i + 2] === b && d[i + 3] === 255;
  return n; }"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_runs(tmp_path_factory.mktemp("served"), "fixmatch")["fixmatch"]


@pytest.fixture
def opened(browser: Any, run: Path, tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A page of a server of its own, and the folder of its run, which has no snapshot of the last step yet."""
    folder = shutil.copytree(run, tmp_path / "<b>run")
    (folder / "probes" / "0000005.npz").rename(folder / "late")
    server = serve.Server([folder])
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on(
        "console",
        lambda said: said.type == "error" and "favicon" not in str(said.location) and page.wrong.append(said.text),
    )
    page.goto(server.url)
    page.locator("[data-testid=coverage]").wait_for(timeout=20_000)
    yield page, folder
    context.close()
    server.shutdown()
    server.server_close()


def get(page: Any, name: str) -> Any:
    return page.locator(f"[data-testid={name}]")


def until(page: Any, name: str, words: str) -> None:
    for _ in range(200):
        if words in get(page, name).inner_text():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{name} never said {words!r} but {get(page, name).inner_text()!r}")


def test_the_page_shows_the_run_and_new_snapshots_as_they_come(opened):
    page, folder = opened
    assert get(page, "step").inner_text() == "step 3"
    quality = s4.explore.view.View(folder).meta["tracks"][0]["quality"][1][0]
    assert f"{100 * quality['coverage']:.1f} %" in get(page, "coverage").inner_text()
    (folder / "late").rename(folder / "probes" / "0000005.npz")
    until(page, "step", "step 5")  # who looks at the last one follows
    quality = s4.explore.view.View(folder).meta["tracks"][0]["quality"][2][0]
    until(page, "coverage", f"{100 * quality['coverage']:.1f} %")
    get(page, "full").click()
    until(page, "step", "last weights")
    assert not page.wrong


def test_what_is_painted_is_kept_for_the_next_training(opened):
    page, folder = opened
    view = s4.explore.view.View(folder)
    get(page, "tab-correct").click()
    get(page, "paint-2").click()
    stage = page.locator("[data-testid=panel-correct] .s4x-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    pixel = box["width"] / view.meta["width"]

    def drag(*corners: tuple[float, float]) -> None:
        """Along the middles of these pixels."""
        for k, (x, y) in enumerate(corners):
            page.mouse.move(box["x"] + (x + 0.5) * pixel, box["y"] + (y + 0.5) * pixel)
            if not k:
                page.mouse.down()
        page.mouse.up()

    drag((5, 10), (25, 10))
    get(page, "paint--1").click()
    get(page, "tool-fill").click()
    drag((30, 30))
    get(page, "undo").click()
    get(page, "keep").click()
    until(page, "correct-words", "Kept: ")
    (made,) = (folder / "corrections").glob("train*.json")
    about = json.loads(made.read_text())
    y, x = np.mgrid[:32, :32]
    brushed = (np.hypot(x - x.clip(5, 25), y - 10) <= 3).astype(bool)
    label, hand = corrections.painted_map(about["strokes"]["painted"], (32, 32), 4)
    assert np.array_equal(hand, brushed) and (label[hand] == 2).all()
    assert about["id"] == view.meta["images"][0]["id"] and about["step"] == 3 and about["painted"] == brushed.sum()
    assert str(folder / "corrections") in get(page, "correct-words").inner_text()
    page.reload()
    get(page, "coverage").wait_for()
    get(page, "tab-correct").click()
    until(page, "correct-words", f"{brushed.sum()} pixels painted")  # to go on with
    get(page, "image-next").click()
    until(page, "correct-words", "0 pixels painted")
    get(page, "keep").click()
    until(page, "correct-words", "Not kept: Nothing is painted")
    assert s4.load(**view.runs[0].config["task"] | {"labelled": folder / "corrections"}).protocol.count("by hand") == 1
    assert not page.wrong


def many(folder: Path, images: int) -> survey.Survey:
    """A survey as if there were so many images; every seventh has no truth."""
    rng = np.random.default_rng(0)
    run = s4.open_run(folder)
    task = run.task()
    about = {"method": "fixmatch", "which": "last", "step": 5, "images": images, "digest": "made"}
    about |= {"classes": list(task.classes), "palette": [list(map(int, colour)) for colour in task.palette]}
    pages = Pages(folder / "sweep" / "last", about)
    pages.begin()
    small = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(small, "JPEG")
    for k in range(images):
        row = {"id": f"<i>{k}", "list": "val" if k % 3 == 0 else "unlabelled", "coverage": float(rng.random())}
        row["accuracy"] = None if k % 7 == 0 else float(rng.random())
        pages.add(row, small.getvalue(), small.getvalue())
    pages.flush()
    return survey.Survey(pages.folder)


def shown(page: Any) -> list[int]:
    """The rows of the cells of the grid, from left to right and from top to bottom."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.s4x-cell')].map((cell) => [
             parseFloat(cell.style.top), parseFloat(cell.style.left), Number(cell.dataset.testid.slice(5))])
             .sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((found) => found[2])"""
    )


def test_the_grid_sorts_filters_and_scrolls_through_thousands(opened):
    page, folder = opened
    found = many(folder, 3000)
    get(page, "view-all").click()
    get(page, f"cell-{found.order('accuracy')[0]}").wait_for()
    assert get(page, "grid-by").input_value() == "accuracy"
    order = [int(row) for row in found.order("accuracy")]
    cells = shown(page)
    assert cells == order[: len(cells)] and 20 < len(cells) < 300
    get(page, "grid").evaluate("box => (box.scrollTop = box.scrollHeight)")
    get(page, f"cell-{order[-1]}").wait_for()
    cells = shown(page)
    assert cells == order[-len(cells) :] and len(cells) < 300
    get(page, "grid-by").select_option("coverage")
    get(page, "grid-order").select_option("1")
    get(page, "grid-list").select_option("val")
    falling = [int(row) for row in found.order("coverage", falling=True) if found.lists[row] == "val"]
    cells = shown(page)
    assert cells == falling[: len(cells)]
    get(page, "grid-low").fill("20")
    get(page, "grid-high").fill("50")
    get(page, "grid-high").blur()
    between = [row for row in falling if 0.2 <= found.columns["coverage"][row] <= 0.5]
    until(page, "grid-count", str(len(between)))
    get(page, "grid-name").fill("<i>12")
    get(page, "grid-name").blur()
    named = [row for row in between if "<i>12" in found.ids[row]]
    until(page, "grid-count", f"{len(named)} of")
    assert shown(page) == named[: len(shown(page))] and get(page, f"cell-{named[0]}").inner_text().startswith("<i>12")
    assert not page.wrong


def test_images_of_the_grid_are_tagged_watched_and_opened(opened):
    page, folder = opened
    found = s4.open_run(folder).sweep(device="cpu", show=False)
    get(page, "view-all").click()
    val = found.ids.index(found.ids[-1])
    get(page, f"cell-{val}").click()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    get(page, "tag-name").fill("again")
    get(page, "tag-on").click()
    until(page, "chosen", "2 chosen; tagged")
    order = [int(row) for row in found.order("accuracy")]
    both = sorted([val, order[order.index(val) - 1]])
    assert json.loads((folder / "tags.json").read_text()) == {"again": [found.ids[row] for row in both]}
    get(page, "grid-tag").select_option("is again")
    assert sorted(shown(page)) == both
    get(page, f"cell-{val}").dblclick()
    get(page, "closeup-wrong").wait_for()
    assert get(page, "closeup-id").inner_text() == found.ids[val]
    method, task, clock = s4.open_run(folder).restored("last", device="cpu")
    views, truth = probe.Probe(task, watched.find(task, [found.ids[val]]), whole=True).views([0], torch.device("cpu"))
    label = probe.said(method, views, clock)[0]["pseudo"].label[0]
    for kind, map_ in (("label", label), ("truth", truth[0])):
        for c, colour in enumerate(task.palette):
            assert get(page, f"closeup-{kind}").evaluate(COUNT, list(colour)) == int((map_ == c).sum())
    get(page, "choose-none").click()
    get(page, f"cell-{val}").click()
    get(page, "tag-watch").click()
    until(page, "chosen", "1 more are watched")
    page.wait_for_timeout(2500)
    get(page, f"cell-{val}").dblclick()
    get(page, "closeup-open").click()
    get(page, "coverage").wait_for()
    assert page.evaluate("explorer.get('meta').images[explorer.get('image')].id") == found.ids[val]
    assert not page.wrong


def test_an_image_that_was_added_later_says_of_which_step_it_is(opened):
    page, folder = opened
    val = s4.open_run(folder).task().val.ids[0]
    (folder / "late").rename(folder / "probes" / "0000005.npz")
    later.add(folder, [val], device="cpu")
    page.locator("option", has_text=f"{val} (val)").wait_for(state="attached")
    steps = s4.open_run(folder).snapshots().recorded("pseudo", 5)
    page.evaluate("explorer.set('image', 5); explorer.set('snapshot', 0)")
    nearest = min(steps, key=lambda step: step - 1)
    until(page, "evidence", f"added later; what is shown of it is of step {nearest}")
    assert not page.wrong


def test_points_of_the_feature_space_and_pixels_lead_to_each_other(opened):
    page, folder = opened
    points = s4.explore.view.View(folder).answer({"kind": "embedding", "track": 0})
    get(page, "tab-embedding").click()
    until(page, "embedding-words", f"PCA of {len(points['x'])} pixels of 5 images")
    canvas = page.locator(".s4x-scatter")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    k = int(np.argmax(points["x"]))  # nobody is beyond it
    scale = box["width"] / 560
    x, y = (10 + points["x"][k] * 540) * scale, (10 + (1 - points["y"][k]) * 540) * scale
    canvas.click(position={"x": x, "y": y})
    page.wait_for_timeout(600)
    image, selection = page.evaluate("[explorer.get('image'), explorer.get('selection')]")
    assert image == points["image"][k]
    assert selection == {"kind": "pixel", "x": points["pixel"][k] % 32, "y": points["pixel"][k] // 32}
    until(page, "embedding-words", "PCA of")
    assert canvas.get_attribute("data-pointed") == str(k)  # the pinned pixel is the one that is read
    assert not page.wrong
