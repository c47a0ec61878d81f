// Filters and sorts the table of methods in the element with the id KEY; nothing else on the page is touched.
(() => {
  const root = document.getElementById("KEY");
  if (!root || root.dataset.ready) return;
  root.dataset.ready = "yes";
  const table = root.querySelector("table"), bar = root.querySelector(".bar"), count = root.querySelector(".count");
  const bodies = [...table.tBodies].filter((body) => body.dataset.name);
  const ask = Object.fromEntries([...bar.querySelectorAll("[name]")].map((field) => [field.name, field]));
  bar.hidden = false;

  const filter = () => {
    const words = ask.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const from = Number(ask.from.value), to = Number(ask.to.value);
    let shown = 0;
    for (const body of bodies) {
      const { family, parity, year, text } = body.dataset;
      body.hidden = !((!ask.family.value || family === ask.family.value) && (!ask.parity.value || parity === ask.parity.value)
        && year >= from && year <= to && words.every((word) => text.includes(word)));
      shown += body.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${bodies.length} methods`;
    root.classList.toggle("plain", !ask.pictures.checked);
  };

  const heads = [...table.tHead.querySelectorAll("th[data-key]")];
  const sort = (head) => {
    const key = head.dataset.key, down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => key === "year" ? a.dataset.year - b.dataset.year : a.dataset[key].localeCompare(b.dataset[key]);
    const sorted = [...bodies].sort((a, b) => (down ? -1 : 1) * compare(a, b) || a.dataset.name.localeCompare(b.dataset.name));
    for (const body of sorted) table.append(body);
  };

  bar.addEventListener("input", filter);
  root.addEventListener("keydown", (event) => { // a notebook must not take a letter for a command on its cells
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  });
  bar.addEventListener("submit", (event) => event.preventDefault());
  for (const head of heads) head.querySelector("button").addEventListener("click", () => sort(head));
  filter();
})();
