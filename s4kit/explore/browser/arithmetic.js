// What is counted, from arrays of bytes: whole numbers throughout, so that Python finds the same. No page is needed.

import { pack32 } from "./colours.js";

export const VOID = 255;
export const BINS = 10;

export const POLICIES = [
  ["own", "own rule", "the method's own rule, as recorded; the slider does not act on it"],
  ["fixed", "fixed", "keep pixels whose top probability reaches the threshold"],
  ["entropy", "entropy share", "keep this share of the image's pixels, those with the lowest entropy"],
  ["adaptive", "class-adaptive", "the threshold, lowered for classes on which the network is less sure"],
];

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const ratio = (part, of) => (of > 0 ? part / of : null);

/** A step in words: with the round that it belongs to, in a training of several. */
export function stepWords({ rounds = [] }, step) {
  const round = rounds.findLast(({ first }) => first <= step);
  return `step ${step}${round ? ` · ${round.name}` : ""}`;
}

export function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, i) => {
    if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i;
  });
  return best;
}

/** One image: picture, truth, which pixels are real, and grey versions to draw on. */
export class Scene {
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
export class Frame {
  constructor(scene, pack, at, classes) {
    const n = scene.n;
    const of = (name, planes = 1) => pack[name].data.subarray(at * planes * n, (at + 1) * planes * n);
    Object.assign(this, { scene, classes, n });
    for (const name of ["label", "weight", "entropy"]) this[name] = of(name);
    this.top = of("top", 3);
    this.prob = of("prob", 3);
    this.p = this.prob.subarray(0, n);
    this.confidence = pack.confidence ? of("confidence") : this.p; // left out where the rule's is the top probability
    this.object = pack.object ? of("object") : null; // where single objects were recorded
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

  /** The class of an object along its rim, VOID everywhere else. */
  get rims() {
    return (this.outlined ??= rims(this.object ?? new Uint8Array(this.n), this.label, this.scene.width));
  }

  /** The object that a pixel is of: its pixels, those with known truth, and those of them whose class is right; or null. */
  objectAt(i) {
    const number = this.object?.[i];
    if (!number) return null;
    const { known, truth, valid } = this.scene;
    const out = { number, pixels: 0, known: 0, right: 0 };
    for (let j = 0; j < this.n; j++) {
      if (this.object[j] !== number || !valid[j]) continue;
      out.pixels++;
      out.known += known[j];
      out.right += known[j] && truth[j] === this.label[j] ? 1 : 0;
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

/** The labels of those pixels of objects that touch another object, or none, above, below or beside them; else VOID. */
export function rims(object, label, width) {
  const out = new Uint8Array(object.length).fill(VOID);
  for (let i = 0; i < object.length; i++) {
    if (!object[i]) continue;
    const x = i % width;
    const beside = [x ? i - 1 : i, x < width - 1 ? i + 1 : i, i - width, i + width];
    if (beside.some((j) => (object[j] ?? object[i]) !== object[i])) out[i] = label[i];
  }
  return out;
}

export const range = (n) => Array.from({ length: n }, (_, i) => i);
export const binOf = (p) => Math.min(BINS - 1, Math.floor((p * BINS) / 255));
export const point = ([kept, known, right], total) => ({ kept, coverage: ratio(kept, total), precision: ratio(right, known) });

/** Smallest entropy level below which lies the share t / 255 of n pixels; -1 keeps none. */
export function entropyLevel(histogram, n, t) {
  if (t === 0) return -1;
  let sum = 0;
  for (let e = 0; e < 256; e++) {
    sum += histogram[e];
    if (255 * sum >= t * n) return e;
  }
  return 255;
}

/** Per class: slider level x mean probability of the class / that of the surest class, rounded half up. */
export function adaptiveLevels(levels, C, t) {
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

export function levelCurve(levels, C, policy, total) {
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

export function reliability(known, right, C) {
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
export function confirmation(scene, pack, T, at) {
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
