"""For the browser tests: a Chromium of the machine, and a JupyterLab of its own with a notebook in it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def find_chromium() -> str | None:
    """A Chromium or Chrome on this machine: S4KIT_CHROMIUM, or one on the path."""
    named = os.environ.get("S4KIT_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def write_notebook(path: Path, cells: list[str]) -> None:
    """A notebook of code cells that have not run."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    code = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for i, source in enumerate(cells)
    ]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": code}
    path.write_text(json.dumps(notebook))


@contextmanager
def jupyter_lab(folder: Path, dark: bool = False) -> Iterator[str]:
    """JupyterLab serving `folder`, with settings of its own; yields `http://.../doc/tree/%s?token=...`."""
    settings = folder / ".CONFIG/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    (settings / "themes.jupyterlab-settings").write_text(
        json.dumps({"theme": f"JupyterLab {'Dark' if dark else 'Light'}"})
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {f"JUPYTER_{name}_DIR": str(folder / f".{name}") for name in ("CONFIG", "DATA", "RUNTIME")}
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | own | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/api", server, folder / "lab.log")
            yield f"http://127.0.0.1:{port}/doc/tree/%s?token={token}"
        finally:
            _end(server)


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: int = 90) -> None:
    for _ in range(2 * seconds):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab does not answer:\n{log.read_text()[-2000:]}")


def _end(server: subprocess.Popen) -> None:
    """End the server, which ends its kernels; a kernel whose server is gone ends by itself, too."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def open_notebook(browser: Any, address: str, width: int = 1300, height: int = 1000, scale: float = 1) -> Any:
    """A page with the notebook open and its kernel ready."""
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
    with page.expect_websocket(lambda socket: "/api/kernels/" in socket.url, timeout=90_000) as kernel:
        page.goto(address)
    assert kernel.value.url  # before the kernel is connected the notebook claims to be idle
    page.wait_for_timeout(500)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=90_000)
    return page


def run_cell(page: Any, number: int) -> Any:
    """Run a cell and wait until it has ended; returns its output area."""
    cell = page.locator(".jp-Notebook .jp-Cell").nth(number)
    prompt = cell.locator(".jp-InputArea-prompt")
    before = prompt.inner_text()
    cell.locator(".jp-InputArea-prompt").click()
    page.locator("[data-command='notebook:run-cell-and-select-next']").first.click()
    give_up = time.monotonic() + 120
    while (now := prompt.inner_text()) == before or not re.search(r"\d", now):
        if time.monotonic() > give_up:
            raise RuntimeError(f"Cell {number} does not end; its prompt says {now!r}.")
        page.wait_for_timeout(100)
    return cell.locator(".jp-Cell-outputArea")
