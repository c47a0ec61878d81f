"""The looks at all watched images in headless Chromium: classes over time, and confusion that leads to images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import probe_packs
import pytest
from pages import Page

from s4kit.explore import html
from s4kit.explore.state import State

LAST = len(probe_packs.STEPS) - 1


@pytest.fixture(scope="module")
def made() -> probe_packs.Made:
    return probe_packs.make(48, 64, images=4, seed=1)


@pytest.fixture(scope="module")
def page(browser: Any, made: probe_packs.Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    packs = made.packs() | {"track/0/3": b"", "image/3": b""}
    file = html.save_html(
        tmp_path_factory.mktemp("whole") / "e.html", made.meta, packs, State(tracks=[0], snapshot=LAST)
    )
    page = Page(browser.new_page(viewport={"width": 1200, "height": 900}))
    yield page.open(file)
    page.page.close()
    assert not page.wrong


def shown(page: Page, test: str) -> list[tuple[int, int]]:
    """(image, pixels) of a list."""
    found = page.page.locator(f"[data-testid^={test}-]").evaluate_all("all => all.map((e) => ({ ...e.dataset }))")
    return [(int(one["image"]), int(one["pixels"])) for one in found]


def test_classes_over_time(page: Page, made: probe_packs.Made) -> None:
    cells = made.cells(0)
    page.get("tab-classes").click()
    for measure in ("coverage", "precision", "presence"):
        page.get(f"classes-{measure}").click()
        for s in range(len(probe_packs.STEPS)):
            for c, row in enumerate(cells.by_class(s)):
                share = page.get(f"class-cell-{c}-{s}").get_attribute("data-share")
                assert (None if share is None else float(share)) == row[measure], (measure, s, c)
    page.get("classes-coverage").click()
    page.get("class-cell-2-1").click()
    listed = shown(page, "blamed")
    row = cells.by_class(1)[2]
    assert sum(n for _, n in listed) == row["there"] - row["found"] > 0
    assert [n for _, n in listed] == sorted((n for _, n in listed), reverse=True)
    page.get("blamed-1").click()
    page.until(f"explorer.get('image') === {listed[1][0]} && explorer.get('snapshot') === 1")
    assert page.page.locator(".s4x-classes .now").evaluate_all("all => all.map((e) => e.dataset.q)") == ["1"] * 7


def test_a_mistake_leads_to_its_images_and_marks_it(page: Page, made: probe_packs.Made) -> None:
    page.set("image", 0)
    page.set("snapshot", LAST)
    page.get("tab-confusion").click()
    cells = made.cells(0)
    for over, kept in (("kept", True), ("all", False)):
        page.get(f"over-{over}").click()
        table = cells.confusion(LAST, kept)
        for truth, label in ((2, 1), (2, 2), (0, 3)):
            assert int(page.get(f"cell-{truth}-{label}").get_attribute("data-pixels")) == table[truth, label]
    page.get("cell-2-1").click()
    listed = shown(page, "mistaken")
    assert listed == cells.images_of(LAST, 2, 1, kept=False) and len(listed) > 1
    image = next(k for k, _ in listed if k)
    page.get(f"mistaken-{[k for k, _ in listed].index(image)}").click()
    page.until(f"explorer.get('image') === {image} && explorer.get('selection').kind === 'confusion'")
    scene, maps = made.scenes[image], made.at(0, image, LAST)
    marked = (scene["truth"] == 2) & (maps["label"] == 1) & (scene["valid"] > 0)
    assert f"{marked.sum()} pixels" in page.text("marked").replace("\u202f", "")
