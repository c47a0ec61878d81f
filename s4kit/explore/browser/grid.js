// The whole set as a grid of thumbnails: sorted, filtered, tagged, opened. Only what is in view has elements.

import { clamp } from "./arithmetic.js";
import { Chosen } from "./chosen.js";
import { Closeup } from "./closeup.js";
import { h } from "./dom.js";
import { Filter } from "./filter.js";
import { unpack } from "./store.js";
import { percent, whole } from "./text.js";

const GAP = 6;
const CAPTION = 34; // pixels below a thumbnail
const AHEAD = 2; // rows above and below those in view

/** Asks the server by `ask`; `open(id)` shows a watched image in the explorer. */
export class Grid {
  constructor(host, ask, open) {
    Object.assign(this, { ask, open, surveys: [], watched: new Set(), rows: [], cells: new Map(), at: 0 });
    this.filter = new Filter(() => this.arrange());
    this.chosen = new Chosen(this);
    this.closeup = new Closeup(this);
    this.picker = h("select", { "aria-label": "sweep", test: "sweep", onchange: () => this.load() });
    this.counted = h("output", { cls: "s4x-number", test: "grid-count" });
    this.words = h("p", { role: "status", test: "grid-words" });
    this.sheet = h("div", { cls: "s4x-cells" });
    this.box = h(
      "div",
      {
        cls: "s4x-all",
        tabindex: 0,
        role: "listbox",
        "aria-multiselectable": "true",
        "aria-label": "images of the whole set",
        test: "grid",
        onscroll: () => this.draw(),
        onkeydown: (event) => this.key(event),
      },
      this.sheet,
    );
    const top = h("div", { cls: "s4x-bar" }, this.picker, ...this.filter.parts, this.counted);
    this.root = h("div", { cls: "s4x s4x-whole" }, top, this.chosen.bar, this.words, this.box, this.closeup.host);
    host.append(this.root);
    new ResizeObserver(() => this.draw(true)).observe(this.box);
  }

  // ---- data ----

  /** What sweeps there are now, and which images are watched. */
  take(surveys, meta) {
    const before = JSON.stringify(this.surveys);
    this.surveys = surveys;
    this.watched = new Set((meta?.images ?? []).map((image) => image.id));
    if (before === JSON.stringify(surveys)) return;
    const value = this.picker.value;
    this.picker.replaceChildren(...surveys.map((one, k) => h("option", { value: k }, one.title)));
    if (value && surveys[value]) this.picker.value = value;
    this.say();
    this.stale ||= this.grown();
    if (this.visible && this.stale) this.load();
  }

  /** Whether there is enough that is new: a sweep over very many images is not fetched again for a few. */
  grown() {
    const { survey, data } = this;
    if (!survey || !data || this.of !== nameOf(survey)) return true;
    return survey.count === survey.of || survey.count > 1.05 * data.ids.length;
  }

  say() {
    const { count, of } = this.survey ?? { count: 0, of: 0 };
    this.words.textContent = count < of ? `${whole(count)} of ${whole(of)} images so far.` : "";
  }

  /** The grid has come into view. */
  shown() {
    this.visible = true;
    if (this.stale || !this.surveys.length) this.load();
    else this.draw(true);
  }

  get survey() {
    return this.surveys[this.picker.value || 0];
  }

  async load() {
    this.stale = false;
    const { survey } = this;
    if (!survey) {
      this.words.textContent = "Nobody has looked at the whole set yet: s4kit sweep RUN, in a shell, does.";
      return;
    }
    const { run, which, count } = survey;
    this.say();
    if (!count) return;
    const turn = (this.turn = {});
    try {
      const { message, bytes } = await this.ask({ kind: "rows", run, which });
      if (message.error) throw new Error(message.error);
      const pack = await unpack(bytes);
      if (turn !== this.turn) return; // a later question has overtaken this one
      this.data = { ...pack.header, column: (name) => pack[`column/${name}`].data };
      this.filter.offer(this.data);
      const same = this.of === nameOf(survey); // rows only ever come behind: what is chosen stays
      this.of = nameOf(survey);
      if (!same) this.chosen.forget();
      this.arrange(same);
    } catch (error) {
      this.words.textContent = `The sweep cannot be read: ${error.message}`;
    }
  }

  // ---- arranging ----

  /** Sort and filter anew, from the top; or `stay` where one looks. */
  arrange(stay = false) {
    if (!this.data) return;
    this.rows = this.filter.rows(this.data);
    this.counted.textContent = `${whole(this.rows.length)} of ${whole(this.data.ids.length)}`;
    if (!stay) this.at = this.box.scrollTop = 0;
    this.draw(true);
  }

  get layout() {
    const side = this.filter.side;
    const columns = Math.max(1, Math.floor((this.box.clientWidth + GAP) / (side + GAP)));
    return { side, columns, step: side + CAPTION + GAP, lines: Math.ceil(this.rows.length / columns) };
  }

  /** The cells in view; `anew` where they are others at the same places. */
  draw(anew = false) {
    const { side, columns, step, lines } = this.layout;
    this.columns = columns;
    this.sheet.style.setProperty("height", `${lines * step}px`);
    if (anew) {
      this.sheet.replaceChildren();
      this.cells.clear();
    }
    const first = Math.max(0, Math.floor(this.box.scrollTop / step) - AHEAD) * columns;
    const last = (Math.ceil((this.box.scrollTop + this.box.clientHeight) / step) + AHEAD) * columns;
    for (const [place, cell] of this.cells)
      if (place < first || place >= last) {
        cell.remove();
        this.cells.delete(place);
      }
    for (let place = first; place < Math.min(last, this.rows.length); place++) {
      if (this.cells.has(place)) continue;
      const cell = this.cell(place, side);
      cell.style.setProperty("left", `${(place % columns) * (side + GAP)}px`);
      cell.style.setProperty("top", `${Math.floor(place / columns) * step}px`);
      this.cells.set(place, cell);
      this.sheet.append(cell);
    }
    this.mark();
  }

  cell(place, side) {
    const row = this.rows[place];
    const { ids, lists } = this.data;
    const value = this.filter.value(this.data, row);
    const picture = (kind) => h("img", { src: this.address(row, kind), alt: "", decoding: "async", cls: kind });
    const stage = h("span", { cls: "stage", css: { width: `${side}px`, height: `${side}px` } });
    for (const kind of this.filter.pictures) stage.append(picture(kind));
    return h(
      "div",
      {
        cls: "s4x-cell",
        role: "option",
        id: `s4x-row${row}`,
        test: `cell-${row}`,
        title: `${ids[row]} (${lists[row]})`,
        css: { width: `${side}px` },
        onclick: (event) => this.press(event, place),
        ondblclick: () => this.closeup.show(row),
      },
      stage,
      h("span", { cls: "name" }, ids[row].split("/").at(-1)),
      h("span", { cls: "value" }, value === null ? "–" : percent(value)),
      this.watched.has(ids[row]) ? h("span", { cls: "watched", title: "watched" }, "●") : null,
    );
  }

  address(row, kind) {
    const { run, which, step } = this.survey;
    return `thumbnail/${run}/${which}/${row}/${kind}?step=${step}`;
  }

  /** Which cells are chosen, and which one the keys act on. */
  mark() {
    for (const [place, cell] of this.cells) {
      cell.setAttribute("aria-selected", this.chosen.has(this.rows[place]));
      cell.classList.toggle("at", place === this.at);
    }
    const row = this.rows[this.at];
    if (row !== undefined) this.box.setAttribute("aria-activedescendant", `s4x-row${row}`);
  }

  // ---- what people do ----

  press(event, place) {
    if (event.shiftKey) this.chosen.add(this.rows.slice(Math.min(place, this.at), Math.max(place, this.at) + 1));
    else this.chosen.toggle(this.rows[place]);
    this.at = place;
    this.mark();
  }

  key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[event.key];
    const row = this.rows[this.at];
    const act = {
      Enter: () => this.closeup.show(row),
      " ": () => this.chosen.toggle(row),
      Home: () => this.go(0),
      End: () => this.go(this.rows.length - 1),
    }[event.key];
    if ((!by && !act) || row === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (by) this.go(this.at + by);
    else act();
  }

  go(place) {
    this.at = clamp(place, 0, this.rows.length - 1);
    const { step, columns } = this.layout;
    const top = Math.floor(this.at / columns) * step;
    const bottom = top + step - this.box.clientHeight;
    this.box.scrollTop = clamp(this.box.scrollTop, bottom, top);
    this.draw();
  }
}

/** What makes a sweep this one. */
const nameOf = ({ run, which, step }) => `${run} ${which} ${step}`;
