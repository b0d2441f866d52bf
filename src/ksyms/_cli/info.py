"""``ksyms info``: the contents of a file, or what this machine would show."""

from __future__ import annotations

from .._printable import word
from .._typing import TYPE_CHECKING, Any, Final
from . import render
from .arguments import add_verbose
from .source import add_source, load_file
from .stopping import killable

if TYPE_CHECKING:
    import argparse

    from .._note.facts import NoteFacts, RangeFacts
    from .._symbols import SymbolTable

# Pairs of a source and what it tells.
_SOURCES: Final = (
    ("proc/modules", "which modules there are, and in which order they were loaded"),
    ("proc/iomem", "where rodata, data and bss lie"),
    ("sys/kernel/notes", "the kernel's build-id"),
    ("proc/sys/kernel/random/boot_id", "which boot this is"),
    ("proc/version", "which kernel this is"),
)

_EVERYTHING: Final = "functions and data"

# Pairs of an interface that tells of changes, and of which changes.
_EVENTS: Final = (
    ("NETLINK_KOBJECT_UEVENT", "whether modules came and went"),
    ("perf_event_open", "whether BPF programs and trampolines came and went"),
)

_EXAMPLES: Final = """\
examples:
  ksyms info                       what this machine would allow, and why not
  ksyms info kernel.elf            which kernel, boot, modules and sections
  ksyms info --json kernel.elf     the same for a program"""


def add(commands: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "info",
        help="say what a file holds, or what this machine would show",
        description="Say which kernel a file is of and what it holds; without a file, what "
        "a snapshot of this machine would have, and why not more.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("file", metavar="FILE", nargs="?", help="a file with symbols")
    add_source(source)
    add_verbose(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> bool:
    """Print the facts of the file or machine; return False if no snapshot can be taken."""
    if options.file is not None:
        from .._sources.input import read_header_facts

        told = killable(lambda: read_header_facts(options.file))
        if told is not None:
            facts = portable_record(told, options.file)
        else:
            facts = file_record(load_file(options.file), options.file)
        facts["answers"] = answers(facts)
        render.show(facts, options.json, _print_file, indent=2)
        return True
    facts = machine_record(options.root, options.kallsyms)
    render.show(facts, options.json, _print_machine, indent=2)
    return bool(facts["possible"])


def file_record(table: SymbolTable, file: str) -> dict[str, Any]:
    """Return the facts of a file: the members of its note, its sections, and counts."""
    places = {name: 0 for name, _, _ in table.sections}
    absolute = exact = 0
    for symbol in table:
        exact += symbol.exact
        if symbol.section in places:
            places[symbol.section] += 1
        else:
            absolute += 1
    return {
        "file": file,
        **(table.facts or _identity(table)),
        "symbols": len(table),
        "absolute": absolute if table.sections else None,
        "exact_sizes": exact,
        "sections": [
            {"name": name, "address": f"{address:#x}", "size": size, "symbols": places[name]}
            for name, address, size in table.sections
        ],
    }


def _identity(table: SymbolTable) -> dict[str, Any]:
    """Return those members of a note that are known of an ELF file without a note."""
    from .._symbols.slide import linked_stext

    linked = linked_stext(table)
    return {
        "release": table.release,
        "machine": table.machine,
        "build_id": table.build_id,
        "module": next((name for name in table.build_ids if name != "kernel"), None),
        "link_time": {"_stext": None if linked is None else f"{linked:#x}"},
    }


def portable_record(told: NoteFacts, file: str) -> dict[str, Any]:
    """Return the facts of a packed snapshot, from ``told``, the facts before its packed image.

    The snapshot is not unpacked. A fact that takes unpacking is None.
    """
    places = [place for linked in told["files"] for place in linked["ranges"]]
    return {
        "file": file,
        "packed": True,
        **told,
        "symbols": sum(linked["symbols"] for linked in told["files"]),
        "absolute": sum(linked.get("absolute", 0) for linked in told["files"]),
        "exact_sizes": told["sizes"]["exact"],
        "sections": [
            {
                "name": place["section"],
                "address": place["start"],
                "size": int(place["end"] or "0", 16) - _start(place),
                "symbols": None,
            }
            for place in sorted(places, key=_start)
        ],
    }


def _start(place: RangeFacts) -> int:
    """Return the start of a section, which the facts have in hexadecimal."""
    return int(place["start"] or "0", 16)


def answers(facts: dict[str, Any]) -> dict[str, str]:
    """Return for each question whether a file with these facts answers it: yes or no, and why.

    For example ``{"modules": "yes, 112", "code": "no, it has names and no bytes of code"}``.
    """
    symbols, exact = facts["symbols"], facts["exact_sizes"]
    words = {"names of addresses": f"yes, {symbols} symbols"}
    if "files" not in facts:  # not a snapshot
        return words | {"sizes": f"yes, {exact} exact, {symbols - exact} inferred or none"}
    from .._note.facts import NO_MODULES

    modules = [file for file in facts["files"] if file["kind"] == "module"]
    typed = sum("btf" in file for file in modules)
    prototypes = any("btf" in file for file in facts["files"])
    linked = facts["link_time"]["_stext"]
    if lists := _lists(facts):
        words["data symbols"] = f"no, it lists {lists}" if lists != _EVERYTHING else "yes"
    return words | {
        "sizes": f"yes, {exact} exact, {symbols - exact} inferred",
        "modules": f"no, {NO_MODULES}"
        if NO_MODULES in facts["absent"].values()
        else f"yes, {len(modules)}",
        "prototypes": f"yes, of the kernel and {typed} modules"
        if prototypes
        else "no, it was taken without BTF",
        "link-time addresses": "yes" if linked else "no, no vmlinux or System.map was found",
        "source lines": "no, they are in debug info",
        "code": "no, it has names and no bytes of code",
        "contents of memory": "no, they are in a crash dump",
    }


def _lists(facts: dict[str, Any]) -> str:
    """Return in words which symbols the kernel lists; "" if that is unknown."""
    lists = facts.get("lists")
    if lists == "functions":
        return "functions only: the kernel was built without CONFIG_KALLSYMS_ALL"
    return _EVERYTHING if lists == "all" else ""


def machine_record(path: str, kallsyms: str | None) -> dict[str, Any]:
    """Return whether a snapshot can be taken from the root ``path``, and what it would have.

    ``kallsyms`` is the path of a saved text to read instead of the root's kallsyms; or None.
    """
    from .._errors import KsymsError
    from .._linker import read_access
    from .._sources.kernel_files import open_kernel_files

    why = remedy = None
    counts: dict[str, int] = {}
    with open_kernel_files(path, kallsyms, debug=None) as linker:
        try:
            files = linker.files(linker.read())
            counts = {file.name: len(file.symbols.address) for file in files.files}
        except KsymsError as error:
            why, remedy = error.what, error.remedy

    root = linker.root
    facts: dict[str, Any] = {"possible": why is None, "why": why, "remedy": remedy}
    if root.live:
        facts["access"] = read_access(root)._asdict()

    # Read all sources: root.absent then has those that cannot be read.
    for name, _ in _SOURCES:
        root.read(name)
    absent = root.absent
    if counts:
        facts |= {
            "release": files.host.release,
            "machine": files.host.machine,
            "build_id": files.host.build_id.hex() if files.host.build_id else None,
            "boot_id": files.host.boot_id,
            "lists": files.lists,
            "symbols": counts,
        }
        absent |= files.absent

    asked = [*_SOURCES, *_EVENTS] if counts and root.live else _SOURCES
    facts["sources"] = [
        {"name": name, "tells": tells, "missing": absent.get(name)} for name, tells in asked
    ]
    return facts


def _print_file(facts: dict[str, Any]) -> None:
    linked = facts.get("link_time") or {}
    rows = [
        ["file", facts["file"]],
        ["release", facts.get("release") or "unknown"],
        ["machine", facts.get("machine") or "unknown"],
        *([["module", facts["module"]]] if facts.get("module") else []),
        ["build-id", facts.get("build_id") or "unknown"],
        ["boot id", facts.get("boot_id") or "unknown"],
        ["taken", facts.get("saved", facts.get("time")) or "unknown"],
        ["_stext", (facts.get("addresses") or {}).get("_stext") or "unknown"],
        ["_stext as linked", linked.get("_stext") or "unknown"],
        *([["lists", lists]] if (lists := _lists(facts)) else []),
        *([["packed", "yes; this is what it says of itself"]] if "packed" in facts else []),
        ["symbols", str(facts["symbols"])],
        ["absolute", "unknown" if facts["absolute"] is None else str(facts["absolute"])],
        ["exact sizes", f"{facts['exact_sizes']} of {facts['symbols']}"],
    ]

    render.table(rows, ["dim", "name"])
    render.part("answers", [*facts["answers"].items()], ["name"])
    render.part(
        "sections",
        [
            [
                word(s["name"]),
                s["address"],
                f"{s['size']:#x}",
                "" if s["symbols"] is None else f"{s['symbols']} symbols",
            ]
            for s in facts["sections"]
        ],
        ["name", "address", "dim"],
    )

    for kind, title in (("module", "modules"), ("listed", "listed like modules")):
        files = [file for file in facts.get("files", ()) if file["kind"] == kind]
        render.part(title, [_file_row(file) for file in files], _FILE_STYLES)

    refused, absent = ([*facts.get(key, {}).items()] for key in ("refused", "absent"))
    render.part("not trusted for exact sizes", refused, ["name", "bad"])
    render.part("could not be read", absent, ["name", "bad"])


_FILE_STYLES: Final = ("name", "", "", "dim", "bad", "", "dim")


def _file_row(file: dict[str, Any]) -> list[str]:
    """Return the row of a module, or of a group that is listed like one."""
    module = file.get("module") or {}
    used = ",".join(map(word, module.get("dependants", ())))
    return [
        word(file["name"]),
        f"{file['symbols']} symbols",
        f"{file['unplaced']} in no section" if file.get("unplaced") else "",
        file["build_id"] or "no build-id",
        module.get("taint") or "",
        f"{module['refcount']} {used}".rstrip() if module.get("refcount") is not None else "",
        module.get("srcversion") or "",
    ]


def _print_machine(facts: dict[str, Any]) -> None:
    rows = [["snapshot", "possible" if facts["possible"] else "not possible"]]
    if facts["why"]:
        rows += [["why", facts["why"]], ["what to do", facts["remedy"]]]
    for name in ("release", "machine", "build_id", "boot_id"):
        if name in facts:
            rows.append([name.replace("_", "-"), facts[name] or "unknown"])
    if lists := _lists(facts):
        rows.append(["lists", lists])
    for name, value in facts.get("access", {}).items():
        rows.append([name, "unknown" if value is None else str(value)])
    render.table(rows, ["dim", "name"])

    linked = [[word(n), f"{c} symbols"] for n, c in facts.get("symbols", {}).items()]
    render.part("linker files", linked, ["name"])
    render.part(
        "sources",
        [[s["name"], s["missing"] or "there", s["tells"]] for s in facts["sources"]],
        ["name", "", "dim"],
    )
