import { nearest } from "../arithmetic.js";

/** Pixels whose label was another one at an earlier, or later, snapshot. */
export const changeSelection = {
  kind: "change",
  words: (app, { from, to, since }) =>
    `${app.classes[from]} at step ${stepOf(app.first.steps, since)}, ${app.classes[to]} now`,
  mask: ({ frame, pack, track, full }, { from, to, since }, { first }) => {
    const { n, label } = frame;
    const at = nearest(track.steps, stepOf(first.steps, since)) * n;
    const before = pack.label.data;
    return Uint8Array.from({ length: n }, (_, i) =>
      !full && frame.scene.valid[i] && label[i] === to && before[at + i] === from ? 1 : 0,
    );
  },
};

const stepOf = (steps, since) => steps[Math.min(since, steps.length - 1)];
