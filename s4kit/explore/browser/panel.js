// One picture: a canvas with a title, and a zoom that all pictures of an explorer share.

import { clamp } from "./arithmetic.js";
import { RIM } from "./colours.js";
import { h } from "./dom.js";

/** Zoom and pan that several panels share; CSS variables on their common ancestor move all of them at once. */
export class View {
  constructor(host) {
    this.host = host;
    this.reset();
  }

  reset() {
    [this.zoom, this.x, this.y] = [1, 0, 0];
    this.apply();
  }

  apply() {
    this.x = clamp(this.x, 1 - this.zoom, 0);
    this.y = clamp(this.y, 1 - this.zoom, 0);
    for (const [name, value] of [
      ["--zoom", this.zoom],
      ["--tx", this.x],
      ["--ty", this.y],
    ])
      this.host.style.setProperty(name, value);
    this.host.classList.toggle("zoomed", this.zoom > 1);
  }

  /** Zoom by a factor around (u, v), fractions of the panel. */
  by(factor, u = 0.5, v = 0.5) {
    const zoom = clamp(this.zoom * factor, 1, 32);
    this.x = u - ((u - this.x) * zoom) / this.zoom;
    this.y = v - ((v - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.apply();
  }

  /** Where on the picture, in fractions, (u, v) of the panel is. */
  at(u, v) {
    return [(u - this.x) / this.zoom, (v - this.y) / this.zoom];
  }
}

/** A titled canvas. `paint(width, height, fill)` lets fill write packed colours and shows them in one go. */
export class Panel {
  constructor({ title, test, view, say, pointer, label }) {
    this.canvas = h("canvas", { role: "img", "aria-label": label ?? title });
    this.note = h("div", { cls: "s4x-note" });
    this.caption = h("div", { cls: "s4x-key" });
    this.stage = h(
      "div",
      { cls: "s4x-stage", tabindex: 0, "aria-label": `${label ?? title}: zoom with + and -` },
      this.canvas,
      h("i", { cls: "s4x-cross hover" }),
      h("i", { cls: "s4x-cross pin" }),
      this.note,
    );
    this.title = h("span", {}, title);
    this.figure = h(
      "figure",
      { cls: "s4x-panel", test, role: "group" },
      h("figcaption", { title: say ? `${title}: ${say}` : null }, this.title, say ? h("small", {}, say) : null),
      this.stage,
      this.caption,
    );
    this.view = view;
    if (pointer) watch(this.stage, view, pointer);
    else watch(this.stage, view, {});
  }

  size(width, height) {
    if (this.canvas.width === width && this.canvas.height === height && this.image) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.stage.style.setProperty("aspect-ratio", `${width} / ${height}`);
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  paint(scene, colour, chosen) {
    this.size(scene.width, scene.height);
    const { pixels } = this;
    const { valid, n } = scene;
    colour(pixels);
    for (let i = 0; i < n; i++) if (!valid[i]) pixels[i] = 0;
    if (chosen) mark(pixels, chosen, scene.width);
    this.context.putImageData(this.image, 0, 0);
    this.say("");
  }

  /** Words instead of a picture. */
  say(words) {
    this.note.textContent = words;
    this.figure.classList.toggle("empty", Boolean(words));
  }
}

/** Dims what is not chosen, and draws a light rim around what is: marked pixels show on any colour. */
function mark(pixels, chosen, width) {
  for (let i = 0; i < chosen.length; i++) {
    if (chosen[i]) continue;
    const x = i % width;
    const beside = chosen[i - width] || chosen[i + width] || (x && chosen[i - 1]) || (x < width - 1 && chosen[i + 1]);
    pixels[i] = beside ? RIM : (((pixels[i] >>> 2) & 0x3f3f3f) | (pixels[i] & 0xff000000)) >>> 0;
  }
}

/** Wheel, drag, pinch, double click and reading of pixels on a panel. */
function watch(stage, view, { hover, leave, click }) {
  const fingers = new Map();
  let moved = 0;
  let last = null;
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const span = () => {
    const [a, b] = [...fingers.values()];
    return { u: (a[0] + b[0]) / 2, v: (a[1] + b[1]) / 2, size: Math.hypot(a[0] - b[0], a[1] - b[1]) };
  };
  stage.addEventListener(
    "wheel",
    (event) => {
      // the page keeps its wheel until one has clicked into a panel: no scrolling gets stuck in a notebook
      const ours =
        event.ctrlKey ||
        event.metaKey ||
        view.host.contains(document.activeElement) ||
        view.host.contains(view.host.getRootNode().activeElement);
      if (!ours || (event.deltaY > 0 && view.zoom === 1)) return;
      event.preventDefault();
      view.by(Math.exp(-clamp(event.deltaY, -120, 120) / 300), ...place(event));
    },
    { passive: false },
  );
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture?.(event.pointerId);
    stage.focus({ preventScroll: true });
    fingers.set(event.pointerId, place(event));
    moved = 0;
    last = fingers.size === 2 ? span() : place(event);
    if (event.pointerType !== "mouse") hover?.(...view.at(...place(event)));
  });
  stage.addEventListener("pointermove", (event) => {
    const here = place(event);
    if (!fingers.size) return hover?.(...view.at(...here));
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, here);
    if (fingers.size === 2) {
      const now = span();
      moved = 1;
      if (last?.size) {
        view.by(now.size / last.size, last.u, last.v);
        view.x += now.u - last.u;
        view.y += now.v - last.v;
        view.apply();
      }
      last = now;
    } else if (Array.isArray(last)) {
      moved += Math.hypot(here[0] - last[0], here[1] - last[1]);
      view.x += here[0] - last[0];
      view.y += here[1] - last[1];
      view.apply();
      last = here;
    }
  });
  const up = (event) => {
    const was = fingers.delete(event.pointerId);
    if (was && event.type === "pointerup" && moved < 0.02 && !fingers.size) click?.(...view.at(...place(event)));
    last = fingers.size === 1 ? [...fingers.values()][0] : null;
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => fingers.size || leave?.());
  stage.addEventListener("dblclick", () => view.reset());
}
