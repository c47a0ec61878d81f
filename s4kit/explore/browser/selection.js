// The pixel that is read, the pinned one, and the pixels that are marked.

import { clamp } from "./arithmetic.js";
import { h } from "./dom.js";
import { SELECTIONS } from "./selections/index.js";
import { whole } from "./text.js";

export class Selecting {
  constructor(app) {
    this.app = app;
    this.pointed = this.last = null; // pixels
    this.marking = ""; // the selection that the pictures mark
    this.pointer = {
      hover: (u, v) => app.scene && this.point(this.at(u, v)),
      leave: () => this.point(null),
      click: (u, v) => app.scene && this.pin(this.at(u, v)),
    };
  }

  close() {
    cancelAnimationFrame(this.frame);
  }

  // ---- one pixel ----

  /** The pixel at fractions of the picture. */
  at(u, v) {
    const { width, height } = this.app.scene;
    return { x: clamp(Math.floor(u * width), 0, width - 1), y: clamp(Math.floor(v * height), 0, height - 1) };
  }

  pin({ x, y }) {
    const { selection } = this.app.state;
    const again = selection.kind === "pixel" && selection.x === x && selection.y === y;
    this.app.set("selection", again ? {} : { kind: "pixel", x, y });
  }

  movePin(dx, dy) {
    const { width, height } = this.app.scene;
    const from = this.pixel ?? { x: width >> 1, y: height >> 1 };
    this.pointed = null;
    const [x, y] = [clamp(from.x + dx, 0, width - 1), clamp(from.y + dy, 0, height - 1)];
    this.app.set("selection", { kind: "pixel", x, y });
  }

  point(where) {
    this.pointed = where;
    if (where) this.last = where;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.read());
  }

  /** The pixel that is read: under the pointer, else the pinned one, else the last one. */
  get pixel() {
    const { selection } = this.app.state;
    return this.pointed ?? (selection.kind === "pixel" ? selection : this.last);
  }

  read() {
    const { app, pixel } = this;
    if (!app.rows.length) return;
    const { selection } = app.state;
    this.cross("hover", pixel === selection ? null : pixel);
    this.cross("pin", selection.kind === "pixel" ? selection : null);
    const inside = pixel && pixel.x < app.scene.width && pixel.y < app.scene.height;
    app.pictures.read(inside ? pixel : null);
    app.tabs.section.hover(inside ? pixel.y * app.scene.width + pixel.x : null);
  }

  cross(name, where) {
    const { root, scene } = this.app;
    root.classList.toggle(`with-${name}`, Boolean(where));
    if (!where) return;
    root.style.setProperty(`--${name}-x`, (where.x + 0.5) / scene.width);
    root.style.setProperty(`--${name}-y`, (where.y + 0.5) / scene.height);
  }

  // ---- many ----

  get kind() {
    return SELECTIONS[this.app.state.selection.kind];
  }

  /** Give every row the pixels that are marked in it. */
  choose() {
    const { kind } = this;
    for (const row of this.app.rows) row.chosen = kind?.mask ? kind.mask(row, this.app.state.selection, this.app) : null;
  }

  changed() {
    const { app } = this;
    const before = this.marking;
    this.marking = this.kind?.mask ? JSON.stringify(app.state.selection) : "";
    if (before !== this.marking) {
      app.draw();
      if (app.rows.length) app.tabs.section.update();
    }
    this.read();
  }

  say() {
    const { app, kind } = this;
    const { marked } = app.controls;
    marked.hidden = !kind?.mask;
    if (marked.hidden) return;
    const counts = app.rows.map(({ chosen, mask, track }) => {
      let [all, kept] = [0, 0];
      for (let i = 0; i < chosen.length; i++) {
        all += chosen[i];
        kept += chosen[i] & mask[i];
      }
      const name = app.rows.length > 1 ? `${track.title}: ` : "";
      return `${name}${whole(all)} pixels, ${whole(kept)} of them kept`;
    });
    const words = kind.words(app, app.state.selection);
    marked.replaceChildren(
      h("span", {}, h("b", {}, `Marked: ${words}`), ` — ${counts.join("; ")}.`),
      h("button", { type: "button", test: "clear", onclick: () => this.clear() }, "clear"),
    );
  }

  clear() {
    this.last = null;
    this.app.set("selection", {});
  }
}
