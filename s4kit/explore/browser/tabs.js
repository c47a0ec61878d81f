// The closer looks below the pictures, one at a time.

import { h } from "./dom.js";
import { SECTIONS } from "./sections/index.js";

export class Tabs {
  constructor(app) {
    this.app = app;
    this.sections = SECTIONS.map((Kind) => new Kind(app));
    this.bar = h("div", { cls: "s4x-tabs", role: "tablist", "aria-label": "closer looks" });
    this.sheet = h("div", { cls: "s4x-sheet", role: "tabpanel", tabindex: 0 });
    this.host = h("div", { cls: "s4x-closer" }, this.bar, this.sheet);
    this.sections.forEach((section, i) => {
      section.host.classList.add(section.name);
      section.tab = h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `${app.id}-tab${i}`,
          test: `tab-${section.name}`,
          onclick: () => this.open(section),
        },
        section.title,
      );
      this.bar.append(section.tab);
    });
    this.bar.addEventListener("keydown", (event) => this.key(event));
    this.open(this.sections[0]);
  }

  key(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const { sections } = this;
    this.open(sections[(sections.indexOf(this.section) + by + sections.length) % sections.length]);
    this.section.tab.focus();
  }

  open(chosen) {
    this.section = chosen;
    for (const section of this.sections) {
      section.tab.setAttribute("aria-selected", section === chosen);
      section.tab.tabIndex = section === chosen ? 0 : -1;
    }
    this.sheet.setAttribute("aria-labelledby", chosen.tab.id);
    this.sheet.replaceChildren(chosen.host);
    if (this.app.rows.length) chosen.update();
  }
}
