// The marks of those who take part in a contrast: a shape for each part, so that no colour has to tell it.

export const PARTS = [
  ["anchor", "is pulled and pushed: the gradient acts here"],
  ["positive", "what makes up the anchors' goal"],
  ["negative", "what anchors of the class are pushed away from"],
  ["prototype", "what stands for the class"],
];
const RADII = [5.2, 4.2, 4.2, 9.5];

/** The outline of a part's mark around (x, y); a cross has none that could be filled. */
function outline(context, part, x, y, r) {
  context.beginPath();
  if (part === 0) {
    context.moveTo(x, y - 1.15 * r);
    context.lineTo(x + r, y + 0.75 * r);
    context.lineTo(x - r, y + 0.75 * r);
    context.closePath();
  } else if (part === 1) context.arc(x, y, r, 0, 2 * Math.PI);
  else if (part === 2) {
    for (const way of [1, -1]) {
      context.moveTo(x - r, y - way * r);
      context.lineTo(x + r, y + way * r);
    }
  } else {
    for (let i = 0; i < 10; i++) {
      const [far, turn] = [i % 2 ? 0.45 * r : r, (Math.PI * i) / 5];
      context.lineTo(x + far * Math.sin(turn), y - far * Math.cos(turn));
    }
    context.closePath();
  }
}

/** Draws a mark: `rim` is the ink that shows it on any ground. `scale` 1 is that of the plane. */
export function drawMark(context, part, x, y, { fill, rim, scale = 1 }) {
  const r = RADII[part] * scale;
  outline(context, part, x, y, r);
  context.strokeStyle = rim;
  context.lineWidth = (part === 2 ? 4 : part === 3 ? 2.4 : 1.6) * scale;
  context.stroke();
  if (part === 2) {
    context.strokeStyle = fill;
    context.lineWidth = 2 * scale;
    context.stroke();
  } else {
    context.fillStyle = fill;
    context.fill();
  }
}

/** A ring around a mark that is read. */
export function drawRing(context, x, y, ink, ground, r = 13) {
  for (const [width, colour] of [[5, ground], [2.5, ink]]) {
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
}
