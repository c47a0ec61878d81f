// THE list of kinds of selections; selections.py has the same, with the ranges of their numbers (`meta.selections`).
// A kind: {kind, words(app, selection), mask(row, selection, app)}: how the marked pixels are called, and which they are (0/1
// per pixel). A kind without `mask` marks nothing: the pixel that is pinned.

import { binSelection } from "./bin.js";
import { changeSelection } from "./change.js";
import { confusionSelection } from "./confusion.js";
import { truthSelection } from "./truth.js";

const PIXEL = { kind: "pixel" };

export const SELECTIONS = Object.fromEntries([PIXEL, confusionSelection, binSelection, changeSelection, truthSelection].map((one) => [one.kind, one]));
