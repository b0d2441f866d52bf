"""Make the table of the forms in docs/texts.md; as a program, write it into the page.

What decode does with each form is known from the marks in its text; see form.py.
"""

from __future__ import annotations

import re

from form import Form, form, names, oracle
from pages import DOCS

PAGE = DOCS / "texts.md"
BEGIN, END = "<!-- forms -->\n", "<!-- end of forms -->\n"
WHERE = ("Kernel Offset: 0x", "Kernel relocated by ", "Kernel Offset: disabled")
"""Words of lines that tell where the kernel lies."""
ENOUGH = 4
"""Number of names without offsets from which on they tell the boot."""


def tells(found: Form) -> bool:
    """Return True if a form has evidence of its boot.

    Evidence is a name of the kernel's with an offset beside an address, or several names
    without offsets; but not if a user of the machine can have written the words.
    """
    if "boot" in found.says or "evidence" in found.says:
        return False
    if any(words in found.text for words in WHERE):
        return True
    symbols, beside = oracle(found.symbols), 0
    for number, piece in enumerate(found.pieces):
        if piece.kind == "=":
            place = symbols.place(found.pieces[piece.of].value)
            assert place is not None
            behind = found.pieces[number + 1].text if number + 1 < len(found.pieces) else ""
            with_offset = "+" in piece.text or re.match(r"\+[0-9a-f]+/", behind)
            if with_offset and place.module is None:
                return True
            beside += 1
    return beside >= ENOUGH


def verdict(found: Form) -> str:
    """Return in words what decode does with a form: "named 3, kept 12"."""
    owned = {piece.of for piece in found.pieces if piece.kind in "+="}
    wrong = sum(piece.kind == "-" and piece.text != "[unknown]" for piece in found.pieces)
    named = sum(piece.kind == "+" for piece in found.pieces) - wrong
    kept = sum(piece.kind == "=" for piece in found.pieces)
    left = sum(
        piece.kind == "~" or (piece.kind == "address" and number not in owned)
        for number, piece in enumerate(found.pieces)
    )
    counts = {"named": named, "kept": kept, "put right": wrong, "left alone": left}
    said = [f"{word} {count}" for word, count in counts.items() if count]
    return ", ".join(said) or "no addresses"


def rows() -> str:
    """Return the table in Markdown."""
    lines = ["| Form | Text | Verdict | Evidence |", "| --- | --- | --- | --- |"]
    for name in sorted(names(), key=lambda name: form(name).says["form"].lower()):
        found = form(name)
        link = f"[{name}](../tests/forms/{name}.txt)"
        evidence = "yes" if tells(found) else "no"
        lines.append(f"| {found.says['form']} | {link} | {verdict(found)} | {evidence} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """Return the table that is in the page now."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + rows() + END + rest.partition(END)[2])
