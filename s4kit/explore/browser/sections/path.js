import { nearest, range } from "../arithmetic.js";
import { HEAT, LINES, pack32, paintLevels, stripes } from "../colours.js";
import { h } from "../dom.js";
import { bar } from "../legends.js";
import { Panel, View } from "../panel.js";
import { percent } from "../text.js";
import { Section } from "./section.js";

export class Path extends Section {
  name = "path";
  title = "Path as trained";
  example = 0;

  constructor(app) {
    super(app);
    this.view = new View(this.host);
  }

  update() {
    const { app } = this;
    const examples = Math.max(0, ...app.rows.map(({ track }) => track.path || 0));
    const intro = this.intro(
      "One training batch, drawn once, on its whole way through a step of the method, in training mode: what the teacher saw, what the student saw, what it was to say there, what was kept of that, and where it hurt. The target belongs to the student's view: where that is mixed of two images, the target is, too. These are other images than the probe images above.",
    );
    if (!examples) {
      this.host.replaceChildren(
        intro,
        h(
          "p",
          { test: "path-none" },
          "Nothing was recorded: the method has no unlabelled term, or the file leaves this part out.",
        ),
      );
      return;
    }
    this.example = Math.min(this.example, examples - 1);
    const choose = h(
      "div",
      { cls: "s4x-choice", role: "group", "aria-label": "example" },
      ...range(examples).map((j) =>
        h(
          "button",
          { type: "button", test: `path-${j}`, "aria-pressed": j === this.example, onclick: () => this.go(j) },
          this.nameOf(j),
        ),
      ),
    );
    this.blocks = h("div", {});
    this.host.replaceChildren(intro, choose, this.blocks);
    this.load();
  }

  /** Of an example: the image, where it is known, and the path, where there are several. */
  nameOf(j) {
    const longest = (name) =>
      this.app.rows.map(({ track }) => track[name] ?? []).reduce((a, b) => (b.length > a.length ? b : a), []);
    const [names, ids] = [longest("path_names"), longest("path_ids")];
    const path = new Set(names).size > 1 ? names[j] : "";
    const place = path ? names.slice(0, j + 1).filter((name) => name === path).length : j + 1;
    return [path, ids[j] || (path ? String(place) : `example ${place}`)].filter(Boolean).join(", ");
  }

  go(j) {
    this.example = j;
    this.update();
  }

  async load() {
    const { app } = this;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const rows = app.rows.filter(({ track }) => this.example < (track.path || 0));
    try {
      const packs = await Promise.all(rows.map(({ t }) => app.store.get(`path/${t}/${this.example}`)));
      if (turn === this.turn)
        this.blocks.replaceChildren(...rows.map((row, r) => this.block(row, packs[r], r ? `-${row.t}` : "")));
    } catch (error) {
      if (turn === this.turn) this.blocks.replaceChildren(h("p", {}, `This part cannot be shown: ${error.message}`));
    }
  }

  block(row, pack, suffix) {
    const { app } = this;
    const [T, height, width] = pack.loss.shape;
    const n = height * width;
    const there = pack.present ? range(T).filter((q) => pack.present.data[q]) : range(T);
    const at = there[nearest(there, Math.min(row.at, T - 1))]; // the nearest step of which there is a path
    const scene = { width, height, n, valid: new Uint8Array(n).fill(1), dim: new Uint32Array(n) };
    const of = (name, planes = 1) => {
      if (!pack[name]) return null;
      const from = (pack[name].shape[0] === 1 ? 0 : at) * planes * n; // a picture that never changes is there once
      return pack[name].data.subarray(from, from + planes * n);
    };
    const [weak, mixed, weight, loss] = [of("weak", 3), of("mixed", 3), of("weight"), of("loss")];
    const label = of("label")?.some((c) => c < app.C) ? of("label") : null;
    const ground = mixed ?? weak;
    for (let i = 0; i < n; i++) {
      const grey = ground ? (77 * ground[3 * i] + 151 * ground[3 * i + 1] + 28 * ground[3 * i + 2]) >> 8 : 60;
      scene.dim[i] = pack32(14 + ((grey * 5) >> 4), 14 + ((grey * 5) >> 4), 20 + ((grey * 5) >> 4));
    }
    const steps = [
      ["weak", "1 weak view", "what the teacher saw", weak, (out) => picture(out, weak)],
      ["mixed", "2 strong / mixed view", "what the student saw", mixed, (out) => picture(out, mixed)],
      ["target", "3 target", "what it is to say there", label, (out) => labels(out, null)],
      ["path-kept", "4 kept", "what is left of it", label && weight, (out) => labels(out, weight)],
      ["loss", "5 loss", "of each pixel", loss, (out) => paintLevels(out, loss, HEAT)],
    ];
    const picture = (out, bytes) => {
      for (let i = 0; i < n; i++) out[i] = pack32(bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]);
    };
    const labels = (out, by) => {
      for (let i = 0; i < n; i++)
        out[i] =
          by && !by[i]
            ? ((i % width) + Math.floor(i / width)) % 6
              ? scene.dim[i]
              : LINES
            : label[i] < app.C
              ? app.colours[label[i]]
              : stripes(i, width);
    };
    const panels = steps.map(([test, title, say, there, colour]) => {
      const panel = new Panel({ title, say, test: `panel-${test}${suffix}`, view: this.view });
      panel.size(width, height);
      if (there) panel.paint(scene, colour, null);
      else panel.say("this method has none");
      return panel;
    });
    const most = Number(pack.header.loss_max);
    if (Number.isFinite(most)) panels[4].caption.append(bar(HEAT, "0", most.toPrecision(3), "loss of a pixel"));
    let kept = 0;
    if (label) for (let i = 0; i < n; i++) kept += weight[i] ? 1 : 0;
    const step = row.track.steps[at];
    const id = row.track.path_ids?.[this.example];
    const words = `As trained, ${pack.header.name ?? ""}, ${id ? `${id}, ` : ""}step ${step}${label ? `: ${percent(kept / n)} of this example's pixels are kept` : ""}.`;
    return h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h("div", { cls: "s4x-grid five" }, ...panels.map(({ figure }) => figure)),
      h("p", { cls: "small", test: `path-words${suffix}`, "data-kept": kept }, words),
    );
  }
}
