// One image of the whole set at the resolution of its file, and all that its row says.

import { VOID } from "./arithmetic.js";
import { pack32, RIM, stripes } from "./colours.js";
import { h } from "./dom.js";
import { titleOf } from "./filter.js";
import { unpack } from "./store.js";
import { percent } from "./text.js";

const VIEWS = [
  ["image", "image"],
  ["truth", "ground truth"],
  ["label", "what it is taken for"],
  ["wrong", "where that is wrong"],
];

export class Closeup {
  constructor(grid) {
    this.grid = grid;
    this.host = h("section", { cls: "s4x-close", hidden: true, test: "closeup", "aria-label": "one image" });
  }

  async show(row) {
    const { grid } = this;
    const { data, survey } = grid;
    const id = data.ids[row];
    const words = h("p", { role: "status" }, "looking at it …");
    const close = h("button", { type: "button", onclick: () => this.hide() }, "close");
    const seen = grid.watched.has(id);
    const explore = seen
      ? h("button", { type: "button", test: "closeup-open", onclick: () => grid.open(id) }, "in the explorer")
      : null;
    const numbers = data.columns.map((name) => [name, data.column(name)[row]]).filter(([, x]) => !Number.isNaN(x));
    this.host.replaceChildren(
      h("div", { cls: "s4x-bar" }, h("b", { test: "closeup-id" }, id), h("small", {}, data.lists[row]), explore, close),
      words,
      h("dl", {}, ...numbers.flatMap(([name, x]) => [h("dt", {}, titleOf(name)), h("dd", {}, percent(x))])),
    );
    this.host.hidden = false;
    this.host.scrollIntoView({ block: "nearest" });
    const turn = (this.turn = {});
    try {
      const { message, bytes } = await grid.ask({ kind: "look", run: survey.run, id });
      if (message.error) throw new Error(message.error);
      const pack = await unpack(bytes);
      if (turn === this.turn) words.replaceWith(this.pictures(pack, data.palette));
    } catch (error) {
      if (turn === this.turn) words.textContent = `It cannot be looked at: ${error.message}`;
    }
  }

  hide() {
    this.host.hidden = true;
    this.grid.box.focus();
  }

  pictures(pack, palette) {
    const known = pack.truth.data.some((c) => c !== VOID);
    const views = VIEWS.filter(([kind]) => known || !["truth", "wrong"].includes(kind));
    return h(
      "div",
      { cls: "s4x-grid four" },
      ...views.map(([kind, title]) => {
        const drawn = paintMap(pack, kind, palette);
        return h("figure", { cls: "s4x-panel" }, h("figcaption", {}, title), drawn);
      }),
    );
  }
}

/** A canvas of one of the views. */
function paintMap(pack, kind, palette) {
  const [height, width] = pack.truth.shape;
  const canvas = h("canvas", { width, height, test: `closeup-${kind}`, role: "img", "aria-label": kind });
  const context = canvas.getContext("2d");
  const drawn = context.createImageData(width, height);
  const out = new Uint32Array(drawn.data.buffer);
  const image = pack.image.data;
  const truth = pack.truth.data;
  const label = pack.label.data;
  const colours = palette.map((c) => pack32(...c));
  const grey = (i) => pack32(...[0, 1, 2].map((c) => image[3 * i + c] >> 1));
  const paint = {
    image: (i) => pack32(image[3 * i], image[3 * i + 1], image[3 * i + 2]),
    truth: (i) => (truth[i] === VOID ? stripes(i, width) : colours[truth[i]]),
    label: (i) => colours[label[i]] ?? RIM,
    wrong: (i) => (truth[i] === VOID ? stripes(i, width) : truth[i] === label[i] ? grey(i) : (colours[label[i]] ?? RIM)),
  }[kind];
  for (let i = 0; i < out.length; i++) out[i] = paint(i);
  context.putImageData(drawn, 0, 0);
  return canvas;
}
