
(async () => {
"use strict";

// -- what the file holds ------------------------------------------------------------------

const byId = id => document.getElementById(id);
const KINDS = ["text", "rodata", "data", "bss", "percpu"];
const LISTED = 200;      // rows of the table, and of what a search shows
const DIRECT = 40;       // a section of no more symbols has no groups
const SMALLEST = 30;     // px²: below this a cell is one of the "smaller"
const OPENED = 1100;     // px²: below this what is in a cell is not shown
const HEADING = 16;      // px

async function unpack() {
  if (typeof DecompressionStream === "undefined")
    throw new Error("This browser cannot unpack the symbols: it needs DecompressionStream, " +
      "which browsers have had since 2023.");
  const packed = Uint8Array.from(atob(byId("data").textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

let data;
try {
  data = await unpack();
} catch (error) {
  byId("facts").textContent = error.message;
  byId("facts").className = "notice";
  return;
}
const slide = data.slide === null ? null : BigInt(data.slide);
let next = 0;
for (const section of data.sections) {
  section.start = BigInt(section.address);
  section.first = next;
  next = section.last = next + section.symbols;
}

// -- words --------------------------------------------------------------------------------

const count = n => n.toLocaleString("en-US");
const many = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;
const hex = address => "0x" + address.toString(16).padStart(data.digits, "0");
// What would turn the line around, hide in it or break it is shown as what it is: unknown.
const plain = name => name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
function rounded(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (n >= 1024 && unit + 1 < units.length) { n /= 1024; unit++; }
  return `${unit && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}
function bytes(n, exact = true) {
  if (typeof n === "string") return `${exact ? "" : "~"}${n} bytes`;
  const more = n >= 1024 ? ` (${rounded(n)})` : "";
  return `${exact ? "" : "~"}${many(n, "byte")}${more}`;
}

// -- the tree: everything, kernel and modules, sections, groups, symbols -----------------------
// A node has a value in bytes, and makes what is in it when that is asked for.

function node(type, label, value, more, make) {
  return { type, label, value, ...more, make, kids: null, parent: null };
}
function inside(parent) {
  if (parent.kids === null) {
    parent.kids = (parent.make ? parent.make() : []).filter(kid => kid.value > 0);
    parent.kids.sort((a, b) => b.value - a.value);
    for (const kid of parent.kids) kid.parent ??= parent;
  }
  return parent.kids;
}
const total = nodes => nodes.reduce((sum, each) => sum + each.value, 0);

const symbols = new Map();
function symbolNode(index) {
  if (!symbols.has(index)) {
    const section = sectionOf(index);
    symbols.set(index, node("symbol", plain(data.names[index]), data.own[index],
      { index, section, kind: section.kind }));
  }
  return symbols.get(index);
}
function sectionOf(index) {
  let low = 0, high = data.sections.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data.sections[middle].last <= index) low = middle + 1; else high = middle;
  }
  return data.sections[low];
}
function insideSection(section) {
  const all = [];
  for (let i = section.first; i < section.last; i++) if (data.own[i]) all.push(i);
  let kids = [];
  const groups = Map.groupBy ? Map.groupBy(all, i => data.group[i]) : grouped(all);
  if (all.length <= DIRECT || groups.size < 2) kids = all.map(symbolNode);
  else for (const [group, members] of groups) {
    const name = data.groups[group];
    kids.push(node("group", name ? `${plain(name)}…` : "other names",
      members.reduce((sum, i) => sum + data.own[i], 0),
      { section, kind: section.kind, members, named: name },
      () => members.map(symbolNode)));
  }
  if (section.unnamed)
    kids.push(node("unnamed", "no symbol", section.unnamed, { section, kind: "none" }));
  return kids;
}
function grouped(all) {
  const groups = new Map();
  for (const i of all) {
    const members = groups.get(data.group[i]);
    if (members) members.push(i); else groups.set(data.group[i], [i]);
  }
  return groups;
}
const sectionNodes = data.sections.map(section =>
  node("section", plain(section.name), section.size, { section, kind: section.kind },
    () => insideSection(section)));
const ofModule = new Map();
for (const each of sectionNodes) {
  const name = each.section.module;
  if (ofModule.has(name)) ofModule.get(name).push(each); else ofModule.set(name, [each]);
}
function fileNode(type, label, sections) {
  return node(type, label, total(sections), { sections, kind: "files" }, () => sections);
}
const moduleNodes = [...ofModule].filter(([name]) => name !== null)
  .map(([name, sections]) => fileNode("module", plain(name), sections));
const parts = [];
if (ofModule.has(null)) parts.push(fileNode("kernel", "kernel", ofModule.get(null)));
if (moduleNodes.length) {
  const all = moduleNodes.flatMap(each => each.sections);
  parts.push(node("modules", "modules", total(all), { sections: all, kind: "files" }, () => moduleNodes));
}
const root = parts.length === 1 ? parts[0]
  : node("all", "everything", total(parts), { sections: sectionNodes, kind: "files" }, () => parts);
(function reach(from) {           // so that every section knows what it is in
  if (from.type !== "section") inside(from).forEach(reach);
})(root);

// -- what is said of a node -----------------------------------------------------------------

const address = index => sectionOf(index).start + BigInt(data.offsets[index]);
const isExact = index => data.exact[index] === "1";
function linked(start, section) {
  if (section.module !== null) return "none: modules are placed at load";
  return slide === null ? "unknown" : hex(BigInt.asUintN(data.digits * 4, start - slide));
}
function aliases(index) {
  const section = sectionOf(index), names = [];
  const same = i => data.offsets[i] === data.offsets[index];
  let from = index;
  while (from > section.first && same(from - 1)) from--;
  for (let i = from; i < section.last && same(i); i++)
    if (i !== index) names.push(plain(data.names[i]));
  return names;
}
function describe(what) {
  const section = what.section;
  const rows = [];
  const add = (name, value) => rows.push([name, value]);
  if (what.type === "symbol") {
    const i = what.index, size = data.sizes[i];
    add("symbol", what.label);
    add("size", size === 0 ? "none" : bytes(size, isExact(i)) + (isExact(i) ? "" : ", inferred"));
    add("address", hex(address(i)));
    add("at link time", linked(address(i), section));
    add("module", section.module === null ? "none: the kernel" : plain(section.module));
    add("section", plain(section.name));
    if (data.letters[i] !== "?") add("letter", data.letters[i]);
    const others = aliases(i);
    if (others.length)
      add("also", others.slice(0, 4).join(", ") + (others.length > 4 ? " …" : ""));
    if (size !== 0 && what.value !== size) add("of these its own", bytes(what.value));
  } else if (what.type === "section") {
    add("section", what.label);
    add("kind", section.kind);
    add("size", bytes(section.size, section.exact) + (section.exact ? "" : ", inferred"));
    add("address", hex(section.start));
    add("end", hex(section.start + BigInt(section.size)));
    add("at link time", linked(section.start, section));
    add("module", section.module === null ? "none: the kernel" : plain(section.module));
    add("symbols", count(section.symbols));
    if (section.unnamed) add("no symbol", bytes(section.unnamed));
  } else if (what.type === "gap") {
    add("gap", "nothing known is here");
    add("size", bytes(what.value));
    add("address", hex(what.start));
    add("end", hex(what.start + BigInt(what.value)));
  } else if (what.type === "unnamed") {
    add("no symbol", "bytes that none answers for");
    add("size", bytes(what.value));
    add("section", plain(section.name));
  } else {
    add(what.type === "group" && what.named ? "names with" : "what", what.label);
    add("size", bytes(what.value));
    if (what.members) add("symbols", count(what.members.length));
    if (what.sections) {
      const starts = what.sections.map(s => s.section.start);
      add("address", hex(starts.reduce((a, b) => (a < b ? a : b))));
      add("sections", count(what.sections.length));
      add("symbols", count(what.sections.reduce((sum, s) => sum + s.section.symbols, 0)));
    }
    if (what.type === "module" && data.listed.includes(what.sections[0].section.module))
      add("kind", "listed like a module");
    if (section) add("section", plain(section.name));
  }
  return rows;
}
function putRows(list, what) {
  list.replaceChildren(...describe(what).flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}
const sentence = what => describe(what).map(([name, value]) => `${name} ${value}`).join(", ");

// -- colours and patterns -----------------------------------------------------------------

let colours;
function readColours() {
  const probe = byId("tip"), style = getComputedStyle(probe);
  const value = name => {           // a system colour becomes one a canvas knows
    probe.style.color = `var(--${name})`;
    return style.color;
  };
  const read = {};
  for (const name of ["page", "panel", "ink", "faint", "line", "mark", "halo"])
    read[name] = value(name);
  for (const kind of KINDS) read[kind] = { fill: value(kind), ink: value(`${kind}-ink`) };
  read.none = { fill: read.page, ink: read.faint };
  read.files = { fill: read.panel, ink: read.ink };       // what has several kinds in it
  probe.style.color = "";
  read.forced = matchMedia("(forced-colors: active)").matches;
  read.patterns = {};
  for (const kind of KINDS) read.patterns[kind] = pattern(kind, read[kind].ink, read.forced);
  const style2 = getComputedStyle(document.documentElement);
  read.mono = style2.getPropertyValue("--mono");
  read.sans = style2.getPropertyValue("--sans");
  colours = read;
}
function pattern(kind, ink, forced) {
  if (kind === "text") return null;           // most of it is code: that is plain
  const scale = devicePixelRatio || 1, step = 8;
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(step * scale);
  const pen = tile.getContext("2d");
  pen.scale(tile.width / step, tile.height / step);
  pen.strokeStyle = pen.fillStyle = ink;
  pen.globalAlpha = forced ? 1 : 0.3;
  pen.lineWidth = 1;
  pen.beginPath();
  const line = (...at) => { pen.moveTo(at[0], at[1]); pen.lineTo(at[2], at[3]); };
  if (kind === "rodata") { line(-2, 10, 10, -2); line(-2, 2, 2, -2); line(6, 10, 10, 6); }
  if (kind === "data") { pen.fillRect(1, 1, 2, 2); pen.fillRect(5, 5, 2, 2); }
  if (kind === "bss") { line(0, 2.5, 8, 2.5); line(0, 6.5, 8, 6.5); }
  if (kind === "percpu") { line(0, 3.5, 8, 3.5); line(3.5, 0, 3.5, 8); }
  pen.stroke();
  return tile;
}
function fill(pen, kind, x, y, w, h) {
  pen.fillStyle = colours[kind].fill;
  pen.fillRect(x, y, w, h);
  const tile = colours.patterns[kind];
  if (tile && w > 3 && h > 3) {
    const repeated = pen.createPattern(tile, "repeat");
    repeated.setTransform(new DOMMatrix().scale(1 / (devicePixelRatio || 1)));
    pen.fillStyle = repeated;
    pen.fillRect(x, y, w, h);
  }
}

// -- a canvas with cells that can be pointed at and walked through ----------------------------

const CHARACTER = 0.602;          // a monospaced character's width, in ems
function cut(text, width, size) {
  const room = Math.floor(width / (size * CHARACTER));
  return text.length <= room ? text : room < 3 ? "" : text.slice(0, room - 1) + "…";
}
let focus = root, chosen = null;

function picture(canvas, lay, paint) {
  const self = { canvas, cells: [], at: -1, over: null };
  const pen = canvas.getContext("2d");
  self.draw = () => {
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    self.cells = lay(width, height);
    self.at = Math.min(self.at, self.cells.length - 1);
    self.paint();
  };
  self.paint = () => {
    const scale = devicePixelRatio || 1;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    paint(pen, self.cells, canvas.clientWidth, canvas.clientHeight);
    const here = self.cells.find(cell => chosen && holds(cell, chosen) && cell.leaf);
    if (here) ring(pen, here);
    if (self.over) ring(pen, self.over);
    if (walked(canvas) && self.cells[self.at]) ring(pen, self.cells[self.at]);
  };
  self.hit = event => {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    return self.cells.findLast(c => c.x0 <= x && x < c.x1 && c.y0 <= y && y < c.y1) || null;
  };
  canvas.addEventListener("pointermove", event => {
    const cell = self.hit(event);
    if (cell !== self.over) { self.over = cell; self.paint(); }
    if (cell) tell(cell.node, event.clientX, event.clientY); else hush();
  });
  canvas.addEventListener("pointerleave", () => { self.over = null; self.paint(); hush(); });
  canvas.addEventListener("click", event => {
    const cell = self.hit(event);
    if (cell) enter(cell, canvas);
  });
  canvas.addEventListener("focus", () => { if (walked(canvas)) move(self, Math.max(0, self.at)); });
  canvas.addEventListener("blur", () => { hush(); self.paint(); });
  canvas.addEventListener("keydown", event => keys(self, event));
  return self;
}
// Whether the keyboard is at work in it: who points sees no second cell marked.
const walked = canvas => canvas.matches(":focus-visible");
function ring(pen, cell) {
  const w = cell.x1 - cell.x0, h = cell.y1 - cell.y0;
  pen.lineJoin = "miter";
  pen.lineWidth = 4;
  pen.strokeStyle = colours.halo;
  pen.strokeRect(cell.x0, cell.y0, w, h);
  pen.lineWidth = colours.forced ? 4 : 2;
  pen.strokeStyle = colours.mark;
  pen.strokeRect(cell.x0, cell.y0, w, h);
}
function holds(cell, what) {
  if (cell.node === what) return true;
  if (what.type !== "symbol") return false;
  const { members, type, section } = cell.node;
  if (type === "section") return section === what.section;
  return members !== undefined && section === what.section && memberSet(cell.node).has(what.index);
}
const memberSet = what => (what.set ??= new Set(what.members));

// Arrow keys walk the cells of the first level: in the treemap to the nearest one that way.
function nearest(cells, at, dx, dy) {
  const from = cells[at], middle = c => [(c.x0 + c.x1) / 2, (c.y0 + c.y1) / 2];
  const [x, y] = middle(from);
  let best = -1, least = Infinity;
  cells.forEach((cell, index) => {
    if (cell.depth !== 1 || index === at) return;
    const [cx, cy] = middle(cell);
    const along = (cx - x) * dx + (cy - y) * dy;
    // beside it, or past the edge on that side
    const clear = dx ? (dx > 0 ? cell.x0 >= from.x1 - 2 : cell.x1 <= from.x0 + 2)
      : (dy > 0 ? cell.y0 >= from.y1 - 2 : cell.y1 <= from.y0 + 2);
    if (along <= 0 || !clear) return;
    const aside = dx ? Math.max(0, cell.y0 - y, y - cell.y1) : Math.max(0, cell.x0 - x, x - cell.x1);
    const far = along + 3 * aside;
    if (far < least) { least = far; best = index; }
  });
  return best < 0 ? at : best;
}
function keys(self, event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const firsts = self.cells.map((cell, i) => cell.depth === 1 ? i : -1).filter(i => i >= 0);
  let to = null;
  if (event.key in way && self.at < 0) to = firsts[0];
  else if (event.key in way) to = nearest(self.cells, self.at, ...way[event.key]);
  else if (event.key === "Home") to = firsts[0];
  else if (event.key === "End") to = firsts.at(-1);
  else if (event.key === "Enter" || event.key === " ") {
    if (self.cells[self.at]) enter(self.cells[self.at], self.canvas, true);
  } else if (event.key === "Escape" || event.key === "Backspace") leave();
  else return;
  event.preventDefault();
  if (to !== null && to !== undefined) move(self, to);
}
function move(self, to) {
  const cell = self.cells[to];
  if (!cell) return;
  self.at = to;
  self.paint();
  const box = self.canvas.getBoundingClientRect();
  tell(cell.node, box.left + cell.x0, box.top + Math.min(cell.y1, cell.y0 + 40));
  byId("live").textContent = sentence(cell.node);
}

// -- pointing, going in and out ---------------------------------------------------------------

const tip = byId("tip");
function tell(what, x, y) {
  const list = document.createElement("dl");
  putRows(list, what);
  tip.replaceChildren(list);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
  const top = y + 16 + box.height > innerHeight ? y - 16 - box.height : y + 16;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}
function hush() { tip.hidden = true; }

// A cell with something in it is gone into; a symbol is chosen, and what it is in gone into.
function enter(cell, canvas, byKey = false) {
  const what = cell.node;
  if (what.type === "gap") return choose(what);
  if (what.make) return go(what, null, canvas, cell);
  if (cell.around && cell.around !== focus && !byKey) return go(cell.around, what, canvas, cell);
  choose(what);
}
function choose(what) {
  chosen = what;
  refresh();
  byId("live").textContent = `selected: ${sentence(what)}`;
}
function leave() {
  if (focus.parent) go(focus.parent, focus);
}
function go(where, what = null, canvas = null, from = null) {
  const box = from && { ...from };
  focus = where;
  chosen = what ?? where;
  tree.at = strip.at = -1;
  tree.over = strip.over = null;
  hush();
  refresh();
  const self = [tree, strip].find(each => walked(each.canvas));
  if (self) move(self, Math.max(0, self.cells.findIndex(c => c.depth === 1 && c.node === what)));
  byId("live").textContent = `in ${sentence(where)}`;
  if (canvas === tree.canvas && box) grow(box);
}
// Where the new picture was in the old one, for a moment; not where motion is unwanted.
function grow(box) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || !tree.canvas.animate) return;
  const w = tree.canvas.clientWidth, h = tree.canvas.clientHeight;
  const sx = (box.x1 - box.x0) / w, sy = (box.y1 - box.y0) / h;
  tree.canvas.animate([
    { transformOrigin: "0 0", opacity: 0.4,
      transform: `translate(${box.x0}px, ${box.y0}px) scale(${sx}, ${sy})` },
    { transformOrigin: "0 0", opacity: 1, transform: "none" },
  ], { duration: 160, easing: "ease-out" });
}
function goToSymbol(index) {
  let cell = index;              // one without bytes of its own lies in another's cell
  if (!data.own[cell]) {
    const section = sectionOf(index);
    for (let i = index; i >= section.first && data.offsets[i] === data.offsets[index]; i--)
      if (data.own[i]) { cell = i; break; }
  }
  const section = sectionNodes.find(each => each.section === sectionOf(index));
  const held = { node: section };
  const target = symbolNode(cell);
  const group = inside(section).find(kid => holds({ node: kid }, target));
  go(group && group.make ? group : held.node, symbolNode(index));
  for (let tries = 0; tries < 30 && data.own[cell]; tries++) {
    const shown = tree.cells.find(each => each.leaf && holds(each, target));
    if (!shown || shown.node.type !== "rest") break;
    go(shown.node, symbolNode(index));
  }
}

// -- the treemap ----------------------------------------------------------------------------

// What is large enough to be seen; what is not is one cell together.
function seen(what, scale) {
  if (what !== focus && (what.type === "rest" || what.value * scale < OPENED)) return null;
  const kids = inside(what);
  if (!kids.length) return null;
  const large = kids.findIndex(kid => kid.value * scale < SMALLEST);
  if (large < 0 || large === kids.length - 1) return kids;
  if (large > 0) return [...kids.slice(0, large), rest(what, kids.slice(large))];
  return what === focus ? shares(what, kids) : null;
}
// All are small: so many parts of them that each part can be seen, and gone into.
function shares(what, kids) {
  const each = Math.ceil(kids.length / Math.min(100, Math.ceil(kids.length / 2)));
  const made = [];
  for (let i = 0; i < kids.length; i += each) made.push(rest(what, kids.slice(i, i + each)));
  return made;
}
function rest(parent, small) {
  const members = small.flatMap(kid => kid.type === "symbol" ? [kid.index] : kid.members ?? []);
  const what = small.every(kid => kid.type === "symbol") ? "smaller symbol" : "smaller part";
  const made = node("rest", many(small.length, what), total(small),
    { section: parent.section, kind: small[0].kind ?? "none", members }, () => small);
  made.parent = parent;
  return made;
}
function layTree(width, height) {
  const scale = width * height / Math.max(1, focus.value);
  const top = d3.hierarchy(focus, what => seen(what, scale));
  top.each(each => { each.value = each.data.value; });
  const roomy = each => each.depth && each.x1 - each.x0 > 46 && each.y1 - each.y0 > 40;
  d3.treemap().size([width, height]).round(true).paddingInner(1)
    .paddingOuter(each => each.depth ? 2 : 0)
    .paddingTop(each => roomy(each) ? HEADING : each.depth ? 2 : 0)(top);
  const cells = [];
  (function collect(each) {
    // What has no room for its name above what is in it shows its name alone.
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
  between(pen, focus.kind, 0, 0, width, height);
  for (const cell of cells) {
    const { x0, y0, x1, y1, node: what } = cell, w = x1 - x0, h = y1 - y0;
    if (!cell.leaf) {
      between(pen, what.kind, x0, y0, w, h);
      pen.fillStyle = colours.panel;
      pen.fillRect(x0, y0, w, HEADING + 1);
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1;
      pen.strokeRect(x0 + 0.5, y0 + 0.5, w - 1, h - 1);
      heading(pen, cell, w);
      continue;
    }
    if (what.kind === "none") empty(pen, x0, y0, w, h);
    else fill(pen, what.kind, x0, y0, w, h);
    if (what.kind === "files" || (colours.forced && what.kind !== "none")) {
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1;
      pen.strokeRect(x0 + 0.5, y0 + 0.5, w - 1, h - 1);
    }
    inscribe(pen, cell, w, h);
  }
}
// What shows between cells of a kind: it differs from them in lightness.
function between(pen, kind, x, y, w, h) {
  const style = colours[kind] ?? colours.none;
  pen.fillStyle = style.fill;
  pen.fillRect(x, y, w, h);
  if (colours.forced) return;
  pen.globalAlpha = 0.4;
  pen.fillStyle = style.ink;
  pen.fillRect(x, y, w, h);
  pen.globalAlpha = 1;
}
function empty(pen, x, y, w, h) {
  pen.fillStyle = colours.page;
  pen.fillRect(x, y, w, h);
  if (w < 4 || h < 4) return;
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  pen.setLineDash([3, 3]);
  pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1);
  pen.setLineDash([]);
}
function heading(pen, cell, w) {
  const size = rounded(cell.node.value);
  const y = cell.y0 + HEADING / 2 + 1;
  pen.fillStyle = colours.ink;
  pen.font = `600 11px ${colours.mono}`;
  const room = w - 10, both = (cell.node.label.length + size.length + 2) * 11 * CHARACTER < room;
  pen.textAlign = "left";
  pen.fillText(cut(cell.node.label, room, 11), cell.x0 + 5, y);
  if (!both) return;
  pen.fillStyle = colours.faint;
  pen.font = `11px ${colours.mono}`;
  pen.textAlign = "right";
  pen.fillText(size, cell.x1 - 5, y);
}
function inscribe(pen, cell, w, h) {
  const what = cell.node, size = w > 90 && h > 40 ? 12 : 11;
  if (w < 26 && w > size + 2 && h > 60) return upright(pen, cell, h, size);
  if (h < size + 3 || w < 26) return;
  const style = colours[what.kind] ?? colours.none;
  const lines = [cut(what.label, w - 8, size)];
  if (!lines[0]) return;
  if (h > 2 * size + 10) lines.push(cut(sizeOf(what), w - 8, size));
  pen.font = `${size}px ${colours.mono}`;
  pen.textAlign = "left";
  const y = h > 2 * size + 10 ? cell.y0 + 4 + size / 2 : cell.y0 + h / 2;
  lines.forEach((text, row) => {
    if (!text) return;
    pen.fillStyle = style.fill;       // the name stands on the plain colour
    pen.fillRect(cell.x0 + 2, y + row * (size + 3) - size / 2 - 1, text.length * size * CHARACTER + 4,
      size + 2);
    pen.fillStyle = style.ink;
    pen.fillText(text, cell.x0 + 4, y + row * (size + 3));
  });
}
function upright(pen, cell, h, size) {
  pen.save();
  pen.translate(cell.x0, cell.y0 + h);
  pen.rotate(-Math.PI / 2);
  inscribe(pen, { node: cell.node, x0: 0, y0: 0 }, h, size + 3);
  pen.restore();
}
function sizeOf(what) {
  const known = what.type === "symbol" ? isExact(what.index)
    : what.type === "section" ? what.section.exact : true;
  return (known ? "" : "~") + rounded(what.value);
}

// -- the strip ------------------------------------------------------------------------------

const BREAK = 58;                 // px for a gap that is too large to be drawn to scale
const NARROW = 3;                 // px: what is narrower is joined with its neighbours
const BAND = [2, 34];             // px from the top
function layStrip(width) {
  const spans = focus.section ? symbolSpans(focus) : sectionSpans(focus.sections ?? []);
  const sum = spans.reduce((all, s) => all + (s.node.type === "gap" ? 0 : s.size), 0);
  let linear = 0, broken = 0;
  for (const span of spans) {
    span.broken = span.node.type === "gap" && span.size > sum / 8;
    if (span.broken) broken++; else linear += span.size;
  }
  const gap = Math.min(BREAK, width / 3 / Math.max(1, broken));
  const scale = (width - gap * broken) / Math.max(1, linear);
  let x = 0;
  const cells = [];
  for (const span of spans) {
    const wide = span.broken ? gap : span.size * scale;
    cells.push({ node: span.node, span, x0: x, x1: x + wide, y0: BAND[0], y1: BAND[1],
      depth: 1, leaf: true, broken: span.broken, around: focus });
    x += wide;
  }
  return focus.section ? joined(cells) : cells;
}
function gapNode(start, size) {
  return node("gap", "gap", size, { start, kind: "none" });
}
function sectionSpans(nodes) {
  const spans = [];
  let end = null;
  const sorted = [...nodes].sort((a, b) => (a.section.start < b.section.start ? -1 : 1));
  for (const each of sorted) {
    const { start, size } = each.section, stop = start + BigInt(size);
    if (end !== null && start > end)
      spans.push({ node: gapNode(end, Number(start - end)), size: Number(start - end), start: end });
    const from = end !== null && end > start ? end : start;     // another's bytes are not shown twice
    if (stop > from) spans.push({ node: each, size: Number(stop - from), start: from });
    if (end === null || stop > end) end = stop;
  }
  return spans;
}
function symbolSpans(what) {
  const section = what.section, range = what.type === "run";
  const first = range ? what.first : section.first, last = range ? what.last : section.last;
  const from = range ? data.offsets[first] : 0;
  const spans = [];
  let end = from;
  const hole = until => {
    if (until > end)
      spans.push({ node: node("unnamed", "no symbol", until - end, { section, kind: "none" }),
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
// Neighbours too narrow to be pointed at are one cell, which can be gone into.
function joined(cells) {
  const wide = [];
  let run = [];
  const close = () => {
    const inIt = run.filter(cell => cell.node.type === "symbol").map(cell => cell.node.index);
    if (run.length === 1 || !inIt.length) wide.push(...run);
    else {
      const made = node("run", many(inIt.length, "neighbour"),
        run.reduce((sum, cell) => sum + cell.span.size, 0),
        { section: focus.section, kind: focus.section.kind, members: inIt,
          first: inIt[0], last: inIt.at(-1) + 1 }, () => inIt.map(symbolNode));
      made.parent = focus;
      wide.push({ ...run[0], node: made, x1: run.at(-1).x1 });
    }
    run = [];
  };
  for (const cell of cells) {
    if (cell.x1 - cell.x0 >= NARROW) { if (run.length) close(); wide.push(cell); continue; }
    run.push(cell);
    if (cell.x1 - run[0].x0 >= NARROW * 2) close();
  }
  if (run.length) close();
  return wide;
}
function paintStrip(pen, cells, width) {
  const part = focus.type === "group" || focus.type === "rest" ? memberSet(focus) : null;
  const [top, bottom] = BAND, h = bottom - top;
  pen.textBaseline = "middle";
  for (const cell of cells) {
    const { x0, x1, node: what } = cell, w = x1 - x0;
    if (cell.broken) { tear(pen, cell, h); continue; }
    if (what.type === "gap" || what.type === "unnamed") { empty(pen, x0, top, w, h); continue; }
    const edge = w > 8 ? 1 : 0;
    fill(pen, what.kind, x0, top, w - edge, h);
    if (colours.forced && edge) {
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1;
      pen.strokeRect(x0 + 0.5, top + 0.5, Math.max(0, w - 1), h - 1);
    }
    if (part) share(pen, cell, part, bottom);
    if (w > 34) inscribe(pen, { ...cell, x1: x1 - edge }, w - edge, h);
  }
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  pen.strokeRect(0.5, top + 0.5, width - 1, h - 1);
  scaleBelow(pen, cells, width);
}
// How much of a cell is of the group that is looked at: a bar below it.
function share(pen, cell, part, bottom) {
  const indexes = cell.node.type === "symbol" ? [cell.node.index] : cell.node.members;
  let of = 0, all = 0;
  for (const i of indexes) { all += data.own[i]; if (part.has(i)) of += data.own[i]; }
  if (!of) return;
  const h = 2 + 4 * of / all;
  pen.fillStyle = colours.mark;
  pen.fillRect(cell.x0, bottom + 1, Math.max(1, cell.x1 - cell.x0), h);
}
function tear(pen, cell, h) {
  const { x0, x1 } = cell, [top] = BAND;
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
// Addresses where there is room: the first, those after a torn gap, and others between.
function scaleBelow(pen, cells, width) {
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
    pen.fillRect(cell.x0, BAND[1], 1, 8);
    pen.textAlign = "left";
    pen.fillText(hex(cell.span.start), x + (x === cell.x0 ? 3 : 0), BAND[1] + 15);
    free = x + wide + 14;
  }
}

// -- search -----------------------------------------------------------------------------------

let lower = null;
function findNames(text) {
  lower ??= data.names.map(name => name.toLowerCase());
  const wanted = text.toLowerCase(), found = [];
  for (let i = 0; i < lower.length; i++) if (lower[i].includes(wanted)) found.push(i);
  const rank = i => data.names[i] === text ? 0 : lower[i] === wanted ? 1
    : lower[i].startsWith(wanted) ? 2 : 3;
  const ranks = new Map(found.map(i => [i, rank(i)]));
  found.sort((a, b) => ranks.get(a) - ranks.get(b) || data.own[b] - data.own[a] || a - b);
  return found;
}
// The symbol that an address lies in: the nearest before it that reaches it.
function findAddress(wanted) {
  for (const section of data.sections) {
    const far = wanted - section.start;
    if (far < 0n || far >= BigInt(section.size)) continue;
    const offset = Number(far);
    let low = section.first, high = section.last;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (data.offsets[middle] <= offset) low = middle + 1; else high = middle;
    }
    let best = -1;
    for (let i = low - 1; i >= section.first; i--) {
      if (best >= 0 && data.offsets[i] !== data.offsets[best]) break;
      if (data.offsets[i] === offset || offset < data.offsets[i] + Number(data.sizes[i])) best = i;
    }
    if (best >= 0) return best;
  }
  return -1;
}
const ADDRESS = /^(0x[0-9a-f]{1,16}|[0-9a-f]{8}|[0-9a-f]{16})$/i;
function search(text) {
  const found = [];
  if (ADDRESS.test(text)) {
    const wanted = BigInt("0x" + text.replace(/^0x/i, ""));
    const places = [[wanted, ""]];
    if (slide) places.push([BigInt.asUintN(64, wanted + slide), "as linked: "]);
    for (const [place, note] of places) {
      const index = findAddress(place);
      if (index >= 0)
        found.push([index, `${note}+0x${(place - address(index)).toString(16)}`]);
    }
  }
  return found.concat(findNames(text).map(index => [index, ""]));
}
const query = byId("query"), results = byId("results"), box = byId("found");
let marked = -1;
function showResults() {
  const text = query.value.trim();
  marked = -1;
  query.removeAttribute("aria-activedescendant");
  results.replaceChildren();
  box.hidden = !text;
  query.setAttribute("aria-expanded", String(Boolean(text)));
  if (!text) return;
  const found = search(text);
  byId("count").textContent = found.length > LISTED
    ? `${count(found.length)} symbols match; the first ${LISTED} are shown`
    : found.length ? many(found.length, "symbol") : "no symbol has this in its name or lies there";
  byId("live").textContent = byId("count").textContent;
  results.append(...found.slice(0, LISTED).map(([index, note], place) => {
    const item = document.createElement("li");
    item.id = `result-${place}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    item.dataset.index = index;
    const texts = [plain(data.names[index]) + (note && ` ${note}`), hex(address(index)),
      (isExact(index) ? "" : "~") + data.sizes[index], plain(sectionOf(index).name)];
    item.append(...texts.map((part, column) => {
      const span = document.createElement(column ? "span" : "b");
      span.textContent = part;
      return span;
    }));
    return item;
  }));
}
function mark(to) {
  const items = results.children;
  if (!items.length) return;
  items[marked]?.setAttribute("aria-selected", "false");
  marked = (to + items.length) % items.length;
  items[marked].setAttribute("aria-selected", "true");
  items[marked].scrollIntoView({ block: "nearest" });
  query.setAttribute("aria-activedescendant", items[marked].id);
}
function closeResults() {
  clearTimeout(waiting);  // what was typed last opens nothing after Escape
  box.hidden = true;
  query.setAttribute("aria-expanded", "false");
}
let waiting = 0;
query.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(showResults, 60);
});
query.addEventListener("focus", () => { if (query.value.trim()) showResults(); });
query.addEventListener("keydown", event => {
  if (event.key === "ArrowDown") mark(marked + 1);
  else if (event.key === "ArrowUp") mark(marked < 0 ? -1 : marked - 1);
  else if (event.key === "Enter") {
    clearTimeout(waiting);
    if (marked < 0) showResults();
    const item = results.children[Math.max(0, marked)];
    if (item) { closeResults(); goToSymbol(Number(item.dataset.index)); }
  } else if (event.key === "Escape") closeResults();
  else return;
  event.preventDefault();
});
results.addEventListener("pointerdown", event => {
  const item = event.target.closest("li");
  if (!item) return;
  event.preventDefault();
  closeResults();
  goToSymbol(Number(item.dataset.index));
});
query.addEventListener("blur", closeResults);
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== query) {
    event.preventDefault();
    query.focus();
    query.select();
  }
});

// -- the page ---------------------------------------------------------------------------------

function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
}
function refresh() {
  const path = [];
  for (let each = focus; each; each = each.parent) path.unshift(each);
  byId("path").replaceChildren(...path.map(each => {
    const item = document.createElement("li");
    if (each === focus) {
      item.textContent = `${each.label}, ${rounded(each.value)}`;
      item.setAttribute("aria-current", "location");
    } else item.append(button(each.label, () => go(each)));
    return item;
  }));
  putRows(byId("detail"), chosen ?? focus);
  const kids = inside(focus);
  byId("rows").replaceChildren(...kids.slice(0, LISTED).map(kid => {
    const row = document.createElement("tr");
    const cells = [kid.label, (sizeOf(kid)[0] === "~" ? "~" : "") + count(kid.value),
      (100 * kid.value / focus.value).toFixed(1)];
    row.append(...cells.map((text, column) => {
      const cell = document.createElement(column ? "td" : "th");
      if (column) cell.textContent = text;
      else {
        cell.scope = "row";
        cell.append(button(text, () => (kid.make ? go(kid) : choose(kid))));
      }
      return cell;
    }));
    return row;
  }));
  byId("more").textContent = kids.length > LISTED
    ? `the largest ${LISTED} of ${count(kids.length)}` : "";
  tree.draw();
  strip.draw();
}
function legend() {
  const used = KINDS.filter(kind => data.sections.some(each => each.kind === kind));
  byId("legend").replaceChildren(...[...used, "none"].map(kind => {
    const item = document.createElement("li"), swatch = document.createElement("canvas");
    const scale = devicePixelRatio || 1;
    swatch.width = 26 * scale;
    swatch.height = 15 * scale;
    const pen = swatch.getContext("2d");
    pen.scale(scale, scale);
    if (kind === "none") empty(pen, 0, 0, 26, 15);
    else {
      fill(pen, kind, 0, 0, 26, 15);
      pen.strokeStyle = colours.line;
      pen.strokeRect(0.5, 0.5, 25, 14);
    }
    swatch.setAttribute("aria-hidden", "true");
    item.append(swatch, kind === "none" ? "no symbol" : kind);
    return item;
  }));
}
function again() {
  readColours();
  legend();
  tree.draw();
  strip.draw();
}
const facts = data.facts, known = data.names.length;
byId("facts").textContent = [facts.release ?? "release unknown", facts.machine ?? "machine unknown",
  many(known, "symbol"), many(moduleNodes.length, "module"), rounded(root.value),
  slide === null ? "link addresses unknown"
    : `moved by ${slide < 0n ? "-" : ""}0x${(slide < 0n ? -slide : slide).toString(16)} since its link`]
  .map(plain).join(" · ");
if (facts.release) document.title = `Kernel map: ${plain(facts.release)}`;
byId("made").textContent = plain(`From ${data.label}, taken ${facts.time ?? "at an unknown time"}, ` +
  `boot ${facts.boot_id ?? "unknown"}, build-id ${facts.build_id ?? "unknown"}, by ksyms ` +
  `${data.ksyms}. ${many(data.elsewhere, "symbol")} of it, such as absolute ones, lie in no ` +
  "section and are not here. The page asks for nothing from anywhere.");
readColours();
const tree = picture(byId("tree"), layTree, paintTree);
const strip = picture(byId("strip"), layStrip, paintStrip);
legend();
chosen = root;
refresh();
for (const media of ["(prefers-color-scheme: dark)", "(forced-colors: active)"])
  matchMedia(media).addEventListener("change", again);
new ResizeObserver(() => { tree.draw(); strip.draw(); }).observe(byId("tree"));
document.documentElement.dataset.ready = "yes";
})();
