import { h } from "../dom.js";

/**
 * A closer look below the pictures. To add one: a file with a subclass, a line in index.js.
 *
 * `name` is its class and test id, `title` its tab. It fills `host` and may be told of three things, each only while it
 * is open: `update()` when anything but the threshold has changed (it is open, has other rows, or another selection),
 * `move()` when the threshold or the policy has (a drag: a few milliseconds), `hover(i)` when pixel i, or null, is read.
 */
export class Section {
  constructor(app) {
    this.app = app;
    this.host = h("div", { cls: "s4x-section" });
  }

  update() {}
  move() {}
  hover() {}

  heading(row) {
    return this.app.rows.length > 1 ? h("h4", {}, `${row.track.title}, step ${row.step}`) : null;
  }

  intro(...words) {
    return h("p", { cls: "s4x-intro" }, ...words);
  }
}
