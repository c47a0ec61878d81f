import { range } from "../arithmetic.js";
import { rgb } from "../colours.js";
import { h } from "../dom.js";
import { percent, whole } from "../text.js";
import { Section } from "./section.js";
import { cellsOf, imageList } from "./whole.js";

const OVER = [
  ["image", "this image", "all its pixels with a known truth"],
  ["all", "all watched images", "every pixel with a known truth, kept or not"],
  ["kept", "all, kept pixels", "what the method's own rule keeps: what is taught"],
];

export class Confusion extends Section {
  name = "confusion";
  title = "Confusion";
  over = "image";

  async update() {
    const { app } = this;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const [all, error] = this.over === "image" ? [[], null] : await this.cells();
    if (turn !== this.turn) return;
    const choose = h(
      "div",
      { cls: "s4x-choice", role: "group", "aria-label": "which pixels" },
      ...OVER.map(([key, words, title]) => {
        const press = () => ((this.over = key), this.update());
        return h("button", { type: "button", test: `over-${key}`, title, "aria-pressed": key === this.over, onclick: press }, words);
      }),
    );
    const over = all[0] ? `the ${all[0].over} together` : "this image's pixels with a known truth";
    const led = all[0] ? "for the images that have most of it" : "to mark its pixels in the pictures";
    const intro = this.intro(
      `What is called what, over ${over}: rows are the truth, columns the pseudo-labels, each row adds up to 100 %. Click a cell ${led}.`,
    );
    const none = (words) => this.host.replaceChildren(intro, choose, h("p", { test: "confusion-none" }, words));
    if (error) return none(`This part cannot be shown: ${error.message}`);
    if (!all[0] && !app.scene.knownCount) return none("This image has no ground truth: there is nothing to compare with.");
    const blocks = app.rows.map((row, r) => this.block(row, all[r], r ? `-${row.t}` : ""));
    this.host.replaceChildren(intro, choose, h("div", { cls: "s4x-flow" }, ...blocks));
  }

  async cells() {
    try {
      return [await Promise.all(this.app.rows.map(({ t }) => cellsOf(this.app, t))), null];
    } catch (error) {
      return [[], error];
    }
  }

  block(row, cells, suffix) {
    const { app } = this;
    const side = cells ? h("div", { cls: "s4x-side" }) : null;
    const confusion = cells ? cells.confusion(row.at, this.over === "kept") : row.frame.confusion;
    const press = cells ? (truth, label) => this.lead(side, row, cells, { truth, label }, suffix) : (truth, label) => this.mark(truth, label);
    const table = h("div", { cls: "s4x-scroll" }, this.table(confusion, press, suffix));
    const { selection } = app.state;
    if (cells && selection.kind === "confusion") this.lead(side, row, cells, selection, suffix);
    return h("div", { cls: "s4x-block" }, this.heading(row), h("div", { cls: "s4x-beside" }, table, side));
  }

  mark(truth, label) {
    const { selection } = this.app.state;
    const on = selection.kind === "confusion" && selection.truth === truth && selection.label === label;
    this.app.set("selection", on ? {} : { kind: "confusion", truth, label });
  }

  /** The images that have most of a mistake; its pixels are marked. */
  lead(side, row, cells, { truth, label }, suffix) {
    const { app } = this;
    const wanted = { kind: "confusion", truth, label };
    if (JSON.stringify(app.state.selection) !== JSON.stringify(wanted)) return app.set("selection", wanted); // comes back
    const found = cells.imagesOf(row.at, truth, label, this.over === "kept");
    side.replaceChildren(
      h("b", {}, `${app.classes[truth]} called ${app.classes[label]}, step ${row.step}`),
      h("p", { cls: "small" }, found.length ? `${found.length} images, most pixels first:` : "No image has such a pixel."),
      imageList(app, cells, found, `mistaken${suffix}`, (k) => app.set("image", k)),
    );
  }

  table(confusion, press, suffix) {
    const { app } = this;
    const C = app.C;
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
              onclick: () => press(a, b),
            },
            count ? (share < 0.005 ? "<1" : String(Math.round(100 * share))) : "·",
          );
          return h("td", {}, button);
        }),
      );
    });
    return h("table", { cls: "s4x-confusion" }, h("thead", {}, head), h("tbody", {}, ...body));
  }
}
