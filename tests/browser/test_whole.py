"""In headless Chromium: looks at all watched images, that lead to images; and what goes out: marks, painted labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import probe_packs
import pytest
from pages import Page
from PIL import Image

from s4kit.explore import corrections
from s4kit.explore.serving import html
from s4kit.explore.state import State

pytestmark = pytest.mark.slow

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


def test_marks_go_out_as_a_table_and_masks(page: Page, made: probe_packs.Made, tmp_path: Path) -> None:
    page.set("selection", {})
    page.set("image", 1)
    page.set("snapshot", LAST)
    page.get("tab-marks").click()
    page.get("mark-tag").fill('pole, "thin"')
    page.get("mark-image").click()
    page.set("selection", {"kind": "confusion", "truth": 2, "label": 1})
    page.get("mark-pixels").click()
    page.until("explorer.get('marks').length === 2")
    assert page.trait("marks")[1] == {
        "tag": 'pole, "thin"', "image": 1, "track": 0, "snapshot": LAST,
        "selection": {"kind": "confusion", "truth": 2, "label": 1},
    }  # fmt: skip
    found = []
    for name in ("marks-csv", "marks-masks"):
        with page.page.expect_download() as waited:
            page.get(name).click()
        waited.value.save_as(tmp_path / waited.value.suggested_filename)
        found.append(tmp_path / waited.value.suggested_filename)
    scene, maps = made.scenes[1], made.at(0, 1, LAST)
    marked = (scene["truth"] == 2) & (maps["label"] == 1) & (scene["valid"] > 0)
    rows = list(csv.DictReader(found[0].open()))
    assert [(row["id"], row["tag"], row["step"], row["pixels"]) for row in rows] == [
        ("street_01", 'pole, "thin"', "199", ""), ("street_01", 'pole, "thin"', "199", str(marked.sum()))]  # fmt: skip
    assert rows[1]["mask"] == found[1].name
    assert np.array_equal(np.array(Image.open(found[1]).convert("L")) > 0, marked) and marked.any()
    page.set("image", 0)
    page.get("mark-0").click()
    page.until("explorer.get('image') === 1")
    page.get("unmark-0").click()
    page.until("explorer.get('marks').length === 1")
    page.set("marks", [])


def test_a_page_without_a_kernel_offers_what_is_painted(page: Page, made: probe_packs.Made, tmp_path: Path) -> None:
    page.set("image", 0)
    page.get("tab-correct").click()
    page.get("paint-3").click()
    page.get("tool-fill").click()
    stage = page.get("panel-correct").locator(".s4x-stage")
    box = stage.bounding_box()
    label = made.at(0, 0, LAST)["label"]
    y, x = np.argwhere(label == 1)[0]
    stage.click(position={"x": (x + 0.5) / 64 * box["width"], "y": (y + 0.5) / 48 * box["height"]})
    with page.page.expect_download() as waited:
        page.get("paint-download").click()
    waited.value.save_as(tmp_path / "label.json")
    asked = json.loads((tmp_path / "label.json").read_text())
    assert (asked["id"], asked["track"], asked["step"], asked["full"]) == ("street_00", "fixmatch · seed 0", 199, False)
    _, hand = corrections.painted_map(asked["painted"], label.shape, 6)
    assert hand[y, x] and (label[hand] == 1).all()
    grown = np.zeros_like(hand)
    grown[y, x] = True
    while True:  # the model's region by growing
        wide = grown.copy()
        wide[1:] |= grown[:-1]
        wide[:-1] |= grown[1:]
        wide[:, 1:] |= grown[:, :-1]
        wide[:, :-1] |= grown[:, 1:]
        wide &= (label == 1) & (made.scenes[0]["valid"] > 0)
        if (wide == grown).all():
            break
        grown = wide
    assert np.array_equal(hand, grown)
    assert page.get("keep").count() == 0 and "cannot keep" in page.text("correct-words")
