"""The gallery's table in headless Chromium: filters, sorting, keyboard; and the tree that shows a method's line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import s4kit as s4


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    file = tmp_path_factory.mktemp("gallery") / "gallery.html"
    s4.gallery.page().save_html(file)
    tree = file.with_name("tree.html")
    tree.write_text(f"<!doctype html><meta charset=utf-8>{s4.gallery.tree()._repr_html_()}", encoding="utf-8")
    context = browser.new_context(offline=True)
    opened = context.new_page()
    opened.files = {"table": Path(file).as_uri(), "tree": tree.as_uri()}
    yield opened
    context.close()


def shown(page: Any) -> list[str]:
    return page.eval_on_selector_all("tbody[data-name]:not([hidden])", "all => all.map(b => b.dataset.name)")


def test_filters_work_together_and_say_how_many_are_left(page):
    page.goto(page.files["table"])
    table = {row["name"]: row for row in s4.methods.table()}
    assert set(shown(page)) == set(table)
    page.get_by_label("Search").fill("unimatch THRESHOLD")
    assert shown(page) == ["daw", "cafs"]
    page.get_by_label("From").select_option("2024")
    assert shown(page) == ["cafs"]
    assert page.get_by_role("status").inner_text() == f"1 of {len(table)} methods"
    page.get_by_label("Search").fill("")
    page.get_by_label("From").select_option("2004")
    page.get_by_label("Checked against").select_option("reconstruction")
    assert set(shown(page)) == {name for name, row in table.items() if row["parity"] == "reconstruction"}
    page.get_by_label("Family").select_option("baselines")
    assert shown(page) == [] and page.get_by_role("status").inner_text().startswith("0 of")


def test_sorting_by_keyboard(page):
    page.goto(page.files["table"])
    page.get_by_role("button", name="Method").focus()
    page.keyboard.press("Enter")
    names = shown(page)
    assert names == sorted(names)
    assert page.locator("th[data-key=name]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert shown(page) == names[::-1]
    page.get_by_role("button", name="Paper").click()
    years = [int(y) for y in page.eval_on_selector_all("tbody[data-name]", "all => all.map(b => b.dataset.year)")]
    assert years == sorted(years) and page.locator("th[data-key=name]").get_attribute("aria-sort") == "none"


def test_the_tree_shows_the_line_of_a_method(page):
    page.goto(page.files["tree"])
    page.locator("[data-node=unimatch]").focus()
    near = page.eval_on_selector_all("[data-node]:not(.far)", "all => all.map(n => n.dataset.node)")
    assert {"supervised", "pseudo_label", "fixmatch", "unimatch", "daw"} <= set(near) and "cps" not in near
    assert page.locator('[data-edge="fixmatch unimatch"].near').count() == 1
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.dataset.node") != "unimatch"
