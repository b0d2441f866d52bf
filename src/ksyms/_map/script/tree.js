// -- the tree: everything, kernel and modules, sections, groups, symbols ----------------------
// A node has a size in bytes (value), and makes its children when they are first needed. Its
// type is one of these:
//   all, kernel, modules, module    contain sections, or the nodes of modules
//   section, group, symbol          a group has a section's symbols that share a first word
//   unnamed, gap                    bytes of a section in no symbol; bytes between sections
//   rest                            smaller nodes, shown as one cell of the treemap
//   run                             neighbouring symbols, shown as one cell of the strip

function makeNode(type, label, value, more, make) {
  return { type, label, value, ...more, make, children: null, parent: null };
}
function childrenOf(parent) {
  if (parent.children === null) {
    parent.children = (parent.make ? parent.make() : []).filter(child => child.value > 0);
    parent.children.sort((a, b) => b.value - a.value);
    for (const child of parent.children) child.parent ??= parent;
  }
  return parent.children;
}
const total = nodes => nodes.reduce((sum, each) => sum + each.value, 0);

const symbols = new Map();         // the node of each symbol that has one, by index
function symbolNode(index) {
  if (!symbols.has(index)) {
    const section = sectionOf(index);
    symbols.set(index, makeNode("symbol", printable(data.names[index]), data.own[index],
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
// The children of a section: its symbols, or groups of them, and the bytes in no symbol.
function childrenOfSection(section) {
  const all = [];
  for (let i = section.first; i < section.last; i++) if (data.own[i]) all.push(i);
  let children = [];
  const groups = Map.groupBy ? Map.groupBy(all, i => data.group[i]) : groupByPrefix(all);
  if (all.length <= UNGROUPED || groups.size < 2) children = all.map(symbolNode);
  else for (const [group, members] of groups) {
    const name = data.groups[group];
    children.push(makeNode("group", name ? `${printable(name)}…` : "other names",
      members.reduce((sum, i) => sum + data.own[i], 0),
      { section, kind: section.kind, members, named: name },
      () => members.map(symbolNode)));
  }
  if (section.unnamed)
    children.push(makeNode("unnamed", "no symbol", section.unnamed, { section, kind: "none" }));
  return children;
}
function groupByPrefix(all) {
  const groups = new Map();
  for (const i of all) {
    const members = groups.get(data.group[i]);
    if (members) members.push(i); else groups.set(data.group[i], [i]);
  }
  return groups;
}
const sectionNodes = data.sections.map(section =>
  makeNode("section", printable(section.name), section.size, { section, kind: section.kind },
    () => childrenOfSection(section)));
const sectionsOfModule = new Map();
for (const each of sectionNodes) {
  const name = each.section.module;
  if (sectionsOfModule.has(name)) sectionsOfModule.get(name).push(each);
  else sectionsOfModule.set(name, [each]);
}
function linkerFileNode(type, label, sections) {
  return makeNode(type, label, total(sections), { sections, kind: "files" }, () => sections);
}
const moduleNodes = [...sectionsOfModule].filter(([name]) => name !== null)
  .map(([name, sections]) => linkerFileNode("module", printable(name), sections));
const topNodes = [];
if (sectionsOfModule.has(null))
  topNodes.push(linkerFileNode("kernel", "kernel", sectionsOfModule.get(null)));
if (moduleNodes.length) {
  const all = moduleNodes.flatMap(each => each.sections);
  topNodes.push(makeNode("modules", "modules", total(all), { sections: all, kind: "files" },
    () => moduleNodes));
}
const root = topNodes.length === 1 ? topNodes[0]
  : makeNode("all", "everything", total(topNodes), { sections: sectionNodes, kind: "files" },
    () => topNodes);
// Make the nodes down to the sections, so that each section has its parent from the start.
(function setParents(from) {
  if (from.type !== "section") childrenOf(from).forEach(setParents);
})(root);
