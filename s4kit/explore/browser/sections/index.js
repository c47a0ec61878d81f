// THE list of closer looks, in the order of their tabs; see section.js for what one is.

import { Bias } from "./bias.js";
import { Change } from "./change.js";
import { Classes } from "./classes.js";
import { Confusion } from "./confusion.js";
import { Correct } from "./correct.js";
import { Embedding } from "./embedding.js";
import { Marks } from "./marks.js";
import { Path } from "./path.js";
import { Ranking } from "./ranking.js";
import { Reliability } from "./reliability.js";
import { Roles } from "./roles.js";
import { WhatIf } from "./whatif.js";

export const SECTIONS = [WhatIf, Reliability, Bias, Change, Path, Roles, Confusion, Ranking, Classes, Correct, Marks, Embedding];
