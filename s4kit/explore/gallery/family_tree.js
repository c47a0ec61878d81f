// Shows the line of the method that is pointed at, in the tree with the id KEY.
(() => {
  const root = document.getElementById("KEY");
  if (!root) return;
  const edges = [...root.querySelectorAll("[data-edge]")], nodes = [...root.querySelectorAll("[data-node]")];
  const pairs = edges.map((edge) => edge.dataset.edge.split(" "));
  const reach = (name, from, to, found) => {
    pairs.forEach((pair) => {
      if (pair[from] === name && !found.has(pair[to])) { found.add(pair[to]); reach(pair[to], from, to, found); }
    });
    return found;
  };
  const show = (name) => {
    const up = name ? reach(name, 1, 0, new Set([name])) : null, down = name ? reach(name, 0, 1, new Set([name])) : null;
    nodes.forEach((node) => node.classList.toggle("far", !!name && !up.has(node.dataset.node) && !down.has(node.dataset.node)));
    edges.forEach((edge, k) => {
      const [a, b] = pairs[k], near = !!name && ((up.has(a) && up.has(b)) || (down.has(a) && down.has(b)));
      edge.classList.toggle("near", near);
      edge.classList.toggle("far", !!name && !near);
    });
  };
  nodes.forEach((node) => {
    for (const kind of ["mouseenter", "focus"]) node.addEventListener(kind, () => show(node.dataset.node));
    for (const kind of ["mouseleave", "blur"]) node.addEventListener(kind, () => show(""));
  });
})();
