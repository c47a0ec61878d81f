// Which rows of the whole set are shown, in which order, and how they look.

import { h } from "./dom.js";

const WORST_FIRST = ["accuracy", "miou", "precision", "coverage", "confidence"]; // low is bad; of the others high comes first
const SIDES = [
  ["64", "small"],
  ["96", "middle"],
  ["160", "large"],
];
const LOOKS = [
  ["picture", "image"],
  ["labels", "labels"],
  ["picture labels", "both"],
];

/** A column's name in words. */
export const titleOf = (column) => column.replace(/^share_/, "share of ");

/** Reports to `changed`; `rows(data)` are the row numbers in order. */
export class Filter {
  constructor(changed) {
    const act = { onchange: changed };
    const text = { ...act, type: "search", placeholder: "part of a name", test: "grid-name", "aria-label": "name" };
    const limit = { ...act, type: "number", min: 0, max: 100, step: "any" };
    this.by = h("select", { onchange: () => this.turned(changed), "aria-label": "sort by", test: "grid-by" });
    this.falling = h("select", { ...act, "aria-label": "order", test: "grid-order" });
    this.list = h("select", { ...act, "aria-label": "list", test: "grid-list" });
    this.tag = h("select", { ...act, "aria-label": "tag", test: "grid-tag" });
    this.look = h("select", { ...act, "aria-label": "pictures", test: "grid-look" });
    this.size = h("select", { ...act, "aria-label": "size", test: "grid-size" });
    this.name = h("input", text);
    this.low = h("input", { ...limit, placeholder: "from %", "aria-label": "from, in percent", test: "grid-low" });
    this.high = h("input", { ...limit, placeholder: "to %", "aria-label": "to, in percent", test: "grid-high" });
    fill(this.falling, [
      ["", "lowest first"],
      ["1", "highest first"],
    ]);
    fill(this.list, [
      ["", "all lists"],
      ["unlabelled", "unlabelled"],
      ["val", "validation"],
    ]);
    fill(this.look, LOOKS);
    fill(this.size, SIDES);
    this.size.value = "96";
    this.parts = [this.by, this.falling, this.low, this.high, this.list, this.tag, this.name, this.look, this.size];
  }

  get side() {
    return Number(this.size.value);
  }

  get pictures() {
    return this.look.value.split(" ");
  }

  /** What of the data can be chosen: columns in which something stands, and tags. */
  offer({ columns, column, tags }) {
    const before = this.by.value;
    const said = columns.filter((name) => column(name).some((value) => !Number.isNaN(value)));
    fill(
      this.by,
      said.map((name) => [name, titleOf(name)]),
    );
    this.by.value = said.includes(before) ? before : (WORST_FIRST.find((name) => said.includes(name)) ?? said[0]);
    if (before !== this.by.value) this.turned(() => {});
    this.offerTags(tags);
  }

  offerTags(tags) {
    const before = this.tag.value;
    this.tags = Object.fromEntries(Object.entries(tags).map(([name, ids]) => [name, new Set(ids)]));
    const names = Object.keys(this.tags).sort();
    fill(this.tag, [
      ["", "all tags"],
      ["none", "without a tag"],
      ...names.map((name) => [`is ${name}`, `${name} (${this.tags[name].size})`]),
    ]);
    this.tag.value = [...this.tag.options].some((option) => option.value === before) ? before : "";
  }

  /** Another column: the bad end of it comes first. */
  turned(changed) {
    this.falling.value = WORST_FIRST.includes(this.by.value) ? "" : "1";
    changed();
  }

  /** The number of a row that it is sorted by; null where there is none. */
  value({ column }, row) {
    const found = column(this.by.value)[row];
    return Number.isNaN(found) ? null : found;
  }

  rows(data) {
    const values = data.column(this.by.value);
    const name = this.name.value.toLowerCase();
    const bound = (input, open) => (input.value === "" ? open : Number(input.value) / 100);
    const [low, high] = [bound(this.low, -Infinity), bound(this.high, Infinity)];
    const narrow = low > -Infinity || high < Infinity;
    const held = this.tagged();
    const rows = [];
    for (let row = 0; row < data.ids.length; row++) {
      if (this.list.value && data.lists[row] !== this.list.value) continue;
      if (narrow && !(values[row] >= low && values[row] <= high)) continue;
      if (name && !data.ids[row].toLowerCase().includes(name)) continue;
      if (held(data.ids[row])) rows.push(row);
    }
    const sign = this.falling.value ? -1 : 1;
    const key = (row) => (Number.isNaN(values[row]) ? Infinity : sign * values[row]);
    return rows.sort((a, b) => (key(a) === key(b) ? a - b : key(a) - key(b)));
  }

  /** Whether an id has the chosen tag. */
  tagged() {
    const chosen = this.tag.value;
    if (!chosen) return () => true;
    if (chosen === "none") return (id) => !Object.values(this.tags).some((ids) => ids.has(id));
    const ids = this.tags[chosen.slice(3)];
    return (id) => ids.has(id);
  }
}

const fill = (select, options) =>
  select.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
