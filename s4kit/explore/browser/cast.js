// Those who take part in a contrast at one snapshot, in the plane and on the step's pictures; each leads to the other.

import { range } from "./arithmetic.js";
import { drawMark, drawRing, PARTS } from "./castmarks.js";
import { rgb } from "./colours.js";
import { h } from "./dom.js";

const PLANE = 560; // of the plane, in pixels
const PICTURE = 400; // of a picture
const NEAR_MARK = 14; // pixels of the plane, between the pointer and a mark
const NEAR_PIXEL = 0.08; // of a picture, between the pointer and a mark
const DRAWN = [2, 1, 0, 3]; // what is drawn over what

/** `filter`: {only: the class that is shown or null, off: parts that are not}; it is the section's and may change. */
export class CastView {
  constructor(app, pack, at, filter, suffix) {
    Object.assign(this, { app, pack, filter });
    const [from, to] = [pack.start.data[at], pack.start.data[at + 1]];
    this.marks = range(to - from).map((k) => this.read(from + k));
    this.pinned = this.pointed = null;
    this.words = h("p", { cls: "small s4x-said", role: "status", test: `roles-words${suffix}` });
    const [width, height] = [PLANE, PLANE].map((side) => Math.round(side * devicePixelRatio));
    this.plane = h("canvas", { cls: "s4x-scatter", width, height, tabindex: 0, test: `roles-plane${suffix}`, role: "img", "aria-label": "those who take part, in feature space; the arrow keys go from mark to mark" });
    this.pictures = this.picturesOf(at, suffix);
    const figures = this.pictures.map(({ canvas }, b) => h("figure", {}, canvas, h("figcaption", {}, `image ${b + 1}`)));
    const columns = figures.length > 4 ? 4 : 2;
    this.host = h("div", {}, this.words, h("div", { cls: "s4x-cast" }, this.plane, h("div", { cls: "s4x-scenes", css: { "--columns": columns } }, ...figures)));
    this.listen(this.plane, (u, v) => this.nearest((m) => Math.hypot(this.place(m)[0] - u * PLANE, this.place(m)[1] - v * PLANE), NEAR_MARK));
    this.plane.addEventListener("keydown", (event) => this.key(event));
    this.pictures.forEach(({ canvas }, b) =>
      this.listen(canvas, (u, v) => this.nearest((m) => (m.image === b ? Math.hypot(m.u - u, m.v - v) : Infinity), NEAR_PIXEL)),
    );
  }

  read(k) {
    const { role, label, own, image, place, pixel, cosine } = this.pack;
    const [x, y, v, u] = [place.data[2 * k], place.data[2 * k + 1], pixel.data[2 * k], pixel.data[2 * k + 1]];
    return { part: role.data[k], label: label.data[k], own: own.data[k], image: image.data[k], cosine: cosine.data[k], x, y, u, v };
  }

  /** A canvas for each picture of the step, and what is below its marks. */
  picturesOf(at, suffix) {
    const { images } = this.pack;
    const [T, B, height, width] = images.shape;
    const size = 3 * height * width;
    return range(B).map((b) => {
      const from = ((T > 1 ? at : 0) * B + b) * size;
      const canvas = h("canvas", { cls: "s4x-scene", width: PICTURE, height: Math.round((PICTURE * height) / width), test: `roles-image-${b}${suffix}`, role: "img", "aria-label": `image ${b + 1} of the step and its pixels that take part` });
      const below = h("canvas", { width, height });
      const pixels = new ImageData(width, height);
      for (let i = 0; i < height * width; i++) {
        for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = images.data[from + 3 * i + c];
        pixels.data[4 * i + 3] = 255;
      }
      below.getContext("2d").putImageData(pixels, 0, 0);
      return { canvas, below };
    });
  }

  // ---- which marks ----

  /** What is asked for; prototypes of other classes stay in sight, small. */
  get shown() {
    const { only, off } = this.filter;
    return this.marks.filter((m) => !off.has(m.part) && (only === null || m.label === only || m.part === 3));
  }

  nearest(far, limit) {
    let [best, least] = [null, limit];
    for (const m of this.shown) {
      const d = far(m);
      if (d < least || (d === least && best && DRAWN.indexOf(m.part) > DRAWN.indexOf(best.part))) [best, least] = [m, d];
    }
    return best;
  }

  /** The marks that are the same pixel as one: it may play several parts. */
  same(mark) {
    return mark.image === 255 ? [mark] : this.shown.filter((m) => m.image === mark.image && m.u === mark.u && m.v === mark.v);
  }

  // ---- who points at what ----

  listen(canvas, find) {
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return find((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    canvas.addEventListener("pointermove", (event) => this.point(at(event)));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("click", (event) => {
      const found = at(event);
      this.pinned = found === this.pinned ? null : found;
      this.draw();
    });
  }

  key(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const { shown } = this;
    if (!by || !shown.length) return;
    event.preventDefault();
    event.stopPropagation();
    this.pinned = shown[(shown.indexOf(this.pinned) + by + shown.length) % shown.length];
    this.draw();
  }

  point(mark) {
    if (mark === this.pointed) return;
    this.pointed = mark;
    this.draw();
  }

  // ---- drawing ----

  /** Where a mark is drawn in the plane. */
  place({ x, y }) {
    const room = PLANE - 32;
    return [16 + x * room, 16 + (1 - y) * room];
  }

  /** Of its own class; hollow where that is not known. */
  colour({ own }, ground) {
    return own < this.app.C ? rgb(this.app.palette[own]) : ground;
  }

  draw() {
    const { app, filter } = this;
    const style = getComputedStyle(app.root);
    const [ink, ground] = [style.color, style.backgroundColor];
    const shown = this.shown.sort((a, b) => DRAWN.indexOf(a.part) - DRAWN.indexOf(b.part));
    const read = this.pointed ?? (shown.includes(this.pinned) ? this.pinned : null);
    const context = this.plane.getContext("2d");
    const scale = this.plane.width / PLANE;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, PLANE, PLANE);
    for (const m of shown) {
      const other = filter.only !== null && m.label !== filter.only;
      context.globalAlpha = other ? 0.55 : 1;
      drawMark(context, m.part, ...this.place(m), { fill: this.colour(m, ground), rim: ink, scale: other ? 0.7 : 1 });
    }
    context.globalAlpha = 1;
    const together = read ? this.same(read) : [];
    for (const m of together) drawRing(context, ...this.place(m), ink, ground);
    this.pictures.forEach((picture, b) => this.drawPicture(picture, shown.filter((m) => m.image === b), read?.image === b ? read : null));
    this.plane.dataset.marks = shown.length;
    this.plane.dataset.read = read ? this.marks.indexOf(read) : "";
    this.words.textContent = read ? this.say(together, read) : this.standing(shown);
  }

  drawPicture({ canvas, below }, marks, read) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(below, 0, 0, width, height);
    context.fillStyle = "rgba(0, 0, 0, 0.35)";
    context.fillRect(0, 0, width, height);
    for (const m of marks) drawMark(context, m.part, m.u * width, m.v * height, { fill: this.colour(m, "#000"), rim: "#fff", scale: 1.7 });
    if (read) drawRing(context, read.u * width, read.v * height, "#fff", "#000", 18);
    canvas.dataset.read = read ? this.marks.indexOf(read) : "";
  }

  /** What a mark is, and what else its pixel is. */
  say(together, read) {
    const { app } = this;
    const name = (c) => (c < app.C ? app.classes[c] : "an unknown class");
    const against = [...new Set(together.filter((m) => m.part === 2).map((m) => name(m.label)))].join(", ");
    const part = (m) =>
      m.part === 2 ? `negative${m.own < app.C ? ` (${name(m.own)})` : ""} against ${against}` : `${PARTS[m.part][0]} of ${name(m.label)}`;
    const parts = [...new Set([read, ...together].map(part))].join(", ");
    const where = read.part === 3 ? "" : read.image === 255 ? ", out of a memory, of no picture here" : `, a pixel of image ${read.image + 1}`;
    const near = read.part === 3 || Number.isNaN(read.cosine) ? "" : `; its cosine with the prototype of ${name(read.label)} is ${read.cosine.toFixed(2)}`;
    return `${parts[0].toUpperCase()}${parts.slice(1)}${where}${near}.`;
  }

  standing(shown) {
    const memory = shown.filter((m) => m.image === 255 && m.part !== 3).length;
    return `${shown.length} marks${memory ? `, ${memory} of them out of a memory, without a pixel here` : ""}. Point at one, here or in a picture, to see where it lies in the other; a click keeps it.`;
  }
}
