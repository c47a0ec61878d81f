// What stands over the scrubber: the loss terms of the first track, where its rounds begin, and what diagnose found.

import { nearest } from "./arithmetic.js";
import { line } from "./charts.js";
import { h, s } from "./dom.js";

const HEIGHT = 24;
const TERMS = 4; // terms
const MARKS = { problem: "✖", warning: "▲" };

export class Timeline {
  constructor(app, scrub) {
    this.app = app;
    this.picture = s("svg", { viewBox: `0 0 1000 ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.marks = h("div", { cls: "s4x-verdicts", role: "group", "aria-label": "what diagnose found" });
    this.terms = h("small", { cls: "s4x-terms", test: "terms" });
    this.rounds = h("div", { cls: "s4x-rounds", role: "list", "aria-label": "rounds" });
    const over = h("div", { cls: "s4x-over" }, this.picture, this.rounds, this.marks);
    this.host = h("div", { cls: "s4x-time" }, over, scrub, this.terms);
    this.words = h("div", { cls: "s4x-verdict", test: "verdict", role: "status" });
    this.words.hidden = true;
  }

  /** Another track is first, or it has more snapshots. */
  async update() {
    const { app } = this;
    const { t } = app.rows[0];
    const pack = await app.store.get(`story/${t}`).catch(() => null);
    if (!app.rows.length || app.rows[0].t !== t) return;
    if (this.pack !== pack) {
      this.pack = pack;
      this.draw();
    }
    this.host.classList.toggle("bare", !pack || (!this.curves.length && !pack.header.findings.length));
    this.say();
  }

  draw() {
    const { steps } = this.app.first;
    const { pack } = this;
    this.curves = [];
    this.picture.replaceChildren();
    this.marks.replaceChildren();
    this.drawRounds();
    if (!pack) return;
    const names = Object.keys(pack).filter((name) => name.startsWith("loss/"));
    const at = [...(pack.step?.data ?? [])];
    this.curves = names.slice(0, TERMS).map((name) => ({ name: name.slice(5), values: [...pack[name].data], at }));
    this.more = names.length - this.curves.length;
    this.curves.forEach(({ values }, k) => {
      const high = Math.max(...values.filter(Number.isFinite), 1e-9);
      const points = values.map((v, i) => (Number.isFinite(v) ? [place(steps, at[i]), v / high] : null));
      const path = line(points, (x) => 1000 * x, (y) => HEIGHT - 1 - (HEIGHT - 3) * y);
      this.picture.append(s("path", { d: path, class: `line term${k}`, "vector-effect": "non-scaling-stroke" }));
    });
    const terms = this.curves.map(({ name }) => name).join(", ");
    this.picture.setAttribute("aria-label", `loss terms over the training, each up to its own largest value: ${terms}`);
    const groups = new Map();
    pack.header.findings.forEach((found) => groups.set(found.at, [...(groups.get(found.at) ?? []), found]));
    for (const [q, found] of groups) this.marks.append(this.mark(q, found));
  }

  /** Each round of a training in several, by name, from its first step to that of the next one. */
  drawRounds() {
    const { steps, rounds = [] } = this.app.first;
    const at = [...rounds.map(({ first }) => place(steps, first)), 1];
    this.rounds.replaceChildren(
      ...rounds.map(({ name, first }, k) => {
        const words = `round ${k + 1}, ${name}: from step ${first}`;
        const mark = h("span", { role: "listitem", title: words, "aria-label": words, test: `round-${k}` }, name);
        mark.style.setProperty("--at", at[k]);
        mark.style.setProperty("--to", at[k + 1]);
        return mark;
      }),
    );
  }

  /** A mark opens its first finding; once more, the next one. */
  mark(q, found) {
    const level = found.some((one) => one.level === "problem") ? "problem" : "warning";
    const title = found.map((one) => `${one.check}: ${one.figures}`).join("\n");
    const label = `step ${this.app.first.steps[q]}: ${found.map((one) => one.check).join(", ")}`;
    let next = 0;
    const press = () => this.open(found[next++ % found.length]);
    const mark = h(
      "button",
      { type: "button", cls: level, title, "aria-label": label, test: `verdict-${q}`, onclick: press },
      `${MARKS[level]}${found.length > 1 ? found.length : ""}`,
    );
    mark.style.setProperty("--at", this.app.first.steps.length > 1 ? q / (this.app.first.steps.length - 1) : 0.5);
    return mark;
  }

  open(found) {
    const { app } = this;
    const image = app.meta.images.findIndex(({ id }) => id === found.image);
    const truth = found.class;
    const selection = truth === null ? {} : { kind: "truth", truth };
    app.go({ snapshot: found.at, selection, ...(image >= 0 ? { image } : {}) });
    const shown = image >= 0 || !found.image ? "" : ` It shows most in ${found.image}, which this page does not hold.`;
    this.words.hidden = false;
    this.words.replaceChildren(
      h("button", { type: "button", "aria-label": "close", onclick: () => (this.words.hidden = true) }, "×"),
      h("b", {}, `${MARKS[found.level]} ${found.check}: `),
      `${found.figures}. ${found.advice ? `→ ${found.advice}` : ""}${shown}`,
    );
  }

  /** The terms' values at the shown snapshot. */
  say() {
    const { app } = this;
    this.terms.replaceChildren(
      ...(this.curves ?? []).map(({ name, values, at }, k) => {
        const value = values[nearest(at, app.step)];
        return h("span", { cls: `term${k}` }, `${name} ${Number.isFinite(value) ? value.toPrecision(2) : "–"} `);
      }),
      this.more > 0 ? `and ${this.more} more` : "",
    );
  }
}

/** Where a step lies on the scrubber, whose snapshots are equally far apart: 0 to 1. */
function place(steps, step) {
  const last = steps.length - 1;
  if (!last) return 0.5;
  const q = steps.findIndex((other) => other >= step);
  if (q <= 0) return q ? 1 : 0;
  return (q - 1 + (step - steps[q - 1]) / (steps[q] - steps[q - 1])) / last;
}
