import { Frame, nearest, Scene } from "../arithmetic.js";
import { h } from "../dom.js";
import { offer } from "../offer.js";
import { SELECTIONS } from "../selections/index.js";
import { whole } from "../text.js";
import { Section } from "./section.js";

const COLUMNS = ["id", "tag", "track", "step", "what", "pixels", "mask"]; // as marks.py has them

/** Images and pixels that one wants to come back to: a list that goes out as CSV, pixels as masks. */
export class Marks extends Section {
  name = "marks";
  title = "Marks";
  tag = "look again";

  get marks() {
    return this.app.state.marks ?? [];
  }

  update() {
    const { app } = this;
    const { selection } = app.state;
    const kind = SELECTIONS[selection.kind];
    const tag = h("input", {
      type: "text",
      maxlength: 60,
      value: this.tag,
      test: "mark-tag",
      "aria-label": "tag",
      oninput: (event) => (this.tag = event.target.value),
    });
    const button = (text, test, act, disabled) => h("button", { type: "button", test, onclick: act, disabled }, text);
    const called = kind ? (kind.words?.(app, selection) ?? `pixel ${selection.x}, ${selection.y}`) : "nothing is selected";
    this.host.replaceChildren(
      this.intro(
        "Mark the image, or pixels that are selected in it (a pinned pixel, a cell of the confusion, a bin of the reliability), to take them along: as a table (CSV), pixels as black and white pictures. In a notebook: explorer.marked().",
      ),
      h(
        "div",
        { cls: "s4x-bar" },
        h("div", { cls: "s4x-field" }, h("span", {}, "tag"), tag),
        button("mark this image", "mark-image", () => this.add({})),
        button("mark the selected pixels", "mark-pixels", () => this.add(selection), !kind || Boolean(app.full)),
        h("small", {}, called),
      ),
      this.marks.length ? this.table() : h("p", { test: "marks-none" }, "Nothing is marked yet."),
      h(
        "div",
        { cls: "s4x-bar" },
        button("download the table", "marks-csv", () => this.csv(), !this.marks.length),
        button("download the masks", "marks-masks", () => this.masks(), !this.marks.some((one) => one.selection.kind)),
        button("clear", "marks-clear", () => app.set("marks", []), !this.marks.length),
      ),
    );
  }

  table() {
    const { app } = this;
    const head = h("tr", {}, ...["tag", "image", "track", "step", "pixels", ""].map((name) => h("th", { scope: "col" }, name)));
    const body = this.marks.map((one, i) => {
      const track = app.meta.tracks[one.track];
      const go = () => {
        app.state.image = one.image;
        app.state.snapshot = nearest(app.first.steps, track.steps[one.snapshot]);
        app.set("selection", one.selection);
        app.show();
      };
      const drop = () => app.set("marks", this.marks.filter((_, k) => k !== i));
      const word = one.selection.kind ? (SELECTIONS[one.selection.kind].words?.(app, one.selection) ?? "one pixel") : "–";
      return h(
        "tr",
        {},
        h("td", {}, one.tag),
        h("td", {}, h("button", { type: "button", test: `mark-${i}`, onclick: go }, app.meta.images[one.image].id)),
        h("td", {}, track.title),
        h("td", {}, String(track.steps[one.snapshot])),
        h("td", {}, word),
        h("td", {}, h("button", { type: "button", test: `unmark-${i}`, "aria-label": `take mark ${i + 1} away`, onclick: drop }, "×")),
      );
    });
    return h("div", { cls: "s4x-scroll" }, h("table", { cls: "s4x-marks" }, h("thead", {}, head), h("tbody", {}, ...body)));
  }

  add(selection) {
    const { app } = this;
    const row = app.rows[0];
    const at = row.full ? row.track.steps.length - 1 : row.at;
    const one = { tag: this.tag.trim() || "marked", image: app.state.image, track: row.t, snapshot: at, selection };
    app.set("marks", [...this.marks, one]);
  }

  // ---- out ----

  /** 0/1 of each pixel of a mark; null for an image as a whole. */
  async mask(one) {
    if (!one.selection.kind) return null;
    const { app } = this;
    const packs = await Promise.all([`image/${one.image}`, `track/${one.track}/${one.image}`].map((key) => app.store.get(key)));
    const scene = new Scene(packs[0]);
    const frame = new Frame(scene, packs[1], one.snapshot, app.C);
    const kind = SELECTIONS[one.selection.kind];
    const track = app.meta.tracks[one.track];
    if (kind.mask) return { scene, mask: kind.mask({ frame, pack: packs[1], track }, one.selection, { first: track }) };
    const { x, y } = one.selection;
    return { scene, mask: Uint8Array.from({ length: scene.n }, (_, i) => (i === y * scene.width + x ? 1 : 0)) };
  }

  file(one, i) {
    return `${String(i).padStart(3, "0")}_${String(this.app.meta.images[one.image].id).replace(/[^\w-]+/g, "_")}.png`;
  }

  async csv() {
    const { meta } = this.app;
    const found = await Promise.all(this.marks.map((one) => this.mask(one)));
    const lines = this.marks.map((one, i) => {
      const track = meta.tracks[one.track];
      const pixels = found[i]?.mask.reduce((sum, on) => sum + on, 0);
      const about = [meta.images[one.image].id, one.tag, track.title, track.steps[one.snapshot]];
      return [...about, Object.values(one.selection).join(" "), pixels ?? "", found[i] ? this.file(one, i) : ""];
    });
    const cell = (value) => (/[",\n\r]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : String(value));
    offer("marked.csv", [COLUMNS, ...lines].map((line) => `${line.map(cell).join(",")}\n`).join(""), "text/csv");
  }

  async masks() {
    for (const [i, one] of this.marks.entries()) {
      const found = await this.mask(one);
      if (!found) continue;
      const { width, height } = found.scene;
      const canvas = h("canvas", { width, height });
      const context = canvas.getContext("2d");
      const image = context.createImageData(width, height);
      found.mask.forEach((on, k) => image.data.set([255 * on, 255 * on, 255 * on, 255], 4 * k));
      context.putImageData(image, 0, 0);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
      offer(this.file(one, i), blob, "image/png");
    }
    this.app.controls.say(`${whole(this.marks.filter((one) => one.selection.kind).length)} masks offered for download.`);
  }
}
