import { nearest, range, ratio } from "../arithmetic.js";
import { chart } from "../charts.js";
import { HEAT } from "../colours.js";
import { h, s } from "../dom.js";
import { bar } from "../legends.js";
import { Panel } from "../panel.js";
import { percent, whole } from "../text.js";
import { Section } from "./section.js";

export class Bias extends Section {
  name = "bias";
  title = "Confirmation bias";

  update() {
    const { app } = this;
    const intro = this.intro(
      "Wrong pixels that were kept by the own rule, snapshot after snapshot, with the same wrong label: the network keeps teaching itself the mistake. The map counts snapshots without a break up to now; the line counts pixels with two or more. Click a dot to go to its snapshot.",
    );
    if (!app.scene.knownCount || app.full) {
      const words = app.full
        ? "Full resolution shows the last weights only; there is no past to look at."
        : "This image has no ground truth: what is wrong cannot be told.";
      this.host.replaceChildren(intro, h("p", { test: "bias-count" }, words));
      return;
    }
    this.most = Math.max(4, ...app.rows.flatMap((row) => app.bias(row).counts)); // one scale for all tracks
    this.host.replaceChildren(
      intro,
      h("div", { cls: "s4x-flow" }, ...app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""))),
    );
  }

  block(row, suffix) {
    const { app, most } = this;
    const { map, counts } = app.bias(row);
    const scene = app.scene;
    const panel = new Panel({
      title: "kept, wrong, unchanged",
      test: `map-bias${suffix}`,
      view: app.view,
      pointer: app.selecting.pointer,
      label: "snapshots in a row that a pixel was kept, wrong and unchanged",
    });
    panel.paint(
      scene,
      (out) => {
        for (let i = 0; i < out.length; i++)
          out[i] = map[i] ? HEAT[Math.round(70 + (185 * map[i]) / row.T)] : scene.dim[i];
      },
      null,
    );
    panel.caption.append(bar(warm(), "1", `${row.T} snapshots`, "snapshots in a row"));
    const { steps } = row.track;
    const drawn = chart({
      width: 330,
      height: 200,
      left: 52,
      x: [steps[0], steps[steps.length - 1]],
      y: [0, most],
      yTicks: [
        [0, "0"],
        [most, whole(most)],
      ],
      yLabel: "pixels, 2 or more",
      xTicks: [
        [steps[0], String(steps[0])],
        [steps[steps.length - 1], `step ${steps[steps.length - 1]}`],
      ],
      xLabel: "training",
      series: [{ points: steps.map((step, q) => [step, counts[q]]), cls: "main" }],
      label: `stuck pixels over the training: ${counts.join(", ")}`,
    });
    steps.forEach((step, q) => {
      const dot = s(
        "circle",
        {
          cx: drawn.x(step),
          cy: drawn.y(counts[q]),
          r: q === row.at ? 7 : 4.5,
          class: q === row.at ? "spot entropy now" : "spot entropy",
          onclick: () => app.set("snapshot", nearest(app.first.steps, step)),
        },
        s("title", {}, `step ${step}: ${whole(counts[q])} pixels`),
      );
      drawn.over.append(dot);
    });
    const stuck = h(
      "p",
      { cls: "small" },
      h("b", { test: `bias-count${suffix}`, "data-counts": counts.join(",") }, String(counts[row.at])),
      ` pixels at step ${row.step} (${percent(ratio(counts[row.at], scene.knownCount), 2)} of those with a truth).`,
    );
    return h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h("div", { cls: "s4x-two even" }, panel.figure, h("div", {}, drawn.svg, stuck, this.worst(row, map))),
    );
  }

  /** The mistakes that are stuck most often, as buttons that mark their pixels. */
  worst(row, map) {
    const { app } = this;
    const C = app.C;
    const pairs = new Int32Array(C * C);
    for (let i = 0; i < map.length; i++) if (map[i] > 1) pairs[app.scene.truth[i] * C + row.frame.label[i]]++;
    const top = range(C * C)
      .filter((k) => pairs[k])
      .sort((a, b) => pairs[b] - pairs[a])
      .slice(0, 4);
    if (!top.length) return h("p", { cls: "small" }, "No mistake is stuck at this snapshot.");
    return h(
      "div",
      { cls: "s4x-pairs" },
      h("small", {}, "Most often: "),
      ...top.map((k) => {
        const [truth, label] = [Math.floor(k / C), k % C];
        return h(
          "button",
          { type: "button", onclick: () => app.set("selection", { kind: "confusion", truth, label }) },
          `${app.classes[truth]} called ${app.classes[label]}: ${whole(pairs[k])}`,
        );
      }),
    );
  }
}

const warm = () => Uint32Array.from({ length: 256 }, (_, i) => HEAT[Math.round(70 + (185 * i) / 255)]);
