/** Pixels of one true class that have a label. */
export const confusionSelection = {
  kind: "confusion",
  words: ({ classes }, { truth, label }) => `${classes[truth]} called ${classes[label]}`,
  mask: ({ frame }, wanted) => {
    const { known, truth } = frame.scene;
    const { label } = frame;
    return Uint8Array.from({ length: frame.n }, (_, i) =>
      known[i] && truth[i] === wanted.truth && label[i] === wanted.label ? 1 : 0,
    );
  },
};
