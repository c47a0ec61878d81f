// anywidget's model interface without a kernel behind it; a host says how messages are answered.

/** get, set, on, off, save_changes; `send` is the host's. */
export class Model {
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
}
