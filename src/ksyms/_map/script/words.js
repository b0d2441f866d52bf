// -- numbers, addresses and names as text -----------------------------------------------------

const count = n => n.toLocaleString("en-US");
const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
const hex = address => "0x" + address.toString(16).padStart(data.digits, "0");
// Replace control and format characters and line separators: they could reverse, hide or break
// the line.
const printable = name => name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
function rounded(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (n >= 1024 && unit + 1 < units.length) { n /= 1024; unit++; }
  return `${unit && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}
// A size in bytes as text, with ~ if it was inferred. One of 2**53 or more comes as a string.
function bytes(n, exact = true) {
  if (typeof n === "string") return `${exact ? "" : "~"}${n} bytes`;
  const more = n >= 1024 ? ` (${rounded(n)})` : "";
  return `${exact ? "" : "~"}${counted(n, "byte")}${more}`;
}
