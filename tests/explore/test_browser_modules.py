"""The browser's modules without a browser: each stands by itself, the joiner joins them, Node counts as numpy does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import probe_packs
import pytest

from s4kit.explore import corrections, policies
from s4kit.explore.rim import rim
from s4kit.explore.selections import SELECTIONS
from s4kit.explore.serving.script import BROWSER, script, style

LAST = len(probe_packs.STEPS) - 1
HOSTS = ("page.js", "served.js")  # which act as soon as they are loaded
MODULES = sorted(BROWSER.rglob("*.js"))


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed: the browser's arithmetic is tested in the browser alone")
    return found


def answer(node: str, code: str, given: Any = None) -> Any:
    """What `code`, the body of an async function with `given`, `load(module)` and `pack(arrays)`, returns in Node."""
    program = (
        f"const load = (name) => import('{BROWSER.as_uri()}/' + name);\n"
        "const pack = (arrays) => Object.fromEntries(Object.entries(arrays).map("
        "  ([name, { shape, data }]) => [name, { shape, data: Uint8Array.from(data) }]));\n"
        "let text = ''; for await (const part of process.stdin) text += part;\n"
        f"const found = await (async (given) => {{ {code} }})(JSON.parse(text));\n"
        "process.stdout.write(JSON.stringify(found, (_, v) => (ArrayBuffer.isView(v) ? [...v] : v)));"
    )
    done = subprocess.run(
        [node, "--input-type=module", "-e", program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_module_is_used_and_no_file_is_long() -> None:
    joined = "\n".join(map(script, HOSTS))
    assert "import {" not in joined and "\nexport " not in joined.replace("\nexport default", "")
    for path in MODULES:
        text = path.read_text()
        assert text.count("\n") < 300, path.name
        body = text.split("\n\n", 1)[1] if "import {" in text else text
        assert body.strip().splitlines()[-2].removeprefix("export ") in joined, path.name
    assert all(path.read_text().strip() in style() for path in (BROWSER / "styles").iterdir())


def test_syntax_of_every_module(node: str) -> None:
    found = answer(
        node,
        "globalThis.document = { createElement: () => ({}) };"
        "return Promise.all(given.map((name) => load(name).then(() => null, (error) => `${name}: ${error.message}`)));",
        [path.relative_to(BROWSER).as_posix() for path in MODULES if path.name not in HOSTS],
    )
    assert not [words for words in found if words]
    for name in HOSTS:
        subprocess.run([node, "--check", str(BROWSER / name)], check=True)


def test_a_step_is_told_with_the_round_that_it_belongs_to(node: str) -> None:
    rounds = [{"name": "labels alone", "first": 0}, {"name": "round 1", "first": 6}]
    code = "const { stepWords } = await load('arithmetic.js'); return given.map((asked) => stepWords(...asked));"
    asked = [({"rounds": rounds}, 5), ({"rounds": rounds}, 6), ({"rounds": []}, 6), ({}, 7)]
    assert answer(node, code, asked) == ["step 5 · labels alone", "step 6 · round 1", "step 6", "step 7"]


def test_the_joiner_refuses_what_one_scope_cannot_hold(tmp_path: Path) -> None:
    def files(**texts: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, text in texts.items():
            (folder / f"{name}.js").write_text(text)
        return folder

    one = files(a='import { b } from "./b.js";\n\nexport const a = b;\n', b="export const b = 1;\nconst c = 2;\n")
    assert script("a.js", one) == "const b = 1;\nconst c = 2;\n\n\nconst a = b;\n"
    with pytest.raises(ValueError, match=r"a\.js imports c, which b\.js does not export"):
        script("a.js", files(a='import { c } from "./b.js";\n', b="const c = 2;\n"))
    with pytest.raises(ValueError, match=r"a\.js and b\.js both declare c"):
        script("a.js", files(a='import { b } from "./b.js";\nconst c = b;\n', b="export const b = 1;\nconst c = 2;\n"))
    with pytest.raises(ValueError, match=r"a\.js imports b\.js imports a\.js: a circle"):
        circle = files(a='import { b } from "./b.js";\nexport const a = 1;\n', b='import { a } from "./a.js";\n')
        script("a.js", circle)


def test_outlines_of_objects_are_numpys(node: str) -> None:
    made = probe_packs.make(24, 32)
    scene, maps = made.scenes[1], made.maps[0][1]
    label, number = (maps[name][LAST] for name in ("label", "object"))
    y, x = (int(v) for v in np.argwhere((number > 0) & (scene["valid"] > 0))[0])
    found = answer(
        node,
        """
        const { Scene, Frame } = await load("arithmetic.js");
        const scene = new Scene(pack(given.scene));
        const frame = new Frame(scene, pack(given.maps), given.at, given.classes);
        const { object, ...others } = pack(given.maps);
        const plain = new Frame(scene, others, given.at, given.classes);
        return { rims: frame.rims, about: frame.objectAt(given.pixel), outside: frame.objectAt(given.outside),
          plain: plain.rims, none: plain.objectAt(given.pixel) };
        """,
        {"scene": flat(scene), "maps": flat(maps), "at": LAST, "classes": len(probe_packs.CLASSES)}
        | {"pixel": y * 32 + x, "outside": int(np.flatnonzero(number == 0)[0])},
    )
    edge = rim(number) & (number > 0)
    assert (np.array(found["rims"]).reshape(24, 32) == np.where(edge, label, 255)).all() and edge.any()
    own, known = (number == number[y, x]) & (scene["valid"] > 0), scene["truth"] != 255
    right = own & known & (scene["truth"] == label)
    assert found["about"] == {"number": int(number[y, x]), "pixels": own.sum(), "known": (own & known).sum(),
                              "right": right.sum()}  # fmt: skip
    assert found["outside"] is None and found["none"] is None and set(found["plain"]) == {255}


def test_arithmetic_is_numpys(node: str) -> None:
    made = probe_packs.make(24, 32)
    scene, maps = made.scenes[1], made.maps[0][1]
    levels = [0, 1, 97, 200, 255]
    found = answer(
        node,
        """
        const { Scene, Frame, POLICIES, confirmation } = await load("arithmetic.js");
        const { changes, disagreement } = await load("comparisons.js");
        const scene = new Scene(pack(given.scene));
        const maps = pack(given.maps);
        const frame = new Frame(scene, maps, given.at, given.classes);
        const other = new Frame(scene, pack(given.other), given.at, given.classes);
        const numbers = POLICIES.map(([policy]) => given.levels.map((t) => frame.numbers(frame.mask(policy, t))));
        const { map, counts } = confirmation(scene, maps, given.at + 1, given.at);
        const parts = disagreement(scene, [frame.label, other.label]).counts;
        const { counts: changed, pairs } = changes(new Frame(scene, maps, 1, given.classes), frame);
        return { changed, pairs, numbers,
          map, counts, parts, confusion: frame.confusion, bins: frame.reliability().bins,
          curve: frame.curve("adaptive").map(({ kept }) => kept) };
        """,
        {"scene": flat(scene), "maps": flat(maps), "other": flat(made.maps[1][1]), "levels": levels, "at": LAST}
        | {"classes": len(probe_packs.CLASSES)},
    )
    for policy, rows in zip(policies.POLICIES, found["numbers"]):
        for level, row in zip(levels, rows):
            expected = made.numbers(policy, level, 0, 1, LAST)
            assert {k: row[k] for k in ("kept", "valid", "known", "right")} == {k: expected[k] for k in row if k in (
                "kept", "valid", "known", "right")}  # fmt: skip
            assert row["precision"] == expected["precision"] and row["coverage"] == expected["coverage"]
    last, truth, valid = made.at(0, 1, LAST), scene["truth"], scene["valid"] > 0
    rule = (maps["label"], maps["weight"], truth, scene["valid"])
    assert found["counts"] == policies.bias_counts(*rule)
    assert found["map"] == policies.confirmed(*rule).ravel().tolist()
    table = policies.confusion(last["label"], truth, valid, len(probe_packs.CLASSES))
    assert found["confusion"] == table.ravel().tolist()
    bins = policies.reliability(last["prob"], last["label"], truth, valid)
    assert [bin["pixels"] for bin in found["bins"]] == [bin["count"] for bin in bins]
    assert found["curve"] == [made.numbers("adaptive", level, 0, 1, LAST)["kept"] for level in range(256)]
    now, before = last["label"], maps["label"][1]
    changed, known = (now != before) & valid, truth != 255
    pairs = policies.confusion(now, before, changed, len(probe_packs.CLASSES))
    assert found["pairs"] == pairs.ravel().tolist() and found["changed"] == {
        "changed": changed.sum(),
        "mended": (changed & known & (now == truth)).sum(),
        "broken": (changed & known & (before == truth)).sum(),
        "wrong": (changed & known & (before != truth) & (now != truth)).sum(),
        "unknown": (changed & ~known).sum(),
    }
    labels = [made.at(t, 1, LAST)["label"] for t in (0, 1)]
    differ = (labels[0] != labels[1]) & valid
    first, second = ((differ & (truth != 255) & (label == truth)).sum() for label in labels)
    known = (differ & (truth != 255)).sum()
    parts = {"differ": differ.sum(), "first": first, "second": second, "neither": known - first - second}
    assert found["parts"] == parts | {"known": known}


def test_counts_over_all_images_are_numpys(node: str) -> None:
    made = probe_packs.make(24, 32)
    cells = made.cells(1)
    rows = {name: {"data": getattr(cells, name).tolist()} for name in ("place", "every", "kept")}
    header = {"ids": ["a", "b", "c"], "kinds": ["val", "unlabelled", "unlabelled"]}
    found = answer(
        node,
        """
        const { Cells, MEASURES_OF_CLASSES } = await load("cells.js");
        const all = new Cells(given.pack, 6, given.steps);
        const some = all.only([1, 2]);
        const shares = (cells) => MEASURES_OF_CLASSES.map(([name, , share]) => [name,
          cells.byClass(2).map((row) => share(row, cells.byClass(2).all))]);
        return { kept: all.confusion(2, true), every: some.confusion(2, false), since: all.starvesSince(),
          of: all.imagesOf(1, 2, 1, false),
          shares: Object.fromEntries(shares(all)), some: Object.fromEntries(shares(some)),
          worst: all.worst(2, 2, "coverage"), wrong: all.worst(2, 1, "precision") };
        """,
        {"pack": rows | {"header": header}, "steps": len(probe_packs.STEPS)},
    )
    few = cells.only([1, 2])
    assert found["kept"] == cells.confusion(2).ravel().tolist()
    assert found["every"] == few.confusion(2, kept=False).ravel().tolist()
    assert found["since"] == cells.starves_since()
    assert found["of"] == [list(one) for one in cells.images_of(1, 2, 1, kept=False)] != []
    for name, of in (("shares", cells), ("some", few)):
        assert found[name] == {key: [row[key] for row in of.by_class(2)] for key in found[name]}
    for key, c, all_, good in (("worst", 2, "there", "found"), ("wrong", 1, "judged", "right")):
        lost = {k: (row := cells.only([k]).by_class(2)[c])[all_] - row[good] for k in range(3)}
        assert found[key] == [[k, n] for k, n in sorted(lost.items(), key=lambda one: -one[1]) if n] != []


def flat(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: {"shape": list(values.shape), "data": values.ravel().tolist()} for name, values in arrays.items()}


def test_both_sides_know_the_same_selections(node: str) -> None:
    made = probe_packs.make(24, 32, tracks=1)
    scene, maps = made.scenes[0], {name: values[LAST] for name, values in made.maps[0][0].items()}
    labels = made.maps[0][0]["label"]
    moved = np.argwhere(np.bincount((labels[0] * 6 + labels[LAST]).ravel()))[:, 0]
    change = next({"from": int(k) // 6, "to": int(k) % 6, "since": 0} for k in moved if k // 6 != k % 6)
    numbers = {
        "pixel": {"x": 1, "y": 1},
        "confusion": {"truth": 1, "label": 1},
        "bin": {"bin": 8},
        "change": change,
        "truth": {"truth": 1},
    }
    examples = {name: {"kind": name} | numbers[name] for name in SELECTIONS}
    found = answer(
        node,
        """
        const { SELECTIONS } = await load("selections/index.js");
        const { Scene, Frame } = await load("arithmetic.js");
        const maps = pack(given.maps);
        const frame = new Frame(new Scene(pack(given.scene)), maps, given.at, given.classes);
        const app = { first: { steps: given.steps } };
        const row = { frame, pack: maps, track: app.first, full: false };
        return Object.fromEntries(Object.entries(SELECTIONS).map(
          ([kind, { mask }]) => [kind, mask ? mask(row, given.examples[kind], app) : null]));
        """,
        {"scene": flat(scene), "maps": flat(made.maps[0][0]), "examples": examples, "at": LAST}
        | {"steps": probe_packs.STEPS}
        | {"classes": len(probe_packs.CLASSES)},
    )
    assert list(found) == list(SELECTIONS) == list(numbers)

    def then(step: int) -> dict[str, np.ndarray]:
        return {name: values[step] for name, values in made.maps[0][0].items()}

    for name, marked in found.items():
        if marked is not None:
            assert marked == SELECTIONS[name].mask(examples[name], scene, maps, then).ravel().tolist()
            assert 0 < sum(marked) < len(marked), name


def test_strokes_paint_what_geometry_says(node: str) -> None:
    height, width = 14, 20
    label = np.zeros((height, width), int)
    label[2:9, 3:12] = 2
    label[4:6, 5:8] = 0  # an island of another region
    allowed = np.ones((height, width), int)
    allowed[:, -2:] = 0
    found = answer(
        node,
        """
        const { Strokes, BLANK, LEFT_OUT } = await load("strokes.js");
        const strokes = new Strokes(given.width, given.height, given.allowed);
        const seen = [];
        const stroke = (act) => { strokes.begin(); act(); strokes.end(); seen.push([...strokes.layer]); };
        stroke(() => strokes.line({ x: 2, y: 3 }, { x: 15, y: 9 }, 2, 1));
        stroke(() => strokes.line({ x: 18.6, y: 3.4 }, { x: 18.6, y: 3.4 }, 3, 4));
        stroke(() => strokes.line({ x: 9, y: 0 }, { x: 9, y: 0 }, 0, LEFT_OUT));
        stroke(() => strokes.fill(2 * given.width + 3, given.label, 3));
        stroke(() => strokes.polygon(given.corners, 0));
        stroke(() => strokes.line({ x: 9, y: 7 }, { x: 9, y: 7 }, 1, BLANK));
        const runs = strokes.runs();
        const again = new Strokes(given.width, given.height, given.allowed);
        again.load(runs);
        const back = [0, 1, 2].map(() => (strokes.undo(), [...strokes.layer]));
        strokes.redo();
        const forth = [...strokes.layer];
        stroke(() => strokes.line({ x: 0, y: 0 }, { x: 0, y: 0 }, 0, 5));
        const [before, painted] = [[...strokes.layer], strokes.painted];
        strokes.redo();
        const dropped = [...strokes.layer];
        strokes.clear();
        const empty = strokes.painted;
        strokes.undo();
        return { seen, runs, same: again.layer, back, forth, before, dropped, painted, empty, end: strokes.layer };
        """,
        {"width": width, "height": height, "allowed": allowed.ravel().tolist(), "label": label.ravel().tolist()}
        | {"corners": [{"x": 4.5, "y": 8.5}, {"x": 14.5, "y": 8.5}, {"x": 14.5, "y": 12.5}, {"x": 4.5, "y": 12.5}]},
    )
    layer = np.full((height, width), -2)
    y, x = np.mgrid[:height, :width]
    part = (((x - 2) * 13 + (y - 3) * 6) / (13**2 + 6**2)).clip(0, 1)
    layer[np.hypot(x - 2 - part * 13, y - 3 - part * 6) <= 2] = 1
    layer[(np.hypot(x - 18.6, y - 3.4) <= 3) & (allowed > 0)] = 4
    layer[0, 9] = -1
    layer[label == 2] = 3
    before = layer.copy()
    layer[9:13, 5:15] = 0
    filled = layer.copy()
    layer[np.hypot(x - 9, y - 7) <= 1] = -2
    states = [np.array(one).reshape(height, width) for one in found["seen"]]
    assert np.array_equal(states[3], before) and np.array_equal(states[4], filled) and np.array_equal(states[5], layer)
    label_of, hand = corrections.painted_map(found["runs"], (height, width), 6)
    assert np.array_equal(hand, layer != -2) and np.array_equal(label_of[layer >= 0], layer[layer >= 0])
    assert (label_of[layer == -1] == 255).all() and found["same"] == layer.ravel().tolist()
    assert [np.array_equal(np.array(a).reshape(height, width), b) for a, b in zip(
        found["back"], (filled, before, states[2]))] == [True] * 3  # fmt: skip
    assert found["forth"] == before.ravel().tolist()
    assert found["dropped"] == found["before"] == found["end"], "a new stroke forgets what was taken back"
    assert found["painted"] == (np.array(found["before"]) != -2).sum() > 0 == found["empty"]
