// What the looks at all watched images share: their counts, which of them count, and a list of images.

import { Cells } from "../cells.js";
import { h } from "../dom.js";
import { whole } from "../text.js";

const COUNTED = new WeakMap(); // a pack is unpacked once
const LISTED = 12; // images, before one asks for more

/** The counts of a track; those of unlabelled images, where some are watched: they are what pseudo-labels are for. */
export async function cellsOf(app, t) {
  const pack = await app.store.get(`cells/${t}`);
  if (!COUNTED.has(pack)) {
    const all = new Cells(pack, app.C, app.meta.tracks[t].steps.length);
    const chosen = all.kinds.flatMap((kind, k) => (kind === "unlabelled" ? [k] : []));
    const some = chosen.length && chosen.length < all.ids.length;
    const found = some ? all.only(chosen) : all;
    found.over = chosen.length ? `${chosen.length} unlabelled images` : `${all.ids.length} images`;
    COUNTED.set(pack, found);
  }
  return COUNTED.get(pack);
}

/** Images with their pixels, most first, as buttons that go there; `go(k)` is told which. */
export function imageList(app, cells, found, test, go) {
  const places = new Map(app.meta.images.map(({ id }, k) => [id, k]));
  const host = h("ol", { cls: "s4x-images", test });
  const fill = (many) => {
    host.replaceChildren(
      ...found.slice(0, many).map(([image, pixels], i) => {
        const k = places.get(cells.ids[image]);
        const words = {
          type: "button",
          test: `${test}-${i}`,
          "data-image": k ?? null,
          "data-pixels": pixels,
          disabled: k === undefined,
          title: k === undefined ? "this page does not hold the image" : null,
          "aria-current": k === app.state.image ? "true" : null,
          onclick: () => go(k),
        };
        return h("li", {}, h("button", words, String(cells.ids[image])), ` ${whole(pixels)} px`);
      }),
    );
    if (found.length > many)
      host.append(h("li", { cls: "more" }, h("button", { type: "button", onclick: () => fill(Infinity) }, `all ${found.length}`)));
  };
  fill(LISTED);
  return host;
}
