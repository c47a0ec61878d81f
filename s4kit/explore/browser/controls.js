// The bars above the pictures: what is shown, the threshold, the classes; and words about the state.

import { POLICIES, range, stepWords } from "./arithmetic.js";
import { rgb } from "./colours.js";
import { h } from "./dom.js";
import { figuresOf } from "./legends.js";
import { Timeline } from "./timeline.js";

const BETWEEN = 700; // milliseconds from one snapshot to the next while they play

export class Controls {
  constructor(app) {
    this.app = app;
    this.numbers = h("div", { cls: "s4x-numbers", "aria-live": "off" });
    this.status = h("div", { cls: "s4x-status", role: "status", "aria-live": "polite", test: "status" });
    this.marked = h("div", { cls: "s4x-marked", test: "marked" });
    this.parts = [
      h(
        "div",
        { cls: "s4x-sticky" },
        h("div", { cls: "s4x-bar" }, this.trackChips(), this.imageField(), this.trainingField()),
        h("div", { cls: "s4x-bar" }, this.policyField(), this.thresholdField(), this.numbers),
        this.timeline.words,
      ),
      h(
        "div",
        { cls: "s4x-bar" },
        this.blendField(),
        this.sizeField(),
        h("small", { cls: "s4x-hint" }, "The slider acts on the other three policies; the own rule is as recorded."),
        this.marked,
      ),
      this.classLegend(),
      this.status,
    ];
  }

  // ---- what there is ----

  trackChips() {
    const { app } = this;
    this.chips = h("div", { cls: "s4x-chips", role: "group", "aria-label": "tracks" });
    app.meta.tracks.forEach((track, t) =>
      this.chips.append(
        h("button", { type: "button", test: `track-${t}`, onclick: () => app.toggleTrack(t) }, track.title),
      ),
    );
    this.chips.hidden = app.meta.tracks.length < 2;
    return this.chips;
  }

  imageField() {
    const { app } = this;
    const options = app.meta.images.map((image, k) => [k, `${k + 1}: ${image.id}${kindOf(image)}`]);
    this.picker = choice("image", "image", options, () => app.set("image", Number(this.picker.value)));
    this.fuller = button(
      "full resolution",
      "compute this image at the resolution of its file, with the last weights",
      "full",
      () => app.toggleFull(),
    );
    return field(
      "image",
      button("‹", "image before", "image-previous", () => app.turn(-1)),
      this.picker,
      button("›", "next image", "image-next", () => app.turn(1)),
      app.meta.kernel ? this.fuller : null,
    );
  }

  trainingField() {
    const { app } = this;
    this.player = button("▶", "play the snapshots", "play", () => this.play(!this.playing));
    this.scrub = h("input", {
      type: "range",
      min: 0,
      test: "scrub",
      "aria-label": "snapshot",
      oninput: () => app.set("snapshot", Number(this.scrub.value), true),
      onchange: () => app.save(),
    });
    this.stepText = h("output", { cls: "s4x-number", test: "step" });
    this.timeline = new Timeline(app, this.scrub);
    return wide("training", this.player, this.timeline.host, this.stepText);
  }

  policyField() {
    const { app } = this;
    this.policies = h("div", { cls: "s4x-choice", role: "radiogroup", "aria-label": "policy" });
    for (const [key, name, words] of POLICIES) {
      const press = () => app.set("policy", key);
      const data = { test: `choose-${key}`, "data-value": key };
      this.policies.append(h("button", { type: "button", role: "radio", title: words, ...data, onclick: press }, name));
    }
    this.policies.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by || event.shiftKey) return;
      event.preventDefault();
      event.stopPropagation();
      const at = POLICIES.findIndex(([key]) => key === app.state.policy) + by + POLICIES.length;
      app.set("policy", POLICIES[at % POLICIES.length][0]);
      this.policies.children[at % POLICIES.length].focus();
    });
    return field("keep by", this.policies);
  }

  thresholdField() {
    const { app } = this;
    this.tau = h("input", {
      type: "range",
      min: 0,
      max: 255,
      step: 1,
      test: "tau",
      "aria-label": "threshold",
      oninput: () => app.set("threshold", Number(this.tau.value) / 255, true),
      onchange: () => app.save(),
    });
    this.tauText = h("output", { cls: "s4x-number", test: "tau-value" });
    return wide("threshold", this.tau, this.tauText);
  }

  blendField() {
    const { app } = this;
    const reblend = () => app.pictures.reblend({ what: what.value, amount: Number(by.value) / 100 });
    const kinds = [
      ["pseudo", "pseudo-label"],
      ["truth", "ground truth"],
      ["confidence", "confidence"],
      ...(app.meta.tracks.some(({ objects }) => objects) ? [["objects", "outlines of objects"]] : []),
    ];
    const what = choice("blend-what", "what to lay over the image", kinds, reblend);
    const by = h("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 50,
      test: "blend",
      "aria-label": "share of what lies over the image",
      oninput: reblend,
    });
    return field("over the image", what, by);
  }

  sizeField() {
    const { root, view } = this.app;
    const sizes = [
      ["", "auto"],
      ["2", "large"],
      ["1", "one"],
    ];
    const size = choice("columns", "size of the pictures", sizes, () => (root.dataset.columns = size.value));
    return field(
      "pictures",
      size,
      button("−", "zoom out", "zoom-out", () => view.by(1 / 1.5)),
      button("+", "zoom in", "zoom-in", () => view.by(1.5)),
      button("reset", "whole picture", "zoom-reset", () => view.reset()),
    );
  }

  classLegend() {
    const { app } = this;
    this.legend = h("div", { cls: "s4x-legend", role: "group", "aria-label": "classes" });
    const title = "show or hide in the pictures; the numbers count all classes";
    app.classes.forEach((name, c) => {
      const swatch = h("i", { css: { background: rgb(app.palette[c]) } });
      const press = () => app.toggleClass(c);
      this.legend.append(h("button", { type: "button", test: `class-${c}`, title, onclick: press }, swatch, name));
    });
    const all = () => app.set("hidden", app.state.hidden.length ? [] : range(app.C));
    const both = { type: "button", cls: "plain", test: "class-all", onclick: all };
    this.legend.append(h("button", both, "all / none"));
    return this.legend;
  }

  // ---- how it stands ----

  update() {
    const { app } = this;
    const { state, full } = app;
    this.picker.value = state.image;
    this.scrub.max = app.first.steps.length - 1;
    this.scrub.value = state.snapshot;
    this.scrub.disabled = this.player.disabled = Boolean(full) || app.first.steps.length < 2;
    const step = stepWords(app.first, app.step);
    this.scrub.setAttribute("aria-valuetext", step);
    this.stepText.textContent = full ? "last weights" : step;
    const longest = Math.max(...app.first.steps.map((one) => stepWords(app.first, one).length));
    this.stepText.style.setProperty("min-width", `${longest}ch`); // the scrubber keeps its width
    this.fuller.setAttribute("aria-pressed", Boolean(full));
    [...this.chips.children].forEach((chip, t) => chip.setAttribute("aria-pressed", state.tracks.includes(t)));
    this.tau.value = app.level;
    this.tauText.textContent = (app.level / 255).toFixed(3);
    this.tau.setAttribute("aria-valuetext", this.tauText.textContent);
    app.root.classList.toggle("own", state.policy === "own");
    for (const one of this.policies.children) {
      const on = one.dataset.value === state.policy;
      one.setAttribute("aria-checked", on);
      one.tabIndex = on ? 0 : -1;
    }
    app.classes.forEach((_, c) => this.legend.children[c].setAttribute("aria-pressed", !state.hidden.includes(c)));
  }

  /** What the policy keeps of the first track. */
  count() {
    const { rows, first } = this.app;
    const name = rows.length > 1 ? [h("small", {}, first.title)] : [];
    this.numbers.replaceChildren(...name, ...figuresOf(rows[0].numbers, ""));
  }

  say(words) {
    this.status.textContent = words;
  }

  play(on) {
    const { app } = this;
    clearInterval(this.playing);
    this.playing = null;
    this.player.textContent = on ? "❚❚" : "▶";
    this.player.setAttribute("aria-pressed", Boolean(on));
    if (!on) return;
    const next = () => app.set("snapshot", (app.state.snapshot + 1) % app.first.steps.length);
    this.playing = setInterval(next, BETWEEN);
  }
}

/** The list that an image is in, where it is not the one that pseudo-labels are for. */
const kindOf = ({ kind }) => (kind && kind !== "unlabelled" ? ` (${kind})` : "");

const field = (name, ...parts) => h("div", { cls: "s4x-field" }, h("span", {}, name), ...parts);

const wide = (name, ...parts) => h("div", { cls: "s4x-field grow" }, h("span", {}, name), ...parts);

const button = (text, label, test, act) =>
  h("button", { type: "button", "aria-label": label, title: label, test, onclick: act }, text);

function choice(test, label, options, act) {
  const select = h("select", { test, "aria-label": label, onchange: act });
  for (const [value, text] of options) select.append(h("option", { value }, text));
  return select;
}
