"""The local page in headless Chromium: it shows what the runs hold, and what comes while it is open."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explored import train_runs

import s4kit as s4
from s4kit.explore import corrections, serve


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
