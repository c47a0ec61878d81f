// Keys of colours below a picture, and the two numbers of a policy.

import { gradient, rgb } from "./colours.js";
import { h } from "./dom.js";
import { percent, whole } from "./text.js";

export const keys = (pairs) =>
  pairs.map(([colour, text]) => h("span", { cls: "s4x-swatch" }, h("i", { css: { background: rgb(colour) } }), text));

export const bar = (colours, low, high, label) =>
  h(
    "span",
    { cls: "s4x-scale", role: "img", "aria-label": `colours: ${label}, from ${low} to ${high}` },
    low,
    h("i", { css: { background: gradient(colours) } }),
    high,
  );

/** What the numbers of a row's summary are over. */
export const overAll = ({ summary: { header } }) =>
  `all ${whole(header.images)} ${header.all === false ? "unlabelled " : ""}watched images with a truth`;

/** The two numbers that every policy is judged by; counts ride along for whoever reads the page. */
export function figuresOf(numbers, suffix) {
  const data = {
    "data-kept": numbers.kept,
    "data-valid": numbers.valid,
    "data-known": numbers.known,
    "data-right": numbers.right,
  };
  return [
    h(
      "span",
      {},
      "kept ",
      h("b", { test: `coverage${suffix}`, ...data }, percent(numbers.coverage)),
      h("small", {}, " (", h("span", { test: `kept${suffix}` }, String(numbers.kept)), " px)"),
    ),
    h("span", {}, "right ", h("b", { test: `precision${suffix}` }, percent(numbers.precision))),
  ];
}
