"""Make the small extracts in fixtures/consoles of what machines printed.

    python tests/extract.py DIRECTORY MACHINE...

DIRECTORY is the same as for consoles.py. An extract of a text has the first lines of the
console, the reports of a module that was made to fail, and the line that tells where the kernel
lies. Of the symbols it has those in the text, each with the next one, so that its size stays.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path

import built
from consoles import load
from moved import tokens
from oracle import FRAME, Oracle, Said

FORMS = Path(__file__).parent / "forms"
FIXTURES = Path(__file__).parent / "fixtures/consoles"
MARKS = re.compile(
    r"_(?:start|text|stext|etext|s?initt?ext|sinittext|einittext|s?data|e?data|end)"
)
HEAD = 8
"""Lines of the console from the banner on."""
SHORT = 100
"""A console with fewer lines is taken as a whole."""
REPORTS = {"warning": 32, "oops": 44, "wait-w": 14, "sysrq-l": 24}
"""Texts that have a report, and the largest number of its lines that are kept."""
EVERY = 48
"""Every 48th line of the text ``pointers`` is kept."""
SAME = 3
"""Largest number of symbols with one name, size and module that are kept."""
USERS = re.compile(
    r"\] (?:GPR\d\d: [04]{16}|IRQMASK|Register r\d+ info|--- interrupt: 3|\w+ abort)"
)
"""Lines that tell nothing about the kernel."""


def text(texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of an extract of the texts, which are given by name."""
    console = texts["console"].split("\n")
    if len(console) < SHORT:
        yield from console
        return
    banner = next(n for n, line in enumerate(console) if re.search(r"\] Linux version", line))
    early = [line for line in console[:banner] if line.isprintable() and len(line) < 400]
    yield from [line for line in early if "Linux version" in line or "KASLR" in line]
    yield from early[-4:]
    yield from console[banner : banner + HEAD]
    for name, most in REPORTS.items():
        report = texts.get(name, "").split("\n")
        end = next((n for n, line in enumerate(report) if "[ end trace" in line), len(report))
        report = [line for line in report[: end + 1] if not USERS.search(line)]
        yield from report[:most]
    yield from texts.get("pointers", "").split("\n")[::EVERY]
    yield from texts.get("user", "").split("\n")
    yield from [line for line in console if "Kernel Offset: " in line][:1]


def symbols(oracle: Oracle, kallsyms: str, words: str) -> Iterator[str]:
    """Yield the lines of ``kallsyms`` with the symbols in the text ``words``."""
    starts = sorted({*oracle.kernel, *oracle.module})
    wanted = set()
    about = [int(m[1], 16) for m in tokens(oracle.digits).finditer(words)]
    for match in FRAME.finditer(words):
        about += oracle.meant(Said.of(match))[:SAME]
    for address in about:
        if oracle.at(address).names:
            at = bisect_right(starts, address)
            wanted |= set(starts[at - 1 : at + 1])
    for line in kallsyms.splitlines():
        digits, _, rest = line.split(" ", 2)
        if int(digits, 16) in wanted or MARKS.fullmatch(rest):
            yield line


BUILT = {
    "loongarch-6.6": ("loongarch", built.loongarch, "6.6.0-loongarch64"),
    "arm64-4.19": ("arm64-4.19", built.arm64, "4.19.0-arm64"),
}
"""Texts that built.py makes: the form whose symbols they use, the function, the release."""


def write_built() -> None:
    """Write the texts that built.py makes, and their symbols."""
    for name, (form, build, release) in BUILT.items():
        kallsyms = (FORMS / f"{form}.kallsyms").read_text()
        banner = f"Linux version {release} (somebody@here) (gcc 12.2.0) #1 SMP"
        (FIXTURES / f"{name}.kallsyms").write_text(kallsyms)
        (FIXTURES / f"{name}.txt").write_text(build(Oracle(kallsyms, {}, {}), banner))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("machines", nargs="+")
    options = parser.parse_args()
    FIXTURES.mkdir(exist_ok=True)
    write_built()
    for name in options.machines:
        with tempfile.TemporaryDirectory() as work:
            _, oracle, texts = load(options.directory, name, Path(work), False)
            kallsyms = (Path(work) / name / "proc/kallsyms").read_text("utf-8")
        words = "\n".join(line for line in text(texts) if line) + "\n"
        words = re.sub(r"/\S+/(\w+\.c:)", r"\1", words)
        short = FIXTURES / name.rpartition(".")[0]
        found = [*symbols(oracle, kallsyms, words), ""]
        Path(f"{short}.txt").write_text(words)
        Path(f"{short}.kallsyms").write_text("\n".join(found))


if __name__ == "__main__":
    main()
