// -- the description of a node, as rows of a name and a text ----------------------------------

const address = index => sectionOf(index).start + BigInt(data.offsets[index]);
const isExact = index => data.exact[index] === "1";
// The link address as text; a module has none.
function linkAddress(start, section) {
  if (section.module !== null) return "none: modules are placed at load";
  return slide === null ? "unknown" : hex(BigInt.asUintN(data.digits * 4, start - slide));
}
// The names of the other symbols at the address of a symbol, in its section.
function aliases(index) {
  const section = sectionOf(index), names = [];
  const same = i => data.offsets[i] === data.offsets[index];
  let from = index;
  while (from > section.first && same(from - 1)) from--;
  for (let i = from; i < section.last && same(i); i++)
    if (i !== index) names.push(printable(data.names[i]));
  return names;
}
function describe(node) {
  const section = node.section;
  const rows = [];
  const add = (name, value) => rows.push([name, value]);
  if (node.type === "symbol") {
    const i = node.index, size = data.sizes[i];
    add("symbol", node.label);
    add("size", size === 0 ? "none" : bytes(size, isExact(i)) + (isExact(i) ? "" : ", inferred"));
    add("address", hex(address(i)));
    add("at link time", linkAddress(address(i), section));
    add("module", section.module === null ? "none: the kernel" : printable(section.module));
    add("section", printable(section.name));
    if (data.letters[i] !== "?") add("letter", data.letters[i]);
    const others = aliases(i);
    if (others.length)
      add("also", others.slice(0, 4).join(", ") + (others.length > 4 ? " …" : ""));
    if (size !== 0 && node.value !== size) add("own bytes", bytes(node.value));
  } else if (node.type === "section") {
    add("section", node.label);
    add("kind", section.kind);
    add("size", bytes(section.size, section.exact) + (section.exact ? "" : ", inferred"));
    add("address", hex(section.start));
    add("end", hex(section.start + BigInt(section.size)));
    add("at link time", linkAddress(section.start, section));
    add("module", section.module === null ? "none: the kernel" : printable(section.module));
    add("symbols", count(section.symbols));
    if (section.unnamed) add("no symbol", bytes(section.unnamed));
  } else if (node.type === "gap") {
    add("gap", "no section is known here");
    add("size", bytes(node.value));
    add("address", hex(node.start));
    add("end", hex(node.start + BigInt(node.value)));
  } else if (node.type === "unnamed") {
    add("no symbol", "bytes that no symbol covers");
    add("size", bytes(node.value));
    add("section", printable(section.name));
  } else {
    add(node.type === "group" && node.named ? "names with" : "what", node.label);
    add("size", bytes(node.value));
    if (node.members) add("symbols", count(node.members.length));
    if (node.sections) {
      const starts = node.sections.map(s => s.section.start);
      add("address", hex(starts.reduce((a, b) => (a < b ? a : b))));
      add("sections", count(node.sections.length));
      add("symbols", count(node.sections.reduce((sum, s) => sum + s.section.symbols, 0)));
    }
    if (node.type === "module" && data.listed.includes(node.sections[0].section.module))
      add("kind", "listed like a module");
    if (section) add("section", printable(section.name));
  }
  return rows;
}
function showRows(list, node) {
  list.replaceChildren(...describe(node).flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}
const describeInWords = node => describe(node).map(([name, value]) => `${name} ${value}`).join(", ");
