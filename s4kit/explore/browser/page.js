// The host of a self-contained page: anywidget's model interface over what the page itself carries.

import { render } from "./explorer.js";

/** get, set, on, off, save_changes, send; packs of data come from the page's own text elements. */
class PageModel {
  constructor(state) {
    this.state = state;
    this.heard = new Map();
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    this.state[name] = value;
    this.tell(`change:${name}`, value);
  }

  on(name, call) {
    this.heard.set(name, [...(this.heard.get(name) ?? []), call]);
  }

  off(name, call) {
    this.heard.set(
      name,
      (this.heard.get(name) ?? []).filter((other) => other !== call),
    );
  }

  tell(name, ...what) {
    (this.heard.get(name) ?? []).forEach((call) => call(...what));
  }

  save_changes() {}

  send({ kind, key }) {
    const found = [...document.querySelectorAll("script[data-pack]")].find((node) => node.dataset.pack === key);
    const message = { kind: kind === "need" ? "pack" : kind, key };
    if (!found) message.error = "this page does not hold it; open the run itself, or save a page with it";
    queueMicrotask(() => this.tell("msg:custom", message, found ? [bytesOf(found.textContent)] : []));
  }
}

const bytesOf = (text) => Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));

const model = new PageModel(JSON.parse(document.getElementById("state").textContent));
globalThis.explorer = model; // for whoever opens the console, and for the tests
render({ model, el: document.getElementById("explorer") });
