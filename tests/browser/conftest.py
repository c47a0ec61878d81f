"""A headless Chromium for the tests of this folder; they are skipped, with the reason, where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lab import FLAGS, find_chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A running browser (playwright)."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on the path and none in S4KIT_CHROMIUM: no browser tests")
    with sync_api.sync_playwright() as play:
        try:
            found = play.chromium.launch(executable_path=path, args=FLAGS)
        except sync_api.Error as error:
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        yield found
        found.close()
