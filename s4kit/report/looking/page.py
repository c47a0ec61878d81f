"""A look at a data set as one page: remarks first, then pictures, classes and sizes."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from ...data.task import Sample
from .. import html
from .figure import shown
from .looked import Looked, Part

STYLE = """<style>
.tiles { display:flex; flex-wrap:wrap; gap:.7rem; margin:1.1rem 0 }
.tile { background:var(--band); border-radius:12px; padding:.7rem 1.1rem; min-width:8.2rem }
.tile b { display:block; font-size:1.7rem; line-height:1.15; font-variant-numeric:tabular-nums }
.tile span { color:var(--soft); font-size:.86em }
.remarks { border-left:5px solid var(--bad); background:var(--band); border-radius:0 10px 10px 0; padding:.5rem 1.1rem;
  margin:1rem 0 } .remarks p { margin:.25rem 0 } .fine { border-color:var(--good) }
.sheet { display:grid; align-items:start; gap:1rem; margin:1rem 0;
  grid-template-columns:repeat(auto-fill,minmax(360px,1fr)) }
figure { margin:0; background:var(--band); border-radius:12px; overflow:hidden }
figure div { display:grid; grid-template-columns:1fr 1fr; gap:2px } figure img { margin:0; width:100%; height:100%;
  object-fit:cover }
figcaption { padding:.45rem .8rem .6rem; font-size:.8em }
figcaption div { display:flex!important; gap:.5rem; align-items:center; line-height:1.7 }
figcaption b { font-weight:600; flex:1; overflow:hidden; text-overflow:ellipsis; white-space:nowrap }
figcaption .soft { margin-left:auto; white-space:nowrap }
.tag { font-style:normal; border-radius:99px; padding:.02rem .55rem; font-size:.92em; border:1px solid var(--line);
  color:var(--soft) }
.dots { display:flex; gap:3px }
.dots i { width:.62rem; height:.62rem; border-radius:50%; border:1px solid rgba(128,128,128,.45) }
.classes td { padding:.22rem .8rem } .classes td:first-child { white-space:nowrap }
.swatch { display:inline-block; width:1.05em; height:1.05em; border-radius:4px; vertical-align:-.18em;
  margin-right:.55em; border:1px solid rgba(128,128,128,.45) }
.void { background:repeating-linear-gradient(135deg,#ebebeb 0 4px,#969696 4px 6px) }
.bars { width:22rem; min-width:12rem } .bars div { height:.5rem; border-radius:3px; margin:.16rem 0 }
.bars div.val { opacity:.45 }
.sizes { display:flex; gap:2rem; align-items:center } svg { flex:none }
svg text { fill:var(--soft); font-size:12px } svg .frame { stroke:var(--line); fill:none }
svg .crop { stroke:var(--bad); stroke-dasharray:5 4; fill:none } svg circle { fill:rgba(var(--heat),.35) }
</style>"""


def page(look: Looked) -> str:
    """The page."""
    task = look.task
    counts = [(len(task.labelled), "labelled"), (len(task.unlabelled), "unlabelled"), (len(task.val), "to score (val)")]
    counts[2:2] = [(len(of.rows), name) for name, of in task.more.items()]
    sized = (f"{task.crop}", "crop, pixels") if task.crop else (f"{len(task.levels) or 1}", "levels of parts")
    tiles = "".join(_tile(*words) for words in (*counts, (task.num_classes, "classes"), sized))
    body = f"{STYLE}<h1>{escape(task.name)}</h1><p class=soft>{escape(task.protocol)}</p><div class=tiles>{tiles}</div>"
    body += _remarks(look)
    body += "<h2>Images and their labels</h2><div class=sheet>"
    body += "".join(_card(look, name, sample) for name, sample in look.samples) + "</div>"
    body += "<h2>Classes</h2>" + _classes(look) + ("<h2>Sizes</h2>" + _sizes(look) if task.crop else "")
    return html.page(f"{task.name}: a look at the data", body)


def _tile(value: object, words: str) -> str:
    return f"<div class=tile><b>{value}</b><span>{escape(words)}</span></div>"


def _remarks(look: Looked) -> str:
    if not look.remarks:
        return "<div class='remarks fine'><p>Nothing to remark.</p></div>"
    return "<div class=remarks>" + "".join(f"<p>{escape(words)}</p>" for words in look.remarks) + "</div>"


def _card(look: Looked, name: str, sample: Sample) -> str:
    """A photo beside its label, and below it what it shows."""
    label = sample.label.numpy()
    image, over = shown(sample, look.task.palette)
    there = sorted(set(np.unique(label).tolist()) & set(range(look.task.num_classes)))
    dots = "".join(f"<i style='background:{_rgb(look.task.palette[c])}'></i>" for c in there[:12])
    void = float((label == 255).mean())
    words = f"{label.shape[1]} × {label.shape[0]}" + (f", {100 * void:.0f} % void" if void > 0.005 else "")
    names = escape(", ".join(look.task.classes[c] for c in there))
    turned = "<i class=tag>turned</i>" if sample.id in look.turned else ""
    pictures = _picture(image, sample.id) + _picture(over, f"its label: {names}")
    head = f"<div><b title='{escape(sample.id)}'>{escape(sample.id)}</b><i class=tag>{name}</i></div>"
    below = f"<div><span class=dots title='{names}'>{dots}</span>{turned}<span class=soft>{words}</span></div>"
    return f"<figure><div>{pictures}</div><figcaption>{head}{below}</figcaption></figure>"


def _picture(pixels: np.ndarray, words: str) -> str:
    store = io.BytesIO()
    Image.fromarray(pixels).save(store, "JPEG", quality=88)
    return f"<img alt='{escape(words)}' src='data:image/jpeg;base64,{base64.b64encode(store.getvalue()).decode()}'>"


def _rgb(colour: tuple[int, int, int]) -> str:
    return f"rgb({','.join(map(str, colour))})"


def _classes(look: Looked) -> str:
    """A row for each class, void last: colour, bars, shares, and how many images show it."""
    parts = look.parts
    most = max(float(part.shares.max()) for part in parts.values()) or 1.0
    head = ["class", "", *(f"{name}, %" for name in parts), *(f"in images of {name}" for name in parts)]
    rows = []
    for c, (name, colour) in enumerate(zip(look.task.classes, look.task.palette)):
        label = f"<td><span class=swatch style='background:{_rgb(colour)}'></span>{c} {escape(name)}</td>"
        bars = "".join(_bar(kind, float(part.shares[c]) / most, colour) for kind, part in parts.items())
        cells = [label, f"<td class=bars>{bars}</td>"]
        cells += [html.cell(_percent(float(part.shares[c]))) for part in parts.values()]
        cells += [
            html.cell(f"{part.images[c]} of {part.seen}", "" if part.images[c] else "bad") for part in parts.values()
        ]
        rows.append(("", cells))
    label = "<td><span class='swatch void'></span>void</td><td class='bars soft small'>of all pixels</td>"
    cells = [label, *(html.cell(_percent(part.void)) for part in parts.values())]
    rows.append(("base", [*cells, *(html.cell(f"{part.images[255]} of {part.seen}") for part in parts.values())]))
    words = (
        "Upper bar: labelled, pale bar: val. " + "; ".join(_looked(name, part) for name, part in parts.items()) + "."
    )
    return f"<div class=classes>{html.table(head, rows)}</div><p class='soft small'>{escape(words)}</p>"


def _bar(kind: str, share: float, colour: tuple[int, int, int]) -> str:
    width = max(0.4, 100 * share) if share else 0
    return f"<div class={kind} style='width:{width:.1f}%;background:{_rgb(colour)}'></div>"


def _looked(name: str, part: Part) -> str:
    return f"{part.seen} {name} images read" + (f" of {part.total}" if part.seen < part.total else ", which is all")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share >= 0.001 or not share else f"{100 * share:.3f}"


def _sizes(look: Looked) -> str:
    """Width against height of each image, and the training crop among them."""
    sizes = np.array(look.sizes or [sample.label.shape for _, sample in look.samples])
    low, high = sizes[sizes.prod(1).argmin()], sizes[sizes.prod(1).argmax()]
    turned = f" {len(look.turned)} of them are turned by their EXIF tag." if look.turned else ""
    crop = look.task.crop
    if (sizes == sizes[0]).all():
        words = f"All {len(sizes)} images looked at are {low[1]} × {low[0]} pixels."
    else:
        words = f"Of {len(sizes)} images the smallest is {low[1]} × {low[0]} pixels, the largest {high[1]} × {high[0]}."
    small = int((sizes.min(1) < crop).sum())
    words += f" {small} have a side below the crop and are padded or enlarged." if small else ""
    top = 1.08 * max(float(sizes.max()), crop)
    return f"<div class=sizes>{_scatter(sizes, crop, top)}<p>{escape(words + turned)}</p></div>"


def _scatter(sizes: np.ndarray, crop: int, top: float) -> str:
    room, left = 220, 44

    def at(height: float, width: float) -> tuple[float, float]:
        return left + room * width / top, 8 + room - room * height / top

    unique, many = np.unique(sizes, axis=0, return_counts=True)
    dots = "".join(
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{min(9, 3 + np.log2(n)):.1f}'><title>{n} of {w} × {h}</title></circle>"
        for (h, w), n in zip(unique.tolist(), many.tolist())
        for x, y in [at(h, w)]
    )
    x, y = at(crop, crop)
    return (
        f"<svg width='{left + room + 60}' height='{room + 46}' role='img' aria-label='sizes of the images'>"
        f"<rect class=frame x='{left}' y='8' width='{room}' height='{room}'/>"
        f"<rect class=crop x='{left}' y='{y:.1f}' width='{x - left:.1f}' height='{8 + room - y:.1f}'/>"
        f"<text x='{left + 5}' y='{y - 5:.1f}'>crop {crop}</text>{dots}"
        f"<text x='{left + room}' y='{room + 26}' text-anchor='end'>width, to {top:.0f} pixels</text>"
        f"<text transform='translate({left - 10} {room + 8}) rotate(-90)'>height</text></svg>"
    )
