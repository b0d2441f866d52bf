// -- colours and patterns ---------------------------------------------------------------------

// Each kind has a colour, and all but text a pattern, so that kinds differ without colours too.
let colours;
function readColours() {
  const probe = byId("tip"), style = getComputedStyle(probe);
  // Have the browser compute a colour: a canvas does not know the names of system colours.
  const value = name => {
    probe.style.color = `var(--${name})`;
    return style.color;
  };
  const read = {};
  for (const name of ["page", "panel", "ink", "faint", "line", "mark", "halo"])
    read[name] = value(name);
  for (const kind of KINDS) read[kind] = { fill: value(kind), ink: value(`${kind}-ink`) };
  read.none = { fill: read.page, ink: read.faint };
  read.files = { fill: read.panel, ink: read.ink };       // nodes that contain several kinds
  probe.style.color = "";
  read.forced = matchMedia("(forced-colors: active)").matches;
  read.patterns = {};
  for (const kind of KINDS) read.patterns[kind] = makePattern(kind, read[kind].ink, read.forced);
  const style2 = getComputedStyle(document.documentElement);
  read.mono = style2.getPropertyValue("--mono");
  read.sans = style2.getPropertyValue("--sans");
  colours = read;
}
function makePattern(kind, ink, forced) {
  if (kind === "text") return null;           // code has no pattern: most cells are code
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
function paintKind(pen, kind, x, y, w, h) {
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
