"""The local page in headless Chromium: it shows what the runs hold, and what comes while it is open."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from explored import train_runs

import s4kit as s4
from s4kit.explore import serve


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
