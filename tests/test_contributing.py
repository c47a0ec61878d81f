"""The newcomer's map runs: one image's path, and every recipe for adding something, each of at most ten lines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import s4kit as s4
from s4kit.classroom import exercise
from s4kit.classroom.exercises import metrics
from s4kit.data.registry import DATASETS
from s4kit.explore.serving.script import BROWSER, script
from s4kit.methods import own
from s4kit.nets.backbones import KINDS

PAGE = (Path(__file__).parents[1] / "notebooks" / "contributing.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- (\w+) -->\n```\w+\n(.*?)```", PAGE, re.S))
# A page of whom only `Kept` makes elements, without a browser: what it shows is a list of texts.
STAND_IN = """
const element = () => ({ dataset: {}, children: [], append(...c) { this.children.push(...c); },
  setAttribute() {}, replaceChildren(...c) { this.children = c; } });
globalThis.document = { createElement: element };
const { Kept } = await import(process.argv[1]);
const app = { rows: [{ track: { title: "mine" }, numbers: { coverage: 0.25 } }] };
const panel = new Kept(app);
panel.move();
console.log(JSON.stringify(panel.host.children.map((p) => p.children.join(""))));
"""


def run(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(BLOCKS[name], f"contributing.md, {name}", "exec"), found)
    return found


@contextmanager
def restored(table: Any) -> Iterator[None]:
    """What a recipe adds to a list or dict of the kit is gone behind it."""
    before = table.copy()
    try:
        yield
    finally:
        table.clear()
        (table.update if isinstance(table, dict) else table.extend)(before)


def test_recipes_have_at_most_ten_lines():
    assert list(BLOCKS) == ["path", "method", "backbone", "data", "panel", "exercise"]
    for name, text in BLOCKS.items():
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("import ", "from "))]
        assert len(lines) <= 10, (name, len(lines))
        assert max(map(len, text.splitlines())) <= 120, name
    for file in re.findall(r"`((?:s4kit|tests)/[\w/]+(?:\.\w+|/))`", PAGE):
        assert (Path(s4.__file__).parents[1] / file).exists(), file


def test_the_path_of_one_image():
    found = run("path")
    assert found["image"].shape == (3, 96, 96) and found["image"].dtype == torch.uint8
    assert set(found["losses"]) == {"x", "u"} and any(p.grad is not None for p in found["method"].parameters())
    assert found["picture"]._repr_png_().startswith(b"\x89PNG")


def test_a_method():
    with restored(own.OWN):
        run("method")
        task = s4.load("scenes", n_train=20, n_val=2, side=48, labelled=4)
        method = s4.methods.create("fixmatch_soft", task, net="tiny")
        rule = method.pseudo_labels(torch.randn(1, 7, 4, 4), s4.views.Views(*[torch.ones(1, 4, 4)] * 7), None)
        assert torch.equal(rule.weight, rule.confidence) and rule.weight.min() > 0


def test_a_backbone():
    with restored(KINDS):
        run("backbone")
        net = s4.nets.make("shallow", 5)
        assert net(torch.rand(2, 3, 64, 48)).shape == (2, 5, 64, 48)


def test_a_data_set():
    with restored(DATASETS):
        run("data")
        task = s4.load("discs", labelled=4)
        assert (len(task.labelled), len(task.unlabelled), len(task.val)) == (4, 16, 4)
        assert not task.notices and set(task.val.read(0).label.unique().tolist()) == {0, 1}


def test_a_panel(tmp_path):
    folder = tmp_path / "browser"
    shutil.copytree(BROWSER, folder)
    (folder / "sections" / "kept.js").write_text(BLOCKS["panel"])
    index = folder / "sections" / "index.js"
    text = index.read_text().replace("[WhatIf,", "[Kept, WhatIf,", 1)
    index.write_text('import { Kept } from "./kept.js";\n' + text)
    assert "class Kept extends Section" in script("explorer.js", folder)
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the panel was joined to the page, but not run")
    file = (folder / "sections" / "kept.js").as_uri()
    command = [node, "--input-type=module", "-e", STAND_IN, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["mine: 25.0 % of this image is kept"]


def test_an_exercise():
    with restored(metrics.EXERCISES):
        exercise.all_exercises.cache_clear()
        try:
            run("exercise")
            assert s4.check(lambda label: (label == 255).float().mean(), "metrics.void").passed
            report = s4.check(lambda label: (label != 255).float().mean(), "metrics.void")
            assert not report.passed and "These are the others." in repr(report)
        finally:
            exercise.all_exercises.cache_clear()
