import { rgb } from "../colours.js";
import { h } from "../dom.js";
import { Section } from "./section.js";

const SIDE = 560; // pixels of the scatter
const NEAR = 12; // of them, between a click and a point
const KNOWN = [["label", "by pseudo-label"], ["truth", "by truth"]];
const WAYS = [["pca", "PCA"], ["umap", "UMAP"]];

/** Pixels in the network's feature space; a point leads to its pixel, a pixel shows its point. */
export class Embedding extends Section {
  name = "embedding";
  title = "Feature space";
  by = "label";
  how = "pca";

  update() {
    const { app } = this;
    const intro = this.intro(
      "Pixels of all watched images as the last weights see them: the map before the last convolution, brought into the plane. Ringed: those of this image. Click a point to go to its pixel; the pixel that is read shows its nearest point.",
    );
    const choice = (label, options, now, set) =>
      h(
        "div",
        { cls: "s4x-choice", role: "group", "aria-label": label },
        ...options.map(([key, words]) =>
          h("button", { type: "button", test: `embed-${key}`, "aria-pressed": key === now, onclick: () => (set(key), this.update()) }, words),
        ),
      );
    this.words = h("p", { cls: "small", role: "status", test: "embedding-words" });
    this.canvas = h("canvas", { width: SIDE, height: SIDE, cls: "s4x-scatter", role: "img", "aria-label": "pixels in feature space", onclick: (event) => this.press(event) });
    const chosen = h("div", { cls: "s4x-bar" }, choice("colours", KNOWN, this.by, (key) => (this.by = key)), choice("projection", WAYS, this.how, (key) => (this.how = key)));
    this.host.replaceChildren(intro, chosen, this.words, this.canvas);
    this.load();
  }

  async load() {
    const { app } = this;
    const key = `${app.rows[0].t}/${this.how}`;
    if (this.key === key && this.points) return this.draw();
    if (!app.meta.kernel) {
      this.words.textContent = "This page has no weights to ask: open the run in a notebook or with s4kit explore RUN.";
      return;
    }
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.words.textContent = "computing …";
    try {
      const points = await app.store.question({ kind: "embedding", track: app.rows[0].t, how: this.how });
      if (turn !== this.turn) return;
      [this.points, this.key] = [points, key];
      this.draw();
    } catch (error) {
      if (turn === this.turn) this.words.textContent = error.message;
    }
  }

  /** Where a point is drawn. */
  place(k) {
    const room = SIDE - 20;
    return [10 + this.points.x[k] * room, 10 + (1 - this.points.y[k]) * room];
  }

  draw(pointed = null) {
    const { app, points } = this;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, SIDE, SIDE);
    const here = points.image.map((k) => k === app.state.image);
    const dot = (k, radius) => {
      const [x, y] = this.place(k);
      const c = points[this.by][k];
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fillStyle = c < app.C ? rgb(app.palette[c]) : "rgb(140, 140, 145)";
      context.fill();
    };
    const ring = (width, colour) => {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    };
    const ink = getComputedStyle(app.root).color;
    points.x.forEach((_, k) => {
      if (here[k]) return;
      dot(k, 3);
      ring(0.5, "rgba(128, 128, 128, 0.7)");
    });
    points.x.forEach((_, k) => {
      if (!here[k]) return;
      dot(k, 4);
      ring(1.5, ink);
    });
    if (pointed !== null) {
      dot(pointed, 7);
      ring(3, ink);
    }
    this.canvas.dataset.pointed = pointed ?? "";
    this.words.textContent = `${points.how} of ${points.x.length} pixels of ${new Set(points.image).size} images, last weights of ${app.rows[0].track.title}.`;
  }

  press(event) {
    const { app, points } = this;
    if (!points) return;
    const box = this.canvas.getBoundingClientRect();
    const [u, v] = [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
    const far = points.x.map((_, k) => Math.hypot(this.place(k)[0] - u, this.place(k)[1] - v));
    const k = far.indexOf(Math.min(...far));
    if (far[k] > NEAR) return;
    const { width } = app.meta;
    app.state.image = points.image[k];
    app.state.snapshot = app.first.steps.length - 1;
    app.set("selection", { kind: "pixel", x: points.pixel[k] % width, y: Math.floor(points.pixel[k] / width) });
    app.show();
  }

  /** The point of this image that is nearest to a pixel. */
  hover(i) {
    const { app, points } = this;
    if (!points || app.full) return;
    if (i === null) return this.draw();
    const { width } = app.scene;
    const far = (k) => Math.hypot((points.pixel[k] % width) - (i % width), Math.floor(points.pixel[k] / width) - Math.floor(i / width));
    let best = null;
    points.image.forEach((image, k) => {
      if (image === app.state.image && (best === null || far(k) < far(best))) best = k;
    });
    this.draw(best);
  }
}
