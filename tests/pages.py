"""A page of the explorer in a browser, and short ways to read it and act on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import probe_packs

MOVE = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); }"
COUNT = """(c, [r, g, b]) => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let i = 0; i < d.length; i += 4) n += d[i] === r && d[i + 1] === g && d[i + 2] === b && d[i + 3] === 255;
  return n; }"""


class Page:
    """A page and short ways to read it and act on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.asked: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, file: Path) -> Page:
        self.page.goto(file.as_uri())
        self.get("coverage").wait_for(timeout=20_000)
        return self

    def get(self, name: str) -> Any:
        return self.page.locator(f"[data-testid={name}]")

    def text(self, name: str) -> str:
        return self.get(name).inner_text()

    def move(self, name: str, value: int) -> None:
        self.get(name).evaluate(MOVE, value)

    def counts(self, name: str) -> dict[str, int]:
        """The counts behind a number on the page."""
        found = self.get(name).evaluate("e => ({...e.dataset})")
        return {key: int(found[key]) for key in ("kept", "valid", "known", "right")}

    def colour(self, panel: str, colour: list[int]) -> int:
        """Pixels of a panel that have this colour."""
        return self.get(panel).locator("canvas").evaluate(COUNT, colour)

    def trait(self, name: str) -> Any:
        return self.page.evaluate("name => explorer.get(name)", name)

    def set(self, name: str, value: Any) -> None:
        """As Python does."""
        self.page.evaluate("([name, value]) => explorer.set(name, value)", [name, value])

    def until(self, condition: str) -> None:
        """Wait for it; playwright's own way evaluates text, which the page's policy forbids."""
        for _ in range(200):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {condition}")

    def hover(self, panel: str, x: int, y: int, made: probe_packs.Made) -> None:
        stage = self.get(panel).locator(".s4x-stage")
        box = stage.bounding_box()
        place = {
            "x": (x + 0.5) / made.meta["width"] * box["width"],
            "y": (y + 0.5) / made.meta["height"] * box["height"],
        }
        stage.hover(position=place)
        self.page.wait_for_selector(f"[data-testid=pixel][data-x='{x}'][data-y='{y}']")
