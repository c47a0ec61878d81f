import { binOf } from "../arithmetic.js";

/** Pixels whose top probability lies in one of the ten bins. */
export const binSelection = {
  kind: "bin",
  words: (app, { bin }) => `top probability from ${bin * 10} to ${bin * 10 + 10} %`,
  mask: ({ frame }, { bin }) =>
    Uint8Array.from({ length: frame.n }, (_, i) => (frame.scene.valid[i] && binOf(frame.p[i]) === bin ? 1 : 0)),
};
