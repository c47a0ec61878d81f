// Numbers as the reader sees them.

export const percent = (x, digits = 1) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(digits)} %`);
export const whole = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, " "); // narrow spaces between thousands
