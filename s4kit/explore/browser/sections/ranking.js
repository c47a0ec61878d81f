import { range } from "../arithmetic.js";
import { h } from "../dom.js";
import { percent, whole } from "../text.js";
import { Section } from "./section.js";

const MEASURES = [
  ["accuracy", "right, of all pixels", false, percent],
  ["precision", "right, of the kept", false, percent],
  ["coverage", "kept", false, percent],
  ["bias", "stuck pixels", true, (n) => (n === null || n === undefined ? "–" : whole(n))],
];

export class Ranking extends Section {
  name = "ranking";
  title = "Worst images";
  by = "accuracy";

  leftOut() {
    const { left_out: names } = this.app.meta;
    if (!names.length) return "";
    const words = `${whole(names.length)} other watched images of the run are not in this page`;
    return h("details", { cls: "small", test: "left-out" }, h("summary", {}, words), names.join(", "));
  }

  update() {
    const { app } = this;
    const [, , high] = MEASURES.find(([key]) => key === this.by);
    const quality = ({ track, at }, k) => track.quality[at][k] ?? {};
    const value = (k) => quality(app.rows[0], k)[this.by] ?? null;
    const order = range(app.meta.images.length).sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return (high ? y - x : x - y) || a - b;
    });
    const choose = h(
      "div",
      { cls: "s4x-choice", role: "group", "aria-label": "order by" },
      ...MEASURES.map(([key, text]) =>
        h(
          "button",
          {
            type: "button",
            test: `rank-${key}`,
            "aria-pressed": key === this.by,
            onclick: () => ((this.by = key), this.update()),
          },
          text,
        ),
      ),
    );
    const several = app.rows.length > 1;
    const measures = several ? MEASURES.filter(([key]) => key === this.by) : MEASURES;
    const head = h(
      "tr",
      {},
      h("th", {}, ""),
      h("th", { scope: "col" }, "image"),
      ...app.rows.flatMap((row) =>
        measures.map(([, text]) => h("th", { scope: "col" }, several ? row.track.title : text)),
      ),
    );
    const body = order.map((k, place) => {
      const image = app.meta.images[k];
      const jump = h(
        "button",
        {
          type: "button",
          test: `rank-jump-${place}`,
          "data-image": k,
          "aria-current": k === app.state.image ? "true" : null,
          onclick: () => app.set("image", k),
        },
        image.id,
      );
      const cells = app.rows.flatMap((row) =>
        measures.map(([key, , , show]) => {
          const x = quality(row, k)[key] ?? null;
          const fill =
            key !== "bias" && x !== null
              ? h(
                  "span",
                  { cls: "track" },
                  h("i", { cls: key === "coverage" ? "coverage" : "precision", css: { width: `${100 * x}%` } }),
                )
              : null;
          return h("td", {}, h("span", { cls: "cell" }, fill, h("span", {}, show(x))));
        }),
      );
      return h(
        "tr",
        { cls: k === app.state.image ? "here" : "" },
        h("td", {}, String(place + 1)),
        h("th", { scope: "row" }, jump, image.known ? null : h("small", {}, " no truth")),
        ...cells,
      );
    });
    this.host.replaceChildren(
      this.intro(
        `${app.held} by the quality of their pseudo-labels at this snapshot, under the method's own rule, worst first (of several tracks: by the first). Click a name to go there.`,
      ),
      this.leftOut(),
      choose,
      h(
        "div",
        { cls: "s4x-scroll" },
        h("table", { cls: "s4x-ranking" }, h("thead", {}, head), h("tbody", {}, ...body)),
      ),
    );
  }
}
