// -- path, table and legend, and the start of the page ----------------------------------------

function button(text, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
}
// Show the path to the focus, the selected node, the table of contents, and both pictures.
function refresh() {
  const path = [];
  for (let each = focus; each; each = each.parent) path.unshift(each);
  byId("path").replaceChildren(...path.map(each => {
    const item = document.createElement("li");
    if (each === focus) {
      item.textContent = `${each.label}, ${rounded(each.value)}`;
      item.setAttribute("aria-current", "location");
    } else item.append(button(each.label, () => goTo(each)));
    return item;
  }));
  showRows(byId("detail"), selected ?? focus);
  const children = childrenOf(focus);
  byId("rows").replaceChildren(...children.slice(0, MOST_LISTED).map(child => {
    const row = document.createElement("tr");
    const cells = [child.label, (sizeText(child)[0] === "~" ? "~" : "") + count(child.value),
      (100 * child.value / focus.value).toFixed(1)];
    row.append(...cells.map((text, column) => {
      const cell = document.createElement(column ? "td" : "th");
      if (column) cell.textContent = text;
      else {
        cell.scope = "row";
        cell.append(button(text, () => (child.make ? goTo(child) : select(child))));
      }
      return cell;
    }));
    return row;
  }));
  byId("more").textContent = children.length > MOST_LISTED
    ? `the largest ${MOST_LISTED} of ${count(children.length)}` : "";
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
    if (kind === "none") paintEmpty(pen, 0, 0, 26, 15);
    else {
      paintKind(pen, kind, 0, 0, 26, 15);
      pen.strokeStyle = colours.line;
      pen.strokeRect(0.5, 0.5, 25, 14);
    }
    swatch.setAttribute("aria-hidden", "true");
    item.append(swatch, kind === "none" ? "no symbol" : kind);
    return item;
  }));
}
// Draw all again, in the colours that the system has now.
function redraw() {
  readColours();
  legend();
  tree.draw();
  strip.draw();
}
const facts = data.facts, known = data.names.length;
byId("facts").textContent = [facts.release ?? "release unknown", facts.machine ?? "machine unknown",
  counted(known, "symbol"), counted(moduleNodes.length, "module"), rounded(root.value),
  slide === null ? "link addresses unknown"
    : `moved by ${slide < 0n ? "-" : ""}0x${(slide < 0n ? -slide : slide).toString(16)} since its link`]
  .map(printable).join(" · ");
if (facts.release) document.title = `Kernel map: ${printable(facts.release)}`;
byId("made").textContent = printable(`From ${data.label}, taken ${facts.time ?? "at an unknown time"}, ` +
  `boot ${facts.boot_id ?? "unknown"}, build-id ${facts.build_id ?? "unknown"}, by ksyms ` +
  `${data.ksyms}. ${counted(data.elsewhere, "symbol")} of it, such as absolute ones, are in no ` +
  "section and not on this page. The page makes no requests.");
readColours();
const tree = makePicture(byId("tree"), layOutTree, paintTree);
const strip = makePicture(byId("strip"), layOutStrip, paintStrip);
legend();
selected = root;
refresh();
for (const media of ["(prefers-color-scheme: dark)", "(forced-colors: active)"])
  matchMedia(media).addEventListener("change", redraw);
new ResizeObserver(() => { tree.draw(); strip.draw(); }).observe(byId("tree"));
document.documentElement.dataset.ready = "yes";
