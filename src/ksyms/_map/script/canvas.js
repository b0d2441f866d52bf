// -- a canvas with cells, for pointer and keyboard --------------------------------------------

const CHARACTER = 0.602;          // em: the width of a character of a monospaced font
function shorten(text, width, size) {
  const room = Math.floor(width / (size * CHARACTER));
  return text.length <= room ? text : room < 3 ? "" : text.slice(0, room - 1) + "…";
}
let focus = root, selected = null;  // the node that the pictures show, and one within it

// A canvas with cells: lay(width, height) returns them, and paint() draws them. "at" is the
// index of the keyboard's cell (-1: none), "over" the cell under the pointer. A cell has its
// node, its corners, its depth below the focus, "leaf" (false if it shows other cells), and
// "around" (the node of the cell around it).
function makePicture(canvas, lay, paint) {
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
    const here = self.cells.find(cell => selected && contains(cell, selected) && cell.leaf);
    if (here) outline(pen, here);
    if (self.over) outline(pen, self.over);
    if (hasKeyboardFocus(canvas) && self.cells[self.at]) outline(pen, self.cells[self.at]);
  };
  self.hit = event => {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    return self.cells.findLast(c => c.x0 <= x && x < c.x1 && c.y0 <= y && y < c.y1) || null;
  };
  canvas.addEventListener("pointermove", event => {
    const cell = self.hit(event);
    if (cell !== self.over) { self.over = cell; self.paint(); }
    if (cell) showTip(cell.node, event.clientX, event.clientY); else hideTip();
  });
  canvas.addEventListener("pointerleave", () => { self.over = null; self.paint(); hideTip(); });
  canvas.addEventListener("click", event => {
    const cell = self.hit(event);
    if (cell) activate(cell, canvas);
  });
  canvas.addEventListener("focus", () => {
    if (hasKeyboardFocus(canvas)) moveTo(self, Math.max(0, self.at));
  });
  canvas.addEventListener("blur", () => { hideTip(); self.paint(); });
  canvas.addEventListener("keydown", event => onKey(self, event));
  return self;
}
// True if the canvas has the focus by keyboard: only then the keyboard's cell is outlined.
const hasKeyboardFocus = canvas => canvas.matches(":focus-visible");
function outline(pen, cell) {
  const w = cell.x1 - cell.x0, h = cell.y1 - cell.y0;
  pen.lineJoin = "miter";
  pen.lineWidth = 4;
  pen.strokeStyle = colours.halo;
  pen.strokeRect(cell.x0, cell.y0, w, h);
  pen.lineWidth = colours.forced ? 4 : 2;
  pen.strokeStyle = colours.mark;
  pen.strokeRect(cell.x0, cell.y0, w, h);
}
// True if a node is shown by a cell: its own, or for a symbol also that of its section, or of a
// group or another node that has it among its members.
function contains(cell, node) {
  if (cell.node === node) return true;
  if (node.type !== "symbol") return false;
  const { members, type, section } = cell.node;
  if (type === "section") return section === node.section;
  return members !== undefined && section === node.section && memberSet(cell.node).has(node.index);
}
const memberSet = node => (node.set ??= new Set(node.members));

// The index of the nearest cell of the first level in the direction (dx, dy) of an arrow key.
function nearestCell(cells, at, dx, dy) {
  const from = cells[at], middle = c => [(c.x0 + c.x1) / 2, (c.y0 + c.y1) / 2];
  const [x, y] = middle(from);
  let best = -1, least = Infinity;
  cells.forEach((cell, index) => {
    if (cell.depth !== 1 || index === at) return;
    const [cx, cy] = middle(cell);
    const along = (cx - x) * dx + (cy - y) * dy;
    // The cell must lie beyond the edge on that side, but for 2 pixels.
    const clear = dx ? (dx > 0 ? cell.x0 >= from.x1 - 2 : cell.x1 <= from.x0 + 2)
      : (dy > 0 ? cell.y0 >= from.y1 - 2 : cell.y1 <= from.y0 + 2);
    if (along <= 0 || !clear) return;
    const aside = dx ? Math.max(0, cell.y0 - y, y - cell.y1) : Math.max(0, cell.x0 - x, x - cell.x1);
    const far = along + 3 * aside;
    if (far < least) { least = far; best = index; }
  });
  return best < 0 ? at : best;
}
function onKey(self, event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const firsts = self.cells.map((cell, i) => cell.depth === 1 ? i : -1).filter(i => i >= 0);
  let to = null;
  if (event.key in way && self.at < 0) to = firsts[0];
  else if (event.key in way) to = nearestCell(self.cells, self.at, ...way[event.key]);
  else if (event.key === "Home") to = firsts[0];
  else if (event.key === "End") to = firsts.at(-1);
  else if (event.key === "Enter" || event.key === " ") {
    if (self.cells[self.at]) activate(self.cells[self.at], self.canvas, true);
  } else if (event.key === "Escape" || event.key === "Backspace") goOut();
  else return;
  event.preventDefault();
  if (to !== null && to !== undefined) moveTo(self, to);
}
function moveTo(self, to) {
  const cell = self.cells[to];
  if (!cell) return;
  self.at = to;
  self.paint();
  const box = self.canvas.getBoundingClientRect();
  showTip(cell.node, box.left + cell.x0, box.top + Math.min(cell.y1, cell.y0 + 40));
  byId("live").textContent = describeInWords(cell.node);
}
