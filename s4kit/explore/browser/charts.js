// A small line chart in SVG.

import { s, unique } from "./dom.js";

/** A small SVG line chart. `series`: {points: [[x, y] or null, ...], cls, label}. Returns {svg, x, y, over}. */
export function chart({
  width = 340,
  height = 210,
  x: [x0, x1],
  y: [y0, y1],
  xLabel,
  yLabel,
  xTicks,
  yTicks,
  series = [],
  label,
  left = 40,
}) {
  const box = { left, right: width - 10, top: 10, bottom: height - (xLabel ? 36 : 22) };
  const x = (v) => box.left + ((v - x0) / (x1 - x0 || 1)) * (box.right - box.left);
  const y = (v) => box.bottom - ((v - y0) / (y1 - y0 || 1)) * (box.bottom - box.top);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "s4x-chart", role: "img", "aria-label": label });
  svg.style.setProperty("max-width", `${1.3 * width}px`);
  for (const [v, text] of yTicks) {
    svg.append(s("line", { x1: box.left, x2: box.right, y1: y(v), y2: y(v), class: "grid" }));
    svg.append(s("text", { x: box.left - 5, y: y(v) + 4, class: "tick end" }, text));
  }
  xTicks.forEach(([v, text], i) => {
    const end = xTicks.length > 1 && i === xTicks.length - 1;
    svg.append(s("text", { x: x(v), y: box.bottom + 15, class: end ? "tick end" : i ? "tick mid" : "tick" }, text));
  });
  svg.append(s("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "axis" }));
  if (xLabel) svg.append(s("text", { x: (box.left + box.right) / 2, y: height - 4, class: "name mid" }, xLabel));
  if (yLabel)
    svg.append(
      s("text", { transform: `translate(11 ${(box.top + box.bottom) / 2}) rotate(-90)`, class: "name mid" }, yLabel),
    );
  const inside = `s4x-clip${unique()}`;
  svg.append(
    s(
      "clipPath",
      { id: inside },
      s("rect", { x: box.left, y: box.top - 3, width: box.right - box.left, height: box.bottom - box.top + 3 }),
    ),
  );
  for (const { points, cls } of series)
    svg.append(s("path", { d: line(points, x, y), class: `line ${cls}`, "clip-path": `url(#${inside})` }));
  const over = s("g");
  svg.append(over);
  return { svg, x, y, over, box };
}

export function line(points, x, y) {
  let open = false;
  const parts = [];
  for (const at of points) {
    if (!at || at[0] === null || at[1] === null) {
      open = false;
      continue;
    }
    parts.push(`${open ? "L" : "M"}${x(at[0]).toFixed(1)} ${y(at[1]).toFixed(1)}`);
    open = true;
  }
  return parts.join("");
}

export const SHARES = [
  [0, "0"],
  [0.25, "25"],
  [0.5, "50"],
  [0.75, "75"],
  [1, "100 %"],
];
