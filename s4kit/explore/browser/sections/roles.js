import { nearest, range } from "../arithmetic.js";
import { CastView } from "../cast.js";
import { drawMark, PARTS } from "../castmarks.js";
import { rgb } from "../colours.js";
import { h } from "../dom.js";
import { percent } from "../text.js";
import { Section } from "./section.js";

/** The contrast of a training step: who is pulled to what and pushed from what, in feature space and in the pictures. */
export class Roles extends Section {
  name = "roles";
  title = "Contrast as trained";
  which = 0;
  filter = { only: null, off: new Set() };

  update() {
    const { app } = this;
    const most = Math.max(0, ...app.rows.map(({ track }) => track.roles?.length ?? 0));
    const intro = this.intro(
      "One training batch, drawn once, as the method's own loss contrasts its pixels at this snapshot: the pixels drawn there, not others. Only the directions of features count; the plane is that of their two principal axes, turned so that snapshots can be compared. The colour is a pixel's own class, where it is known, the shape its part. Some of each class in each part are kept, 24 at most. These are images of the training, as the student saw them, not those above.",
    );
    if (!most) {
      const words =
        "Nothing was recorded: the method contrasts no features (or not yet, before this snapshot), the run is of an older version, or the file leaves this part out.";
      this.host.replaceChildren(intro, h("p", { test: "roles-none" }, words));
      return;
    }
    this.which = Math.min(this.which, most - 1);
    this.bar = h("div", { cls: "s4x-parts" });
    this.blocks = h("div", {});
    this.host.replaceChildren(intro, this.bar, this.blocks);
    this.load();
  }

  async load() {
    const { app } = this;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const rows = app.rows.filter(({ track }) => this.which < (track.roles?.length ?? 0));
    try {
      const packs = await Promise.all(rows.map(({ t }) => app.store.get(`roles/${t}/${this.which}`)));
      if (turn !== this.turn) return;
      this.views = [];
      this.blocks.replaceChildren(...rows.map((row, r) => this.block(row, packs[r], r ? `-${row.t}` : "")));
      this.choices();
      this.draw();
    } catch (error) {
      if (turn === this.turn) this.blocks.replaceChildren(h("p", {}, `This part cannot be shown: ${error.message}`));
    }
  }

  block(row, pack, suffix) {
    const { share } = pack.header;
    const there = range(share.length).filter((at) => share[at] !== null);
    const at = there[nearest(there, Math.min(row.at, share.length - 1))]; // the nearest step with a contrast
    const view = new CastView(this.app, pack, at, this.filter, suffix);
    this.views.push(view);
    const words = `${row.track.title}, ${pack.header.name}, step ${row.track.steps[at]}: the two axes hold ${percent(share[at], 0)} of the variance.`;
    return h("div", { cls: "s4x-block" }, this.heading(row), h("p", { cls: "small", test: `roles-about${suffix}` }, words), view.host);
  }

  /** Which contrast, which parts, which class. */
  choices() {
    const { app, filter } = this;
    const names = app.rows.map(({ track }) => track.roles ?? []).reduce((a, b) => (b.length > a.length ? b : a), []);
    const marks = this.views.flatMap((view) => view.marks);
    const met = range(app.C).filter((c) => marks.some((m) => m.label === c && m.part !== 3));
    if (filter.only !== null && !met.includes(filter.only)) filter.only = null;
    const button = (test, pressed, act, ...children) =>
      h("button", { type: "button", test, "aria-pressed": pressed, onclick: () => (act(), this.choices(), this.draw()) }, ...children);
    const group = (label, cls, ...children) => h("div", { cls, role: "group", "aria-label": label }, ...children);
    const parts = PARTS.map(([name, words], part) => {
      const many = marks.filter((m) => m.part === part && (filter.only === null || m.label === filter.only)).length;
      const act = () => (filter.off.has(part) ? filter.off.delete(part) : filter.off.add(part));
      const made = button(`part-${name}`, !filter.off.has(part), act, this.icon(part), `${name} ${many}`);
      made.title = words;
      made.disabled = !marks.some((m) => m.part === part);
      return made;
    });
    const classes = met.map((c) =>
      button(`roles-class-${c}`, filter.only === c, () => (filter.only = filter.only === c ? null : c), h("i", { css: { background: rgb(app.palette[c]) } }), app.classes[c]),
    );
    const all = button("roles-class-all", filter.only === null, () => (filter.only = null), "all classes");
    const which = names.map((name, c) => h("button", { type: "button", test: `roles-${c}`, "aria-pressed": c === this.which, onclick: () => this.go(c) }, name));
    this.bar.replaceChildren(
      ...(names.length > 1 ? [group("contrast", "s4x-choice", ...which)] : []),
      group("parts", "s4x-colours", ...parts),
      group("contrast of the class", "s4x-colours", all, ...classes),
    );
  }

  /** A part's mark, for its button. */
  icon(part) {
    const canvas = h("canvas", { width: 36, height: 36, cls: "s4x-icon", "aria-hidden": "true" });
    const ink = getComputedStyle(this.app.root).color;
    drawMark(canvas.getContext("2d"), part, 18, 18, { fill: "rgb(140, 140, 145)", rim: ink, scale: part === 3 ? 1.6 : 2.2 });
    return canvas;
  }

  go(c) {
    this.which = c;
    this.update();
  }

  draw() {
    this.views.forEach((view) => view.draw());
  }
}
