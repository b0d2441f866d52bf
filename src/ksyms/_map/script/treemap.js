// -- the treemap ------------------------------------------------------------------------------

// The children of a node that are large enough to be seen, and one node for all others. null if
// the node is shown without its contents. "scale" is the number of square pixels for a byte.
function visibleChildren(node, scale) {
  if (node !== focus && (node.type === "rest" || node.value * scale < SMALLEST_OPEN)) return null;
  const children = childrenOf(node);
  if (!children.length) return null;
  const large = children.findIndex(child => child.value * scale < SMALLEST);
  if (large < 0 || large === children.length - 1) return children;
  if (large > 0) return [...children.slice(0, large), restNode(node, children.slice(large))];
  return node === focus ? splitEvenly(node, children) : null;
}
// The children of a node of which all are small, divided into at most 100 parts.
function splitEvenly(node, children) {
  const each = Math.ceil(children.length / Math.min(100, Math.ceil(children.length / 2)));
  const made = [];
  for (let i = 0; i < children.length; i += each) made.push(restNode(node, children.slice(i, i + each)));
  return made;
}
// One node for the children that are small.
function restNode(parent, small) {
  const members = small.flatMap(child => child.type === "symbol" ? [child.index] : child.members ?? []);
  const allSymbols = small.every(child => child.type === "symbol");
  const noun = allSymbols ? "smaller symbol" : "smaller part";
  const made = makeNode("rest", counted(small.length, noun), total(small),
    { section: parent.section, kind: small[0].kind ?? "none", members }, () => small);
  made.parent = parent;
  return made;
}
function layOutTree(width, height) {
  const scale = width * height / Math.max(1, focus.value);
  const top = d3.hierarchy(focus, node => visibleChildren(node, scale));
  top.each(each => { each.value = each.data.value; });
  const roomy = each => each.depth && each.x1 - each.x0 > 46 && each.y1 - each.y0 > 40;
  d3.treemap().size([width, height]).round(true).paddingInner(1)
    .paddingOuter(each => each.depth ? 2 : 0)
    .paddingTop(each => roomy(each) ? HEADING : each.depth ? 2 : 0)(top);
  const cells = [];
  (function collect(each) {
    // A cell without room for a heading above its contents only shows its name.
    const open = Boolean(each.children) && (each === top || roomy(each));
    const { x0, y0, x1, y1, depth } = each;
    if (each !== top && x1 > x0 && y1 > y0)
      cells.push({ node: each.data, x0, y0, x1, y1, depth, leaf: !open, around: each.parent.data });
    if (open) each.children.forEach(collect);
  })(top);
  if (!cells.length)
    cells.push({ node: focus, x0: 0, y0: 0, x1: width, y1: height, depth: 1, leaf: true });
  return cells;
}
function paintTree(pen, cells, width, height) {
  pen.textBaseline = "middle";
  paintBackground(pen, focus.kind, 0, 0, width, height);
  for (const cell of cells) {
    const { x0, y0, x1, y1, node } = cell, w = x1 - x0, h = y1 - y0;
    if (!cell.leaf) {
      paintBackground(pen, node.kind, x0, y0, w, h);
      pen.fillStyle = colours.panel;
      pen.fillRect(x0, y0, w, HEADING + 1);
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1;
      pen.strokeRect(x0 + 0.5, y0 + 0.5, w - 1, h - 1);
      paintHeading(pen, cell, w);
      continue;
    }
    if (node.kind === "none") paintEmpty(pen, x0, y0, w, h);
    else paintKind(pen, node.kind, x0, y0, w, h);
    if (node.kind === "files" || (colours.forced && node.kind !== "none")) {
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1;
      pen.strokeRect(x0 + 0.5, y0 + 0.5, w - 1, h - 1);
    }
    paintLabel(pen, cell, w, h);
  }
}
// Paint the background between cells of a kind. It differs from the cells in lightness.
function paintBackground(pen, kind, x, y, w, h) {
  const style = colours[kind] ?? colours.none;
  pen.fillStyle = style.fill;
  pen.fillRect(x, y, w, h);
  if (colours.forced) return;
  pen.globalAlpha = 0.4;
  pen.fillStyle = style.ink;
  pen.fillRect(x, y, w, h);
  pen.globalAlpha = 1;
}
function paintEmpty(pen, x, y, w, h) {
  pen.fillStyle = colours.page;
  pen.fillRect(x, y, w, h);
  if (w < 4 || h < 4) return;
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  pen.setLineDash([3, 3]);
  pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
  pen.setLineDash([]);
}
function paintHeading(pen, cell, w) {
  const size = rounded(cell.node.value);
  const y = cell.y0 + HEADING / 2 + 1;
  pen.fillStyle = colours.ink;
  pen.font = `600 11px ${colours.mono}`;
  const room = w - 10, both = (cell.node.label.length + size.length + 2) * 11 * CHARACTER < room;
  pen.textAlign = "left";
  pen.fillText(shorten(cell.node.label, room, 11), cell.x0 + 5, y);
  if (!both) return;
  pen.fillStyle = colours.faint;
  pen.font = `11px ${colours.mono}`;
  pen.textAlign = "right";
  pen.fillText(size, cell.x1 - 5, y);
}
function paintLabel(pen, cell, w, h) {
  const node = cell.node, size = w > 90 && h > 40 ? 12 : 11;
  if (w < 26 && w > size + 2 && h > 60) return paintVerticalLabel(pen, cell, h, size);
  if (h < size + 3 || w < 26) return;
  const style = colours[node.kind] ?? colours.none;
  const lines = [shorten(node.label, w - 8, size)];
  if (!lines[0]) return;
  if (h > 2 * size + 10) lines.push(shorten(sizeText(node), w - 8, size));
  pen.font = `${size}px ${colours.mono}`;
  pen.textAlign = "left";
  const y = h > 2 * size + 10 ? cell.y0 + 4 + size / 2 : cell.y0 + h / 2;
  lines.forEach((text, row) => {
    if (!text) return;
    pen.fillStyle = style.fill;       // no pattern behind the name
    pen.fillRect(cell.x0 + 2, y + row * (size + 3) - size / 2 - 1, text.length * size * CHARACTER + 4,
      size + 2);
    pen.fillStyle = style.ink;
    pen.fillText(text, cell.x0 + 4, y + row * (size + 3));
  });
}
function paintVerticalLabel(pen, cell, h, size) {
  pen.save();
  pen.translate(cell.x0, cell.y0 + h);
  pen.rotate(-Math.PI / 2);
  paintLabel(pen, { node: cell.node, x0: 0, y0: 0 }, h, size + 3);
  pen.restore();
}
function sizeText(node) {
  const known = node.type === "symbol" ? isExact(node.index)
    : node.type === "section" ? node.section.exact : true;
  return (known ? "" : "~") + rounded(node.value);
}
