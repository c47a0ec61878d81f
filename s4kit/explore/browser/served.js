// The host of a page of the local server: data comes when it is asked for, news every few seconds.

import { h } from "./dom.js";
import { render } from "./explorer.js";
import { Grid } from "./grid.js";
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

/** Two views of the runs, the watched images and the whole set; and what is new. */
class Served {
  constructor(state, host) {
    this.model = new ServedModel(state);
    this.version = state.version;
    this.words = h("p", { cls: "s4x-waiting", role: "status", test: "waiting" });
    this.watched = h("div", {});
    this.all = h("div", { hidden: true });
    this.grid = new Grid(this.all, ask, (id) => this.open(id));
    this.tabs = h("nav", { cls: "s4x-views", "aria-label": "views" });
    this.tab("watched images", "view-watched", this.watched);
    this.tab("whole set", "view-all", this.all);
    host.append(this.tabs, this.words, this.watched, this.all);
    this.show(this.watched);
    this.take(state);
    if (!state.meta && state.surveys.length) this.show(this.all);
    setTimeout(() => this.look(), PAUSE);
  }

  tab(words, test, part) {
    this.tabs.append(h("button", { type: "button", test, onclick: () => this.show(part) }, words));
  }

  show(part) {
    [this.watched, this.all].forEach((one, k) => {
      one.hidden = one !== part;
      this.tabs.children[k].setAttribute("aria-pressed", one === part);
    });
    if (part === this.all) this.grid.shown();
  }

  /** Take what there is now: the same runs with more snapshots, or other images or tracks: then all is built anew. */
  take(news) {
    const before = this.built;
    this.words.textContent = news.words;
    this.words.hidden = !news.words;
    this.grid.take(news.surveys, news.meta);
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
    let news = null;
    try {
      if (!document.hidden) news = await (await fetch(`news?seen=${this.version}`)).json();
      this.tabs.classList.remove("lost");
    } catch {
      this.tabs.classList.add("lost"); // the server has ended; what is shown stays
    }
    setTimeout(() => this.look(), PAUSE);
    if (!news || news.version === this.version) return;
    this.version = news.version;
    this.take(news);
  }

  /** Show a watched image. */
  open(id) {
    const k = this.model.get("meta").images.findIndex((image) => image.id === id);
    if (k < 0) return;
    this.show(this.watched);
    this.model.set("image", k);
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
