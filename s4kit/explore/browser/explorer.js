// The pseudo-label explorer against anywidget's small model interface (get, set, on, off, save_changes, send). Hosts: a
// notebook (anywidget, which takes one module: `script.py` joins these files) and a self-contained page (page.js).
// Nothing is loaded from anywhere; every name reaches the page as text. Pictures and numbers are made from bytes.

import { App } from "./app.js";

export function render({ model, el }) {
  const app = new App(model, el);
  return () => app.close();
}

export default { render };
