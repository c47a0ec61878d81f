// The model of a page: anywidget's model interface without a kernel behind it; a host says how messages are answered.

import { fromHash, toHash } from "./hash.js";

/** get, set, on, off, save_changes; `send` is the host's. What is saved stands in the page's address. */
export class Model {
  constructor(state) {
    this.state = state;
    this.heard = new Map();
    addEventListener("hashchange", () => {
      for (const [name, value] of Object.entries(this.linked)) this.set(name, value);
    });
  }

  /** What the address says of the state. */
  get linked() {
    return this.state.meta ? fromHash(this.state.meta, location.hash) : {};
  }

  /** Begin where the address leads to. */
  arrive() {
    Object.assign(this.state, this.linked);
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

  save_changes() {
    history.replaceState(null, "", `#${toHash(this.state.meta, this.state)}`);
  }
}
