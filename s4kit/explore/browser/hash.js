// The state in the address of a page, so that a link leads to it. An address may come from anybody: all of it is checked.

import { POLICIES } from "./arithmetic.js";

/** "image=street_00&step=199&policy=fixed&threshold=0.9&tracks=0-1&hidden=2&mark=confusion-1-2" */
export function toHash(meta, state) {
  const { kind, ...numbers } = state.selection;
  const said = {
    image: meta.images[state.image].id,
    step: meta.tracks[state.tracks[0]].steps[state.snapshot],
    policy: state.policy,
    threshold: Number(state.threshold.toFixed(4)),
    tracks: state.tracks.join("-"),
    hidden: state.hidden.join("-"),
    mark: kind ? [kind, ...Object.keys(meta.selections[kind]).map((field) => numbers[field])].join("-") : "",
  };
  return new URLSearchParams(Object.entries(said).filter(([, value]) => value !== "")).toString();
}

/** The part of a state that a hash tells; what makes no sense is left out. */
export function fromHash(meta, text) {
  const said = new URLSearchParams(text.replace(/^#/, ""));
  const state = {};
  const image = meta.images.findIndex(({ id }) => id === said.get("image"));
  if (image >= 0) state.image = image;
  const tracks = indices(said.get("tracks"), meta.tracks.length);
  if (tracks?.length) state.tracks = tracks;
  const steps = meta.tracks[(state.tracks ?? [0])[0]].steps;
  const snapshot = steps.indexOf(Number(said.get("step") ?? NaN));
  if (snapshot >= 0) state.snapshot = snapshot;
  if (POLICIES.some(([name]) => name === said.get("policy"))) state.policy = said.get("policy");
  const threshold = Number(said.get("threshold") || NaN);
  if (threshold >= 0 && threshold <= 1) state.threshold = threshold;
  const hidden = indices(said.get("hidden"), meta.classes.length);
  if (hidden) state.hidden = hidden;
  const selection = marked(meta, said.get("mark"));
  if (selection) state.selection = selection;
  return state;
}

function marked(meta, text) {
  const [kind, ...numbers] = (text ?? "").split("-");
  const fields = Object.hasOwn(meta.selections, kind) ? Object.entries(meta.selections[kind]) : [];
  const values = numbers.map((number) => Number(number || NaN));
  const fit = fields.length > 0 && values.length === fields.length;
  if (!fit || !fields.every(([, limit], i) => inside(values[i], limit))) return null;
  return { kind, ...Object.fromEntries(fields.map(([field], i) => [field, values[i]])) };
}

function indices(text, limit) {
  if (text === null) return null;
  const values = [...new Set(text.split("-").map((number) => Number(number || NaN)))];
  return values.every((value) => inside(value, limit)) ? values : null;
}

const inside = (value, limit) => Number.isInteger(value) && value >= 0 && value < limit;
