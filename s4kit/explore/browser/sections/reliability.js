import { BINS, binOf, ratio, reliability } from "../arithmetic.js";
import { chart, line, SHARES } from "../charts.js";
import { h, s } from "../dom.js";
import { overAll } from "../legends.js";
import { percent, whole } from "../text.js";
import { Section } from "./section.js";

export class Reliability extends Section {
  name = "reliability";
  title = "Reliability";

  update() {
    const { app } = this;
    this.blocks = app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""));
    const words = app.scene.knownCount
      ? ""
      : " This image has no ground truth: only the line of all watched images can be drawn.";
    this.host.replaceChildren(
      this.intro(
        `Is the network right as often as it says? A bar below the diagonal: too sure of itself there. Click a bar to mark its pixels in the pictures; the pixel under the pointer marks its bar.${words}`,
      ),
      h("div", { cls: "s4x-flow" }, ...this.blocks.map((block) => block.host)),
    );
  }

  block(row, suffix) {
    const { app } = this;
    const { bins, ece } = row.frame.reliability();
    const most = Math.max(1, ...bins.map((bin) => bin.pixels));
    const drawn = chart({
      width: 360,
      height: 270,
      x: [0, 1],
      y: [0, 1],
      xTicks: SHARES,
      yTicks: SHARES,
      xLabel: "top probability",
      yLabel: "right",
      left: 52,
      series: [],
      label: `reliability diagram: ${bins.map((bin, k) => `from ${10 * k} %: ${percent(ratio(bin.right, bin.pixels), 0)} right`).join(", ")}`,
    });
    drawn.svg.setAttribute("role", "group");
    const parts = bins.map((bin, k) => this.bar(drawn, bin, k, most, suffix));
    drawn.over.append(
      s("path", {
        d: line(
          [
            [0, 0],
            [1, 1],
          ],
          drawn.x,
          drawn.y,
        ),
        class: "line diagonal",
      }),
    );
    const probe = this.probe(row);
    if (probe) {
      drawn.over.append(
        s("path", {
          d: line(
            probe.bins
              .map((bin) => (bin.pixels ? [bin.sum / bin.pixels / 255, bin.right / bin.pixels] : null))
              .filter(Boolean),
            drawn.x,
            drawn.y,
          ),
          class: "line probe",
        }),
      );
    }
    const gap = (value) => (value === null ? "–" : percent(value));
    const words = h(
      "p",
      { cls: "small", test: `ece${suffix}`, "data-ece": ece ?? "" },
      `Mean gap between confidence and being right (ECE, 10 bins): ${gap(ece)} here`,
      probe ? `, ${gap(probe.ece)} over ${overAll(row)} (grey line).` : ".",
      " The fuller its colour, the more pixels a bar has.",
    );
    return { row, parts, host: h("div", { cls: "s4x-block" }, this.heading(row), drawn.svg, words) };
  }

  probe({ summary, at, full }) {
    if (!summary || full) return null;
    const size = this.app.C * 256;
    return reliability(
      summary.total.data.subarray(at * size, (at + 1) * size),
      summary.right.data.subarray(at * size, (at + 1) * size),
      this.app.C,
    );
  }

  bar(drawn, bin, k, most, suffix) {
    const { app } = this;
    const right = ratio(bin.right, bin.pixels);
    const x = drawn.x(k / BINS);
    const width = drawn.x((k + 1) / BINS) - x;
    const press = () => {
      const { selection } = app.state;
      app.set("selection", selection.kind === "bin" && selection.bin === k ? {} : { kind: "bin", bin: k });
    };
    const words = `${10 * k} to ${10 * k + 10} %: ${whole(bin.pixels)} pixels, ${percent(right)} right`;
    const marked = app.state.selection.kind === "bin" && app.state.selection.bin === k;
    const group = s("g", {
      class: `bin${marked ? " marked" : ""}`,
      test: `bin-${k}${suffix}`,
      tabindex: 0,
      role: "button",
      "aria-pressed": marked,
      "aria-label": words,
      "data-pixels": bin.pixels,
      "data-right": bin.right,
      onclick: press,
      onkeydown: (event) =>
        ["Enter", " "].includes(event.key) && (event.preventDefault(), event.stopPropagation(), press()),
    });
    group.append(
      s("title", {}, words),
      s("rect", { x, y: drawn.box.top, width, height: drawn.box.bottom - drawn.box.top, class: "hit" }),
    );
    if (right !== null) {
      const top = drawn.y(right);
      const rect = s("rect", {
        x: x + 2,
        y: top,
        width: width - 4,
        height: Math.max(1, drawn.box.bottom - top),
        class: "filled",
      });
      rect.style.setProperty("fill-opacity", (0.25 + 0.75 * Math.sqrt(bin.pixels / most)).toFixed(2));
      group.append(rect);
    }
    drawn.over.append(group);
    return group;
  }

  hover(i) {
    for (const { row, parts } of this.blocks ?? []) {
      const at = i === null || !this.app.scene.valid[i] ? -1 : binOf(row.frame.p[i]);
      parts.forEach((part, k) => part.classList.toggle("pointed", k === at));
    }
  }
}
