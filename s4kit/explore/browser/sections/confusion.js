import { range } from "../arithmetic.js";
import { rgb } from "../colours.js";
import { h } from "../dom.js";
import { percent, whole } from "../text.js";
import { Section } from "./section.js";

export class Confusion extends Section {
  name = "confusion";
  title = "Confusion";

  update() {
    const { app } = this;
    const intro = this.intro(
      "What is called what, over this image's pixels with a known truth: rows are the truth, columns the pseudo-labels, each row adds up to 100 %. Click a cell to mark its pixels in the pictures.",
    );
    if (!app.scene.knownCount) {
      this.host.replaceChildren(
        intro,
        h("p", { test: "confusion-none" }, "This image has no ground truth: there is nothing to compare with."),
      );
      return;
    }
    this.host.replaceChildren(
      intro,
      h("div", { cls: "s4x-flow" }, ...app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""))),
    );
  }

  block(row, suffix) {
    const { app } = this;
    const C = app.C;
    const { confusion } = row.frame;
    const sum = (c) => range(C).reduce((all, k) => all + confusion[c * C + k], 0);
    const rows = range(C).filter((c) => sum(c));
    const columns = range(C).filter((c) => rows.includes(c) || rows.some((a) => confusion[a * C + c]));
    const dot = (c) => h("i", { cls: "dot", css: { background: rgb(app.palette[c]) } });
    const head = h(
      "tr",
      {},
      h("th", { cls: "corner" }, "truth ↓ called →"),
      ...columns.map((c) => h("th", { scope: "col", cls: "turned" }, h("span", {}, dot(c), app.classes[c]))),
    );
    const { selection } = app.state;
    const body = rows.map((a) => {
      const all = sum(a);
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, dot(a), app.classes[a]),
        ...columns.map((b) => {
          const count = confusion[a * C + b];
          const share = count / all;
          const on = selection.kind === "confusion" && selection.truth === a && selection.label === b;
          const words = `${app.classes[a]} called ${app.classes[b]}: ${whole(count)} pixels, ${percent(share)}`;
          const press = () => app.set("selection", on ? {} : { kind: "confusion", truth: a, label: b });
          const button = h(
            "button",
            {
              type: "button",
              test: `cell-${a}-${b}${suffix}`,
              "aria-pressed": on,
              "aria-label": words,
              title: words,
              disabled: !count,
              "data-pixels": count,
              cls: a === b ? "same" : "other",
              css: { "--share": count ? (0.08 + 0.92 * share).toFixed(3) : 0 },
              onclick: press,
            },
            count ? (share < 0.005 ? "<1" : String(Math.round(100 * share))) : "·",
          );
          return h("td", {}, button);
        }),
      );
    });
    return h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h(
        "div",
        { cls: "s4x-scroll" },
        h("table", { cls: "s4x-confusion" }, h("thead", {}, head), h("tbody", {}, ...body)),
      ),
    );
  }
}
