// What the keyboard does.

import { POLICIES } from "./arithmetic.js";
import { h } from "./dom.js";

const KEYS = [
  ["← →", "snapshot"],
  ["↑ ↓", "image"],
  ["space", "play"],
  ["[ ]", "threshold"],
  ["p", "next policy"],
  ["1 … 9, 0", "show or hide a class, show all"],
  ["+ −", "zoom"],
  ["shift + arrows", "move the pinned pixel"],
  ["esc", "clear the selection"],
];

export const keyHelp = () =>
  h(
    "details",
    { cls: "s4x-help" },
    h("summary", {}, "keys and gestures"),
    h("dl", {}, ...KEYS.flatMap(([name, words]) => [h("dt", {}, name), h("dd", {}, words)])),
    h(
      "p",
      {},
      "Hover or touch a picture to read a pixel; click pins it. Drag moves, a pinch or ctrl + wheel zooms (the wheel alone after a click into a picture), a double click shows all.",
    ),
  );

/** Acts on a key. No unmodified key goes on to the notebook, where `d d` deletes the cell and `b` inserts one. */
export function key(app, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  event.stopPropagation();
  const typing = event.target.closest("select, input:not([type=range]), summary");
  const arrows = event.key.startsWith("Arrow") && event.target.closest("input[type=range]") && !event.shiftKey;
  const pressing = event.key === " " && event.target.closest("button, [role=button], svg [tabindex]");
  const act = typing || arrows || pressing ? null : action(app, event);
  if (!act) return;
  event.preventDefault();
  act();
}

function action(app, event) {
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (arrow && event.shiftKey) return () => app.scene && app.selecting.movePin(...arrow);
  if (arrow) return () => (arrow[0] ? app.scrubBy(arrow[0]) : app.turn(arrow[1]));
  if (/^[1-9]$/.test(event.key)) return () => app.toggleClass(Number(event.key) - 1);
  const next = POLICIES[(POLICIES.findIndex(([name]) => name === app.state.policy) + 1) % POLICIES.length][0];
  return {
    " ": () => app.controls.play(!app.controls.playing),
    0: () => app.set("hidden", []),
    "+": () => app.view.by(1.5),
    "=": () => app.view.by(1.5),
    "-": () => app.view.by(1 / 1.5),
    "[": () => app.set("threshold", Math.max(0, app.level - 1) / 255),
    "]": () => app.set("threshold", Math.min(255, app.level + 1) / 255),
    p: () => app.set("policy", next),
    Escape: () => app.selecting.clear(),
  }[event.key];
}
