// Two pictures of the same pixels in one place, with a divider between them.

import { clamp } from "./arithmetic.js";
import { h } from "./dom.js";
import { Panel } from "./panel.js";

/** Left of the divider is the one picture, right of it the other; "flip" shows all of one, then all of the other. */
export class Swipe {
  constructor({ title, say, test, view, pointer }) {
    this.at = 0.5;
    this.panel = new Panel({ title, say, test, view, pointer, label: `${title}, with a divider` });
    this.line = h("i", { cls: "s4x-divider" });
    this.panel.stage.append(this.line);
    this.range = h("input", {
      type: "range",
      min: 0,
      max: 100,
      test: `${test}-divider`,
      "aria-label": "divider: left of it the one, right of it the other",
      oninput: () => this.to(Number(this.range.value) / 100),
    });
    this.sides = h("small", {});
    this.button = h("button", { type: "button", test: `${test}-flip`, onclick: () => this.to(this.at < 1 ? 1 : 0) }, "flip");
    this.panel.caption.append(h("span", { cls: "s4x-swipe" }, this.range, this.button), this.sides);
    this.drag();
    this.place();
  }

  /** `one` and `other` fill an array of packed colours; `names` are those of the two. */
  show(scene, [one, other], names, chosen) {
    Object.assign(this, { scene, names, chosen, pictures: [one, other].map((fill) => filled(scene.n, fill)) });
    this.draw();
  }

  to(at) {
    this.at = clamp(at, 0, 1);
    this.draw();
  }

  draw() {
    const { scene, pictures, at, names } = this;
    const [one, other] = pictures;
    const cut = Math.round(at * scene.width);
    const paint = (out) => {
      out.set(other);
      for (let from = 0; cut && from < scene.n; from += scene.width) out.set(one.subarray(from, from + cut), from);
    };
    this.panel.paint(scene, paint, this.chosen);
    this.sides.textContent = at === 1 ? names[0] : at === 0 ? names[1] : `${names[0]} | ${names[1]}`;
    this.place();
  }

  place() {
    this.range.value = Math.round(100 * this.at);
    this.line.style.setProperty("--at", this.at);
    this.line.hidden = this.at === 0 || this.at === 1;
  }

  /** The line can be taken by the pointer; what it takes is no drag of the picture. */
  drag() {
    const { line, panel } = this;
    line.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      line.setPointerCapture(event.pointerId);
    });
    line.addEventListener("pointermove", (event) => {
      event.stopPropagation();
      if (!line.hasPointerCapture(event.pointerId)) return;
      const box = panel.stage.getBoundingClientRect();
      this.to(panel.view.at((event.clientX - box.left) / box.width, 0)[0]);
    });
    line.addEventListener("pointerup", (event) => event.stopPropagation());
  }
}

function filled(n, fill) {
  const out = new Uint32Array(n);
  fill(out);
  return out;
}
