/** All pixels that truly are of one class. */
export const truthSelection = {
  kind: "truth",
  words: ({ classes }, { truth }) => `all that is ${classes[truth]}`,
  mask: ({ frame }, wanted) => {
    const { known, truth } = frame.scene;
    return Uint8Array.from({ length: frame.n }, (_, i) => (known[i] && truth[i] === wanted.truth ? 1 : 0));
  },
};
