// The pseudo-label explorer: one plain module against anywidget's small model interface (get, set, on, off,
// save_changes, send). Hosts: a notebook (anywidget) and a self-contained page (host.js). Nothing is loaded from
// anywhere; every name reaches the page as text. All pictures and numbers are made here, from arrays of bytes.

// ---------------------------------------------------------------------------------------------------- small helpers

const VOID = 255;
const BINS = 10;
const KEPT_IN_MEMORY = 24; // packs; the oldest go first
const POLICIES = [
  ["own", "own rule", "the method's own rule, as recorded; the slider does not act on it"],
  ["fixed", "fixed", "keep pixels whose top probability reaches the threshold"],
  ["entropy", "entropy share", "keep this share of the image's pixels, those with the lowest entropy"],
  ["adaptive", "class-adaptive", "the threshold, lowered for classes on which the network is less sure"],
];
let made = 0; // counts explorers and charts, for ids

/** A DOM element; text only as text, styles only through the object model (a strict CSP allows no other). */
function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || (value === false && !key.startsWith("aria-"))) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "css") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (key === "cls") node.className = value;
    else if (key === "test") node.dataset.testid = value;
    else node.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function s(tag, props = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "test") node.dataset.testid = value;
    else if (key === "css") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const ratio = (part, of) => (of > 0 ? part / of : null);
const percent = (x, digits = 1) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(digits)} %`);
const whole = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, " "); // narrow spaces between thousands
const rgb = ([r, g, b]) => `rgb(${r & 255}, ${g & 255}, ${b & 255})`;
const pack32 = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // as ImageData stores it (little endian)

function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, i) => {
    if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i;
  });
  return best;
}

// ---------------------------------------------------------------------------------------------------- colour tables

/** 256 packed colours between a few stops ("rrggbb ..."), linear in RGB. */
function table(text) {
  const stops = text.split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const out = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const x = (i / 255) * (stops.length - 1);
    const k = Math.min(stops.length - 2, Math.floor(x));
    const mix = (c) => Math.round(stops[k][c] + (x - k) * (stops[k + 1][c] - stops[k][c]));
    out[i] = pack32(mix(0), mix(1), mix(2));
  }
  return out;
}

// blue to yellow: even steps of lightness, the same to all kinds of colour vision
const CIVIDIS = table("00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838");
const VIRIDIS = table("440154 472c7a 3b518b 2c718e 21908d 27ad81 5cc863 aadc32 fde725");
const HEAT = table("0c0826 3c0f5c 721f6e a82e5f d54842 f37819 fab01e fceba0");
const RIGHT = [86, 180, 233]; // blue and orange: told apart by every kind of colour vision, and by lightness
const WRONG = [230, 120, 0];
const OTHER = [204, 121, 167];
const KEPT = [120, 200, 240];
const RIM = pack32(250, 250, 250);
const UNKNOWN = [
  [150, 150, 155],
  [105, 105, 112],
]; // stripes

const gradient = (colours) => {
  const stop = (i) => rgb([colours[i] & 255, (colours[i] >> 8) & 255, (colours[i] >> 16) & 255]);
  return `linear-gradient(90deg, ${[0, 32, 64, 96, 128, 160, 192, 224, 255].map(stop).join(", ")})`;
};

// ------------------------------------------------------------------------------------------------------------ packs

const KINDS = {
  u1: [Uint8Array, 1],
  u4: [Uint32Array, 4],
  i4: [Int32Array, 4],
  f4: [Float32Array, 4],
};

/** gzip of [uint32 header length][JSON header][bytes] -> {header, name: {data, shape}, ...}. */
async function unpack(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const raw = await new Response(stream).arrayBuffer();
  const length = new DataView(raw).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 4, length)));
  const start = 4 + length;
  const out = { header };
  for (const array of header.arrays) {
    const from = start + array.offset;
    // a copy, so that the place of the header does not decide whether numbers of four bytes are aligned
    const data = new KINDS[array.dtype][0](raw.slice(from, from + sizeOf(array)));
    out[array.name] = {
      shape: array.shape,
      data: array.differences ? summed(data, array.shape.at(-1), array.shape.at(-2)) : data,
    };
  }
  return out;
}

/** Bytes that were stored less their neighbours before and above, modulo 256, in maps of one width and height. */
function summed(data, width, height) {
  for (let i = 0, run = 0; i < data.length; i++) {
    run = i % width ? run + data[i] : data[i];
    data[i] = Math.floor(i / width) % height ? run + data[i - width] : run;
  }
  return data;
}

const sizeOf = (array) => array.shape.reduce((a, b) => a * b, 1) * KINDS[array.dtype][1];

/** Asks the model for packs by key, once each. */
class Store {
  constructor(model) {
    this.model = model;
    this.packs = new Map();
    this.waiting = new Map();
    this.heard = (message, buffers) => this.hear(message, buffers);
    model.on("msg:custom", this.heard);
  }

  close() {
    this.model.off("msg:custom", this.heard);
  }

  get(key) {
    if (this.packs.has(key)) {
      const found = this.packs.get(key);
      this.packs.delete(key); // now the youngest
      this.packs.set(key, found);
      return Promise.resolve(found);
    }
    return this.ask(key, { kind: "need", key });
  }

  full(image, track) {
    return this.ask(`full/${track}/${image}`, { kind: "full", image, track });
  }

  ask(key, message) {
    if (!this.waiting.has(key)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      this.waiting.set(key, entry);
      this.model.send(message);
    }
    return this.waiting.get(key).promise;
  }

  async hear(message, buffers) {
    const full = message?.kind === "full";
    const key = full ? `full/${message.track}/${message.image}` : message?.key;
    const entry = this.waiting.get(key);
    if (!entry || !["pack", "full"].includes(message.kind)) return;
    try {
      if (message.error) throw new Error(String(message.error));
      const found = await unpack(buffers[0]);
      if (full) found.message = message;
      else this.packs.set(key, found);
      while (this.packs.size > KEPT_IN_MEMORY) this.packs.delete(this.packs.keys().next().value);
      entry.resolve(found);
    } catch (error) {
      entry.reject(error);
    }
    this.waiting.delete(key);
  }
}

// ------------------------------------------------------------------------------------------------------- arithmetic
// Whole numbers throughout, so that Python finds the same.

/** One image: picture, truth, which pixels are real, and grey versions to draw on. */
class Scene {
  constructor(pack) {
    [this.height, this.width] = pack.image.shape;
    this.n = this.height * this.width;
    this.truth = pack.truth.data;
    this.valid = pack.valid.data;
    this.known = new Uint8Array(this.n);
    this.rgb = new Uint32Array(this.n);
    this.grey = new Uint8Array(this.n);
    this.dim = new Uint32Array(this.n);
    this.knownCount = 0;
    this.validCount = 0;
    const bytes = pack.image.data;
    for (let i = 0; i < this.n; i++) {
      const [r, g, b] = [bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]];
      const grey = (77 * r + 151 * g + 28 * b) >> 8;
      const dark = 14 + ((grey * 5) >> 4);
      this.rgb[i] = pack32(r, g, b);
      this.grey[i] = grey;
      this.dim[i] = pack32(dark, dark, dark + 6);
      this.known[i] = this.valid[i] && this.truth[i] !== VOID ? 1 : 0;
      this.validCount += this.valid[i] ? 1 : 0;
      this.knownCount += this.known[i];
    }
  }
}

/** What a track says of one image at one snapshot; views into the pack, nothing copied. */
class Frame {
  constructor(scene, pack, at, classes) {
    const n = scene.n;
    const of = (name, planes = 1) => pack[name].data.subarray(at * planes * n, (at + 1) * planes * n);
    Object.assign(this, { scene, classes, n });
    for (const name of ["label", "weight", "entropy"]) this[name] = of(name);
    this.top = of("top", 3);
    this.prob = of("prob", 3);
    this.p = this.prob.subarray(0, n);
    this.confidence = pack.confidence ? of("confidence") : this.p; // left out where the rule's is the top probability
    this.masks = {};
    this.count();
  }

  /** Histograms over the 256 levels: [all, known, right] of every predicted class, and of entropy. */
  count() {
    const { label, p, entropy, classes: C } = this;
    const { valid, known, truth } = this.scene;
    this.levels = [0, 1, 2].map(() => new Int32Array(C * 256));
    this.entropies = [0, 1, 2].map(() => new Int32Array(256));
    this.confusion = new Int32Array(C * C); // [truth, label]
    for (let i = 0; i < this.n; i++) {
      if (!valid[i]) continue;
      const c = label[i];
      if (c >= C) continue;
      const at = c * 256 + p[i];
      this.levels[0][at]++;
      this.entropies[0][entropy[i]]++;
      if (!known[i]) continue;
      this.levels[1][at]++;
      this.entropies[1][entropy[i]]++;
      this.confusion[truth[i] * C + c]++;
      if (truth[i] !== c) continue;
      this.levels[2][at]++;
      this.entropies[2][entropy[i]]++;
    }
  }

  /** Pixels (0/1) that a policy keeps at slider level t (0..255). */
  mask(policy, t) {
    const out = (this.masks[policy] ??= new Uint8Array(this.n));
    const { label, weight, entropy, p, classes: C } = this;
    const { valid } = this.scene;
    if (policy === "own") {
      for (let i = 0; i < this.n; i++) out[i] = valid[i] && weight[i] ? 1 : 0;
    } else if (policy === "fixed") {
      for (let i = 0; i < this.n; i++) out[i] = valid[i] && p[i] >= t ? 1 : 0;
    } else if (policy === "entropy") {
      const level = entropyLevel(this.entropies[0], this.scene.validCount, t);
      for (let i = 0; i < this.n; i++) out[i] = valid[i] && entropy[i] <= level ? 1 : 0;
    } else {
      const level = adaptiveLevels(this.levels[0], C, t);
      for (let i = 0; i < this.n; i++) out[i] = valid[i] && p[i] >= level[label[i]] ? 1 : 0;
    }
    return out;
  }

  /** Counts over a kept mask, in all and per class. */
  numbers(mask) {
    const { label, classes: C } = this;
    const { known, truth } = this.scene;
    const per = () => new Int32Array(C);
    const out = { kept: 0, known: 0, right: 0, keptOf: per(), knownOf: per(), rightOf: per(), truthKept: per() };
    for (let i = 0; i < this.n; i++) {
      if (!mask[i]) continue;
      const c = label[i];
      out.kept++;
      out.keptOf[c]++;
      if (!known[i]) continue;
      out.known++;
      out.knownOf[c]++;
      out.truthKept[truth[i]]++;
      if (truth[i] === c) {
        out.right++;
        out.rightOf[c]++;
      }
    }
    out.valid = this.scene.validCount;
    out.coverage = ratio(out.kept, out.valid);
    out.precision = ratio(out.right, out.known);
    return out;
  }

  /** Share of valid pixels kept and precision at every slider level, from the histograms alone. */
  curve(policy) {
    const total = this.scene.validCount;
    if (policy === "entropy") {
      const sums = this.entropies.map((h) => h.reduce((all, x) => (all.push(all[all.length - 1] + x), all), [0]));
      return range(256).map((t) => {
        const upTo = entropyLevel(this.entropies[0], total, t) + 1;
        return point(
          sums.map((sum) => sum[upTo]),
          total,
        );
      });
    }
    return levelCurve(this.levels, this.classes, policy, total);
  }

  /** [pixels, right, sum of levels] of the ten bins of top probability, over pixels with known truth. */
  reliability() {
    return reliability(this.levels[1], this.levels[2], this.classes);
  }
}

const range = (n) => Array.from({ length: n }, (_, i) => i);
const binOf = (p) => Math.min(BINS - 1, Math.floor((p * BINS) / 255));
const point = ([kept, known, right], total) => ({ kept, coverage: ratio(kept, total), precision: ratio(right, known) });

/** Smallest entropy level below which lies the share t / 255 of n pixels; -1 keeps none. */
function entropyLevel(histogram, n, t) {
  if (t === 0) return -1;
  let sum = 0;
  for (let e = 0; e < 256; e++) {
    sum += histogram[e];
    if (255 * sum >= t * n) return e;
  }
  return 255;
}

/** Per class: slider level x mean probability of the class / that of the surest class, rounded half up. */
function adaptiveLevels(levels, C, t) {
  const count = new Float64Array(C);
  const sum = new Float64Array(C);
  for (let c = 0; c < C; c++) {
    for (let p = 0; p < 256; p++) {
      count[c] += levels[c * 256 + p];
      sum[c] += p * levels[c * 256 + p];
    }
  }
  let best = -1; // sum / count compared as cross products: exact
  for (let c = 0; c < C; c++) if (count[c] && (best < 0 || sum[c] * count[best] > sum[best] * count[c])) best = c;
  const out = new Int32Array(256).fill(t);
  for (let c = 0; c < C; c++) {
    if (!count[c] || !sum[best]) continue;
    const [top, bottom] = [BigInt(t) * BigInt(sum[c]) * BigInt(count[best]), BigInt(sum[best]) * BigInt(count[c])];
    out[c] = Number((2n * top + bottom) / (2n * bottom));
  }
  return out;
}

function levelCurve(levels, C, policy, total) {
  const above = levels.map((h) => {
    const sums = new Float64Array(C * 257);
    for (let c = 0; c < C; c++)
      for (let p = 255; p >= 0; p--) sums[c * 257 + p] = sums[c * 257 + p + 1] + h[c * 256 + p];
    return sums;
  });
  return range(256).map((t) => {
    const from = policy === "adaptive" ? adaptiveLevels(levels[0], C, t) : null;
    const sums = above.map((sum) => {
      let all = 0;
      for (let c = 0; c < C; c++) all += sum[c * 257 + (from ? Math.min(256, from[c]) : t)];
      return all;
    });
    return point(sums, total);
  });
}

function reliability(known, right, C) {
  const bins = range(BINS).map(() => ({ pixels: 0, right: 0, sum: 0 }));
  for (let c = 0; c < C; c++) {
    for (let p = 0; p < 256; p++) {
      const bin = bins[binOf(p)];
      bin.pixels += known[c * 256 + p];
      bin.right += right[c * 256 + p];
      bin.sum += p * known[c * 256 + p];
    }
  }
  const all = bins.reduce((sum, bin) => sum + bin.pixels, 0);
  const gap = bins.reduce((sum, bin) => sum + Math.abs(bin.right - bin.sum / 255), 0);
  return { bins, ece: ratio(gap, all) };
}

/**
 * Confirmation bias: per pixel, at how many snapshots up to `at`, without a break, it was kept by the own rule, wrong,
 * and had the label that it has at `at`. `counts` holds, for every snapshot, the pixels with 2 or more.
 */
function confirmation(scene, pack, T, at) {
  const { n, known, truth } = scene;
  const runs = new Uint8Array(n);
  const label = pack.label.data;
  const weight = pack.weight.data;
  const counts = [];
  let map = null;
  for (let q = 0; q < T; q++) {
    const here = q * n;
    let count = 0;
    for (let i = 0; i < n; i++) {
      const bad = known[i] && weight[here + i] && label[here + i] !== truth[i];
      runs[i] = bad ? (runs[i] && label[here + i] === label[here - n + i] ? runs[i] + 1 : 1) : 0;
      if (runs[i] > 1) count++;
    }
    counts.push(count);
    if (q === at) map = runs.slice();
  }
  return { map, counts };
}

// ----------------------------------------------------------------------------------------------------------- charts

/** A small SVG line chart. `series`: {points: [[x, y] or null, ...], cls, label}. Returns {svg, x, y, over}. */
function chart({
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
  const inside = `s4x-clip${++made}`;
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

function line(points, x, y) {
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

const SHARES = [
  [0, "0"],
  [0.25, "25"],
  [0.5, "50"],
  [0.75, "75"],
  [1, "100 %"],
];

// ----------------------------------------------------------------------------------------------------------- panels

/** Zoom and pan that several panels share; CSS variables on their common ancestor move all of them at once. */
class View {
  constructor(host) {
    this.host = host;
    this.reset();
  }

  reset() {
    [this.zoom, this.x, this.y] = [1, 0, 0];
    this.apply();
  }

  apply() {
    this.x = clamp(this.x, 1 - this.zoom, 0);
    this.y = clamp(this.y, 1 - this.zoom, 0);
    for (const [name, value] of [
      ["--zoom", this.zoom],
      ["--tx", this.x],
      ["--ty", this.y],
    ])
      this.host.style.setProperty(name, value);
    this.host.classList.toggle("zoomed", this.zoom > 1);
  }

  /** Zoom by a factor around (u, v), fractions of the panel. */
  by(factor, u = 0.5, v = 0.5) {
    const zoom = clamp(this.zoom * factor, 1, 32);
    this.x = u - ((u - this.x) * zoom) / this.zoom;
    this.y = v - ((v - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.apply();
  }

  /** Where on the picture, in fractions, (u, v) of the panel is. */
  at(u, v) {
    return [(u - this.x) / this.zoom, (v - this.y) / this.zoom];
  }
}

/** A titled canvas. `paint(width, height, fill)` lets fill write packed colours and shows them in one go. */
class Panel {
  constructor({ title, test, view, say, pointer, label }) {
    this.canvas = h("canvas", { role: "img", "aria-label": label ?? title });
    this.note = h("div", { cls: "s4x-note" });
    this.caption = h("div", { cls: "s4x-key" });
    this.stage = h(
      "div",
      { cls: "s4x-stage", tabindex: 0, "aria-label": `${label ?? title}: zoom with + and -` },
      this.canvas,
      h("i", { cls: "s4x-cross hover" }),
      h("i", { cls: "s4x-cross pin" }),
      this.note,
    );
    this.title = h("span", {}, title);
    this.figure = h(
      "figure",
      { cls: "s4x-panel", test, role: "group" },
      h("figcaption", { title: say ? `${title}: ${say}` : null }, this.title, say ? h("small", {}, say) : null),
      this.stage,
      this.caption,
    );
    this.view = view;
    if (pointer) watch(this.stage, view, pointer);
    else watch(this.stage, view, {});
  }

  size(width, height) {
    if (this.canvas.width === width && this.canvas.height === height && this.image) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.stage.style.setProperty("aspect-ratio", `${width} / ${height}`);
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  paint(scene, colour, chosen) {
    this.size(scene.width, scene.height);
    const { pixels } = this;
    const { valid, n } = scene;
    colour(pixels);
    for (let i = 0; i < n; i++) if (!valid[i]) pixels[i] = 0;
    if (chosen) mark(pixels, chosen, scene.width);
    this.context.putImageData(this.image, 0, 0);
    this.say("");
  }

  /** Words instead of a picture. */
  say(words) {
    this.note.textContent = words;
    this.figure.classList.toggle("empty", Boolean(words));
  }
}

/** Dims what is not chosen, and draws a light rim around what is: marked pixels show on any colour. */
function mark(pixels, chosen, width) {
  for (let i = 0; i < chosen.length; i++) {
    if (chosen[i]) continue;
    const x = i % width;
    const beside = chosen[i - width] || chosen[i + width] || (x && chosen[i - 1]) || (x < width - 1 && chosen[i + 1]);
    pixels[i] = beside ? RIM : (((pixels[i] >>> 2) & 0x3f3f3f) | (pixels[i] & 0xff000000)) >>> 0;
  }
}

/** Wheel, drag, pinch, double click and reading of pixels on a panel. */
function watch(stage, view, { hover, leave, click }) {
  const fingers = new Map();
  let moved = 0;
  let last = null;
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const span = () => {
    const [a, b] = [...fingers.values()];
    return { u: (a[0] + b[0]) / 2, v: (a[1] + b[1]) / 2, size: Math.hypot(a[0] - b[0], a[1] - b[1]) };
  };
  stage.addEventListener(
    "wheel",
    (event) => {
      // the page keeps its wheel until one has clicked into a panel: no scrolling gets stuck in a notebook
      const ours =
        event.ctrlKey ||
        event.metaKey ||
        view.host.contains(document.activeElement) ||
        view.host.contains(view.host.getRootNode().activeElement);
      if (!ours || (event.deltaY > 0 && view.zoom === 1)) return;
      event.preventDefault();
      view.by(Math.exp(-clamp(event.deltaY, -120, 120) / 300), ...place(event));
    },
    { passive: false },
  );
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture?.(event.pointerId);
    stage.focus({ preventScroll: true });
    fingers.set(event.pointerId, place(event));
    moved = 0;
    last = fingers.size === 2 ? span() : place(event);
    if (event.pointerType !== "mouse") hover?.(...view.at(...place(event)));
  });
  stage.addEventListener("pointermove", (event) => {
    const here = place(event);
    if (!fingers.size) return hover?.(...view.at(...here));
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, here);
    if (fingers.size === 2) {
      const now = span();
      moved = 1;
      if (last?.size) {
        view.by(now.size / last.size, last.u, last.v);
        view.x += now.u - last.u;
        view.y += now.v - last.v;
        view.apply();
      }
      last = now;
    } else if (Array.isArray(last)) {
      moved += Math.hypot(here[0] - last[0], here[1] - last[1]);
      view.x += here[0] - last[0];
      view.y += here[1] - last[1];
      view.apply();
      last = here;
    }
  });
  const up = (event) => {
    const was = fingers.delete(event.pointerId);
    if (was && event.type === "pointerup" && moved < 0.02 && !fingers.size) click?.(...view.at(...place(event)));
    last = fingers.size === 1 ? [...fingers.values()][0] : null;
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => fingers.size || leave?.());
  stage.addEventListener("dblclick", () => view.reset());
}

// ---------------------------------------------------------------------------------------------------------- the app

const TRAITS = ["image", "snapshot", "threshold", "policy", "tracks", "hidden", "selection"];
const TRACK_PANELS = [
  ["pseudo", "pseudo-label", "every pixel's label, kept or not"],
  ["confidence", "confidence", "as the method's rule sees it"],
  ["entropy", "entropy", "of the class probabilities"],
  ["kept", "kept", "what this policy would train on"],
  ["errors", "errors of kept pixels", "against the hidden truth"],
];
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

class App {
  constructor(model, host) {
    this.model = model;
    this.meta = model.get("meta");
    this.classes = this.meta.classes.map(String);
    this.C = this.classes.length;
    this.palette = this.meta.palette.map((c) => c.map((x) => Number(x) & 255));
    this.colours = Uint32Array.from(this.palette, (c) => pack32(...c));
    this.id = `s4x${++made}`;
    this.store = new Store(model);
    this.state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
    this.blend = { what: "pseudo", amount: 0.5 };
    this.rows = [];
    this.biases = new Map();
    this.full = null;
    this.pointed = this.last = null; // pixels
    this.root = h("div", {
      cls: "s4x",
      tabindex: -1,
      "data-lm-suppress-shortcuts": "true",
      role: "region",
      "aria-label": "pseudo-label explorer",
    });
    this.view = new View(this.root);
    this.build();
    host.append(this.root);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.off = TRAITS.map((name) => {
      const heard = () => this.told(name);
      model.on(`change:${name}`, heard);
      return () => model.off(`change:${name}`, heard);
    });
    this.show();
  }

  close() {
    this.off.forEach((stop) => stop());
    this.store.close();
    this.play(false);
    clearTimeout(this.saving);
    cancelAnimationFrame(this.frame);
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
    else if (name === "hidden") this.drawAll();
    else if (name === "selection") this.select();
    else this.show();
  }

  // ---- skeleton ----

  build() {
    const { meta } = this;
    const button = (text, label, test, act) =>
      h("button", { type: "button", "aria-label": label, title: label, test, onclick: act }, text);
    this.picker = h("select", {
      test: "image",
      "aria-label": "image",
      onchange: () => this.set("image", Number(this.picker.value)),
    });
    meta.images.forEach((image, k) => this.picker.append(h("option", { value: k }, `${k + 1}: ${image.id}`)));
    this.scrub = h("input", {
      type: "range",
      min: 0,
      test: "scrub",
      "aria-label": "snapshot",
      oninput: () => this.set("snapshot", Number(this.scrub.value), true),
      onchange: () => this.save(),
    });
    this.stepText = h("output", { cls: "s4x-number", test: "step" });
    this.player = button("▶", "play the snapshots", "play", () => this.play(!this.playing));
    this.fuller = button(
      "full resolution",
      "compute this image at the resolution of its file, with the last weights",
      "full",
      () => this.toggleFull(),
    );
    this.tau = h("input", {
      type: "range",
      min: 0,
      max: 255,
      step: 1,
      test: "tau",
      "aria-label": "threshold",
      oninput: () => this.set("threshold", Number(this.tau.value) / 255, true),
      onchange: () => this.save(),
    });
    this.tauText = h("output", { cls: "s4x-number", test: "tau-value" });
    this.policies = h("div", { cls: "s4x-choice", role: "radiogroup", "aria-label": "policy" });
    for (const [key, name, words] of POLICIES) {
      this.policies.append(
        h(
          "button",
          {
            type: "button",
            role: "radio",
            title: words,
            test: `choose-${key}`,
            "data-value": key,
            onclick: () => this.set("policy", key),
          },
          name,
        ),
      );
    }
    this.policies.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by || event.shiftKey) return;
      event.preventDefault();
      event.stopPropagation();
      const at = POLICIES.findIndex(([key]) => key === this.state.policy) + by + POLICIES.length;
      this.set("policy", POLICIES[at % POLICIES.length][0]);
      this.policies.children[at % POLICIES.length].focus();
    });
    this.numbers = h("div", { cls: "s4x-numbers", "aria-live": "off" });
    this.blendWhat = h("select", {
      test: "blend-what",
      "aria-label": "what to lay over the image",
      onchange: () => this.reblend(),
    });
    for (const [value, text] of [
      ["pseudo", "pseudo-label"],
      ["truth", "ground truth"],
      ["confidence", "confidence"],
    ])
      this.blendWhat.append(h("option", { value }, text));
    this.blendBy = h("input", {
      type: "range",
      min: 0,
      max: 100,
      value: 50,
      test: "blend",
      "aria-label": "share of what lies over the image",
      oninput: () => this.reblend(),
    });
    this.wide = h("select", { test: "columns", "aria-label": "size of the pictures", onchange: () => this.columns() });
    for (const [value, text] of [
      ["", "auto"],
      ["2", "large"],
      ["1", "one"],
    ])
      this.wide.append(h("option", { value }, text));
    this.chips = h("div", { cls: "s4x-chips", role: "group", "aria-label": "tracks" });
    meta.tracks.forEach((track, t) =>
      this.chips.append(
        h("button", { type: "button", test: `track-${t}`, onclick: () => this.toggleTrack(t) }, track.title),
      ),
    );
    this.chips.hidden = meta.tracks.length < 2;
    this.legend = h("div", { cls: "s4x-legend", role: "group", "aria-label": "classes" });
    this.classes.forEach((name, c) => {
      const swatch = h("i", { css: { background: rgb(this.palette[c]) } });
      this.legend.append(
        h(
          "button",
          {
            type: "button",
            test: `class-${c}`,
            title: "show or hide in the pictures; the numbers count all classes",
            onclick: () => this.toggleClass(c),
          },
          swatch,
          name,
        ),
      );
    });
    this.legend.append(
      h(
        "button",
        {
          type: "button",
          cls: "plain",
          test: "class-all",
          onclick: () => this.set("hidden", this.state.hidden.length ? [] : range(this.C)),
        },
        "all / none",
      ),
    );
    this.status = h("div", { cls: "s4x-status", role: "status", "aria-live": "polite", test: "status" });
    this.marked = h("div", { cls: "s4x-marked", test: "marked" });
    this.area = h("div", { cls: "s4x-area" });
    this.evidence = h("p", { cls: "s4x-evidence", test: "evidence" });
    this.root.append(
      h(
        "div",
        { cls: "s4x-bar" },
        this.chips,
        h(
          "div",
          { cls: "s4x-field" },
          h("span", {}, "image"),
          button("‹", "image before", "image-previous", () => this.turn(-1)),
          this.picker,
          button("›", "next image", "image-next", () => this.turn(1)),
          meta.kernel ? this.fuller : null,
        ),
        h("div", { cls: "s4x-field grow" }, h("span", {}, "training"), this.player, this.scrub, this.stepText),
      ),
      h(
        "div",
        { cls: "s4x-bar" },
        h("div", { cls: "s4x-field" }, h("span", {}, "keep by"), this.policies),
        h("div", { cls: "s4x-field grow" }, h("span", {}, "threshold"), this.tau, this.tauText),
        this.numbers,
      ),
      h(
        "div",
        { cls: "s4x-bar" },
        h("div", { cls: "s4x-field" }, h("span", {}, "over the image"), this.blendWhat, this.blendBy),
        h(
          "div",
          { cls: "s4x-field" },
          h("span", {}, "pictures"),
          this.wide,
          button("−", "zoom out", "zoom-out", () => this.view.by(1 / 1.5)),
          button("+", "zoom in", "zoom-in", () => this.view.by(1.5)),
          button("reset", "whole picture", "zoom-reset", () => this.view.reset()),
        ),
        h("small", { cls: "s4x-hint" }, "The slider acts on the other three policies; the own rule is as recorded."),
        this.marked,
      ),
      this.legend,
      this.status,
      this.area,
      this.evidence,
      this.buildTabs(),
      h(
        "details",
        { cls: "s4x-help" },
        h("summary", {}, "keys and gestures"),
        h("dl", {}, ...KEYS.flatMap(([key, words]) => [h("dt", {}, key), h("dd", {}, words)])),
        h(
          "p",
          {},
          "Hover or touch a picture to read a pixel; click pins it. Drag moves, a pinch or ctrl + wheel zooms (the wheel alone after a click into a picture), a double click shows all.",
        ),
      ),
    );
  }

  buildTabs() {
    this.sections = [WhatIf, Reliability, Bias, Path, Confusion, Ranking].map((Kind) => new Kind(this));
    this.tabs = h("div", { cls: "s4x-tabs", role: "tablist", "aria-label": "closer looks" });
    this.sheet = h("div", { cls: "s4x-sheet", role: "tabpanel", tabindex: 0 });
    this.sections.forEach((section, i) => {
      section.host.classList.add(section.name);
      section.tab = h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `${this.id}-tab${i}`,
          test: `tab-${section.name}`,
          onclick: () => this.open(i),
        },
        section.title,
      );
      this.tabs.append(section.tab);
    });
    this.tabs.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      this.open((this.sections.indexOf(this.section) + by + this.sections.length) % this.sections.length);
      this.section.tab.focus();
    });
    this.open(0, true);
    return h("div", { cls: "s4x-closer" }, this.tabs, this.sheet);
  }

  open(i, early = false) {
    this.section = this.sections[i];
    this.sections.forEach((section) => {
      section.tab.setAttribute("aria-selected", section === this.section);
      section.tab.tabIndex = section === this.section ? 0 : -1;
    });
    this.sheet.setAttribute("aria-labelledby", this.section.tab.id);
    this.sheet.replaceChildren(this.section.host);
    if (!early && this.rows.length) this.section.update();
  }

  /** The panels for the shown tracks: one grid for one track, else a shared row and one row per track. */
  layout() {
    const single = this.shown.length === 1;
    const key = `${this.shown}${this.full ? "full" : ""}`;
    if (this.laid === key) return;
    this.laid = key;
    const pointer = this.pointer();
    const make = (name, title, say, label) =>
      new Panel({ title, say, label, test: `panel-${name}`, view: this.view, pointer });
    this.shared = {
      image: make("image", "image", null, "image with overlay"),
      truth: make("truth", "ground truth", "hidden from the training"),
    };
    if (!single)
      this.shared.disagreement = make("disagreement", "disagreement", "where the tracks give different labels");
    this.tracks = this.shown.map((t, r) => {
      const suffix = r ? `-${t}` : "";
      const title = this.meta.tracks[t].title;
      const panels = Object.fromEntries(
        TRACK_PANELS.map(([name, words, say]) => [name, make(name + suffix, words, say, `${words}, ${title}`)]),
      );
      panels.confidence.caption.append(bar(CIVIDIS, "0", "1", "confidence"));
      panels.entropy.caption.append(bar(VIRIDIS, "0", "1", "entropy, as a share of its largest value"));
      panels.kept.caption.append(
        ...keys([
          [KEPT, "kept"],
          [[40, 40, 46], "rejected"],
        ]),
      );
      panels.errors.caption.append(
        ...keys([
          [RIGHT, "right"],
          [WRONG, "wrong"],
          [UNKNOWN[0], "truth unknown"],
        ]),
      );
      return { t, panels, readout: new Readout(this, t, suffix), head: h("div", { cls: "s4x-head" }) };
    });
    const figures = (panels) => Object.values(panels).map((panel) => panel.figure);
    if (single) {
      const [only] = this.tracks;
      this.area.replaceChildren(
        h("div", { cls: "s4x-grid single" }, ...figures(this.shared), ...figures(only.panels), only.readout.host),
      );
    } else {
      this.area.replaceChildren(
        h(
          "div",
          { cls: "s4x-grid shared" },
          ...figures(this.shared),
          (this.summary = h("div", { cls: "s4x-words", test: "disagreement" })),
        ),
        ...this.tracks.map((row) =>
          h(
            "section",
            { cls: "s4x-row", test: `row-${row.t}` },
            row.head,
            h("div", { cls: "s4x-grid compare" }, ...figures(row.panels), row.readout.host),
          ),
        ),
      );
    }
    this.columns();
  }

  columns() {
    this.root.dataset.columns = this.wide.value;
  }

  // ---- data ----

  get shown() {
    return this.full ? [this.full.track] : this.state.tracks;
  }

  /** Fetch what is shown, then draw all of it; a later call overtakes an earlier one. */
  async show() {
    const turn = (this.turnNumber = (this.turnNumber ?? 0) + 1);
    const k = this.state.image;
    this.state.snapshot = clamp(this.state.snapshot, 0, this.first.steps.length - 1); // the tracks may have changed
    if (this.full && (this.full.image !== k || !this.state.tracks.includes(this.full.track))) this.full = null;
    this.controls();
    if (this.laid === undefined) this.status.textContent = "loading …";
    try {
      const full = this.full;
      const packs = full
        ? [full.pack, full.pack]
        : await Promise.all([
            this.store.get(`image/${k}`),
            ...this.state.tracks.map((t) => this.store.get(`track/${t}/${k}`)),
          ]);
      const summaries = await Promise.all(this.shown.map((t) => this.store.get(`summary/${t}`).catch(() => null)));
      if (turn !== this.turnNumber) return;
      if (this.scenePack !== packs[0]) {
        this.last = null;
        this.scene = new Scene(packs[0]);
        this.scenePack = packs[0];
        this.biases.clear();
      }
      this.rows = this.shown.map((t, r) => this.row(t, packs[r + 1], summaries[r], Boolean(full)));
      this.status.textContent = "";
    } catch (error) {
      if (turn === this.turnNumber) this.status.textContent = `This image cannot be shown: ${error.message}`;
      return;
    }
    this.layout();
    this.drawAll();
    this.section.update();
    this.read();
  }

  row(t, pack, summary, full) {
    const track = this.meta.tracks[t];
    const at = full ? 0 : nearest(track.steps, this.step);
    const row = { t, track, pack, summary, at, full, T: full ? 1 : track.steps.length };
    row.frame = new Frame(this.scene, pack, at, this.C);
    row.step = full ? track.steps[track.steps.length - 1] : track.steps[at];
    return row;
  }

  bias(row) {
    if (!this.biases.has(row.t)) this.biases.set(row.t, new Map());
    const found = this.biases.get(row.t);
    if (!found.has(row.at)) found.set(row.at, confirmation(this.scene, row.pack, row.T, row.at));
    return found.get(row.at);
  }

  async toggleFull() {
    if (this.full) {
      this.full = null;
      if (this.state.selection.kind === "pixel") this.state.selection = {};
      return this.show();
    }
    const [image, track] = [this.state.image, this.state.tracks[0]];
    this.status.textContent = "computing the whole image …";
    try {
      const pack = await this.store.full(image, track);
      if (image !== this.state.image) return;
      this.full = { image, track, pack };
      if (this.state.selection.kind === "pixel") this.state.selection = {};
      this.show();
    } catch (error) {
      this.status.textContent = `No full resolution: ${error.message}`;
    }
  }

  // ---- drawing ----

  controls() {
    const { state } = this;
    this.picker.value = state.image;
    this.scrub.max = this.first.steps.length - 1;
    this.scrub.value = state.snapshot;
    this.scrub.disabled = this.player.disabled = Boolean(this.full) || this.first.steps.length < 2;
    this.scrub.setAttribute("aria-valuetext", `step ${this.step}`);
    this.stepText.textContent = this.full ? "last weights" : `step ${this.step}`;
    this.fuller.setAttribute("aria-pressed", Boolean(this.full));
    [...this.chips.children].forEach((chip, t) => chip.setAttribute("aria-pressed", state.tracks.includes(t)));
    this.tau.value = this.level;
    this.tauText.textContent = (this.level / 255).toFixed(3);
    this.tau.setAttribute("aria-valuetext", this.tauText.textContent);
    this.root.classList.toggle("own", state.policy === "own");
    for (const one of this.policies.children) {
      const on = one.dataset.value === state.policy;
      one.setAttribute("aria-checked", on);
      one.tabIndex = on ? 0 : -1;
    }
    this.classes.forEach((_, c) => this.legend.children[c].setAttribute("aria-pressed", !state.hidden.includes(c)));
  }

  drawAll() {
    this.controls();
    if (!this.rows.length) return;
    this.shownClass = new Uint8Array(256).fill(1);
    for (const c of this.state.hidden) this.shownClass[c] = 0;
    this.rows.forEach((row) => (row.chosen = this.chosen(row)));
    this.drawTruth();
    this.drawImage();
    this.tracks.forEach(({ panels }, r) => {
      const row = this.rows[r];
      const { frame } = row;
      panels.pseudo.paint(this.scene, (out) => this.paintLabels(out, frame.label), row.chosen);
      panels.confidence.paint(this.scene, (out) => paintLevels(out, frame.confidence, CIVIDIS), row.chosen);
      panels.entropy.paint(this.scene, (out) => paintLevels(out, frame.entropy, VIRIDIS), row.chosen);
    });
    if (this.shared.disagreement) this.drawDisagreement();
    this.moved();
    this.sayEvidence();
  }

  /** The threshold or the policy has changed: the only path that a drag of the slider takes. */
  moved() {
    this.controls();
    if (!this.rows.length) return;
    const { policy } = this.state;
    this.rows.forEach((row, r) => {
      row.mask = row.frame.mask(policy, this.level);
      row.numbers = row.frame.numbers(row.mask);
      const { panels, head } = this.tracks[r];
      panels.kept.paint(this.scene, (out) => this.paintKept(out, row), row.chosen);
      if (this.scene.knownCount) panels.errors.paint(this.scene, (out) => this.paintErrors(out, row), row.chosen);
      else this.noTruth(panels.errors);
      if (this.rows.length > 1) {
        head.replaceChildren(
          h("b", {}, row.track.title),
          h("span", {}, `step ${row.step}`),
          ...figuresOf(row.numbers, `-${row.t}`),
        );
      }
    });
    this.numbers.replaceChildren(
      ...(this.rows.length > 1 ? [h("small", {}, this.first.title)] : []),
      ...figuresOf(this.rows[0].numbers, ""),
    );
    this.sayMarked();
    this.section.move();
    this.read();
  }

  paintLabels(out, labels) {
    const { colours, shownClass, C } = this;
    const { dim, width } = this.scene;
    for (let i = 0; i < out.length; i++) {
      const c = labels[i];
      out[i] = c >= C ? stripes(i, width) : shownClass[c] ? colours[c] : dim[i];
    }
  }

  paintKept(out, { frame, mask }) {
    const { grey, dim } = this.scene;
    const { label, weight } = frame;
    const own = this.state.policy === "own";
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
    const { dim, truth, known, width } = this.scene;
    const { label } = frame;
    const right = pack32(...RIGHT);
    const wrong = pack32(...WRONG);
    for (let i = 0; i < out.length; i++) {
      if (!mask[i] || !this.shownClass[label[i]]) out[i] = dim[i];
      else out[i] = !known[i] ? stripes(i, width) : label[i] === truth[i] ? right : wrong;
    }
  }

  drawTruth() {
    const { truth } = this.shared;
    if (this.scene.knownCount)
      truth.paint(this.scene, (out) => this.paintLabels(out, this.scene.truth), this.rows[0].chosen);
    else this.noTruth(truth);
  }

  noTruth(panel) {
    panel.size(this.scene.width, this.scene.height);
    panel.say("no ground truth for this image");
  }

  drawImage() {
    const { scene, blend, colours, shownClass, C } = this;
    const { frame, chosen } = this.rows[0];
    const by = Math.round(blend.amount * 256);
    const labels = { pseudo: frame.label, truth: scene.truth }[blend.what];
    this.shared.image.paint(
      scene,
      (out) => {
        for (let i = 0; i < out.length; i++) {
          const under = scene.rgb[i];
          if (labels && (labels[i] >= C || !shownClass[labels[i]])) {
            out[i] = under;
            continue;
          }
          const over = labels ? colours[labels[i]] : CIVIDIS[frame.confidence[i]];
          const mix = (shift) =>
            ((((under >>> shift) & 255) * (256 - by) + ((over >>> shift) & 255) * by) >> 8) << shift;
          out[i] = (mix(0) | mix(8) | mix(16) | 0xff000000) >>> 0;
        }
      },
      chosen,
    );
  }

  drawDisagreement() {
    const { scene, rows } = this;
    const { n, valid, known, truth, dim, width } = scene;
    const labels = rows.map((row) => row.frame.label);
    const two = rows.length === 2 && scene.knownCount > 0;
    const counts = { differ: 0, first: 0, second: 0, neither: 0, known: 0 };
    const seen = new Int32Array(256).fill(-1);
    this.shared.disagreement.paint(
      scene,
      (out) => {
        for (let i = 0; i < n; i++) {
          let kinds = 0;
          for (const label of labels) {
            if (seen[label[i]] !== i) kinds++;
            seen[label[i]] = i;
          }
          out[i] = dim[i];
          if (kinds < 2 || !valid[i]) continue;
          counts.differ++;
          if (!two) {
            out[i] = CIVIDIS[Math.round((255 * (kinds - 1)) / (labels.length - 1 || 1))];
            continue;
          }
          if (!known[i]) {
            out[i] = stripes(i, width);
            continue;
          }
          counts.known++;
          const winner = labels[0][i] === truth[i] ? "first" : labels[1][i] === truth[i] ? "second" : "neither";
          counts[winner]++;
          out[i] = winner === "first" ? pack32(...RIGHT) : winner === "second" ? pack32(...WRONG) : pack32(...OTHER);
        }
      },
      null,
    );
    const { caption } = this.shared.disagreement;
    caption.replaceChildren(
      ...(two
        ? keys([
            [RIGHT, "first is right"],
            [WRONG, "second is right"],
            [OTHER, "neither"],
          ])
        : [bar(CIVIDIS, "1 label", `${labels.length} labels`, "number of different labels")]),
    );
    this.summary.replaceChildren(
      h("b", {}, "Where they disagree"),
      h(
        "p",
        {
          test: "differ",
          "data-differ": counts.differ,
          "data-first": counts.first,
          "data-second": counts.second,
          "data-neither": counts.neither,
        },
        `${percent(ratio(counts.differ, scene.validCount))} of the pixels get different labels.`,
      ),
    );
    if (two) {
      const line = (words, count) => h("p", {}, `${percent(ratio(count, counts.known))} of them: `, words);
      this.summary.append(
        line(`${rows[0].track.title} is right`, counts.first),
        line(`${rows[1].track.title} is right`, counts.second),
        line("neither is", counts.neither),
      );
    }
  }

  sayEvidence() {
    const words = [...new Set(this.rows.map(({ track }) => `${track.evidence}. What storing lost: ${track.lost}`))];
    const full =
      "Full resolution: the whole image through the last weights, now; not what was recorded during the training.";
    this.evidence.textContent = this.full ? full : `Shown: ${words.join(" · ")}`;
  }

  // ---- reading pixels, selections ----

  pointer() {
    const at = (u, v) => ({
      x: clamp(Math.floor(u * this.scene.width), 0, this.scene.width - 1),
      y: clamp(Math.floor(v * this.scene.height), 0, this.scene.height - 1),
    });
    return {
      hover: (u, v) => this.scene && this.point(at(u, v)),
      leave: () => this.point(null),
      click: (u, v) => {
        const { x, y } = at(u, v);
        const { selection } = this.state;
        const again = selection.kind === "pixel" && selection.x === x && selection.y === y;
        this.set("selection", again ? {} : { kind: "pixel", x, y });
      },
    };
  }

  point(where) {
    this.pointed = where;
    if (where) this.last = where;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.read());
  }

  /** The pixel that is read: under the pointer, else the pinned one, else the last one. */
  get pixel() {
    const { selection } = this.state;
    return this.pointed ?? (selection.kind === "pixel" ? selection : this.last);
  }

  read() {
    if (!this.rows.length) return;
    const { selection } = this.state;
    const { pixel } = this;
    this.cross("hover", pixel === selection ? null : pixel);
    this.cross("pin", selection.kind === "pixel" ? selection : null);
    const inside = pixel && pixel.x < this.scene.width && pixel.y < this.scene.height;
    this.tracks.forEach(({ readout }, r) => readout.show(inside ? pixel : null, this.rows[r]));
    this.section.hover(inside ? pixel.y * this.scene.width + pixel.x : null);
  }

  cross(name, where) {
    this.root.classList.toggle(`with-${name}`, Boolean(where));
    if (!where) return;
    const { style } = this.root;
    style.setProperty(`--${name}-x`, (where.x + 0.5) / this.scene.width);
    style.setProperty(`--${name}-y`, (where.y + 0.5) / this.scene.height);
  }

  /** Pixels (0/1) that the selection picks in a track, or null. */
  chosen({ frame }) {
    const { selection } = this.state;
    const { n, label, p } = frame;
    const { valid, known, truth } = this.scene;
    if (selection.kind === "confusion")
      return Uint8Array.from({ length: n }, (_, i) =>
        known[i] && truth[i] === selection.truth && label[i] === selection.label ? 1 : 0,
      );
    if (selection.kind === "bin")
      return Uint8Array.from({ length: n }, (_, i) => (valid[i] && binOf(p[i]) === selection.bin ? 1 : 0));
    return null;
  }

  select() {
    const kind = this.state.selection.kind ?? "";
    const before = this.marking;
    this.marking = kind === "confusion" || kind === "bin" ? JSON.stringify(this.state.selection) : "";
    if (before !== this.marking) {
      this.drawAll();
      this.section.update();
    }
    this.read();
  }

  sayMarked() {
    const { selection } = this.state;
    const words = {
      confusion: () => `${this.classes[selection.truth]} called ${this.classes[selection.label]}`,
      bin: () => `top probability from ${selection.bin * 10} to ${selection.bin * 10 + 10} %`,
    }[selection.kind];
    this.marked.hidden = !words;
    if (!words) return;
    const counts = this.rows.map(({ chosen, mask, t }) => {
      let [all, kept] = [0, 0];
      for (let i = 0; i < chosen.length; i++) {
        all += chosen[i];
        kept += chosen[i] & mask[i];
      }
      const name = this.rows.length > 1 ? `${this.meta.tracks[t].title}: ` : "";
      return `${name}${whole(all)} pixels, ${whole(kept)} of them kept`;
    });
    this.marked.replaceChildren(
      h("span", {}, h("b", {}, `Marked: ${words()}`), ` — ${counts.join("; ")}.`),
      h("button", { type: "button", test: "clear", onclick: () => this.clear() }, "clear"),
    );
  }

  clear() {
    this.last = null;
    this.set("selection", {});
  }

  // ---- controls ----

  reblend() {
    this.blend = { what: this.blendWhat.value, amount: Number(this.blendBy.value) / 100 };
    if (this.rows.length) this.drawImage();
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

  play(on) {
    clearInterval(this.playing);
    this.playing = null;
    this.player.textContent = on ? "❚❚" : "▶";
    this.player.setAttribute("aria-pressed", Boolean(on));
    if (!on) return;
    this.playing = setInterval(() => this.set("snapshot", (this.state.snapshot + 1) % this.first.steps.length), 700);
  }

  movePin(dx, dy) {
    const { width, height } = this.scene;
    const from = this.pixel ?? { x: width >> 1, y: height >> 1 };
    this.pointed = null;
    this.set("selection", { kind: "pixel", x: clamp(from.x + dx, 0, width - 1), y: clamp(from.y + dy, 0, height - 1) });
  }

  key(event) {
    const typing = event.target.closest("select, input:not([type=range]), summary");
    const arrows = event.key.startsWith("Arrow") && event.target.closest("input[type=range]") && !event.shiftKey;
    const pressing = event.key === " " && event.target.closest("button, [role=button], svg [tabindex]");
    if (typing || arrows || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = this.action(event);
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  action({ key, shiftKey }) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (arrow && shiftKey) return () => this.scene && this.movePin(...arrow);
    if (arrow) return () => (arrow[0] ? this.scrubBy(arrow[0]) : this.turn(arrow[1]));
    if (/^[1-9]$/.test(key)) return () => this.toggleClass(Number(key) - 1);
    const next = POLICIES[(POLICIES.findIndex(([name]) => name === this.state.policy) + 1) % POLICIES.length][0];
    return {
      " ": () => this.play(!this.playing),
      0: () => this.set("hidden", []),
      "+": () => this.view.by(1.5),
      "=": () => this.view.by(1.5),
      "-": () => this.view.by(1 / 1.5),
      "[": () => this.set("threshold", Math.max(0, this.level - 1) / 255),
      "]": () => this.set("threshold", Math.min(255, this.level + 1) / 255),
      p: () => this.set("policy", next),
      Escape: () => this.clear(),
    }[key];
  }
}

const LINES = pack32(120, 120, 126);
const stripes = (i, width) => pack32(...UNKNOWN[((i % width) + Math.floor(i / width)) & 4 ? 0 : 1]);

function paintLevels(out, levels, colours) {
  for (let i = 0; i < out.length; i++) out[i] = colours[levels[i]];
}

const keys = (pairs) =>
  pairs.map(([colour, text]) => h("span", { cls: "s4x-swatch" }, h("i", { css: { background: rgb(colour) } }), text));

const bar = (colours, low, high, label) =>
  h(
    "span",
    { cls: "s4x-scale", role: "img", "aria-label": `colours: ${label}, from ${low} to ${high}` },
    low,
    h("i", { css: { background: gradient(colours) } }),
    high,
  );

/** The two numbers that every policy is judged by; counts ride along for whoever reads the page. */
function figuresOf(numbers, suffix) {
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

// ---------------------------------------------------------------------------------------------------------- readout

/** What one track says of one pixel, and said of it over the training. */
class Readout {
  constructor(app, t, suffix) {
    Object.assign(this, { app, t });
    this.host = h("div", { cls: "s4x-readout", test: `pixel${suffix}` });
    this.suffix = suffix;
  }

  show(pixel, row) {
    const { app } = this;
    if (!pixel) {
      for (const name of ["x", "y"]) delete this.host.dataset[name];
      this.host.replaceChildren(
        h("b", {}, "One pixel"),
        h("p", {}, "Hover or touch a picture to read a pixel; click to pin it."),
      );
      return;
    }
    const { frame, pack } = row;
    const { scene, classes, palette } = app;
    const { x, y } = pixel;
    const i = y * scene.width + x;
    if (!scene.valid[i]) {
      this.host.replaceChildren(
        h("b", {}, `Pixel ${x}, ${y}`),
        h("p", {}, "Padding around the image: never trained on."),
      );
      return;
    }
    const swatch = (c) => h("i", { cls: "dot", css: { background: rgb(palette[c]) } });
    const truth = scene.known[i] ? [swatch(scene.truth[i]), classes[scene.truth[i]]] : ["unknown"];
    const tops = range(3)
      .filter((r) => frame.top[r * scene.n + i] < app.C)
      .map((r) => {
        const c = frame.top[r * scene.n + i];
        const p = frame.prob[r * scene.n + i] / 255;
        return h(
          "div",
          { cls: "top", test: `top-${r}${this.suffix}`, "data-class": c, "data-level": frame.prob[r * scene.n + i] },
          swatch(c),
          h("span", {}, classes[c]),
          h("span", { cls: "track" }, h("i", { css: { width: `${100 * p}%` } })),
          h("b", {}, percent(p, 0)),
        );
      });
    const kept = POLICIES.map(([key, name]) => {
      const on = frame.mask(key, app.level)[i];
      return h(
        "span",
        { cls: on ? "yes" : "no", test: `pixel-${key}${this.suffix}`, title: `${name}: ${on ? "kept" : "rejected"}` },
        `${on ? "✓" : "✗"} ${name}`,
      );
    });
    this.host.dataset.x = x;
    this.host.dataset.y = y;
    const pinned = app.state.selection.kind === "pixel" && app.state.selection.x === x && app.state.selection.y === y;
    const label = frame.label[i];
    this.host.replaceChildren(
      h("b", {}, `Pixel ${x}, ${y}`, pinned ? h("small", {}, " pinned") : null),
      h("div", { cls: "truth", test: `pixel-truth${this.suffix}` }, "truth ", ...truth),
      ...(label < app.C && label !== frame.top[i]
        ? [h("div", { cls: "truth" }, "pseudo-label ", swatch(label), classes[label])]
        : []),
      ...tops,
      h(
        "div",
        { cls: "small" },
        `entropy ${(frame.entropy[i] / 255).toFixed(2)} · confidence ${(frame.confidence[i] / 255).toFixed(2)}`,
      ),
      h("div", { cls: "kept" }, ...kept),
      ...(row.T > 1 ? [this.history(i, row, pack)] : []),
    );
  }

  /** Top probability over the snapshots; a dot has the colour of the label, a ring where the own rule kept it. */
  history(i, row, pack) {
    const { app } = this;
    const { steps } = row.track;
    const { n } = app.scene;
    const at = (name, q, plane = 0, planes = 1) => pack[name].data[(q * planes + plane) * n + i];
    const truth = app.scene.known[i] ? app.scene.truth[i] : -1;
    const spots = steps.map((step, q) => [step, at("prob", q, 0, 3) / 255]);
    const right = steps.map((step, q) => {
      const plane = range(3).find((r) => at("top", q, r, 3) === truth);
      return truth < 0 || plane === undefined ? null : [step, at("prob", q, plane, 3) / 255];
    });
    const drawn = chart({
      width: 260,
      height: 112,
      left: 42,
      x: [steps[0], steps[steps.length - 1]],
      y: [0, 1],
      yTicks: [
        [0, "0"],
        [0.5, "50"],
        [1, "100 %"],
      ],
      xTicks: [
        [steps[0], String(steps[0])],
        [steps[steps.length - 1], `step ${steps[steps.length - 1]}`],
      ],
      series: [
        { points: right, cls: "faint" },
        { points: spots, cls: "main" },
      ],
      label: `top probability of this pixel over the training: ${spots.map(([step, p]) => `step ${step} ${Math.round(100 * p)} %`).join(", ")}`,
    });
    drawn.over.append(
      s("line", {
        x1: drawn.x(row.step),
        x2: drawn.x(row.step),
        y1: drawn.box.top,
        y2: drawn.box.bottom,
        class: "moment",
      }),
    );
    steps.forEach((step, q) => {
      const label = at("label", q);
      const dot = s("circle", {
        cx: drawn.x(step),
        cy: drawn.y(spots[q][1]),
        r: at("weight", q) ? 5 : 3.5,
        class: at("weight", q) ? "dot ring" : "dot",
      });
      if (label < app.C) dot.style.setProperty("fill", rgb(app.palette[label]));
      dot.append(
        s(
          "title",
          {},
          `step ${step}: ${app.classes[label] ?? "no label"}, ${percent(spots[q][1], 0)}, ${at("weight", q) ? "kept" : "rejected"} by the own rule`,
        ),
      );
      drawn.over.append(dot);
    });
    return h(
      "div",
      { cls: "history", test: `history${this.suffix}` },
      drawn.svg,
      h("small", {}, "Top probability; dashed: the true class; ringed: kept by the own rule."),
    );
  }
}

// --------------------------------------------------------------------------------------------------------- sections

/** A closer look below the panels. `update`: anything but the threshold, `move`: that, `hover`: a pixel is read. */
class Section {
  constructor(app) {
    this.app = app;
    this.host = h("div", { cls: "s4x-section" });
  }

  update() {}
  move() {}
  hover() {}

  heading(row) {
    return this.app.rows.length > 1 ? h("h4", {}, `${row.track.title}, step ${row.step}`) : null;
  }

  intro(...words) {
    return h("p", { cls: "s4x-intro" }, ...words);
  }
}

class WhatIf extends Section {
  name = "whatif";
  title = "What if";

  update() {
    const { app } = this;
    this.blocks = app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""));
    this.host.replaceChildren(
      this.intro(
        "What would be trained on if the threshold stood elsewhere, or another policy chose? The pseudo-labels stay; only the choice among them changes. “Entropy share” keeps that share of the pixels; the other two need a top probability.",
      ),
      ...this.blocks.map((block) => block.host),
    );
    this.move();
  }

  block(row, suffix) {
    const { app } = this;
    const pointer = app.pointer();
    const maps = POLICIES.map(([key, name, words]) => {
      const panel = new Panel({
        title: name,
        test: `map-${key}${suffix}`,
        view: app.view,
        pointer,
        label: `kept by ${name}`,
      });
      panel.numbers = h("div", { cls: "s4x-key numbers", test: `policy-${key}${suffix}` });
      panel.caption.replaceWith(panel.numbers);
      panel.title.replaceWith(
        h("button", { type: "button", title: words, onclick: () => app.set("policy", key) }, name),
      );
      panel.key = key;
      return panel;
    });
    const curves = Object.fromEntries(["fixed", "entropy", "adaptive"].map((key) => [key, row.frame.curve(key)]));
    const probe = row.summary && !row.full ? this.probe(row) : null;
    const drawn = this.curves(row, curves, probe, suffix);
    const bars = this.bars(row);
    const host = h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h(
        "div",
        { cls: "s4x-three" },
        h("div", { cls: "s4x-grid four" }, ...maps.map((panel) => panel.figure)),
        drawn.host,
        bars.host,
      ),
    );
    return { row, maps, curves, probe, drawn, bars, host };
  }

  /** The fixed policy over all probe images with a truth, and its point for the own rule as the run recorded it. */
  probe(row) {
    const { summary, at } = row;
    const size = this.app.C * 256;
    const part = (name) => summary[name].data.subarray(at * size, (at + 1) * size);
    const [total, right] = [part("total"), part("right")];
    const all = total.reduce((sum, x) => sum + x, 0);
    return all ? levelCurve([total, total, right], this.app.C, "fixed", all) : null;
  }

  curves(row, curves, probe, suffix) {
    const known = this.app.scene.knownCount > 0;
    const points = (curve) => curve.map(({ coverage, precision }) => [coverage, precision]);
    const all = [...Object.values(curves).flat(), ...(probe ?? [])].filter(
      (at) => at.precision !== null && at.coverage > 0.02,
    );
    const low = Math.min(0.9, Math.floor(10 * Math.min(1, ...all.map((at) => at.precision))) / 10);
    const ticks = [low, (low + 1) / 2, 1].map((v) => [v, `${Math.round(100 * v)}${v === 1 ? " %" : ""}`]);
    const drawn = chart({
      width: 350,
      height: 260,
      x: [0, 1],
      y: [low, 1],
      xTicks: SHARES,
      yTicks: ticks,
      xLabel: "kept (coverage)",
      yLabel: "right among kept (precision)",
      left: 52,
      series: [
        ...(probe ? [{ points: points(probe), cls: "probe" }] : []),
        ...Object.keys(curves).map((key) => ({ points: known ? points(curves[key]) : [], cls: key })),
      ],
      label: "precision against coverage for all thresholds",
    });
    drawn.svg.dataset.testid = `curve${suffix}`;
    drawn.svg.addEventListener("click", (event) => this.pick(event, drawn, curves));
    const names = [
      ["own", "own rule"],
      ["fixed", "fixed"],
      ["entropy", "entropy share"],
      ["adaptive", "class-adaptive"],
      ...(probe ? [["probe", "fixed, all probe images"]] : []),
    ];
    const sign = (cls) =>
      cls === "own"
        ? s("path", { d: star(13, 7, 7), class: "spot own" })
        : s("line", { x1: 0, x2: 26, y1: 7, y2: 7, class: `line ${cls}` });
    const key = h(
      "div",
      { cls: "s4x-key lines" },
      ...names.map(([cls, text]) =>
        h(
          "span",
          {},
          s("svg", { viewBox: "0 0 26 14", width: 26, height: 14, "aria-hidden": "true" }, sign(cls)),
          text,
        ),
      ),
    );
    const words = h("p", { cls: "small", test: `probe${suffix}` });
    return {
      ...drawn,
      words,
      host: h(
        "div",
        {},
        h("h5", {}, "Precision and coverage"),
        known
          ? null
          : h("p", { cls: "small" }, "This image has no ground truth: there is no precision to draw for it."),
        drawn.svg,
        key,
        words,
      ),
    };
  }

  /** A click near a curve sets the threshold (and the policy) of its nearest point. */
  pick(event, drawn, curves) {
    const { app } = this;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawn.svg.getScreenCTM().inverse());
    const wanted = app.state.policy === "own" ? Object.keys(curves) : [app.state.policy];
    let best = { far: Infinity };
    for (const key of wanted) {
      curves[key].forEach(({ coverage, precision }, t) => {
        if (precision === null) return;
        const far = Math.hypot(drawn.x(coverage) - at.x, drawn.y(precision) - at.y);
        if (far < best.far) best = { far, key, t };
      });
    }
    if (best.far === Infinity) return;
    app.state.policy = best.key;
    app.set("threshold", best.t / 255);
  }

  bars(row) {
    const { app } = this;
    const C = app.C;
    const truth = new Int32Array(C);
    const label = new Int32Array(C);
    for (let i = 0; i < app.scene.n; i++) {
      if (!app.scene.valid[i]) continue;
      if (app.scene.known[i]) truth[app.scene.truth[i]]++;
      if (row.frame.label[i] < C) label[row.frame.label[i]]++;
    }
    const present = range(C).filter((c) => truth[c] || label[c]);
    const cell = (kind) => {
      const fill = h("i", { cls: kind });
      const text = h("span", {});
      return { fill, text, node: h("td", {}, h("span", { cls: "cell" }, h("span", { cls: "track" }, fill), text)) };
    };
    const lines = present.map((c) => {
      const cells = Object.fromEntries(["precision", "coverage", "kept", "truth"].map((kind) => [kind, cell(kind)]));
      const name = h(
        "th",
        { scope: "row" },
        h("i", { cls: "dot", css: { background: rgb(app.palette[c]) } }),
        app.classes[c],
      );
      return { c, cells, node: h("tr", { test: `bars-${c}` }, name, ...Object.values(cells).map(({ node }) => node)) };
    });
    const head = h(
      "tr",
      {},
      ...[
        ["class", ""],
        ["right", "share of the kept pixels with this label that are right (precision)"],
        ["kept", "share of the class's true pixels that are kept (coverage)"],
        ["of the kept", "share of all kept pixels that have this label: the class balance that is trained on"],
        ["of the truth", "share of the pixels that truly have this class"],
      ].map(([text, title]) => h("th", { scope: "col", title }, text)),
    );
    return {
      lines,
      truth,
      known: app.scene.knownCount,
      host: h(
        "div",
        {},
        h("h5", {}, "Per class: precision, coverage and class balance"),
        h(
          "div",
          { cls: "s4x-scroll" },
          h("table", { cls: "s4x-bars" }, h("thead", {}, head), h("tbody", {}, ...lines.map(({ node }) => node))),
        ),
      ),
    };
  }

  move() {
    const { app } = this;
    const { policy } = app.state;
    for (const block of this.blocks ?? []) {
      const { row, maps, drawn } = block;
      for (const panel of maps) {
        panel.figure.classList.toggle("current", panel.key === policy);
        if (panel.key === "own" && panel.at) continue; // the slider does not act on it
        const now = panel.key === policy;
        const mask = now ? row.mask : row.frame.mask(panel.key, app.level);
        const numbers = now ? row.numbers : row.frame.numbers(mask);
        panel.at = numbers;
        panel.paint(app.scene, (out) => this.paintMask(out, mask), null);
        for (const name of ["kept", "valid", "known", "right"]) panel.numbers.dataset[name] = numbers[name];
        panel.numbers.textContent = `kept ${percent(numbers.coverage)} · right ${percent(numbers.precision)}`;
      }
      this.points(block, drawn);
      this.fill(block.bars, row.numbers);
    }
  }

  paintMask(out, mask) {
    const { dim, grey } = this.app.scene;
    for (let i = 0; i < out.length; i++) {
      const lit = grey[i] >> 2;
      out[i] = mask[i]
        ? pack32(((KEPT[0] * 3) >> 2) + lit, ((KEPT[1] * 3) >> 2) + lit, ((KEPT[2] * 3) >> 2) + lit)
        : dim[i];
    }
  }

  points({ row, maps, probe }, drawn) {
    const { app } = this;
    drawn.over.replaceChildren();
    for (const { key, at } of maps) {
      if (at.precision === null) continue;
      const now = key === app.state.policy;
      const [cx, cy] = [drawn.x(at.coverage), Math.min(drawn.y(at.precision), drawn.box.bottom)];
      if (key === "own")
        drawn.over.append(s("path", { d: star(cx, cy, now ? 9 : 7), class: `spot own${now ? " now" : ""}` }));
      else drawn.over.append(s("circle", { cx, cy, r: now ? 7 : 4.5, class: `spot ${key}${now ? " now" : ""}` }));
    }
    drawn.words.textContent = "";
    if (!probe) return;
    const at = probe[app.level];
    if (at.precision !== null)
      drawn.over.append(
        s("rect", {
          x: drawn.x(at.coverage) - 4,
          y: drawn.y(at.precision) - 4,
          width: 8,
          height: 8,
          class: "spot probe",
        }),
      );
    drawn.words.dataset.kept = at.kept;
    drawn.words.textContent = `Fixed at ${(app.level / 255).toFixed(3)}, over all probe images with a truth: kept ${percent(at.coverage)}, right ${percent(at.precision)} (step ${row.step}). Click near a curve to go there.`;
  }

  fill({ lines, truth, known }, numbers) {
    for (const { c, cells } of lines) {
      const values = {
        precision: ratio(numbers.rightOf[c], numbers.knownOf[c]),
        coverage: ratio(numbers.truthKept[c], truth[c]),
        kept: ratio(numbers.keptOf[c], numbers.kept),
        truth: known ? ratio(truth[c], known) : null,
      };
      for (const [kind, value] of Object.entries(values)) {
        cells[kind].fill.style.setProperty("width", `${100 * (value ?? 0)}%`);
        cells[kind].text.textContent = percent(value, 0);
      }
    }
  }
}

const star = (x, y, r) =>
  `M${range(10)
    .map(
      (k) =>
        `${(x + (k % 2 ? r * 0.45 : r) * Math.sin((k * Math.PI) / 5)).toFixed(1)} ${(y - (k % 2 ? r * 0.45 : r) * Math.cos((k * Math.PI) / 5)).toFixed(1)}`,
    )
    .join("L")}Z`;

class Reliability extends Section {
  name = "reliability";
  title = "Reliability";

  update() {
    const { app } = this;
    this.blocks = app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""));
    const words = app.scene.knownCount
      ? ""
      : " This image has no ground truth: only the probe set's line can be drawn.";
    this.host.replaceChildren(
      this.intro(
        `Is the network right as often as it says? A bar below the diagonal: too sure of itself there. Click a bar to mark its pixels in the pictures; the pixel under the pointer marks its bar.${words}`,
      ),
      h("div", { cls: "s4x-flow" }, ...this.blocks.map((block) => block.host)),
    );
  }

  block(row, suffix) {
    const { app } = this;
    const { bins, ece } = row.frame.reliability();
    const most = Math.max(1, ...bins.map((bin) => bin.pixels));
    const drawn = chart({
      width: 360,
      height: 270,
      x: [0, 1],
      y: [0, 1],
      xTicks: SHARES,
      yTicks: SHARES,
      xLabel: "top probability",
      yLabel: "right",
      left: 52,
      series: [],
      label: `reliability diagram: ${bins.map((bin, k) => `from ${10 * k} %: ${percent(ratio(bin.right, bin.pixels), 0)} right`).join(", ")}`,
    });
    drawn.svg.setAttribute("role", "group");
    const parts = bins.map((bin, k) => this.bar(drawn, bin, k, most, suffix));
    drawn.over.append(
      s("path", {
        d: line(
          [
            [0, 0],
            [1, 1],
          ],
          drawn.x,
          drawn.y,
        ),
        class: "line diagonal",
      }),
    );
    const probe = this.probe(row);
    if (probe) {
      drawn.over.append(
        s("path", {
          d: line(
            probe.bins
              .map((bin) => (bin.pixels ? [bin.sum / bin.pixels / 255, bin.right / bin.pixels] : null))
              .filter(Boolean),
            drawn.x,
            drawn.y,
          ),
          class: "line probe",
        }),
      );
    }
    const gap = (value) => (value === null ? "–" : percent(value));
    const words = h(
      "p",
      { cls: "small", test: `ece${suffix}`, "data-ece": ece ?? "" },
      `Mean gap between confidence and being right (ECE, 10 bins): ${gap(ece)} here`,
      probe ? `, ${gap(probe.ece)} over all probe images (grey line).` : ".",
      " The fuller its colour, the more pixels a bar has.",
    );
    return { row, parts, host: h("div", { cls: "s4x-block" }, this.heading(row), drawn.svg, words) };
  }

  probe({ summary, at, full }) {
    if (!summary || full) return null;
    const size = this.app.C * 256;
    return reliability(
      summary.total.data.subarray(at * size, (at + 1) * size),
      summary.right.data.subarray(at * size, (at + 1) * size),
      this.app.C,
    );
  }

  bar(drawn, bin, k, most, suffix) {
    const { app } = this;
    const right = ratio(bin.right, bin.pixels);
    const x = drawn.x(k / BINS);
    const width = drawn.x((k + 1) / BINS) - x;
    const press = () => {
      const { selection } = app.state;
      app.set("selection", selection.kind === "bin" && selection.bin === k ? {} : { kind: "bin", bin: k });
    };
    const words = `${10 * k} to ${10 * k + 10} %: ${whole(bin.pixels)} pixels, ${percent(right)} right`;
    const marked = app.state.selection.kind === "bin" && app.state.selection.bin === k;
    const group = s("g", {
      class: `bin${marked ? " marked" : ""}`,
      test: `bin-${k}${suffix}`,
      tabindex: 0,
      role: "button",
      "aria-pressed": marked,
      "aria-label": words,
      "data-pixels": bin.pixels,
      "data-right": bin.right,
      onclick: press,
      onkeydown: (event) =>
        ["Enter", " "].includes(event.key) && (event.preventDefault(), event.stopPropagation(), press()),
    });
    group.append(
      s("title", {}, words),
      s("rect", { x, y: drawn.box.top, width, height: drawn.box.bottom - drawn.box.top, class: "hit" }),
    );
    if (right !== null) {
      const top = drawn.y(right);
      const rect = s("rect", {
        x: x + 2,
        y: top,
        width: width - 4,
        height: Math.max(1, drawn.box.bottom - top),
        class: "filled",
      });
      rect.style.setProperty("fill-opacity", (0.25 + 0.75 * Math.sqrt(bin.pixels / most)).toFixed(2));
      group.append(rect);
    }
    drawn.over.append(group);
    return group;
  }

  hover(i) {
    for (const { row, parts } of this.blocks ?? []) {
      const at = i === null || !this.app.scene.valid[i] ? -1 : binOf(row.frame.p[i]);
      parts.forEach((part, k) => part.classList.toggle("pointed", k === at));
    }
  }
}

class Bias extends Section {
  name = "bias";
  title = "Confirmation bias";

  update() {
    const { app } = this;
    const intro = this.intro(
      "Wrong pixels that were kept by the own rule, snapshot after snapshot, with the same wrong label: the network keeps teaching itself the mistake. The map counts snapshots without a break up to now; the line counts pixels with two or more. Click a dot to go to its snapshot.",
    );
    if (!app.scene.knownCount || app.full) {
      const words = app.full
        ? "Full resolution shows the last weights only; there is no past to look at."
        : "This image has no ground truth: what is wrong cannot be told.";
      this.host.replaceChildren(intro, h("p", { test: "bias-count" }, words));
      return;
    }
    this.most = Math.max(4, ...app.rows.flatMap((row) => app.bias(row).counts)); // one scale for all tracks
    this.host.replaceChildren(
      intro,
      h("div", { cls: "s4x-flow" }, ...app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""))),
    );
  }

  block(row, suffix) {
    const { app, most } = this;
    const { map, counts } = app.bias(row);
    const scene = app.scene;
    const panel = new Panel({
      title: "kept, wrong, unchanged",
      test: `map-bias${suffix}`,
      view: app.view,
      pointer: app.pointer(),
      label: "snapshots in a row that a pixel was kept, wrong and unchanged",
    });
    panel.paint(
      scene,
      (out) => {
        for (let i = 0; i < out.length; i++)
          out[i] = map[i] ? HEAT[Math.round(70 + (185 * map[i]) / row.T)] : scene.dim[i];
      },
      null,
    );
    panel.caption.append(bar(warm(), "1", `${row.T} snapshots`, "snapshots in a row"));
    const { steps } = row.track;
    const drawn = chart({
      width: 330,
      height: 200,
      left: 52,
      x: [steps[0], steps[steps.length - 1]],
      y: [0, most],
      yTicks: [
        [0, "0"],
        [most, whole(most)],
      ],
      yLabel: "pixels, 2 or more",
      xTicks: [
        [steps[0], String(steps[0])],
        [steps[steps.length - 1], `step ${steps[steps.length - 1]}`],
      ],
      xLabel: "training",
      series: [{ points: steps.map((step, q) => [step, counts[q]]), cls: "main" }],
      label: `stuck pixels over the training: ${counts.join(", ")}`,
    });
    steps.forEach((step, q) => {
      const dot = s(
        "circle",
        {
          cx: drawn.x(step),
          cy: drawn.y(counts[q]),
          r: q === row.at ? 7 : 4.5,
          class: q === row.at ? "spot entropy now" : "spot entropy",
          onclick: () => app.set("snapshot", nearest(app.first.steps, step)),
        },
        s("title", {}, `step ${step}: ${whole(counts[q])} pixels`),
      );
      drawn.over.append(dot);
    });
    const stuck = h(
      "p",
      { cls: "small" },
      h("b", { test: `bias-count${suffix}`, "data-counts": counts.join(",") }, String(counts[row.at])),
      ` pixels at step ${row.step} (${percent(ratio(counts[row.at], scene.knownCount), 2)} of those with a truth).`,
    );
    return h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h("div", { cls: "s4x-two even" }, panel.figure, h("div", {}, drawn.svg, stuck, this.worst(row, map))),
    );
  }

  /** The mistakes that are stuck most often, as buttons that mark their pixels. */
  worst(row, map) {
    const { app } = this;
    const C = app.C;
    const pairs = new Int32Array(C * C);
    for (let i = 0; i < map.length; i++) if (map[i] > 1) pairs[app.scene.truth[i] * C + row.frame.label[i]]++;
    const top = range(C * C)
      .filter((k) => pairs[k])
      .sort((a, b) => pairs[b] - pairs[a])
      .slice(0, 4);
    if (!top.length) return h("p", { cls: "small" }, "No mistake is stuck at this snapshot.");
    return h(
      "div",
      { cls: "s4x-pairs" },
      h("small", {}, "Most often: "),
      ...top.map((k) => {
        const [truth, label] = [Math.floor(k / C), k % C];
        return h(
          "button",
          { type: "button", onclick: () => app.set("selection", { kind: "confusion", truth, label }) },
          `${app.classes[truth]} called ${app.classes[label]}: ${whole(pairs[k])}`,
        );
      }),
    );
  }
}

const warm = () => Uint32Array.from({ length: 256 }, (_, i) => HEAT[Math.round(70 + (185 * i) / 255)]);

class Path extends Section {
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
      "One training batch, drawn once, on its whole way through a step of the method, in training mode: what the teacher saw, what it said, what was kept, what the student saw, and where that hurt. These are other images than the probe images above.",
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

  nameOf(j) {
    const names = this.app.rows
      .map(({ track }) => track.path_names ?? [])
      .reduce((a, b) => (b.length > a.length ? b : a));
    return new Set(names).size > 1 && names[j]
      ? `${names[j]}, ${names.slice(0, j + 1).filter((name) => name === names[j]).length}`
      : `example ${j + 1}`;
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
      ["target", "2 pseudo-label", "what it said", label, (out) => labels(out, null)],
      ["path-kept", "3 kept", "what is left of it", label && weight, (out) => labels(out, weight)],
      ["mixed", "4 strong / mixed view", "what the student saw", mixed, (out) => picture(out, mixed)],
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
    const words = `As trained, ${pack.header.name ?? ""}, step ${step}${label ? `: ${percent(kept / n)} of this example's pixels are kept` : ""}.`;
    return h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h("div", { cls: "s4x-grid five" }, ...panels.map(({ figure }) => figure)),
      h("p", { cls: "small", test: `path-words${suffix}`, "data-kept": kept }, words),
    );
  }
}

class Confusion extends Section {
  name = "confusion";
  title = "Confusion";

  update() {
    const { app } = this;
    const intro = this.intro(
      "What is called what, over this image's pixels with a known truth: rows are the truth, columns the pseudo-labels, each row adds up to 100 %. Click a cell to mark its pixels in the pictures.",
    );
    if (!app.scene.knownCount) {
      this.host.replaceChildren(
        intro,
        h("p", { test: "confusion-none" }, "This image has no ground truth: there is nothing to compare with."),
      );
      return;
    }
    this.host.replaceChildren(
      intro,
      h("div", { cls: "s4x-flow" }, ...app.rows.map((row, r) => this.block(row, r ? `-${row.t}` : ""))),
    );
  }

  block(row, suffix) {
    const { app } = this;
    const C = app.C;
    const { confusion } = row.frame;
    const sum = (c) => range(C).reduce((all, k) => all + confusion[c * C + k], 0);
    const rows = range(C).filter((c) => sum(c));
    const columns = range(C).filter((c) => rows.includes(c) || rows.some((a) => confusion[a * C + c]));
    const dot = (c) => h("i", { cls: "dot", css: { background: rgb(app.palette[c]) } });
    const head = h(
      "tr",
      {},
      h("th", { cls: "corner" }, "truth ↓ called →"),
      ...columns.map((c) => h("th", { scope: "col", cls: "turned" }, h("span", {}, dot(c), app.classes[c]))),
    );
    const { selection } = app.state;
    const body = rows.map((a) => {
      const all = sum(a);
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, dot(a), app.classes[a]),
        ...columns.map((b) => {
          const count = confusion[a * C + b];
          const share = count / all;
          const on = selection.kind === "confusion" && selection.truth === a && selection.label === b;
          const words = `${app.classes[a]} called ${app.classes[b]}: ${whole(count)} pixels, ${percent(share)}`;
          const press = () => app.set("selection", on ? {} : { kind: "confusion", truth: a, label: b });
          const button = h(
            "button",
            {
              type: "button",
              test: `cell-${a}-${b}${suffix}`,
              "aria-pressed": on,
              "aria-label": words,
              title: words,
              disabled: !count,
              "data-pixels": count,
              cls: a === b ? "same" : "other",
              css: { "--share": count ? (0.08 + 0.92 * share).toFixed(3) : 0 },
              onclick: press,
            },
            count ? (share < 0.005 ? "<1" : String(Math.round(100 * share))) : "·",
          );
          return h("td", {}, button);
        }),
      );
    });
    return h(
      "div",
      { cls: "s4x-block" },
      this.heading(row),
      h(
        "div",
        { cls: "s4x-scroll" },
        h("table", { cls: "s4x-confusion" }, h("thead", {}, head), h("tbody", {}, ...body)),
      ),
    );
  }
}

const MEASURES = [
  ["accuracy", "right, of all pixels", false, percent],
  ["precision", "right, of the kept", false, percent],
  ["coverage", "kept", false, percent],
  ["bias", "stuck pixels", true, (n) => (n === null || n === undefined ? "–" : whole(n))],
];

class Ranking extends Section {
  name = "ranking";
  title = "Worst images";
  by = "accuracy";

  update() {
    const { app } = this;
    const [, , high] = MEASURES.find(([key]) => key === this.by);
    const quality = ({ track, at }, k) => track.quality[at][k] ?? {};
    const value = (k) => quality(app.rows[0], k)[this.by] ?? null;
    const order = range(app.meta.images.length).sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return (high ? y - x : x - y) || a - b;
    });
    const choose = h(
      "div",
      { cls: "s4x-choice", role: "group", "aria-label": "order by" },
      ...MEASURES.map(([key, text]) =>
        h(
          "button",
          {
            type: "button",
            test: `rank-${key}`,
            "aria-pressed": key === this.by,
            onclick: () => ((this.by = key), this.update()),
          },
          text,
        ),
      ),
    );
    const several = app.rows.length > 1;
    const measures = several ? MEASURES.filter(([key]) => key === this.by) : MEASURES;
    const head = h(
      "tr",
      {},
      h("th", {}, ""),
      h("th", { scope: "col" }, "image"),
      ...app.rows.flatMap((row) =>
        measures.map(([, text]) => h("th", { scope: "col" }, several ? row.track.title : text)),
      ),
    );
    const body = order.map((k, place) => {
      const image = app.meta.images[k];
      const jump = h(
        "button",
        {
          type: "button",
          test: `rank-jump-${place}`,
          "data-image": k,
          "aria-current": k === app.state.image ? "true" : null,
          onclick: () => app.set("image", k),
        },
        image.id,
      );
      const cells = app.rows.flatMap((row) =>
        measures.map(([key, , , show]) => {
          const x = quality(row, k)[key] ?? null;
          const fill =
            key !== "bias" && x !== null
              ? h(
                  "span",
                  { cls: "track" },
                  h("i", { cls: key === "coverage" ? "coverage" : "precision", css: { width: `${100 * x}%` } }),
                )
              : null;
          return h("td", {}, h("span", { cls: "cell" }, fill, h("span", {}, show(x))));
        }),
      );
      return h(
        "tr",
        { cls: k === app.state.image ? "here" : "" },
        h("td", {}, String(place + 1)),
        h("th", { scope: "row" }, jump, image.known ? null : h("small", {}, " no truth")),
        ...cells,
      );
    });
    this.host.replaceChildren(
      this.intro(
        "The probe images by the quality of their pseudo-labels at this snapshot, under the method's own rule, worst first (of several tracks: by the first). Click a name to go there.",
      ),
      choose,
      h(
        "div",
        { cls: "s4x-scroll" },
        h("table", { cls: "s4x-ranking" }, h("thead", {}, head), h("tbody", {}, ...body)),
      ),
    );
  }
}

function render({ model, el }) {
  const app = new App(model, el);
  return () => app.close();
}

export default { render };
