// The host of a page of the local server: data comes when it is asked for, news every few seconds.

import { h } from "./dom.js";
import { render } from "./explorer.js";
import { Model } from "./model.js";

const PAUSE = 2000; // milliseconds between two questions for news

/** A message to the server -> {message, bytes}. */
async function ask(message) {
  const reply = await fetch("message", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(message),
  });
  if (!reply.ok) throw new Error(`the server says ${reply.status} ${reply.statusText}`);
  const raw = await reply.arrayBuffer();
  const length = new DataView(raw).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(raw, 4, length)));
  return { message: head, bytes: new Uint8Array(raw, 4 + length) };
}

class ServedModel extends Model {
  async send(asked) {
    try {
      const { message, bytes } = await ask(asked);
      this.tell("msg:custom", message, [bytes]);
    } catch (error) {
      const kind = asked.kind === "need" ? "pack" : asked.kind;
      this.tell("msg:custom", { ...asked, kind, error: error.message }, []);
    }
  }
}

/** The explorer of runs that may still be training. */
class Served {
  constructor(state, host) {
    this.model = new ServedModel(state);
    this.version = state.version;
    this.words = h("p", { cls: "s4x-waiting", role: "status", test: "waiting" });
    this.watched = h("div", {});
    host.append(this.words, this.watched);
    this.take(state);
    setTimeout(() => this.look(), PAUSE);
  }

  /** Take what there is now: the same runs with more snapshots, or other images or tracks: then all is built anew. */
  take(news) {
    const before = this.built;
    this.words.textContent = news.words;
    this.words.hidden = !news.words;
    if (!news.meta) return;
    this.built = JSON.stringify([news.meta.images, news.meta.tracks.map((track) => [track.title, track.path])]);
    if (this.built === before) return this.model.set("meta", news.meta);
    this.close?.();
    const { state } = this.model;
    const last = !before || state.snapshot === state.meta?.tracks[state.tracks[0]].steps.length - 1;
    state.meta = news.meta;
    if (!state.tracks) Object.assign(state, first(news.meta));
    if (last) state.snapshot = news.meta.tracks[state.tracks[0]].steps.length - 1;
    if (!before) this.model.arrive();
    this.watched.replaceChildren();
    this.close = render({ model: this.model, el: this.watched });
  }

  async look() {
    try {
      if (!document.hidden) {
        const reply = await fetch(`news?seen=${this.version}`);
        const news = await reply.json();
        if (news.version !== this.version) {
          this.version = news.version;
          this.take(news);
        }
      }
    } catch {
      // the server has ended or is busy: what is shown stays
    }
    setTimeout(() => this.look(), PAUSE);
  }
}

/** Where an explorer begins that had nothing to show before. */
const first = (meta) => ({
  image: 0,
  snapshot: 0,
  threshold: 0.95,
  policy: "own",
  tracks: meta.tracks.slice(0, 4).map((_, t) => t),
  hidden: [],
  selection: {},
});

const served = new Served(JSON.parse(document.getElementById("state").textContent), document.getElementById("explorer"));
globalThis.explorer = served.model; // for whoever opens the console, and for the tests
