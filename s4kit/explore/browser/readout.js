// One pixel: what a track says of it, and said over the training.

import { POLICIES, range, ratio } from "./arithmetic.js";
import { chart } from "./charts.js";
import { rgb } from "./colours.js";
import { h, s } from "./dom.js";
import { percent, whole } from "./text.js";

/** What one track says of one pixel, and said of it over the training. */
export class Readout {
  constructor(app, suffix) {
    Object.assign(this, { app, suffix });
    this.host = h("div", { cls: "s4x-readout", test: `pixel${suffix}` });
  }

  show(pixel, row) {
    const { app } = this;
    if (!pixel) {
      for (const name of ["x", "y"]) delete this.host.dataset[name];
      this.host.replaceChildren(
        h("b", {}, "One pixel"),
        h("p", {}, "Hover or touch a picture to read a pixel; click to pin it."),
      );
      return;
    }
    const { frame, pack } = row;
    const { scene, classes, palette } = app;
    const { x, y } = pixel;
    const i = y * scene.width + x;
    if (!scene.valid[i]) {
      this.host.replaceChildren(
        h("b", {}, `Pixel ${x}, ${y}`),
        h("p", {}, "Padding around the image: never trained on."),
      );
      return;
    }
    const swatch = (c) => h("i", { cls: "dot", css: { background: rgb(palette[c]) } });
    const truth = scene.known[i] ? [swatch(scene.truth[i]), classes[scene.truth[i]]] : ["unknown"];
    const tops = range(3)
      .filter((r) => frame.top[r * scene.n + i] < app.C)
      .map((r) => {
        const c = frame.top[r * scene.n + i];
        const p = frame.prob[r * scene.n + i] / 255;
        return h(
          "div",
          { cls: "top", test: `top-${r}${this.suffix}`, "data-class": c, "data-level": frame.prob[r * scene.n + i] },
          swatch(c),
          h("span", {}, classes[c]),
          h("span", { cls: "track" }, h("i", { css: { width: `${100 * p}%` } })),
          h("b", {}, percent(p, 0)),
        );
      });
    const kept = POLICIES.map(([key, name]) => {
      const on = frame.mask(key, app.level)[i];
      return h(
        "span",
        { cls: on ? "yes" : "no", test: `pixel-${key}${this.suffix}`, title: `${name}: ${on ? "kept" : "rejected"}` },
        `${on ? "✓" : "✗"} ${name}`,
      );
    });
    this.host.dataset.x = x;
    this.host.dataset.y = y;
    const pinned = app.state.selection.kind === "pixel" && app.state.selection.x === x && app.state.selection.y === y;
    const label = frame.label[i];
    this.host.replaceChildren(
      h("b", {}, `Pixel ${x}, ${y}`, pinned ? h("small", {}, " pinned") : null),
      h("div", { cls: "truth", test: `pixel-truth${this.suffix}` }, "truth ", ...truth),
      ...(label < app.C && label !== frame.top[i]
        ? [h("div", { cls: "truth" }, "pseudo-label ", swatch(label), classes[label])]
        : []),
      ...tops,
      h(
        "div",
        { cls: "small" },
        `entropy ${(frame.entropy[i] / 255).toFixed(2)} · confidence ${(frame.confidence[i] / 255).toFixed(2)}`,
      ),
      ...this.object(i, frame),
      h("div", { cls: "kept" }, ...kept),
      ...(row.T > 1 ? [this.history(i, row, pack)] : []),
    );
  }

  /** The single object that a pixel is of, where the run has recorded them. */
  object(i, frame) {
    const found = frame.objectAt(i);
    if (!found) return [];
    const right = found.known ? `, ${percent(ratio(found.right, found.known), 0)} of them truly so` : "";
    const words = `object ${found.number}, ${this.app.classes[frame.label[i]]}: ${whole(found.pixels)} pixels${right}`;
    return [h("div", { cls: "small", test: `object${this.suffix}`, "data-pixels": found.pixels }, words)];
  }

  /** Top probability over the snapshots; a dot has the colour of the label, a ring where the own rule kept it. */
  history(i, row, pack) {
    const { app } = this;
    const { steps } = row.track;
    const { n } = app.scene;
    const at = (name, q, plane = 0, planes = 1) => pack[name].data[(q * planes + plane) * n + i];
    const truth = app.scene.known[i] ? app.scene.truth[i] : -1;
    const spots = steps.map((step, q) => [step, at("prob", q, 0, 3) / 255]);
    const right = steps.map((step, q) => {
      const plane = range(3).find((r) => at("top", q, r, 3) === truth);
      return truth < 0 || plane === undefined ? null : [step, at("prob", q, plane, 3) / 255];
    });
    const drawn = chart({
      width: 260,
      height: 112,
      left: 42,
      x: [steps[0], steps[steps.length - 1]],
      y: [0, 1],
      yTicks: [
        [0, "0"],
        [0.5, "50"],
        [1, "100 %"],
      ],
      xTicks: [
        [steps[0], String(steps[0])],
        [steps[steps.length - 1], `step ${steps[steps.length - 1]}`],
      ],
      series: [
        { points: right, cls: "faint" },
        { points: spots, cls: "main" },
      ],
      label: `top probability of this pixel over the training: ${spots.map(([step, p]) => `step ${step} ${Math.round(100 * p)} %`).join(", ")}`,
    });
    drawn.over.append(
      s("line", {
        x1: drawn.x(row.step),
        x2: drawn.x(row.step),
        y1: drawn.box.top,
        y2: drawn.box.bottom,
        class: "moment",
      }),
    );
    steps.forEach((step, q) => {
      const label = at("label", q);
      const dot = s("circle", {
        cx: drawn.x(step),
        cy: drawn.y(spots[q][1]),
        r: at("weight", q) ? 5 : 3.5,
        class: at("weight", q) ? "dot ring" : "dot",
      });
      if (label < app.C) dot.style.setProperty("fill", rgb(app.palette[label]));
      dot.append(
        s(
          "title",
          {},
          `step ${step}: ${app.classes[label] ?? "no label"}, ${percent(spots[q][1], 0)}, ${at("weight", q) ? "kept" : "rejected"} by the own rule`,
        ),
      );
      drawn.over.append(dot);
    });
    return h(
      "div",
      { cls: "history", test: `history${this.suffix}` },
      drawn.svg,
      h("small", {}, "Top probability; dashed: the true class; ringed: kept by the own rule."),
    );
  }
}
