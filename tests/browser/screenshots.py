"""Make the README's pictures of the explorer from true runs: `python tests/browser/screenshots.py RUN [RUN ...]`.

Writes `explorer_lab.png` (in JupyterLab, dark), `explorer_html.png` (the page, light) and `explorer_figure.png` (the
figure for a paper) into `--out`, default `notebooks/figures`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from lab import FLAGS, find_chromium, jupyter_lab, open_notebook, run_cell, write_notebook
from playwright.sync_api import sync_playwright

from s4kit.explore import figure
from s4kit.explore.serving.page import ranked
from s4kit.explore.state import start
from s4kit.explore.view import View


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", nargs="+", type=Path)
    arguments.add_argument("--out", type=Path, default=ROOT / "notebooks" / "figures")
    arguments.add_argument("--image", type=int, help="index of the probe image (default: the worst)")
    arguments.add_argument("--threshold", type=float, default=0.9)
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    view = View(given.runs)
    image = ranked(view)[0] if given.image is None else given.image
    state = {"image": image, "policy": "fixed", "threshold": given.threshold}
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser = play.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page_picture(browser, view, state, Path(folder), given.out / "explorer_html.png")
        lab_picture(browser, given.runs, state, Path(folder), given.out / "explorer_lab.png")
        browser.close()
    picture = figure.png(view.figure(start(view.meta, 0.5, state)), dpi=130)
    (given.out / "explorer_figure.png").write_bytes(picture)
    for file in sorted(given.out.glob("explorer_*.png")):
        print(f"{file}: {file.stat().st_size // 1000} kB")


def page_picture(browser: Any, view: View, state: dict[str, Any], folder: Path, out: Path) -> None:
    """The page of the first run and the others beside it, as it opens, down to the second row of panels."""
    file = folder / "explorer.html"
    view.save_html(file, start(view.meta, 0.5, state))
    page = browser.new_page(viewport={"width": 1280, "height": 1180}, device_scale_factor=1.25)
    page.goto(file.as_uri())
    settle(page)
    page.screenshot(path=out)
    page.close()


def lab_picture(browser: Any, runs: list[Path], state: dict[str, Any], folder: Path, out: Path) -> None:
    """The explorer of the first run as a student sees it: below its cell in JupyterLab, a pixel pinned."""
    words = ", ".join(f"{name}={value!r}" for name, value in state.items())
    (folder / "runs").mkdir()
    link = folder / "runs" / runs[0].resolve().name
    link.symlink_to(runs[0].resolve())
    code = f'import s4kit as s4\nexplorer = s4.explore("runs/{link.name}", {words})\nexplorer'
    write_notebook(folder / "explore.ipynb", [code])
    with jupyter_lab(folder, dark=True) as address:
        page = open_notebook(browser, address % "explore.ipynb", 1280, 1180, scale=1.25)
        run_cell(page, 0)
        settle(page)
        stage = page.locator("[data-testid=panel-pseudo] .s4x-stage")
        box = stage.bounding_box()
        stage.click(position={"x": 0.55 * box["width"], "y": 0.6 * box["height"]})
        page.locator(".jp-Notebook .jp-Cell").first.evaluate("cell => cell.scrollIntoView()")
        page.wait_for_timeout(800)
        page.screenshot(path=out)
    page.close()


def settle(page: Any) -> None:
    page.locator("[data-testid=coverage]").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    main()
