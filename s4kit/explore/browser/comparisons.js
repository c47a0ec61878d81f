// What differs between tracks, and between snapshots. No page is needed.

export const UNJUDGED = 4;

/**
 * Where tracks give different labels. `map`: 0 where they agree; of two tracks of an image with a truth 1: the first is
 * right, 2: the second, 3: neither, UNJUDGED: truth unknown; else the number of different labels less one.
 */
export function disagreement(scene, labels) {
  const { n, valid, known, truth } = scene;
  const two = labels.length === 2 && scene.knownCount > 0;
  const map = new Uint8Array(n);
  const seen = new Int32Array(256).fill(-1);
  const counts = [0, 0, 0, 0, 0]; // by the values of the map
  let differ = 0;
  for (let i = 0; i < n; i++) {
    let kinds = 0;
    for (const label of labels) {
      if (seen[label[i]] !== i) kinds++;
      seen[label[i]] = i;
    }
    if (kinds < 2 || !valid[i]) continue;
    differ++;
    map[i] = kinds - 1;
    if (!two) continue;
    map[i] = !known[i] ? UNJUDGED : labels[0][i] === truth[i] ? 1 : labels[1][i] === truth[i] ? 2 : 3;
    counts[map[i]]++;
  }
  const [, first, second, neither] = counts;
  return { two, map, counts: { differ, first, second, neither, known: first + second + neither } };
}

/**
 * Which pixels have another label in `now` than in `then`. `map` 0/1; `pairs` (C x C) pixels by label before and now;
 * `counts`: changed, and of these mended (were wrong, are right), broken, wrong both times, unknown truth.
 */
export function changes(then, now) {
  const { scene, classes: C, n } = now;
  const { valid, known, truth } = scene;
  const map = new Uint8Array(n);
  const pairs = new Int32Array(C * C);
  const counts = { changed: 0, mended: 0, broken: 0, wrong: 0, unknown: 0 };
  for (let i = 0; i < n; i++) {
    const [a, b] = [then.label[i], now.label[i]];
    if (!valid[i] || a === b || a >= C || b >= C) continue;
    map[i] = 1;
    pairs[a * C + b]++;
    counts.changed++;
    counts[!known[i] ? "unknown" : b === truth[i] ? "mended" : a === truth[i] ? "broken" : "wrong"]++;
  }
  return { map, pairs, counts };
}
