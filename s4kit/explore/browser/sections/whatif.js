import { levelCurve, POLICIES, range, ratio } from "../arithmetic.js";
import { chart, SHARES } from "../charts.js";
import { KEPT, pack32, rgb } from "../colours.js";
import { h, s } from "../dom.js";
import { overAll } from "../legends.js";
import { Panel } from "../panel.js";
import { percent } from "../text.js";
import { Section } from "./section.js";

export class WhatIf extends Section {
  name = "whatif";
  title = "What if";

  update() {
    const { app } = this;
    this.blocks = app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""));
    this.host.replaceChildren(
      this.intro(
        "What would be trained on if the threshold stood elsewhere, or another policy chose? The pseudo-labels stay; only the choice among them changes. “Entropy share” keeps that share of the pixels; the other two need a top probability.",
      ),
      ...this.blocks.map((block) => block.host),
    );
    this.move();
  }

  block(row, suffix) {
    const { app } = this;
    const pointer = app.selecting.pointer;
    const maps = POLICIES.map(([key, name, words]) => {
      const panel = new Panel({
        title: name,
        test: `map-${key}${suffix}`,
        view: app.view,
        pointer,
        label: `kept by ${name}`,
      });
      panel.numbers = h("div", { cls: "s4x-key numbers", test: `policy-${key}${suffix}` });
      panel.caption.replaceWith(panel.numbers);
      panel.title.replaceWith(
        h("button", { type: "button", title: words, onclick: () => app.set("policy", key) }, name),
      );
      panel.key = key;
      return panel;
    });
    const curves = Object.fromEntries(["fixed", "entropy", "adaptive"].map((key) => [key, row.frame.curve(key)]));
    const probe = row.summary && !row.full ? this.probe(row) : null;
    const drawn = this.curves(row, curves, probe, suffix);
    const bars = this.bars(row);
    const host = h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h(
        "div",
        { cls: "s4x-three" },
        h("div", { cls: "s4x-grid four" }, ...maps.map((panel) => panel.figure)),
        drawn.host,
        bars.host,
      ),
    );
    return { row, maps, curves, probe, drawn, bars, host };
  }

  /** The fixed policy over all probe images with a truth, and its point for the own rule as the run recorded it. */
  probe(row) {
    const { summary, at } = row;
    const size = this.app.C * 256;
    const part = (name) => summary[name].data.subarray(at * size, (at + 1) * size);
    const [total, right] = [part("total"), part("right")];
    const all = total.reduce((sum, x) => sum + x, 0);
    return all ? levelCurve([total, total, right], this.app.C, "fixed", all) : null;
  }

  curves(row, curves, probe, suffix) {
    const known = this.app.scene.knownCount > 0;
    const points = (curve) => curve.map(({ coverage, precision }) => [coverage, precision]);
    const all = [...Object.values(curves).flat(), ...(probe ?? [])].filter(
      (at) => at.precision !== null && at.coverage > 0.02,
    );
    const low = Math.min(0.9, Math.floor(10 * Math.min(1, ...all.map((at) => at.precision))) / 10);
    const ticks = [low, (low + 1) / 2, 1].map((v) => [v, `${Math.round(100 * v)}${v === 1 ? " %" : ""}`]);
    const drawn = chart({
      width: 350,
      height: 260,
      x: [0, 1],
      y: [low, 1],
      xTicks: SHARES,
      yTicks: ticks,
      xLabel: "kept (coverage)",
      yLabel: "right among kept (precision)",
      left: 52,
      series: [
        ...(probe ? [{ points: points(probe), cls: "probe" }] : []),
        ...Object.keys(curves).map((key) => ({ points: known ? points(curves[key]) : [], cls: key })),
      ],
      label: "precision against coverage for all thresholds",
    });
    drawn.svg.dataset.testid = `curve${suffix}`;
    drawn.svg.addEventListener("click", (event) => this.pick(event, drawn, curves));
    const names = [
      ["own", "own rule"],
      ["fixed", "fixed"],
      ["entropy", "entropy share"],
      ["adaptive", "class-adaptive"],
      ...(probe ? [["probe", `fixed, ${overAll(row)}`]] : []),
    ];
    const sign = (cls) =>
      cls === "own"
        ? s("path", { d: star(13, 7, 7), class: "spot own" })
        : s("line", { x1: 0, x2: 26, y1: 7, y2: 7, class: `line ${cls}` });
    const key = h(
      "div",
      { cls: "s4x-key lines" },
      ...names.map(([cls, text]) =>
        h(
          "span",
          {},
          s("svg", { viewBox: "0 0 26 14", width: 26, height: 14, "aria-hidden": "true" }, sign(cls)),
          text,
        ),
      ),
    );
    const words = h("p", { cls: "small", test: `probe${suffix}` });
    return {
      ...drawn,
      words,
      host: h(
        "div",
        {},
        h("h5", {}, "Precision and coverage"),
        known
          ? null
          : h("p", { cls: "small" }, "This image has no ground truth: there is no precision to draw for it."),
        drawn.svg,
        key,
        words,
      ),
    };
  }

  /** A click near a curve sets the threshold (and the policy) of its nearest point. */
  pick(event, drawn, curves) {
    const { app } = this;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawn.svg.getScreenCTM().inverse());
    const wanted = app.state.policy === "own" ? Object.keys(curves) : [app.state.policy];
    let best = { far: Infinity };
    for (const key of wanted) {
      curves[key].forEach(({ coverage, precision }, t) => {
        if (precision === null) return;
        const far = Math.hypot(drawn.x(coverage) - at.x, drawn.y(precision) - at.y);
        if (far < best.far) best = { far, key, t };
      });
    }
    if (best.far === Infinity) return;
    app.state.policy = best.key;
    app.set("threshold", best.t / 255);
  }

  bars(row) {
    const { app } = this;
    const C = app.C;
    const truth = new Int32Array(C);
    const label = new Int32Array(C);
    for (let i = 0; i < app.scene.n; i++) {
      if (!app.scene.valid[i]) continue;
      if (app.scene.known[i]) truth[app.scene.truth[i]]++;
      if (row.frame.label[i] < C) label[row.frame.label[i]]++;
    }
    const present = range(C).filter((c) => truth[c] || label[c]);
    const cell = (kind) => {
      const fill = h("i", { cls: kind });
      const text = h("span", {});
      return { fill, text, node: h("td", {}, h("span", { cls: "cell" }, h("span", { cls: "track" }, fill), text)) };
    };
    const lines = present.map((c) => {
      const cells = Object.fromEntries(["precision", "coverage", "kept", "truth"].map((kind) => [kind, cell(kind)]));
      const name = h(
        "th",
        { scope: "row" },
        h("i", { cls: "dot", css: { background: rgb(app.palette[c]) } }),
        app.classes[c],
      );
      return { c, cells, node: h("tr", { test: `bars-${c}` }, name, ...Object.values(cells).map(({ node }) => node)) };
    });
    const head = h(
      "tr",
      {},
      ...[
        ["class", ""],
        ["right", "share of the kept pixels with this label that are right (precision)"],
        ["kept", "share of the class's true pixels that are kept (coverage)"],
        ["of the kept", "share of all kept pixels that have this label: the class balance that is trained on"],
        ["of the truth", "share of the pixels that truly have this class"],
      ].map(([text, title]) => h("th", { scope: "col", title }, text)),
    );
    return {
      lines,
      truth,
      known: app.scene.knownCount,
      host: h(
        "div",
        {},
        h("h5", {}, "Per class: precision, coverage and class balance"),
        h(
          "div",
          { cls: "s4x-scroll" },
          h("table", { cls: "s4x-bars" }, h("thead", {}, head), h("tbody", {}, ...lines.map(({ node }) => node))),
        ),
      ),
    };
  }

  move() {
    const { app } = this;
    const { policy } = app.state;
    for (const block of this.blocks ?? []) {
      const { row, maps, drawn } = block;
      for (const panel of maps) {
        panel.figure.classList.toggle("current", panel.key === policy);
        if (panel.key === "own" && panel.at) continue; // the slider does not act on it
        const now = panel.key === policy;
        const mask = now ? row.mask : row.frame.mask(panel.key, app.level);
        const numbers = now ? row.numbers : row.frame.numbers(mask);
        panel.at = numbers;
        panel.paint(app.scene, (out) => this.paintMask(out, mask), null);
        for (const name of ["kept", "valid", "known", "right"]) panel.numbers.dataset[name] = numbers[name];
        panel.numbers.textContent = `kept ${percent(numbers.coverage)} · right ${percent(numbers.precision)}`;
      }
      this.points(block, drawn);
      this.fill(block.bars, row.numbers);
    }
  }

  paintMask(out, mask) {
    const { dim, grey } = this.app.scene;
    for (let i = 0; i < out.length; i++) {
      const lit = grey[i] >> 2;
      out[i] = mask[i]
        ? pack32(((KEPT[0] * 3) >> 2) + lit, ((KEPT[1] * 3) >> 2) + lit, ((KEPT[2] * 3) >> 2) + lit)
        : dim[i];
    }
  }

  points({ row, maps, probe }, drawn) {
    const { app } = this;
    drawn.over.replaceChildren();
    for (const { key, at } of maps) {
      if (at.precision === null) continue;
      const now = key === app.state.policy;
      const [cx, cy] = [drawn.x(at.coverage), Math.min(drawn.y(at.precision), drawn.box.bottom)];
      if (key === "own")
        drawn.over.append(s("path", { d: star(cx, cy, now ? 9 : 7), class: `spot own${now ? " now" : ""}` }));
      else drawn.over.append(s("circle", { cx, cy, r: now ? 7 : 4.5, class: `spot ${key}${now ? " now" : ""}` }));
    }
    drawn.words.textContent = "";
    if (!probe) return;
    const at = probe[app.level];
    if (at.precision !== null)
      drawn.over.append(
        s("rect", {
          x: drawn.x(at.coverage) - 4,
          y: drawn.y(at.precision) - 4,
          width: 8,
          height: 8,
          class: "spot probe",
        }),
      );
    drawn.words.dataset.kept = at.kept;
    drawn.words.textContent = `Fixed at ${(app.level / 255).toFixed(3)}, over ${overAll(row)}: kept ${percent(at.coverage)}, right ${percent(at.precision)} (step ${row.step}). Click near a curve to go there.`;
  }

  fill({ lines, truth, known }, numbers) {
    for (const { c, cells } of lines) {
      const values = {
        precision: ratio(numbers.rightOf[c], numbers.knownOf[c]),
        coverage: ratio(numbers.truthKept[c], truth[c]),
        kept: ratio(numbers.keptOf[c], numbers.kept),
        truth: known ? ratio(truth[c], known) : null,
      };
      for (const [kind, value] of Object.entries(values)) {
        cells[kind].fill.style.setProperty("width", `${100 * (value ?? 0)}%`);
        cells[kind].text.textContent = percent(value, 0);
      }
    }
  }
}

const star = (x, y, r) =>
  `M${range(10)
    .map(
      (k) =>
        `${(x + (k % 2 ? r * 0.45 : r) * Math.sin((k * Math.PI) / 5)).toFixed(1)} ${(y - (k % 2 ? r * 0.45 : r) * Math.cos((k * Math.PI) / 5)).toFixed(1)}`,
    )
    .join("L")}Z`;
