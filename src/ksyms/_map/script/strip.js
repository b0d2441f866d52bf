// -- the strip of addresses -------------------------------------------------------------------

const BREAK_WIDTH = 58;   // px: the width of a gap that is too large to be drawn to scale
const NARROWEST = 3;      // px: narrower cells are joined with their neighbours
const BAND_Y = [2, 34];   // px from the top: the upper and the lower edge of the strip
// The cells of the strip: the symbols of a section, or sections and the gaps between them. A
// gap of more than an eighth of all bytes is "broken": it is not drawn to scale.
function layOutStrip(width) {
  const spans = focus.section ? symbolSpans(focus) : sectionSpans(focus.sections ?? []);
  const sum = spans.reduce((all, s) => all + (s.node.type === "gap" ? 0 : s.size), 0);
  let linear = 0, broken = 0;
  for (const span of spans) {
    span.broken = span.node.type === "gap" && span.size > sum / 8;
    if (span.broken) broken++; else linear += span.size;
  }
  const gap = Math.min(BREAK_WIDTH, width / 3 / Math.max(1, broken));
  const scale = (width - gap * broken) / Math.max(1, linear);
  let x = 0;
  const cells = [];
  for (const span of spans) {
    const wide = span.broken ? gap : span.size * scale;
    cells.push({ node: span.node, span, x0: x, x1: x + wide, y0: BAND_Y[0], y1: BAND_Y[1],
      depth: 1, leaf: true, broken: span.broken, around: focus });
    x += wide;
  }
  return focus.section ? joinNarrow(cells) : cells;
}
function gapNode(start, size) {
  return makeNode("gap", "gap", size, { start, kind: "none" });
}
function sectionSpans(nodes) {
  const spans = [];
  let end = null;
  const sorted = [...nodes].sort((a, b) => (a.section.start < b.section.start ? -1 : 1));
  for (const each of sorted) {
    const { start, size } = each.section, stop = start + BigInt(size);
    if (end !== null && start > end)
      spans.push({ node: gapNode(end, Number(start - end)), size: Number(start - end), start: end });
    // Show bytes that are in two sections once.
    const from = end !== null && end > start ? end : start;
    if (stop > from) spans.push({ node: each, size: Number(stop - from), start: from });
    if (end === null || stop > end) end = stop;
  }
  return spans;
}
// The symbols of a node's section, or those of a run only, and the bytes in no symbol.
function symbolSpans(node) {
  const section = node.section, range = node.type === "run";
  const first = range ? node.first : section.first, last = range ? node.last : section.last;
  const from = range ? data.offsets[first] : 0;
  const spans = [];
  let end = from;
  const hole = until => {
    if (until > end)
      spans.push({ node: makeNode("unnamed", "no symbol", until - end, { section, kind: "none" }),
        size: until - end, start: section.start + BigInt(end) });
  };
  for (let i = first; i < last; i++) {
    if (!data.own[i]) continue;
    hole(data.offsets[i]);
    const at = Math.max(end, data.offsets[i]);
    spans.push({ node: symbolNode(i), size: data.own[i], start: section.start + BigInt(at) });
    end = at + data.own[i];
  }
  if (!range) hole(section.size);
  return spans;
}
// Join neighbouring cells that are too narrow to be pointed at into cells of runs, which a user
// can go into.
function joinNarrow(cells) {
  const wide = [];
  let run = [];
  const close = () => {
    const inIt = run.filter(cell => cell.node.type === "symbol").map(cell => cell.node.index);
    if (run.length === 1 || !inIt.length) wide.push(...run);
    else {
      const made = makeNode("run", counted(inIt.length, "neighbour"),
        run.reduce((sum, cell) => sum + cell.span.size, 0),
        { section: focus.section, kind: focus.section.kind, members: inIt,
          first: inIt[0], last: inIt.at(-1) + 1 }, () => inIt.map(symbolNode));
      made.parent = focus;
      wide.push({ ...run[0], node: made, x1: run.at(-1).x1 });
    }
    run = [];
  };
  for (const cell of cells) {
    if (cell.x1 - cell.x0 >= NARROWEST) { if (run.length) close(); wide.push(cell); continue; }
    run.push(cell);
    if (cell.x1 - run[0].x0 >= NARROWEST * 2) close();
  }
  if (run.length) close();
  return wide;
}
function paintStrip(pen, cells, width) {
  const part = focus.type === "group" || focus.type === "rest" ? memberSet(focus) : null;
  const [top, bottom] = BAND_Y, h = bottom - top;
  pen.textBaseline = "middle";
  for (const cell of cells) {
    const { x0, x1, node } = cell, w = x1 - x0;
    if (cell.broken) { paintBreak(pen, cell, h); continue; }
    if (node.type === "gap" || node.type === "unnamed") { paintEmpty(pen, x0, top, w, h); continue; }
    const edge = w > 8 ? 1 : 0;
    paintKind(pen, node.kind, x0, top, w - edge, h);
    if (colours.forced && edge) {
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1;
      pen.strokeRect(x0 + 0.5, top + 0.5, Math.max(0, w - 1), h - 1);
    }
    if (part) paintShare(pen, cell, part, bottom);
    if (w > 34) paintLabel(pen, { ...cell, x1: x1 - edge }, w - edge, h);
  }
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  pen.strokeRect(0.5, top + 0.5, width - 1, h - 1);
  paintAddresses(pen, cells, width);
}
// Paint a bar below a cell. Its height is the share of the cell's bytes that is in "part".
function paintShare(pen, cell, part, bottom) {
  const indexes = cell.node.type === "symbol" ? [cell.node.index] : cell.node.members;
  let of = 0, all = 0;
  for (const i of indexes) { all += data.own[i]; if (part.has(i)) of += data.own[i]; }
  if (!of) return;
  const h = 2 + 4 * of / all;
  pen.fillStyle = colours.mark;
  pen.fillRect(cell.x0, bottom + 1, Math.max(1, cell.x1 - cell.x0), h);
}
function paintBreak(pen, cell, h) {
  const { x0, x1 } = cell, [top] = BAND_Y;
  pen.fillStyle = colours.page;
  pen.fillRect(x0, top, x1 - x0, h);
  pen.strokeStyle = colours.faint;
  pen.lineWidth = 1;
  for (const x of [x0 + 2, x1 - 3]) {
    pen.beginPath();
    for (let y = 0; y <= h; y += 4) pen.lineTo(x + (y / 4 % 2 ? 2 : -1), top + y);
    pen.stroke();
  }
  const text = rounded(cell.node.value);
  if (text.length * 11 * CHARACTER > x1 - x0 - 8) return;
  pen.fillStyle = colours.faint;
  pen.font = `11px ${colours.mono}`;
  pen.textAlign = "center";
  pen.fillText(text, (x0 + x1) / 2, top + h / 2);
}
// Write addresses below the strip: the first, those after a broken gap, and others if there is
// room.
function paintAddresses(pen, cells, width) {
  pen.font = `11px ${colours.mono}`;
  pen.fillStyle = colours.faint;
  const wide = (data.digits + 2) * 11 * CHARACTER;
  let free = 0;
  const forced = new Set(cells.filter((c, i) => i === 0 || cells[i - 1].broken));
  const marks = cells.filter(c => !c.broken && c.node.type !== "gap" && c.node.type !== "unnamed");
  const kept = [...forced].map(c => c.x0);
  for (const cell of marks) {
    const x = Math.min(cell.x0, width - wide);
    if (x < free) continue;
    if (!forced.has(cell) && kept.some(k => k > cell.x0 && k < cell.x0 + wide + 14)) continue;
    pen.fillRect(cell.x0, BAND_Y[1], 1, 8);
    pen.textAlign = "left";
    pen.fillText(hex(cell.span.start), x + (x === cell.x0 ? 3 : 0), BAND_Y[1] + 15);
    free = x + wide + 14;
  }
}
