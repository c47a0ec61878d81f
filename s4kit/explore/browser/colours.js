// Colours as four bytes, tables of 256 of them, and the few that mean the same in every picture.

export const rgb = ([r, g, b]) => `rgb(${r & 255}, ${g & 255}, ${b & 255})`;
export const pack32 = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // as ImageData stores it (little endian)

/** 256 packed colours between a few stops ("rrggbb ..."), linear in RGB. */
export function table(text) {
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
export const CIVIDIS = table("00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838");
export const VIRIDIS = table("440154 472c7a 3b518b 2c718e 21908d 27ad81 5cc863 aadc32 fde725");
export const HEAT = table("0c0826 3c0f5c 721f6e a82e5f d54842 f37819 fab01e fceba0");
export const KEPT = [236, 238, 244]; // no hue: any may be that of a class
export const REJECTED = [40, 40, 46];
export const RIM = pack32(250, 250, 250);
export const UNKNOWN = [
  [150, 150, 155],
  [105, 105, 112],
]; // stripes

export const gradient = (colours) => {
  const stop = (i) => rgb([colours[i] & 255, (colours[i] >> 8) & 255, (colours[i] >> 16) & 255]);
  return `linear-gradient(90deg, ${[0, 32, 64, 96, 128, 160, 192, 224, 255].map(stop).join(", ")})`;
};

export const LINES = pack32(120, 120, 126);
export const stripes = (i, width) => pack32(...UNKNOWN[((i % width) + Math.floor(i / width)) & 4 ? 0 : 1]);

export function paintLevels(out, levels, colours) {
  for (let i = 0; i < out.length; i++) out[i] = colours[levels[i]];
}
