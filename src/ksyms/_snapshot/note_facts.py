"""The facts in a snapshot's note, from the linker files that it is made of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import accumulate

from .._linker import KERNEL_ID, PSEUDO, Files, LinkerFile, Module, Region
from .._linker.files import Role
from .._note.facts import (
    Addresses,
    FileFacts,
    LinkTimeFacts,
    ModuleFacts,
    NoteFacts,
    RangeFacts,
    SizeFacts,
    WriterFacts,
)
from .._version import __version__
from .symbol_columns import count_true


def note_facts(files: Files, names_start: int) -> NoteFacts:
    """Return the facts of ``files``.

    ``names_start`` is the offset in ``.strtab`` of the first name. The facts of two snapshots
    of one generation can differ in ``time`` and in reference counts.
    """
    host, marks, linked = files.host, files.landmarks, files.link_time
    writer: WriterFacts = {"ksyms": __version__, "time": _time(time.time())}
    if not host.running:
        writer["saved"] = None if host.saved is None else _time(host.saved)
    return {
        **writer,
        "release": host.release,
        "version": host.version,
        "machine": host.machine,
        "build_id": host.build_id.hex() if host.build_id else None,
        "boot_id": host.boot_id,
        "addresses": Addresses(
            _text=_hex_or_none(marks.get("_text")), _stext=_hex_or_none(marks.get("_stext"))
        ),
        "link_time": LinkTimeFacts(
            _text=_hex_or_none(linked.text if linked else None),
            _stext=_hex_or_none(linked.stext if linked else None),
            source=linked.source if linked else None,
        ),
        "lists": files.lists,
        "files": [
            _file_facts(file, start)
            for file, start in zip(files.files, _name_starts(files, names_start))
        ],
        "sizes": SizeFacts(
            exact=sum(count_true(file.symbols.exact) for file in files.files),
            inferred="to the next symbol, section or region end",
        ),
        "absent": files.absent,
        "refused": files.refused,
    }


def _time(seconds: float) -> str:
    """Return a time since the epoch in UTC, such as ``2026-11-28T18:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _name_starts(files: Files, names_start: int) -> Iterator[int]:
    """Return the offsets in ``.strtab`` at which the names of the linker files start."""
    return accumulate((len(file.symbols.strings) for file in files.files), initial=names_start)


def _file_facts(file: LinkerFile, names_start: int) -> FileFacts:
    facts = FileFacts(
        id=file.id,
        name=file.name,
        kind=_kind(file),
        symbols=len(file.symbols.address),
        names=names_start,
        absolute=count_true(file.symbols.role >= Role.ABSOLUTE),
        build_id=file.build_id.hex() if file.build_id else None,
        unplaced=file.unplaced,
        debug=file.debug,
        ranges=[_range_facts(region) for region in file.regions],
    )
    if file.btf is not None:
        facts["btf"] = len(file.btf)
    if file.programs:
        facts["programs"] = [program.facts() for program in file.programs]
    if file.module is not None:
        facts["module"] = _module_facts(file.module)
    return facts


def _kind(file: LinkerFile) -> str:
    """Return "kernel", "module", or "listed" for a group that kallsyms lists like a module."""
    if file.id == KERNEL_ID:
        return "kernel"
    return "listed" if file.name in PSEUDO else "module"


def _range_facts(region: Region) -> RangeFacts:
    return RangeFacts(
        section=region.name,
        start=_hex(region.start),
        end=_hex(region.end),
        end_inferred=region.inferred,
        source=region.source,
    )


def _module_facts(module: Module) -> ModuleFacts:
    return ModuleFacts(
        size=module.size,
        address=_hex(module.address),
        refcount=module.refcount,
        dependants=list(module.dependants),
        state=module.state,
        taint=module.taint,
        srcversion=module.srcversion,
        version=module.version,
    )


def _hex_or_none(address: int | None) -> str | None:
    return None if address is None else _hex(address)


def _hex(address: int) -> str:
    return f"{address:#x}"
