// -- the tip, and ways to select a node, to go into it and out of it --------------------------

const tip = byId("tip");
function showTip(node, x, y) {
  const list = document.createElement("dl");
  showRows(list, node);
  tip.replaceChildren(list);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
  const top = y + 16 + box.height > innerHeight ? y - 16 - box.height : y + 16;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}
function hideTip() { tip.hidden = true; }

// Go into a cell that has contents. For a symbol, go into the cell around it and select it; by
// keyboard, only select it.
function activate(cell, canvas, byKey = false) {
  const node = cell.node;
  if (node.type === "gap") return select(node);
  if (node.make) return goTo(node, null, canvas, cell);
  if (cell.around && cell.around !== focus && !byKey) return goTo(cell.around, node, canvas, cell);
  select(node);
}
function select(node) {
  selected = node;
  refresh();
  byId("live").textContent = `selected: ${describeInWords(node)}`;
}
function goOut() {
  if (focus.parent) goTo(focus.parent, focus);
}
// Show the node "where", and select a node in it. "from" is the cell of "canvas" that a user
// went into.
function goTo(where, node = null, canvas = null, from = null) {
  const box = from && { ...from };
  focus = where;
  selected = node ?? where;
  tree.at = strip.at = -1;
  tree.over = strip.over = null;
  hideTip();
  refresh();
  const self = [tree, strip].find(each => hasKeyboardFocus(each.canvas));
  if (self) moveTo(self, Math.max(0, self.cells.findIndex(c => c.depth === 1 && c.node === node)));
  byId("live").textContent = `in ${describeInWords(where)}`;
  if (canvas === tree.canvas && box) animateZoom(box);
}
// Enlarge the new picture from the place of its cell in the old one, unless the user wants no
// motion.
function animateZoom(box) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || !tree.canvas.animate) return;
  const w = tree.canvas.clientWidth, h = tree.canvas.clientHeight;
  const sx = (box.x1 - box.x0) / w, sy = (box.y1 - box.y0) / h;
  tree.canvas.animate([
    { transformOrigin: "0 0", opacity: 0.4,
      transform: `translate(${box.x0}px, ${box.y0}px) scale(${sx}, ${sy})` },
    { transformOrigin: "0 0", opacity: 1, transform: "none" },
  ], { duration: 160, easing: "ease-out" });
}
// Select a symbol, and go to where its cell is shown. A symbol without own bytes has no cell:
// go to that of an alias.
function goToSymbol(index) {
  let cell = index;
  if (!data.own[cell]) {
    const section = sectionOf(index);
    for (let i = index; i >= section.first && data.offsets[i] === data.offsets[index]; i--)
      if (data.own[i]) { cell = i; break; }
  }
  const section = sectionNodes.find(each => each.section === sectionOf(index));
  const held = { node: section };
  const target = symbolNode(cell);
  const group = childrenOf(section).find(child => contains({ node: child }, target));
  goTo(group && group.make ? group : held.node, symbolNode(index));
  // If the cell is one of smaller symbols, go into it until the symbol has a cell of its own.
  for (let tries = 0; tries < 30 && data.own[cell]; tries++) {
    const shown = tree.cells.find(each => each.leaf && contains(each, target));
    if (!shown || shown.node.type !== "rest") break;
    goTo(shown.node, symbolNode(index));
  }
}
