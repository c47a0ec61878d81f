// The pictures of the shown image: what all tracks share, and a row of each track.

import { ratio, stepWords } from "./arithmetic.js";
import { CIVIDIS, KEPT, pack32, paintLevels, REJECTED, stripes, UNKNOWN, VIRIDIS } from "./colours.js";
import { disagreement, UNJUDGED } from "./comparisons.js";
import { h } from "./dom.js";
import { bar, figuresOf, keys } from "./legends.js";
import { Panel } from "./panel.js";
import { Readout } from "./readout.js";
import { percent } from "./text.js";

const TRACK_PANELS = [
  ["pseudo", "pseudo-label", "every pixel's label, kept or not"],
  ["confidence", "confidence", "as the method's rule sees it"],
  ["entropy", "entropy", "of the class probabilities"],
  ["kept", "kept", "what this policy would train on"],
  ["errors", "errors of kept pixels", "against the hidden truth"],
];
const OBJECTS_PANEL = ["objects", "objects", "each in an outline of its class's colour"]; // where they were recorded

export class Pictures {
  constructor(app) {
    this.app = app;
    this.host = h("div", { cls: "s4x-area" });
    this.evidence = h("p", { cls: "s4x-evidence", test: "evidence" });
    this.blend = { what: "pseudo", amount: 0.5 };
    this.tracks = []; // {panels, readout, head} of each row
  }

  // ---- layout ----

  /** The panels for the shown tracks: one grid for one track, else a shared row and one row per track. */
  layout() {
    const { app } = this;
    const key = `${app.shown}${app.full ? "full" : ""}`;
    if (this.laid === key) return;
    this.laid = key;
    const single = app.shown.length === 1;
    this.shared = {
      image: this.panel("image", "image", null, "image with overlay"),
      truth: this.panel("truth", "ground truth", "hidden from the training"),
    };
    if (!single)
      this.shared.disagreement = this.panel("disagreement", "disagreement", "where the tracks give different labels");
    this.tracks = app.shown.map((t, r) => this.track(t, r ? `-${t}` : ""));
    const figures = (panels) => Object.values(panels).map((panel) => panel.figure);
    if (single) {
      const [{ panels, readout }] = this.tracks;
      const all = [...figures(this.shared), ...figures(panels), readout.host];
      this.host.replaceChildren(h("div", { cls: "s4x-grid single" }, ...all));
      return;
    }
    this.summary = h("div", { cls: "s4x-words", test: "disagreement" });
    this.host.replaceChildren(
      h("div", { cls: "s4x-grid shared" }, ...figures(this.shared), this.summary),
      ...this.tracks.map(({ t, head, panels, readout }) =>
        h(
          "section",
          { cls: "s4x-row", test: `row-${t}` },
          head,
          h("div", { cls: "s4x-grid compare" }, ...figures(panels), readout.host),
        ),
      ),
    );
  }

  panel(name, title, say, label) {
    const { view, selecting } = this.app;
    return new Panel({ title, say, label, test: `panel-${name}`, view, pointer: selecting.pointer });
  }

  track(t, suffix) {
    const { title, objects } = this.app.meta.tracks[t];
    const { right, wrong } = this.app.outcomes;
    const panels = Object.fromEntries(
      [...TRACK_PANELS, ...(objects ? [OBJECTS_PANEL] : [])].map(([name, words, say]) => [
        name,
        this.panel(name + suffix, words, say, `${words}, ${title}`),
      ]),
    );
    panels.objects?.caption.append(bar(CIVIDIS, "0", "1", "confidence"));
    panels.confidence.caption.append(bar(CIVIDIS, "0", "1", "confidence"));
    panels.entropy.caption.append(bar(VIRIDIS, "0", "1", "entropy, as a share of its largest value"));
    panels.kept.caption.append(
      ...keys([
        [KEPT, "kept"],
        [REJECTED, "rejected"],
      ]),
    );
    panels.errors.caption.append(
      ...keys([
        [right, "right"],
        [wrong, "wrong"],
        [UNKNOWN[0], "truth unknown"],
      ]),
    );
    return { t, panels, readout: new Readout(this.app, suffix), head: h("div", { cls: "s4x-head" }) };
  }

  // ---- drawing ----

  /** All that neither the threshold nor the policy decides. */
  draw() {
    const { app } = this;
    this.shownClass = new Uint8Array(256).fill(1);
    for (const c of app.state.hidden) this.shownClass[c] = 0;
    this.drawTruth();
    this.drawImage();
    this.tracks.forEach(({ panels }, r) => {
      const { frame, chosen } = app.rows[r];
      panels.pseudo.paint(app.scene, (out) => this.paintLabels(out, frame.label), chosen);
      panels.confidence.paint(app.scene, (out) => paintLevels(out, frame.confidence, CIVIDIS), chosen);
      panels.entropy.paint(app.scene, (out) => paintLevels(out, frame.entropy, VIRIDIS), chosen);
      panels.objects?.paint(app.scene, (out) => this.paintObjects(out, frame), chosen);
    });
    if (this.shared.disagreement) this.drawDisagreement();
    this.sayEvidence();
  }

  /** What the threshold and the policy decide. */
  moved() {
    const { rows, scene } = this.app;
    rows.forEach((row, r) => {
      const { panels, head } = this.tracks[r];
      panels.kept.paint(scene, (out) => this.paintKept(out, row), row.chosen);
      if (scene.knownCount) panels.errors.paint(scene, (out) => this.paintErrors(out, row), row.chosen);
      else this.noTruth(panels.errors);
      const words = [h("b", {}, row.track.title), h("span", {}, stepWords(row.track, row.step))];
      if (rows.length > 1) head.replaceChildren(...words, ...figuresOf(row.numbers, `-${row.t}`));
    });
  }

  /** What every track says of a pixel; null: of none. */
  read(pixel) {
    this.tracks.forEach(({ readout }, r) => readout.show(pixel, this.app.rows[r]));
  }

  reblend(blend) {
    this.blend = blend;
    if (this.app.rows.length) this.drawImage();
  }

  paintLabels(out, labels) {
    const { colours, C, scene } = this.app;
    const { dim, width } = scene;
    for (let i = 0; i < out.length; i++) {
      const c = labels[i];
      out[i] = c >= C ? stripes(i, width) : this.shownClass[c] ? colours[c] : dim[i];
    }
  }

  paintObjects(out, { object, label, confidence, rims }) {
    const { colours, C, scene } = this.app;
    for (let i = 0; i < out.length; i++) {
      if (!object?.[i] || !this.shownClass[label[i]]) out[i] = scene.dim[i];
      else out[i] = rims[i] < C ? colours[rims[i]] : CIVIDIS[confidence[i]];
    }
  }

  paintKept(out, { frame, mask }) {
    const { grey, dim } = this.app.scene;
    const { label, weight } = frame;
    const own = this.app.state.policy === "own";
    for (let i = 0; i < out.length; i++) {
      if (!mask[i] || !this.shownClass[label[i]]) {
        out[i] = dim[i];
        continue;
      }
      const by = own ? 90 + ((weight[i] * 100) >> 8) : 190; // of 256; soft weights shine less
      const lit = (grey[i] * (256 - by)) >> 8;
      out[i] = pack32(lit + ((KEPT[0] * by) >> 8), lit + ((KEPT[1] * by) >> 8), lit + ((KEPT[2] * by) >> 8));
    }
  }

  paintErrors(out, { frame, mask }) {
    const { dim, truth, known, width } = this.app.scene;
    const { label } = frame;
    const [right, wrong] = ["right", "wrong"].map((name) => pack32(...this.app.outcomes[name]));
    for (let i = 0; i < out.length; i++) {
      if (!mask[i] || !this.shownClass[label[i]]) out[i] = dim[i];
      else out[i] = !known[i] ? stripes(i, width) : label[i] === truth[i] ? right : wrong;
    }
  }

  drawTruth() {
    const { scene, rows } = this.app;
    const { truth } = this.shared;
    if (scene.knownCount) truth.paint(scene, (out) => this.paintLabels(out, scene.truth), rows[0].chosen);
    else this.noTruth(truth);
  }

  noTruth(panel) {
    panel.size(this.app.scene.width, this.app.scene.height);
    panel.say("no ground truth for this image");
  }

  drawImage() {
    const { scene, colours, C, rows } = this.app;
    const { frame, chosen } = rows[0];
    const by = Math.round(this.blend.amount * 256);
    const { what } = this.blend;
    const labels = what === "objects" ? frame.rims : { pseudo: frame.label, truth: scene.truth }[what];
    const paint = (out) => {
      for (let i = 0; i < out.length; i++) {
        const under = scene.rgb[i];
        if (labels && (labels[i] >= C || !this.shownClass[labels[i]])) {
          out[i] = under;
          continue;
        }
        const over = labels ? colours[labels[i]] : CIVIDIS[frame.confidence[i]];
        const mix = (shift) => ((((under >>> shift) & 255) * (256 - by) + ((over >>> shift) & 255) * by) >> 8) << shift;
        out[i] = (mix(0) | mix(8) | mix(16) | 0xff000000) >>> 0;
      }
    };
    this.shared.image.paint(scene, paint, chosen);
  }

  drawDisagreement() {
    const { scene, rows, outcomes } = this.app;
    const labels = rows.map((row) => row.frame.label);
    const found = disagreement(scene, labels);
    const { first, second, neither } = outcomes;
    const colour = found.two ? [0, ...[first, second, neither].map((c) => pack32(...c))] : null;
    const paint = (out) => {
      for (let i = 0; i < out.length; i++) {
        const kind = found.map[i];
        if (!kind) out[i] = scene.dim[i];
        else if (colour) out[i] = kind === UNJUDGED ? stripes(i, scene.width) : colour[kind];
        else out[i] = CIVIDIS[Math.round((255 * kind) / (labels.length - 1 || 1))];
      }
    };
    this.shared.disagreement.paint(scene, paint, null);
    this.shared.disagreement.caption.replaceChildren(
      ...(found.two
        ? keys([
            [first, "first is right"],
            [second, "second is right"],
            [neither, "neither"],
          ])
        : [bar(CIVIDIS, "1 label", `${labels.length} labels`, "number of different labels")]),
    );
    this.sayDisagreement(found.counts, found.two);
  }

  sayDisagreement(counts, two) {
    const { rows, scene } = this.app;
    const data = Object.fromEntries(["differ", "first", "second", "neither"].map((name) => [`data-${name}`, counts[name]]));
    const share = percent(ratio(counts.differ, scene.validCount));
    const words = h("p", { test: "differ", ...data }, `${share} of the pixels get different labels.`);
    this.summary.replaceChildren(h("b", {}, "Where they disagree"), words);
    if (!two) return;
    const line = (said, count) => h("p", {}, `${percent(ratio(count, counts.known))} of them: `, said);
    this.summary.append(
      line(`${rows[0].track.title} is right`, counts.first),
      line(`${rows[1].track.title} is right`, counts.second),
      line("neither is", counts.neither),
    );
  }

  sayEvidence() {
    const { rows, full, meta, held } = this.app;
    const words = [...new Set(rows.map(({ track }) => `${track.evidence}. What storing lost: ${track.lost}`))];
    const now =
      "Full resolution: the whole image through the last weights, now; not what was recorded during the training.";
    const part = meta.left_out.length ? ` ${held} were chosen when it was saved; “Worst images” names the others.` : "";
    const later = rows.filter(({ step, track, at }) => step !== track.steps[at]).map(({ step }) => step);
    const own = later.length ? `This image was added later; what is shown of it is of step ${later.join(" and ")}. ` : "";
    this.evidence.textContent = full ? now : `${own}Shown: ${words.join(" · ")}${part}`;
  }
}
