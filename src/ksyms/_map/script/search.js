// -- search -----------------------------------------------------------------------------------

let lower = null;                 // all names in lower case, from the first search on
// The indices of the symbols whose names contain a text, the best first: those called so, then
// those whose names start so, and of these the largest first.
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
// The index of the symbol that an address lies in, or -1. If several contain it, it is the one
// with the highest start.
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
// The symbols found for a text, each with a note: an offset, if the text is an address. An
// address can also be a link address.
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
let markedResult = -1;
function showResults() {
  const text = query.value.trim();
  markedResult = -1;
  query.removeAttribute("aria-activedescendant");
  results.replaceChildren();
  box.hidden = !text;
  query.setAttribute("aria-expanded", String(Boolean(text)));
  if (!text) return;
  const found = search(text);
  byId("count").textContent = found.length > MOST_LISTED
    ? `${count(found.length)} symbols match; the first ${MOST_LISTED} are shown`
    : found.length ? counted(found.length, "symbol") : "no symbol has this name or address";
  byId("live").textContent = byId("count").textContent;
  results.append(...found.slice(0, MOST_LISTED).map(([index, note], place) => {
    const item = document.createElement("li");
    item.id = `result-${place}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    item.dataset.index = index;
    const texts = [printable(data.names[index]) + (note && ` ${note}`), hex(address(index)),
      (isExact(index) ? "" : "~") + data.sizes[index], printable(sectionOf(index).name)];
    item.append(...texts.map((part, column) => {
      const span = document.createElement(column ? "span" : "b");
      span.textContent = part;
      return span;
    }));
    return item;
  }));
}
function markResult(to) {
  const items = results.children;
  if (!items.length) return;
  items[markedResult]?.setAttribute("aria-selected", "false");
  markedResult = (to + items.length) % items.length;
  items[markedResult].setAttribute("aria-selected", "true");
  items[markedResult].scrollIntoView({ block: "nearest" });
  query.setAttribute("aria-activedescendant", items[markedResult].id);
}
function closeResults() {
  clearTimeout(waiting);  // so that a pending search opens nothing after Escape
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
  if (event.key === "ArrowDown") markResult(markedResult + 1);
  else if (event.key === "ArrowUp") markResult(markedResult < 0 ? -1 : markedResult - 1);
  else if (event.key === "Enter") {
    clearTimeout(waiting);
    if (markedResult < 0) showResults();
    const item = results.children[Math.max(0, markedResult)];
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
