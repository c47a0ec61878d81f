// Counts over all watched images and snapshots, from the rows that cells.py makes. No page is needed.

import { range, ratio } from "./arithmetic.js";

const STARVED = 0.1; // as in cells.py

/** [name, words, share of a class, the pixels of an image that are to blame] */
export const MEASURES_OF_CLASSES = [
  ["coverage", "of its true pixels, kept", (row) => ratio(row.found, row.there), "there", "found"],
  ["precision", "of its kept labels, right", (row) => ratio(row.right, row.judged), "judged", "right"],
  ["kept_share", "of its labels, kept", (row) => ratio(row.kept, row.labelled), "labelled", "kept"],
  ["share", "of all kept labels", (row, all) => ratio(row.kept, all.kept), "labelled", "kept"],
  ["presence", "of all true pixels", (row, all) => ratio(row.there, all.there), "there", null],
];

const COUNTS = {
  labelled: ["label", "every", () => true],
  kept: ["label", "kept", () => true],
  judged: ["label", "kept", (known) => known],
  right: ["label", "kept", (known, truth, label) => truth === label],
  there: ["truth", "every", (known) => known],
  found: ["truth", "kept", (known) => known],
};

export class Cells {
  /** `pack`: place, every, kept, and in the header ids and kinds of the images; C classes, T snapshots. */
  constructor(pack, C, T, only = null) {
    Object.assign(this, { pack, C, T, ids: pack.header.ids, kinds: pack.header.kinds });
    const K = this.ids.length;
    this.rows = range(T).map(() => []); // by snapshot: [image, truth, label, every, kept]
    pack.place.data.forEach((place, i) => {
      const image = Math.floor(place / (C * (C + 1))) % K;
      if (only && !only.has(image)) return;
      const step = Math.floor(place / (K * C * (C + 1)));
      const truth = Math.floor(place / C) % (C + 1);
      this.rows[step].push({ image, truth, label: place % C, every: pack.every.data[i], kept: pack.kept.data[i] });
    });
    this.classes = new Map();
  }

  /** Of these images alone. */
  only(images) {
    return new Cells(this.pack, this.C, this.T, new Set(images));
  }

  /** [truth * C + label] pixels, all or kept, with a known truth. */
  confusion(step, kept) {
    const found = new Float64Array(this.C * this.C);
    for (const row of this.rows[step])
      if (row.truth < this.C) found[row.truth * this.C + row.label] += kept ? row.kept : row.every;
    return found;
  }

  /** [image, pixels] of a cell, most pixels first. */
  imagesOf(step, truth, label, kept) {
    return this.sorted(step, (row) => (row.truth === truth && row.label === label ? (kept ? row.kept : row.every) : 0));
  }

  /** [image, pixels] that are to blame for a class's share, most pixels first. */
  worst(step, c, measure) {
    const [, , , all, good] = MEASURES_OF_CLASSES.find(([name]) => name === measure);
    return this.sorted(step, (row) => this.count(row, all, c) - (good ? this.count(row, good, c) : 0));
  }

  sorted(step, pixels) {
    const sums = new Float64Array(this.ids.length);
    for (const row of this.rows[step]) sums[row.image] += pixels(row);
    const order = range(sums.length).filter((k) => sums[k] > 0);
    return order.sort((a, b) => sums[b] - sums[a] || a - b).map((k) => [k, sums[k]]);
  }

  count(row, name, c) {
    const [of, what, fits] = COUNTS[name];
    return row[of] === c && fits(row.truth < this.C, row.truth, row.label) ? row[what] : 0;
  }

  /** For each class the counts of cells.py at a snapshot, and their sums as `all`. */
  byClass(step) {
    if (!this.classes.has(step)) {
      const names = Object.keys(COUNTS);
      const blank = () => Object.fromEntries(names.map((name) => [name, 0]));
      const found = range(this.C).map(blank);
      found.all = blank();
      for (const row of this.rows[step])
        for (const name of names) {
          const c = row[COUNTS[name][0]];
          const n = c < this.C ? this.count(row, name, c) : 0;
          if (!n) continue;
          found[c][name] += n;
          found.all[name] += n;
        }
      this.classes.set(step, found);
    }
    return this.classes.get(step);
  }

  /** Of each class the first snapshot from which on, up to the last, it starves; null where it does not. */
  starvesSince() {
    const since = range(this.C).map(() => null);
    for (let step = this.T - 1; step >= 0; step--) {
      const found = this.byClass(step);
      const rate = ratio(found.all.found, found.all.there) ?? 0;
      found.forEach((row, c) => {
        const still = step === this.T - 1 || since[c] === step + 1;
        if (still && row.there && row.found / row.there < STARVED * rate) since[c] = step;
      });
    }
    return since;
  }
}
