// -- the data that page.py packed: sections and their symbols ---------------------------------

const byId = id => document.getElementById(id);
const KINDS = ["text", "rodata", "data", "bss", "percpu"];
const MOST_LISTED = 200;      // limit on the rows of the table, and on the results of a search
const UNGROUPED = 40;         // a section with at most this many symbols has no groups
const SMALLEST = 30;          // px²: cells below this are joined into one
const SMALLEST_OPEN = 1100;   // px²: a cell below this does not show its contents
const HEADING = 16;           // px: the height of a cell's heading

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
// The symbols of a section have the indices from its "first" to before its "last".
let next = 0;
for (const section of data.sections) {
  section.start = BigInt(section.address);
  section.first = next;
  next = section.last = next + section.symbols;
}
