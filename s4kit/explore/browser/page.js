// The host of a self-contained page: packs of data come from the page's own text elements.

import { render } from "./explorer.js";
import { Model } from "./model.js";

class PageModel extends Model {
  send({ kind, key }) {
    const found = [...document.querySelectorAll("script[data-pack]")].find((node) => node.dataset.pack === key);
    const message = { kind: kind === "need" ? "pack" : kind, key };
    if (!found) message.error = "this page does not hold it; open the run itself, or save a page with it";
    queueMicrotask(() => this.tell("msg:custom", message, found ? [bytesOf(found.textContent)] : []));
  }
}

const bytesOf = (text) => Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));

const model = new PageModel(JSON.parse(document.getElementById("state").textContent));
model.arrive();
globalThis.explorer = model; // for whoever opens the console, and for the tests
render({ model, el: document.getElementById("explorer") });
