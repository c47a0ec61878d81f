import { rgb } from "../colours.js";
import { h } from "../dom.js";
import { offer } from "../offer.js";
import { Panel } from "../panel.js";
import { BLANK, LEFT_OUT, paintStrokes, Strokes } from "../strokes.js";
import { whole } from "../text.js";
import { Section } from "./section.js";

const TOOLS = [
  ["brush", "brush", "drag to paint"],
  ["polygon", "polygon", "click corner after corner; a double click, or Enter, closes it"],
  ["fill", "fill", "click: the model's own region around the pixel gets the class"],
  ["erase", "erase", "drag to take paint away"],
];
const RESTS = [
  ["model", "as the model says", "what is not painted is taught with the pseudo-label"],
  ["void", "not taught", "only what is painted is taught"],
];
const HOW =
  "Paint over the first track's pseudo-label what it got wrong, and keep it: the next training uses the image as a labelled one. Drag paints, shift + drag moves the picture, the wheel zooms. Keys: 1 … 9 class, 0 not taught, b p f e tools, [ ] size, ctrl + z back, ctrl + shift + z forth.";
const SIZES = [0, 1, 2, 3, 5, 8, 12, 20, 32]; // radius in pixels

/** A pseudo-label corrected by hand, which the next training takes as a label. */
export class Correct extends Section {
  name = "correct";
  title = "Correct";
  tool = "brush";
  rest = "model";
  size = 3;
  chosen = 0;

  constructor(app) {
    super(app);
    this.layers = new Map(); // strokes by track and image: none is lost when one looks elsewhere
    this.made = new Map(); // what was kept, by track: {folder, made}
    this.corners = [];
    this.panel = new Panel({ title: "corrected label", test: "panel-correct", view: app.view, label: "label to correct" });
    this.words = h("p", { cls: "small", role: "status", "aria-live": "polite", test: "correct-words" });
    this.tools = h("div", { cls: "s4x-tools" });
    this.how = this.intro(HOW);
    this.easel = h("div", { cls: "s4x-paint" }, this.panel.figure, h("div", {}, this.tools, this.words));
    this.host.replaceChildren(this.how, this.easel);
    this.host.addEventListener("keydown", (event) => this.key(event));
    for (const [name, act] of [["pointerdown", this.down], ["pointermove", this.drag], ["pointerup", this.up], ["dblclick", this.twice]])
      this.panel.stage.addEventListener(name, (event) => act.call(this, event), { capture: true });
  }

  // ---- what is corrected ----

  get row() {
    return this.app.rows[0];
  }

  get strokes() {
    const { app, row } = this;
    const { width, height, valid } = app.scene;
    const key = `${row.t}/${app.meta.images[app.state.image].id}/${width}x${height}`;
    if (!this.layers.has(key)) {
      const strokes = new Strokes(width, height, valid);
      const kept = this.made.get(row.t)?.made.find(({ id }) => id === app.meta.images[app.state.image].id)?.strokes;
      if (kept && kept.grid[0] === height && kept.grid[1] === width) strokes.load(kept.painted);
      this.layers.set(key, strokes);
    }
    return this.layers.get(key);
  }

  update() {
    const no = this.row.track.unpaintable;
    this.how.textContent = no || HOW;
    this.easel.hidden = Boolean(no);
    if (no) return;
    this.corners = [];
    this.chosen = Math.min(this.chosen, this.app.C - 1);
    this.all();
    if (this.app.meta.kernel && !this.made.has(this.row.t)) this.recall(this.row.t);
  }

  all() {
    this.controls();
    this.draw();
    this.say();
  }

  /** What was kept before, to go on with. */
  async recall(t) {
    this.made.set(t, { made: [] });
    try {
      this.made.set(t, await this.app.store.question({ kind: "corrections", track: t }));
    } catch {
      return; // the host cannot keep: what is painted can still be downloaded
    }
    for (const [key, strokes] of this.layers) if (!strokes.done.length) this.layers.delete(key); // with what was kept
    if (this.app.tabs.section === this) this.all();
  }

  // ---- controls ----

  controls() {
    const { app } = this;
    const choice = (label, options, now, set, prefix) =>
      h(
        "div",
        { cls: "s4x-field" },
        h("span", {}, label),
        h(
          "div",
          { cls: "s4x-choice", role: "group", "aria-label": label },
          ...options.map(([key, words, title]) => {
            const press = () => (set(key), this.all());
            const about = { type: "button", title, test: `${prefix}-${key}`, "aria-pressed": key === now, onclick: press };
            return h("button", about, words);
          }),
        ),
      );
    const classes = [...app.classes.keys(), LEFT_OUT].map((c) => {
      const swatch = c < 0 ? h("i", { cls: "striped" }) : h("i", { css: { background: rgb(app.palette[c]) } });
      const press = () => ((this.chosen = c), this.controls());
      const about = { type: "button", test: `paint-${c}`, "aria-pressed": c === this.chosen, onclick: press };
      return h("button", about, swatch, c < 0 ? "not taught" : app.classes[c]);
    });
    const size = h("input", {
      type: "range",
      min: 0,
      max: SIZES.length - 1,
      value: this.size,
      test: "paint-size",
      "aria-label": "size of the brush",
      oninput: (event) => (this.size = Number(event.target.value)),
    });
    const button = (text, test, act) => h("button", { type: "button", test, onclick: act }, text);
    const after = (act) => () => (act(), this.draw(), this.say());
    this.tools.replaceChildren(
      choice("tool", TOOLS, this.tool, (key) => ((this.tool = key), (this.corners = [])), "tool"),
      h("div", { cls: "s4x-field grow" }, h("span", {}, "size"), size),
      h("div", { cls: "s4x-colours", role: "group", "aria-label": "class to paint" }, ...classes),
      choice("the rest", RESTS, this.rest, (key) => (this.rest = key), "rest"),
      h(
        "div",
        { cls: "s4x-field" },
        button("undo", "undo", after(() => this.strokes.undo())),
        button("redo", "redo", after(() => this.strokes.redo())),
        button("clear", "paint-clear", after(() => this.strokes.clear())),
        app.meta.kernel ? h("button", { type: "button", cls: "main", test: "keep", onclick: () => this.keep() }, "keep as a label") : null,
        button("download", "paint-download", () => this.download()),
      ),
    );
  }

  key(event) {
    if (this.easel.hidden) return;
    const { key } = event;
    const back = (event.ctrlKey || event.metaKey) && key.toLowerCase() === "z";
    const named = { b: "brush", p: "polygon", f: "fill", e: "erase" }[key];
    const by = { "[": -1, "]": 1 }[key];
    const paints = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (back) event.shiftKey ? this.strokes.redo() : this.strokes.undo();
    else if (paints && /^[0-9]$/.test(key)) this.chosen = key === "0" ? LEFT_OUT : Math.min(Number(key), this.app.C) - 1;
    else if (paints && named) [this.tool, this.corners] = [named, []];
    else if (paints && by) this.size = Math.min(SIZES.length - 1, Math.max(0, this.size + by));
    else if (paints && key === "Enter" && this.corners.length) this.close();
    else if (paints && key === "Escape" && this.corners.length) this.corners = [];
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.all();
  }

  // ---- the hand ----

  /** Where on the map a pointer is; pixels count from their middle. */
  place(event) {
    const box = this.panel.stage.getBoundingClientRect();
    const [u, v] = this.app.view.at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    return { x: u * this.app.scene.width - 0.5, y: v * this.app.scene.height - 0.5 };
  }

  down(event) {
    if (event.button || event.shiftKey || !this.app.rows.length) return;
    event.stopPropagation();
    this.panel.stage.focus({ preventScroll: true });
    const at = this.place(event);
    const { strokes } = this;
    if (this.tool === "polygon") {
      this.corners.push(at);
    } else if (this.tool === "fill") {
      const { width, height } = this.app.scene;
      const [x, y] = [Math.round(at.x), Math.round(at.y)];
      if (x < 0 || y < 0 || x >= width || y >= height) return;
      strokes.begin();
      strokes.fill(y * width + x, this.row.frame.label, this.chosen);
      strokes.end();
    } else {
      this.panel.stage.setPointerCapture?.(event.pointerId);
      strokes.begin();
      this.last = at;
      strokes.line(at, at, SIZES[this.size], this.colour);
    }
    this.draw();
  }

  drag(event) {
    if (!this.strokes.stroke || !this.last) return;
    event.stopPropagation();
    const at = this.place(event);
    this.strokes.line(this.last, at, SIZES[this.size], this.colour);
    this.last = at;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  up(event) {
    if (event.shiftKey && !this.last) return;
    event.stopPropagation();
    this.strokes.end();
    this.last = null;
    this.draw();
    this.say();
  }

  twice(event) {
    event.stopPropagation();
    if (this.tool === "polygon") this.close();
  }

  close() {
    const { strokes, corners } = this;
    this.corners = [];
    if (corners.length > 2) {
      strokes.begin();
      strokes.polygon(corners, this.chosen);
      strokes.end();
    }
    this.draw();
    this.say();
  }

  get colour() {
    return this.tool === "erase" ? BLANK : this.chosen;
  }

  // ---- what is seen ----

  draw() {
    const { app, row, strokes, rest, corners } = this;
    if (!row) return;
    const label = rest === "model" ? row.frame.label : null;
    this.panel.paint(app.scene, (out) => paintStrokes(out, app.scene, app.colours, strokes.layer, label), null);
    if (!corners.length) return;
    const { context } = this.panel;
    context.strokeStyle = context.fillStyle = rgb([250, 250, 250]);
    context.lineWidth = 1;
    context.beginPath();
    corners.forEach(({ x, y }, k) => (k ? context.lineTo(x + 0.5, y + 0.5) : context.moveTo(x + 0.5, y + 0.5)));
    context.stroke();
    for (const { x, y } of corners) context.fillRect(x - 0.5, y - 0.5, 2, 2);
  }

  say(words = "") {
    const { app, row } = this;
    const kept = this.made.get(row.t) ?? { made: [] };
    const count = this.strokes.painted;
    const so = kept.made.length
      ? ` Kept so far: ${kept.made.map(({ id }) => id).join(", ")}. Train on them: load(…, labelled="${kept.folder}").`
      : "";
    this.words.dataset.painted = count;
    const can = app.meta.kernel ? "" : " This page cannot keep it: download it here, or open the run with s4kit explore RUN.";
    this.words.textContent = `${words} ${whole(count)} pixels painted.${so}${can}`.trim();
  }

  // ---- kept ----

  get asked() {
    const { app, row, rest } = this;
    const at = row.full ? null : row.at;
    return { kind: "correct", image: app.state.image, track: row.t, at, rest, painted: this.strokes.runs() };
  }

  async keep() {
    const { app, row } = this;
    this.say("Keeping …");
    try {
      const done = await app.store.question(this.asked);
      this.made.set(row.t, await app.store.question({ kind: "corrections", track: row.t }));
      this.say(`Kept: ${whole(done.painted)} pixels of the image painted, ${whole(done.changed)} of them changed.`);
    } catch (error) {
      this.say(`Not kept: ${error.message}`);
    }
  }

  download() {
    const id = String(this.app.meta.images[this.app.state.image].id);
    const about = { ...this.asked, id, track: String(this.row.track.title), step: this.row.step, full: Boolean(this.row.full) };
    offer(`${id.replace(/[^\w.-]+/g, "_")}.json`, JSON.stringify(about), "application/json");
  }
}
