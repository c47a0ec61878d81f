// The explorer as a whole: its state in step with Python's, the data of what is shown, and who is told of a change.

import { clamp, confirmation, Frame, nearest, Scene } from "./arithmetic.js";
import { pack32 } from "./colours.js";
import { Controls } from "./controls.js";
import { h, unique } from "./dom.js";
import { key, keyHelp } from "./keys.js";
import { follow } from "./live.js";
import { View } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Selecting } from "./selection.js";
import { Store } from "./store.js";
import { Tabs } from "./tabs.js";
import { whole } from "./text.js";

const TRAITS = ["image", "snapshot", "threshold", "policy", "tracks", "hidden", "selection", "marks"]; // as state.py has them

/**
 * What the parts share: `state`; `scene`, the shown image; `rows`, one per shown track: {t, track, pack, summary, at: the
 * snapshot's index, T: how many there are, step, full, frame, chosen: marked pixels or null, mask, numbers: of the policy}.
 */
export class App {
  constructor(model, host) {
    this.model = model;
    this.meta = model.get("meta");
    this.classes = this.meta.classes.map(String);
    this.C = this.classes.length;
    this.palette = this.meta.palette.map((c) => c.map((x) => Number(x) & 255));
    this.colours = Uint32Array.from(this.palette, (c) => pack32(...c));
    this.outcomes = this.meta.outcomes; // colours of right, wrong, ...; see outcomes.py
    this.id = `s4x${unique()}`;
    this.store = new Store(model);
    this.state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
    this.rows = [];
    this.biases = new Map();
    this.full = null;
    this.root = h("div", {
      cls: "s4x",
      tabindex: -1,
      role: "region",
      "aria-label": "pseudo-label explorer",
    });
    this.view = new View(this.root);
    this.selecting = new Selecting(this);
    this.controls = new Controls(this);
    this.pictures = new Pictures(this);
    this.tabs = new Tabs(this);
    this.root.append(...this.controls.parts, this.pictures.host, this.pictures.evidence, this.tabs.host, keyHelp());
    host.append(this.root);
    this.hideStill(true);
    this.root.addEventListener("keydown", (event) => key(this, event));
    this.off = TRAITS.map((name) => {
      const heard = () => this.told(name);
      model.on(`change:${name}`, heard);
      return () => model.off(`change:${name}`, heard);
    });
    this.off.push(follow(this));
    this.show();
  }

  close() {
    this.hideStill(false);
    this.off.forEach((stop) => stop());
    this.store.close();
    this.controls.play(false);
    clearTimeout(this.saving);
    this.selecting.close();
  }

  /** The picture that a notebook keeps for when there is no explorer. */
  hideStill(hidden) {
    for (const still of document.querySelectorAll(".s4x-still"))
      if (still.dataset.key === this.meta.still) still.hidden = hidden;
  }

  // ---- state ----

  get first() {
    return this.meta.tracks[this.state.tracks[0]];
  }

  get level() {
    return Math.round(this.state.threshold * 255);
  }

  get step() {
    return this.first.steps[this.state.snapshot];
  }

  /** The images that can be shown, in words. */
  get held() {
    const { images, left_out: others } = this.meta;
    const all = images.length + others.length;
    return others.length ? `The ${images.length} of ${whole(all)} watched images that this page holds,` : "The watched images";
  }

  /** The tracks that have a row: at full resolution only the one that was computed. */
  get shown() {
    return this.full ? [this.full.track] : this.state.tracks;
  }

  /** Python has set a trait. */
  told(name) {
    const value = this.model.get(name);
    if (JSON.stringify(value) === JSON.stringify(this.state[name])) return;
    this.state[name] = value;
    this.changed(name);
  }

  /** The user has; Python hears of it when things are quiet. */
  set(name, value, quiet = false) {
    if (name === "tracks") this.keepStep(value);
    if (name === "image" && this.state.selection.kind === "pixel" && value !== this.state.image)
      this.state.selection = {};
    this.state[name] = value;
    this.changed(name);
    if (quiet)
      clearTimeout(this.saving); // a drag goes on: its end saves all
    else this.save();
  }

  save() {
    clearTimeout(this.saving);
    this.saving = setTimeout(() => {
      for (const name of TRAITS) {
        if (name === "selection" && this.full && this.state.selection.kind === "pixel") continue; // of another size
        if (JSON.stringify(this.model.get(name)) !== JSON.stringify(this.state[name]))
          this.model.set(name, this.state[name]);
      }
      this.model.save_changes();
    }, 200);
  }

  /** With other tracks first, stay at about the same training step. */
  keepStep(tracks) {
    const step = this.step;
    this.state.snapshot = nearest(this.meta.tracks[tracks[0]].steps, step);
  }

  changed(name) {
    if (name === "threshold" || name === "policy") this.moved();
    else if (name === "hidden") this.draw();
    else if (name === "selection") this.selecting.changed();
    else if (name === "marks") this.rows.length && this.tabs.section.update();
    else this.show();
  }

  // ---- data ----

  /** Fetch what is shown, then draw all of it; a later call overtakes an earlier one. */
  async show() {
    const turn = (this.turnNumber = (this.turnNumber ?? 0) + 1);
    const { controls, state } = this;
    const k = state.image;
    state.snapshot = clamp(state.snapshot, 0, this.first.steps.length - 1); // the tracks may have changed
    if (this.full && (this.full.image !== k || !state.tracks.includes(this.full.track))) this.full = null;
    controls.update();
    if (!this.rows.length) controls.say("loading …");
    try {
      const full = this.full;
      const packs = full
        ? [full.pack, full.pack]
        : await Promise.all([
            this.store.get(`image/${k}`),
            ...state.tracks.map((t) => this.store.get(`track/${t}/${k}`)),
          ]);
      const summaries = await Promise.all(this.shown.map((t) => this.store.get(`summary/${t}`).catch(() => null)));
      if (turn !== this.turnNumber) return;
      this.look(packs[0]);
      this.rows = this.shown.map((t, r) => this.row(t, packs[r + 1], summaries[r], Boolean(full)));
      controls.say("");
    } catch (error) {
      if (turn === this.turnNumber) controls.say(`This image cannot be shown: ${error.message}`);
      return;
    }
    this.pictures.layout();
    this.draw();
    this.tabs.section.update();
    this.selecting.read();
    controls.timeline.update();
  }

  look(pack) {
    if (this.scenePack === pack) return;
    this.scene = new Scene(pack);
    this.scenePack = pack;
    this.selecting.last = null;
    this.biases.clear();
  }

  row(t, pack, summary, full) {
    const track = this.meta.tracks[t];
    const at = full ? 0 : nearest(track.steps, this.step);
    const row = { t, track, pack, summary, at, full, T: full ? 1 : track.steps.length };
    row.frame = new Frame(this.scene, pack, at, this.C);
    row.step = full ? track.steps[track.steps.length - 1] : (track.partial?.[this.state.image] ?? track.steps)[at];
    return row;
  }

  bias(row) {
    if (!this.biases.has(row.t)) this.biases.set(row.t, new Map());
    const found = this.biases.get(row.t);
    if (!found.has(row.at)) found.set(row.at, confirmation(this.scene, row.pack, row.T, row.at));
    return found.get(row.at);
  }

  async toggleFull() {
    if (this.full) return this.enlarge(null);
    const [image, track] = [this.state.image, this.state.tracks[0]];
    this.controls.say("computing the whole image …");
    try {
      const pack = await this.store.full(image, track);
      if (image === this.state.image) this.enlarge({ image, track, pack });
    } catch (error) {
      this.controls.say(`No full resolution: ${error.message}`);
    }
  }

  enlarge(full) {
    this.full = full;
    if (this.state.selection.kind === "pixel") this.state.selection = {};
    this.show();
  }

  // ---- drawing ----

  /** Everything but what the threshold and the policy decide, and that. */
  draw() {
    this.controls.update();
    if (!this.rows.length) return;
    this.selecting.choose();
    this.pictures.draw();
    this.moved();
  }

  /** The threshold or the policy has changed: the only path that a drag of the slider takes. */
  moved() {
    this.controls.update();
    if (!this.rows.length) return;
    for (const row of this.rows) {
      row.mask = row.frame.mask(this.state.policy, this.level);
      row.numbers = row.frame.numbers(row.mask);
    }
    this.pictures.moved();
    this.controls.count();
    this.selecting.say();
    this.tabs.section.move();
    this.selecting.read();
  }

  // ---- what keys and buttons do ----

  /** Several traits at once. */
  go(state) {
    Object.assign(this.state, state);
    this.selecting.changed();
    this.show();
    this.save();
  }

  toggleClass(c) {
    const { hidden } = this.state;
    if (c < this.C)
      this.set(
        "hidden",
        hidden.includes(c) ? hidden.filter((other) => other !== c) : [...hidden, c].sort((a, b) => a - b),
      );
  }

  toggleTrack(t) {
    const { tracks } = this.state;
    const next = tracks.includes(t) ? tracks.filter((other) => other !== t) : [...tracks, t];
    if (next.length) this.set("tracks", next);
  }

  turn(by) {
    const n = this.meta.images.length;
    this.set("image", (this.state.image + by + n) % n);
  }

  scrubBy(by) {
    if (!this.full) this.set("snapshot", clamp(this.state.snapshot + by, 0, this.first.steps.length - 1));
  }
}
