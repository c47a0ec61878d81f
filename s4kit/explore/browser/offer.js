// A file for the reader, made on the page.

import { h } from "./dom.js";

/** Hand a file to the reader. */
export function offer(name, content, type) {
  const link = h("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
