// Packs of arrays, as `pack.encode` makes them, asked for by key.

const KEPT_IN_MEMORY = 24; // packs; the oldest go first

const KINDS = {
  u1: [Uint8Array, 1],
  u4: [Uint32Array, 4],
  i4: [Int32Array, 4],
  f4: [Float32Array, 4],
};

/** gzip of [uint32 header length][JSON header][bytes] -> {header, name: {data, shape}, ...}. */
export async function unpack(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const raw = await new Response(stream).arrayBuffer();
  const length = new DataView(raw).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 4, length)));
  const start = 4 + length;
  const out = { header };
  for (const array of header.arrays) {
    const from = start + array.offset;
    // a copy, so that the place of the header does not decide whether numbers of four bytes are aligned
    const data = new KINDS[array.dtype][0](raw.slice(from, from + sizeOf(array)));
    out[array.name] = {
      shape: array.shape,
      data: array.differences ? summed(data, array.shape.at(-1), array.shape.at(-2)) : data,
    };
  }
  return out;
}

/** Bytes that were stored less their neighbours before and above, modulo 256, in maps of one width and height. */
function summed(data, width, height) {
  for (let i = 0, run = 0; i < data.length; i++) {
    run = i % width ? run + data[i] : data[i];
    data[i] = Math.floor(i / width) % height ? run + data[i - width] : run;
  }
  return data;
}

const sizeOf = (array) => array.shape.reduce((a, b) => a * b, 1) * KINDS[array.dtype][1];

/** Asks the model for packs by key, once each. */
export class Store {
  constructor(model) {
    this.model = model;
    this.packs = new Map();
    this.waiting = new Map();
    this.heard = (message, buffers) => this.hear(message, buffers);
    model.on("msg:custom", this.heard);
  }

  close() {
    this.model.off("msg:custom", this.heard);
  }

  /** What is there is out of date. */
  forget() {
    this.packs.clear();
  }

  get(key) {
    if (this.packs.has(key)) {
      const found = this.packs.get(key);
      this.packs.delete(key); // now the youngest
      this.packs.set(key, found);
      return Promise.resolve(found);
    }
    return this.ask(key, { kind: "need", key });
  }

  full(image, track) {
    return this.ask(`full/${track}/${image}`, { kind: "full", image, track });
  }

  /** Asks for an answer that is no pack: it may be another one each time. */
  question(message) {
    const number = (this.number = (this.number ?? 0) + 1);
    return this.ask(`answer/${number}`, { ...message, number });
  }

  ask(key, message) {
    if (!this.waiting.has(key)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      this.waiting.set(key, entry);
      this.model.send(message);
    }
    return this.waiting.get(key).promise;
  }

  async hear(message, buffers) {
    const full = message?.kind === "full";
    const answer = message?.number !== undefined; // whatever its kind: it may be the server that says why not
    const key = answer ? `answer/${message.number}` : full ? `full/${message.track}/${message.image}` : message?.key;
    const entry = this.waiting.get(key);
    if (!entry || !(answer || ["pack", "full"].includes(message.kind))) return;
    try {
      if (message.error) throw new Error(String(message.error));
      if (answer) return entry.resolve(message.answer);
      const found = await unpack(buffers[0]);
      if (full) found.message = message;
      else this.packs.set(key, found);
      while (this.packs.size > KEPT_IN_MEMORY) this.packs.delete(this.packs.keys().next().value);
      entry.resolve(found);
    } catch (error) {
      entry.reject(error);
    } finally {
      this.waiting.delete(key);
    }
  }
}
