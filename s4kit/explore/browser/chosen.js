// The images of the whole set that are chosen, and what can be done with them.

import { h } from "./dom.js";
import { whole } from "./text.js";

export class Chosen {
  constructor(grid) {
    this.grid = grid;
    this.rows = new Set();
    this.words = h("span", { test: "chosen", "aria-live": "polite" });
    this.tag = h("input", { type: "text", placeholder: "tag", maxlength: 60, "aria-label": "tag", test: "tag-name" });
    const press = (text, test, act) => h("button", { type: "button", test, onclick: act }, text);
    this.acts = h(
      "span",
      { cls: "s4x-field" },
      this.tag,
      press("tag", "tag-on", () => this.mark(true)),
      press("untag", "tag-off", () => this.mark(false)),
      press("watch from now on", "tag-watch", () => this.watch()),
      press("none", "choose-none", () => this.forget()),
    );
    this.bar = h(
      "div",
      { cls: "s4x-bar" },
      press("choose all shown", "choose-all", () => this.add(grid.rows)),
      press("list as a file", "list-file", () => this.save()),
      this.words,
      this.acts,
      h("small", {}, "A click chooses, with shift all up to it; a double click or Enter opens."),
    );
    this.say();
  }

  has(row) {
    return this.rows.has(row);
  }

  toggle(row) {
    if (!this.rows.delete(row)) this.rows.add(row);
    this.say();
  }

  add(rows) {
    rows.forEach((row) => this.rows.add(row));
    this.say();
  }

  forget() {
    this.rows.clear();
    this.say();
  }

  say(more = "") {
    this.words.textContent = `${whole(this.rows.size)} chosen${more && `; ${more}`}`;
    this.acts.hidden = !this.rows.size;
    if (this.grid.box) this.grid.mark();
  }

  get ids() {
    return [...this.rows].sort((a, b) => a - b).map((row) => this.grid.data.ids[row]);
  }

  async mark(on) {
    const { grid } = this;
    const asked = { kind: "tag", run: grid.survey.run, tag: this.tag.value, ids: this.ids, on };
    try {
      const { message } = await grid.ask(asked);
      if (message.error) throw new Error(message.error);
      grid.data.tags = message.tags;
      grid.filter.offerTags(message.tags);
      this.say(on ? "tagged" : "the tag is gone");
    } catch (error) {
      this.say(error.message);
    }
  }

  async watch() {
    const { grid } = this;
    this.say("looking …");
    try {
      const { message } = await grid.ask({ kind: "watch", run: grid.survey.run, ids: this.ids });
      if (message.error) throw new Error(message.error);
      this.say(message.added.length ? `${message.added.length} more are watched` : "these are watched already");
    } catch (error) {
      this.say(error.message);
    }
  }

  /** The chosen ones, or all that are shown, one id a line: what `--probes` and `labelled=` take. */
  save() {
    const { data, rows } = this.grid;
    if (!data) return;
    const ids = this.rows.size ? this.ids : rows.map((row) => data.ids[row]);
    const url = URL.createObjectURL(new Blob([`${ids.join("\n")}\n`], { type: "text/plain" }));
    h("a", { href: url, download: "images.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}
