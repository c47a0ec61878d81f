// What a hand paints over a label map: strokes that can be taken back. No page is needed.

import { stripes } from "./colours.js";

export const BLANK = -2; // not painted
export const LEFT_OUT = -1; // painted as "not taught"

/** A layer of `width` x `height` classes; `allowed` (0/1 per pixel) says where there is anything to paint. */
export class Strokes {
  constructor(width, height, allowed) {
    Object.assign(this, { width, height, allowed });
    this.layer = new Int16Array(width * height).fill(BLANK);
    this.done = []; // strokes: Map of pixel -> [before, after]
    this.undone = [];
    this.stroke = null;
  }

  get painted() {
    return this.layer.reduce((sum, c) => sum + (c === BLANK ? 0 : 1), 0);
  }

  // ---- one stroke ----

  begin() {
    this.end();
    this.stroke = new Map();
  }

  end() {
    if (this.stroke?.size) {
      this.done.push(this.stroke);
      this.undone = [];
    }
    this.stroke = null;
  }

  set(i, c) {
    if (!this.allowed[i] || this.layer[i] === c) return;
    this.stroke.set(i, [this.stroke.get(i)?.[0] ?? this.layer[i], c]);
    this.layer[i] = c;
  }

  /** All pixels whose middle is within `radius` of the way from `a` to `b` ({x, y}, pixels); the nearest one at least. */
  line(a, b, radius, c) {
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const long = dx * dx + dy * dy;
    const reach = Math.max(radius, 0.5);
    const [low, high] = [(v) => Math.max(0, Math.floor(v - reach)), (v, n) => Math.min(n - 1, Math.ceil(v + reach))];
    for (let y = low(Math.min(a.y, b.y)); y <= high(Math.max(a.y, b.y), this.height); y++)
      for (let x = low(Math.min(a.x, b.x)); x <= high(Math.max(a.x, b.x), this.width); x++) {
        const part = long ? Math.min(1, Math.max(0, ((x - a.x) * dx + (y - a.y) * dy) / long)) : 0;
        const far = Math.hypot(x - a.x - part * dx, y - a.y - part * dy);
        if (far <= reach) this.set(y * this.width + x, c);
      }
  }

  /** All pixels whose middle is inside the polygon of these points ({x, y}, pixels). */
  polygon(points, c) {
    for (let y = 0; y < this.height; y++) {
      const cuts = [];
      points.forEach((a, k) => {
        const b = points[(k + 1) % points.length];
        if (a.y <= y !== b.y <= y) cuts.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x));
      });
      cuts.sort((a, b) => a - b);
      for (let k = 0; k + 1 < cuts.length; k += 2)
        for (let x = Math.max(0, Math.ceil(cuts[k])); x < Math.min(this.width, cuts[k + 1]); x++)
          this.set(y * this.width + x, c);
    }
  }

  /** The region of equal values of `map` around pixel `start`: pixels that touch along a side. */
  fill(start, map, c) {
    const { width, height } = this;
    const wanted = map[start];
    const seen = new Uint8Array(width * height);
    const open = [start];
    seen[start] = 1;
    const visit = (i) => {
      if (seen[i] || map[i] !== wanted || !this.allowed[i]) return;
      seen[i] = 1;
      open.push(i);
    };
    while (open.length) {
      const i = open.pop();
      const x = i % width;
      this.set(i, c);
      if (x) visit(i - 1);
      if (x < width - 1) visit(i + 1);
      if (i >= width) visit(i - width);
      if (i < width * (height - 1)) visit(i + width);
    }
  }

  // ---- back and forth ----

  undo() {
    this.move(this.done, this.undone, 0);
  }

  redo() {
    this.move(this.undone, this.done, 1);
  }

  move(from, to, which) {
    this.end();
    const stroke = from.pop();
    if (!stroke) return;
    for (const [i, values] of stroke) this.layer[i] = values[which];
    to.push(stroke);
  }

  clear() {
    this.begin();
    this.layer.forEach((c, i) => c !== BLANK && this.set(i, BLANK));
    this.end();
  }

  // ---- for Python ----

  /** [first pixel, how many, class] row by row; the class -1 is "not taught". */
  runs() {
    const found = [];
    this.layer.forEach((c, i) => {
      const last = found[found.length - 1];
      if (c === BLANK) return;
      if (last && last[2] === c && last[0] + last[1] === i) last[1]++;
      else found.push([i, 1, c]);
    });
    return found;
  }

  /** What `runs` has said, as one stroke. */
  load(runs) {
    this.begin();
    for (const [first, many, c] of runs) for (let i = first; i < first + many && i < this.layer.length; i++) this.set(i, c);
    this.end();
  }
}

/** The image with what is painted over it, and paler what a label map says of the rest; `label` may be null. */
export function paintStrokes(out, scene, colours, layer, label) {
  const mix = (under, over, by) => {
    const part = (shift) => ((((under >>> shift) & 255) * (256 - by) + ((over >>> shift) & 255) * by) >> 8) << shift;
    return (part(0) | part(8) | part(16) | 0xff000000) >>> 0;
  };
  for (let i = 0; i < out.length; i++) {
    const c = layer[i];
    if (c >= 0) out[i] = mix(scene.rgb[i], colours[c], 200);
    else if (c === LEFT_OUT) out[i] = stripes(i, scene.width);
    else out[i] = label && label[i] < colours.length ? mix(scene.rgb[i], colours[label[i]], 90) : scene.rgb[i];
  }
}
