import { nearest, range } from "../arithmetic.js";
import { MEASURES_OF_CLASSES } from "../cells.js";
import { rgb } from "../colours.js";
import { h } from "../dom.js";
import { percent, whole } from "../text.js";
import { Section } from "./section.js";
import { cellsOf, imageList } from "./whole.js";

/** Classes x snapshots over all watched images: which class starves, since when, and in which images. */
export class Classes extends Section {
  name = "classes";
  title = "Classes over time";
  measure = "coverage";

  async update() {
    const { app } = this;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const all = await Promise.all(app.rows.map(({ t }) => cellsOf(app, t)));
      if (turn !== this.turn) return;
      const key = JSON.stringify([app.rows.map(({ t }) => t), this.measure, app.state.image]);
      if (key !== this.drawn || all.some((cells, r) => cells !== this.all[r])) this.fill(all);
      [this.drawn, this.all] = [key, all];
      this.now();
    } catch (error) {
      if (turn === this.turn) this.host.replaceChildren(h("p", {}, `This part cannot be shown: ${error.message}`));
    }
  }

  fill(all) {
    const { app } = this;
    const [, words] = MEASURES_OF_CLASSES.find(([name]) => name === this.measure);
    const choose = h(
      "div",
      { cls: "s4x-choice", role: "group", "aria-label": "what is shown of each class" },
      ...MEASURES_OF_CLASSES.map(([name, said]) =>
        h(
          "button",
          {
            type: "button",
            test: `classes-${name}`,
            title: said,
            "aria-pressed": name === this.measure,
            onclick: () => ((this.measure = name), this.update()),
          },
          name.replace("_", " "),
        ),
      ),
    );
    const intro = this.intro(
      `Each class over the training, by the method's own rule, over ${all[0].over} together: percent ${words}. `,
      h("b", { cls: "starved" }, "▾"),
      " starves: its true pixels are kept at less than a tenth of the rate of all. Click a number for the images that are to blame.",
    );
    const blocks = app.rows.map((row, r) => this.block(row, all[r], r ? `-${row.t}` : ""));
    this.host.replaceChildren(intro, choose, h("div", { cls: "s4x-flow" }, ...blocks));
  }

  /** Mark the column of the snapshot. */
  now() {
    this.host.querySelectorAll("table").forEach((table, r) => {
      for (const cell of table.querySelectorAll("[data-q]"))
        cell.classList.toggle("now", Number(cell.dataset.q) === this.app.rows[r].at);
    });
  }

  block(row, cells, suffix) {
    const { app, measure } = this;
    const [, , share] = MEASURES_OF_CLASSES.find(([name]) => name === measure);
    const tables = range(cells.T).map((step) => cells.byClass(step));
    const since = cells.starvesSince();
    const there = range(app.C).filter((c) => tables.some((found) => found[c].there || found[c].labelled));
    const { steps } = row.track;
    const side = h("div", { cls: "s4x-side" });
    const head = h(
      "tr",
      {},
      h("th", {}, "class"),
      ...steps.map((step, q) => {
        const go = () => app.set("snapshot", nearest(app.first.steps, step));
        return h("th", { scope: "col", "data-q": q }, h("button", { type: "button", title: `go to step ${step}`, onclick: go }, String(step)));
      }),
      since.some((step) => step !== null) ? h("th", {}, "starves since") : null,
    );
    const body = there.map((c) => {
      const shares = tables.map((found) => share(found[c], found.all));
      const cell = (x, q) => {
        const starves = since[c] !== null && q >= since[c];
        const value = percent(x, 0).replace(" %", "");
        const said = `${app.classes[c]}, step ${steps[q]}: ${percent(x)}${starves ? ", starves" : ""}`;
        const about = {
          type: "button",
          test: `class-cell-${c}-${q}${suffix}`,
          "data-share": x,
          title: said,
          "aria-label": said,
          css: { "--share": (x ?? 0).toFixed(3) },
          onclick: () => this.blame(side, cells, c, q, suffix),
        };
        return h("td", { "data-q": q }, h("button", about, value, starves ? h("b", { cls: "starved" }, "▾") : null));
      };
      const words = since[c] === null ? "" : `step ${steps[since[c]]}`;
      const dot = h("i", { cls: "dot", css: { background: rgb(app.palette[c]) } });
      return h(
        "tr",
        {},
        h("th", { scope: "row", title: app.classes[c] }, dot, app.classes[c]),
        ...shares.map(cell),
        h("td", { cls: "since", test: `starves-${c}${suffix}` }, words),
      );
    });
    if (this.blamed?.suffix === suffix) this.blame(side, cells, this.blamed.c, this.blamed.q, suffix);
    return h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h(
        "div",
        { cls: "s4x-beside" },
        h("div", { cls: "s4x-scroll" }, h("table", { cls: "s4x-classes" }, h("thead", {}, head), h("tbody", {}, ...body))),
        side,
      ),
      there.length < app.C ? h("small", {}, `${app.C - there.length} classes have no pixel in these images.`) : null,
    );
  }

  /** The images that are to blame for a number. */
  blame(side, cells, c, q, suffix) {
    const { app, measure } = this;
    this.blamed = { c, q, suffix };
    const t = suffix ? Number(suffix.slice(1)) : app.rows[0].t;
    const step = app.meta.tracks[t].steps[q];
    const found = cells.worst(q, c, measure);
    const sum = found.reduce((all, [, pixels]) => all + pixels, 0);
    const what = {
      coverage: "true pixels that are not kept",
      precision: "kept labels that are wrong",
      kept_share: "labels that are not kept",
      share: "labels that are not kept",
      presence: "true pixels",
    }[measure];
    const go = (k) => {
      app.state.snapshot = nearest(app.first.steps, step);
      app.set("image", k);
    };
    side.replaceChildren(
      h("b", {}, `${app.classes[c]}, step ${step}`),
      h("p", { cls: "small" }, found.length ? `${whole(sum)} ${what}, most of them in:` : `No ${what}.`),
      imageList(app, cells, found, `blamed${suffix}`, go),
    );
  }
}
