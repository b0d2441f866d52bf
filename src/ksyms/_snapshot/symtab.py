"""The symbol table of the ``linux`` layout: order, sections and sizes.

The tables are copied in blocks (the driver's are of 256 symbols), which keeps what is
worked on in the processor's cache and peak memory near the size of the image.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .._elf import constants as elf
from .._errors import LayoutError
from .._linker import LinkerFile, Region
from .._linker.files import Role, all_name
from .._note import EXACT
from .._typing import Final, NamedTuple

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
N = TypeVar("N", bound=np.generic)

BLOCK: Final = 1 << 13
_LAST: Final = np.uint64((1 << 64) - 1)


class Places(NamedTuple):
    """Every region of every file, by address: place ``i`` is section ``i + 1``.

    ``starts`` and ``ends`` (uint64) are the regions' bounds, ``files`` (uint32) the ids of
    the linker files that they belong to.
    """

    regions: tuple[Region, ...]
    starts: U64
    ends: U64
    files: U32


class Order(NamedTuple):
    """How symbols come to be in the order of their addresses.

    ``groups`` (int32) sort those of each of :func:`_groups`, None where they come sorted;
    ``apart`` says that no group reaches into another.
    """

    groups: tuple[I32 | None, ...]
    apart: bool


class _Columns(NamedTuple):
    """Symbols of some files, sorted by address; ``owner`` is the file's id."""

    address: U64
    name: U32
    info: U8
    role: U8
    size: U64
    exact: Mask
    owner: U32


class _Bounds(NamedTuple):
    """What ends a symbol: the next ``address`` of one that has a size, or a section's start.

    ``none`` marks the symbols that have none themselves.
    """

    none: Mask
    address: U64
    stops: U64


class _Out(NamedTuple):
    """Where symbols are written: the two halves' next rows are at ``cursors``."""

    symbols: npt.NDArray[np.void]
    cursors: list[int]


def arrange(files: tuple[LinkerFile, ...]) -> Places:
    """The places of all regions of ``files``."""
    pairs = sorted(
        ((region, file.id) for file in files for region in file.regions),
        key=lambda pair: (pair[0].start, pair[0].end),
    )
    return Places(
        tuple(region for region, _ in pairs),
        np.array([region.start for region, _ in pairs], np.uint64),
        np.array([region.end for region, _ in pairs], np.uint64),
        np.array([number for _, number in pairs], np.uint32),
    )


def order(files: tuple[LinkerFile, ...]) -> Order:
    """How the symbols of ``files`` come to be in order."""
    found: list[I32 | None] = []
    apart, last = True, 0
    for group in _groups(files):
        address = _join([file.symbols.address for file in group], np.uint64)
        ascending = (address[1:] >= address[:-1]).all()
        found.append(None if ascending else np.argsort(address, kind="stable").astype(np.int32))
        if len(address):
            apart &= last <= int(address.min())
            last = int(address.max())
    return Order(tuple(found), apart)


def _groups(files: tuple[LinkerFile, ...]) -> tuple[tuple[LinkerFile, ...], ...]:
    """The kernel's table, which is large and comes sorted, and all others, which do not."""
    return files[:1], files[1:]


def letters(files: tuple[LinkerFile, ...], by_address: Order) -> U32:
    """The letters of all symbols in the order of :func:`fill`, a row for a run of the same.

    A row is the number of the run's first symbol, and the letter; the last has the number of
    all, and 0. There are some hundred: a section has one letter for what is local in it and one
    for what is not.
    """
    halves: tuple[list[U8], list[U8]] = ([], [])
    places: tuple[list[U64], list[U64]] = ([], [])
    for group, by in zip(_groups(files), by_address.groups):
        tables = [file.symbols for file in group]
        letter = _sorted([t.letter for t in tables], np.uint8, by)
        exact = _sorted([t.exact for t in tables], np.bool_, by)
        if count(exact):
            letter = letter | exact.view(np.uint8) * np.uint8(EXACT)
        first = local(_sorted([t.info for t in tables], np.uint8, by))
        for half, place, chosen in zip(halves, places, (first, ~first)):
            half.append(letter.compress(chosen))  # half of what letter[chosen] takes
            if not by_address.apart:
                address = _sorted([t.address for t in tables], np.uint64, by)
                place.append(address.compress(chosen))
    ordered = [np.concatenate(half) for half in halves]
    if not by_address.apart:
        where = [np.argsort(np.concatenate(place), kind="stable") for place in places]
        ordered = [half[at] for half, at in zip(ordered, where)]
    all_ = np.concatenate([np.zeros(1, np.uint8), *ordered])
    begins = np.flatnonzero(np.append(True, all_[1:] != all_[:-1]))
    rows = np.zeros((len(begins) + 1, 2), np.uint32)
    rows[:, 0] = np.append(begins, len(all_))
    rows[:-1, 1] = all_[begins]
    return rows


def local(info: U8) -> Mask:
    """Which symbols belong into the first half of the table."""
    first: Mask = info >> 4 == elf.STB_LOCAL
    return first


def count(mask: Mask) -> int:
    """How many are true; of one value that stands for all of them, without looking at each."""
    if mask.strides == (0,):
        return len(mask) * bool(mask[:1].any())
    return int(np.count_nonzero(mask))


def fill(
    files: tuple[LinkerFile, ...],
    shift: int,
    places: Places,
    by_address: Order,
    symbols: npt.NDArray[np.void],
) -> None:
    """Write all symbols, locals first, both halves by address.

    Args:
        files: the linker files; the strings of each follow those of the one before.
        shift: where in the string table those of the first begin.
        places: what :func:`arrange` gave for them.
        by_address: what :func:`order` gave for them.
        symbols: the table without symbol 0, of the format's dtype.

    Raises:
        LayoutError: a symbol is in no region of its file.
    """
    locals_ = sum(count(local(file.symbols.info)) for file in files)
    out = _Out(symbols, [0, locals_])
    for group, by in zip(_groups(files), by_address.groups):
        _fill(group, _columns(group, by), shift, places, out)
        shift += sum(len(file.symbols.strings) for file in group)
    if by_address.apart:
        return
    for half in (slice(0, locals_), slice(locals_, len(symbols))):
        at = np.argsort(symbols["st_value"][half], kind="stable")
        _opaque(symbols[half])[:] = _opaque(symbols[half])[at]


def _fill(
    group: tuple[LinkerFile, ...], columns: _Columns, shift: int, places: Places, out: _Out
) -> None:
    """Write the symbols of ``group``, whose strings begin at ``shift``; move the cursors on."""
    bounds = _bounds(group, columns)
    place = _place(columns, places)
    _correct(columns, place, places)
    block = np.zeros(min(BLOCK, len(place)), out.symbols.dtype)  # once: fresh memory is slow
    for start in range(0, len(place), BLOCK):
        rows = slice(start, min(start + BLOCK, len(place)))
        symbols = block[: rows.stop - start]
        symbols["st_value"] = columns.address[rows]
        symbols["st_size"] = _lengths(columns, bounds, place, rows, places)
        symbols["st_name"] = columns.name[rows] + np.uint32(shift)
        symbols["st_info"] = columns.info[rows]
        symbols["st_shndx"] = _shndx(columns, place, rows)
        _write(symbols, local(columns.info[rows]), out)


def measure(files: tuple[LinkerFile, ...]) -> list[tuple[U16, U64]]:
    """``st_shndx`` and ``st_size`` of each file's symbols, in the order that the file has.

    Raises:
        LayoutError: a symbol is in no region of its file.
    """
    places = arrange(files)
    found: list[tuple[U16, U64]] = []
    for group, by in zip(_groups(files), order(files).groups):
        columns = _columns(group, by)
        place = _place(columns, places)
        rows = slice(0, len(place))
        _correct(columns, place, places)
        length = _lengths(columns, _bounds(group, columns), place, rows, places)
        shndx = _shndx(columns, place, rows)
        if by is not None:
            back = np.argsort(by)
            shndx, length = shndx[back], length[back]
        ends = np.cumsum([len(file.symbols.address) for file in group])[:-1]
        found += zip(np.split(shndx, ends), np.split(length, ends))
    return found[: len(files)]


def _shndx(columns: _Columns, place: I32, rows: slice) -> U16:
    index = place[rows].astype(np.uint16)
    index += np.uint16(1)
    role = columns.role[rows]
    if not all_name(role):
        index[role == Role.ABSOLUTE] = elf.SHN_ABS
        index[role == Role.UNDEFINED] = elf.SHN_UNDEF
    return index


def _columns(group: tuple[LinkerFile, ...], by: I32 | None) -> _Columns:
    """The symbols of ``group``, with names as in the strings of all of it together."""
    tables = [file.symbols for file in group]
    shifts = accumulate((len(table.strings) for table in tables), initial=0)
    names = [t.name + np.uint32(more) if more else t.name for t, more in zip(tables, shifts)]
    owners = [np.broadcast_to(np.uint32(f.id), len(f.symbols.name)) for f in group]
    return _Columns(
        address=_sorted([t.address for t in tables], np.uint64, by),
        name=_sorted(names, np.uint32, by),
        info=_sorted([t.info for t in tables], np.uint8, by),
        role=_sorted([t.role for t in tables], np.uint8, by),
        size=_sorted([t.size for t in tables], np.uint64, by),
        exact=_sorted([t.exact for t in tables], np.bool_, by),
        owner=_sorted(owners, np.uint32, by),
    )


def _sorted(parts: list[npt.NDArray[N]], dtype: type[N], by: I32 | None) -> npt.NDArray[N]:
    """The parts one after the other, in an order."""
    joined = _join(parts, dtype)
    return joined if by is None or joined.strides == (0,) else joined[by]


def _bounds(group: tuple[LinkerFile, ...], columns: _Columns) -> _Bounds:
    """What ends symbols of ``group``."""
    none = _sizeless(columns.role)
    address = columns.address
    if none.any():
        first = int(np.argmin(none))  # those of per-CPU variables come first, and no others
        address = address[~none] if none[first:].any() else address[first:]
    # np.unique would import numpy.ma, a tenth of numpy, to see whether this is one of its own.
    stops = np.sort(_join([file.stops for file in group], np.uint64))
    return _Bounds(none, address, stops)


def _sizeless(role: U8) -> Mask:
    """Which symbols have no size and end no other: all but those that are a place's."""
    if all_name(role):
        return np.broadcast_to(np.False_, len(role))
    return np.asarray((role != Role.NAMES) & (role != Role.SILENT))


def _join(parts: list[npt.NDArray[N]], dtype: type[N]) -> npt.NDArray[N]:
    """The parts one after the other; not copied where they are one, or one value throughout."""
    if len(parts) == 1:
        return parts[0]
    if parts and all(p.strides == (0,) and len(p) and p[0] == parts[0][0] for p in parts):
        return np.broadcast_to(parts[0][0], sum(map(len, parts)))
    return np.concatenate([np.zeros(0, dtype), *parts])


def _place(columns: _Columns, places: Places) -> I32:
    """Each symbol's place, -1 below the first."""
    address = columns.address
    bounds = np.searchsorted(address, places.starts)
    return np.repeat(
        np.arange(-1, len(places.regions), dtype=np.int32),
        np.diff(bounds, prepend=0, append=len(address)),
    )


def _write(symbols: npt.NDArray[np.void], first: Mask, out: _Out) -> None:
    """Write ``symbols`` at the cursors of the halves, and move them on."""
    for half, chosen in enumerate((np.flatnonzero(first), np.flatnonzero(~first))):
        there = slice(out.cursors[half], out.cursors[half] + len(chosen))
        out.cursors[half] = there.stop
        # "clip", for numpy writes into a copy of ``out`` where an index may be refused.
        _opaque(symbols).take(chosen, out=_opaque(out.symbols[there]), mode="clip")


def _opaque(symbols: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """The same symbols without their fields: numpy moves those one by one."""
    return symbols.view(np.dtype((np.void, symbols.itemsize)))


def _correct(columns: _Columns, place: I32, places: Places) -> None:
    """Mend the places of symbols that are not within a region of their own file."""
    if not len(place):
        return
    changes = place[1:] != place[:-1]
    if columns.owner.strides != (0,):
        changes |= columns.owner[1:] != columns.owner[:-1]
    # Addresses ascend: a run of one place and one owner is as right as its last symbol.
    last = np.append(np.flatnonzero(changes), len(place) - 1)
    doubtful = _misplaced(columns, place, last, places)
    if not doubtful.any():
        return
    rows = np.flatnonzero(np.repeat(doubtful, np.diff(last, prepend=-1)))
    at_a_place = columns.role[rows] < Role.ABSOLUTE
    rows = rows[_misplaced(columns, place, rows, places) & at_a_place]
    for row in rows.tolist():
        place[row] = _search(places, int(columns.address[row]), int(columns.owner[row]))


def _misplaced(columns: _Columns, place: I32, rows: Index, places: Places) -> Mask:
    """Which of ``rows`` are in no place, behind its end, or in one of another file."""
    at = place[rows]
    wrong = at < 0
    if len(places.regions):
        wrong |= columns.address[rows] > places.ends[at]
        wrong |= places.files[at] != columns.owner[rows]
    return wrong


def _search(places: Places, address: int, file: int) -> int:
    """The last place of ``file`` that holds ``address``, or that ends or begins at it."""
    touching = np.flatnonzero(
        (places.files == file) & (places.starts <= address) & (places.ends >= address)
    )
    if not len(touching):
        raise LayoutError(
            f"The symbol at {address:#x} is in no region of its linker file.",
            "Report this, with the files that the snapshot was taken of.",
        )
    return int(touching[-1])


def _lengths(
    columns: _Columns, bounds: _Bounds, place: I32, rows: slice, places: Places
) -> U64:
    """``st_size`` by the rule: to the next distinct address within the same region.

    A stop of a file (a section's start) ends a symbol too. A symbol without a size
    bounds nobody.
    """
    address, none = columns.address[rows], bounds.none[rows]
    length = np.empty_like(address)
    np.subtract(address[1:], address[:-1], out=length[:-1])
    length[-1:] = 0
    # Where the next row is no other address, or one that bounds nobody, look further.
    further = length == 0
    unbound = bounds.none[rows.start : rows.stop + 1].any()
    if unbound:
        further[:] = True
    look = np.flatnonzero(further)
    length[look] = _above(bounds.address, address[look]) - address[look]
    if len(places.regions):
        # Within a place no symbol lies behind its end, so it can only end a place's last.
        at = place[rows]
        further[:-1] |= at[1:] != at[:-1]
        look = np.flatnonzero(further)
        ends = np.maximum(places.ends[at[look]], address[look])
        length[look] = np.minimum(length[look], ends - address[look])
    if len(bounds.stops):
        np.minimum(length, _above(bounds.stops, address) - address, out=length)
    if unbound:
        length[none] = 0
    role = columns.role[rows]
    if not all_name(role):
        # No tool may take a byte more for one that the kernel names nothing by.
        silent = role == Role.SILENT
        length[silent] = np.minimum(length[silent], 1)
    exact = columns.exact[rows]
    return np.where(exact, columns.size[rows], length) if count(exact) else length


def _above(sorted_: U64, address: U64) -> U64:
    """The first of ``sorted_`` above each address, the last address there is if none is."""
    after = np.searchsorted(sorted_, address, "right")
    found = np.full(len(address), _LAST)
    inside = after < len(sorted_)
    found[inside] = sorted_[after[inside]]
    return found
