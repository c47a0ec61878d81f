import { Frame, nearest, range, ratio } from "../arithmetic.js";
import { CIVIDIS, paintLevels, rgb } from "../colours.js";
import { changes } from "../comparisons.js";
import { h } from "../dom.js";
import { Panel } from "../panel.js";
import { Swipe } from "../swipe.js";
import { percent, whole } from "../text.js";
import { Section } from "./section.js";

const WHAT = ["pseudo-label", "kept", "errors of kept pixels", "confidence"];
const MOST = 8; // kinds of changes that are listed

/** Two snapshots of a track, or two tracks, in one place; and which pixels changed, from what to what. */
export class Change extends Section {
  name = "change";
  title = "What changed";
  other = "before"; // what the row is compared with: "before", "step <s>" or "track <t>"
  what = WHAT[0];

  update() {
    const { app } = this;
    const intro = this.intro(
      "Two snapshots, or two tracks, in one place: drag the divider, or flip. Beside it the pixels that got another label, in the colour of what they are called now. Click a kind of change to mark its pixels.",
    );
    const choices = this.choices();
    if (app.full || !choices.length) {
      const words = app.full ? "Full resolution shows the last weights only." : "There is one snapshot only.";
      this.blocks = [];
      this.host.replaceChildren(intro, h("p", { test: "change-none" }, words));
      return;
    }
    if (!choices.some(([value]) => value === this.other)) this.other = choices[0][0];
    this.blocks = this.pairs().map((pair, b) => this.block(pair, b ? `-${pair.row.t}` : ""));
    this.host.replaceChildren(intro, this.bar(choices), ...this.blocks.map(({ host }) => host));
    this.move();
  }

  choices() {
    const { app } = this;
    const steps = app.first.steps.length > 1 ? app.first.steps.map((step) => [`step ${step}`, `step ${step}`]) : [];
    const tracks = app.rows.slice(1).map(({ t, track }) => [`track ${t}`, `${track.title}, now`]);
    return [...(steps.length ? [["before", "the snapshot before"]] : []), ...steps, ...tracks];
  }

  bar(choices) {
    const select = (test, label, options, chosen, act) => {
      const list = h("select", { test, "aria-label": label, onchange: () => act(list.value) });
      for (const [value, text] of options) list.append(h("option", { value, selected: value === chosen }, text));
      return h("label", { cls: "s4x-field" }, h("span", {}, label), list);
    };
    const go = (name) => (value) => {
      this[name] = value;
      this.update();
    };
    const pictures = WHAT.map((name) => [name, name]);
    return h(
      "div",
      { cls: "s4x-bar" },
      select("change-with", "compare with", choices, this.other, go("other")),
      select("change-what", "show", pictures, this.what, go("what")),
    );
  }

  /** [{row, then: {row, index of its snapshot or null for another track}}] */
  pairs() {
    const { app, other } = this;
    const [kind, number] = other.split(" ");
    if (kind === "track") {
      const against = app.rows.find(({ t }) => t === Number(number));
      return [{ row: app.rows[0], then: against, names: [against.track.title, app.rows[0].track.title], since: null }];
    }
    return app.rows.map((row) => {
      const { steps } = row.track;
      const at = kind === "step" ? nearest(steps, Number(number)) : Math.max(0, row.at - 1);
      const then = { ...row, at, frame: new Frame(app.scene, row.pack, at, app.C) };
      const since = nearest(app.first.steps, steps[at]);
      return { row, then, names: [`step ${steps[at]}`, `step ${row.step}`], since };
    });
  }

  block(pair, suffix) {
    const { app } = this;
    const { row, then, names } = pair;
    const { view } = app;
    const { pointer } = app.selecting;
    const swipe = new Swipe({ title: this.what, test: `swipe${suffix}`, view, pointer });
    swipe.at = this.divider ?? 0.5;
    const map = new Panel({ title: "changed", say: `from ${names[0]}`, test: `map-change${suffix}`, view, pointer });
    const found = changes(then.frame, row.frame);
    map.paint(app.scene, (out) => this.paintChanges(out, found.map, row), row.chosen);
    const host = h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h("div", { cls: "s4x-changes" }, swipe.panel.figure, map.figure, this.words(pair, found, suffix)),
    );
    return { ...pair, swipe, host };
  }

  paintChanges(out, map, row) {
    const { scene, colours } = this.app;
    for (let i = 0; i < out.length; i++) out[i] = map[i] ? colours[row.frame.label[i]] : scene.dim[i];
  }

  words({ row, names, since }, { counts, pairs }, suffix) {
    const { app } = this;
    const { changed, mended, broken, wrong } = counts;
    const data = Object.fromEntries(Object.entries(counts).map(([name, count]) => [`data-${name}`, count]));
    const judged = app.scene.knownCount
      ? ` ${whole(mended)} were wrong and are right now, ${whole(broken)} were right and are wrong now, ${whole(wrong)} are wrong both times.`
      : " This image has no ground truth: whether that is better cannot be told.";
    const share = percent(ratio(changed, app.scene.validCount));
    const said = `${whole(changed)} pixels (${share}) have another label than ${since === null ? "in" : "at"} ${names[0]}.`;
    const top = range(app.C * app.C)
      .filter((k) => pairs[k])
      .sort((a, b) => pairs[b] - pairs[a]);
    return h(
      "div",
      {},
      h("p", { test: `changed${suffix}`, ...data }, said, changed ? judged : ""),
      h("div", { cls: "s4x-kinds" }, ...top.slice(0, MOST).map((k) => this.kind(k, pairs[k], since, suffix))),
      top.length > MOST ? h("p", { cls: "small" }, `and ${top.length - MOST} kinds of changes more`) : "",
      row.track.partial?.[app.state.image] ? h("p", { cls: "small" }, "This image was not looked at every time.") : "",
    );
  }

  kind(k, count, since, suffix) {
    const { app } = this;
    const [from, to] = [Math.floor(k / app.C), k % app.C];
    const dot = (c) => h("i", { cls: "dot", css: { background: rgb(app.palette[c]) } });
    const words = [dot(from), `${app.classes[from]} → `, dot(to), `${app.classes[to]}: ${whole(count)}`];
    const { selection } = app.state;
    const wanted = { kind: "change", from, to, since };
    const on = Object.entries(wanted).every(([name, value]) => selection[name] === value);
    const press = () => app.set("selection", on ? {} : wanted);
    const data = { test: `kind-${from}-${to}${suffix}`, "data-pixels": count, "aria-pressed": on };
    return since === null
      ? h("span", data, ...words)
      : h("button", { type: "button", onclick: press, ...data }, ...words);
  }

  /** The pictures on both sides follow the threshold. */
  move() {
    const { app } = this;
    const { policy } = app.state;
    for (const { row, then, names, swipe } of this.blocks ?? []) {
      const sides = [then, row].map((side) => ({ ...side, mask: side.frame.mask(policy, app.level) }));
      swipe.show(app.scene, sides.map((side) => this.painter(side)), names, row.chosen);
      swipe.range.onchange = () => (this.divider = swipe.at);
    }
  }

  painter({ frame, mask }) {
    const { pictures } = this.app;
    return {
      "pseudo-label": (out) => pictures.paintLabels(out, frame.label),
      kept: (out) => pictures.paintKept(out, { frame, mask }),
      "errors of kept pixels": (out) => pictures.paintErrors(out, { frame, mask }),
      confidence: (out) => paintLevels(out, frame.confidence, CIVIDIS),
    }[this.what];
  }
}
