"""The symbols of an ELF file that is not a snapshot, by section, with their inferred sizes.

Such a file lacks some of what a snapshot has. A symbol of size 0 extends to the next symbol of
its section, or to the end of the section, as in a System.map. Of several symbols at one address
the one that the kernel prints is chosen (precedence.py). The sections of an object file have no
addresses yet and all start at 0: there the sections with code come first.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

from .._elf import Sym
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Final
from .addressable import UNNAMED, can_name_address
from .precedence import key
from .symbol_file import SymbolFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TOP: Final = 1 << 64
"""The end of the address space."""
_PERCPU: Final = b".data..percpu"
_MANY: Final = 64
"""With more sections than this, one index finds the symbols at an address in all of them."""
_NESTED: Final = 64
"""Limit on the symbols that a search passes on its way down to one that encloses them."""

NumberedRow = tuple[int, Sym]
"""A symbol's number and its row."""


class SectionedSymbols:
    """The symbols of ``file`` by section.

    ``file`` is neither a snapshot nor an image in the driver's layout. ``unlinked`` is True for
    an object file or a ``.ko``, whose sections have no addresses yet.
    """

    def __init__(self, file: SymbolFile) -> None:
        self._file = file
        self._values = file.values
        self.unlinked = file.is_relocatable
        self._sizes: dict[tuple[int, int], int] = {}
        self._firsts: dict[tuple[int, int], int] = {}

    @cached_property
    def bounds(self) -> dict[int, tuple[int, int]]:
        """The start of each section and the address after its last byte, by section index.

        Sections that take no memory are left out, and thread-local ones. The order is that in
        which the sections are searched: in an object file, those with code come first.
        """
        found = {}
        sections = self._file.image.sections
        for index, section in enumerate(sections):
            if index >= elf.SHN_LORESERVE:  # st_shndx has other meanings from here on
                break

            flags, start = section.sh_flags, section.sh_addr
            if not index or not flags & elf.SHF_ALLOC or flags & elf.SHF_TLS:
                continue
            start = 0 if self.unlinked else start
            found[index] = start, min(start + section.sh_size, TOP)

        if self.unlinked:
            code = [n for n in found if sections[n].sh_flags & elf.SHF_EXECINSTR]
            found = {n: found[n] for n in (*code, *found)}
        return found

    def _columns(self) -> tuple[Iterable[int], Iterable[int], Iterable[int]]:
        """Return the ``st_name``, the ``st_info`` and the ``st_shndx`` of every symbol."""
        fmt, table = self._file.image.format, self._file.table
        if fmt.elf_class == elf.ELFCLASS64 and fmt.byteorder == sys.byteorder:
            columns = table.cast("I")[::6], table[4::24], table.cast("H")[3::12]
            return columns[0].tolist(), columns[1].tolist(), columns[2].tolist()
        rows = [(s.st_name, s.st_info, s.st_shndx) for s in fmt.sym.unpack_all(table)]
        names, infos, indices = zip(*rows) if rows else ((), (), ())
        return names, infos, indices

    @cached_property
    def _percpu_sizes(self) -> dict[int, int]:
        """The size in bytes of each per-CPU section at address 0, whose symbols are offsets.

        On x86 such a section was linked at 0 until Linux kernel commit 9d7de2aa8b41
        ("x86/percpu/64: Use relative percpu offsets") (in v6.15).
        """
        return {
            index: size
            for index, (start, size) in self.bounds.items()
            if not start and self._is_percpu(index)
        }

    def _is_percpu(self, index: int) -> bool:
        # Compare bytes of the file: section_name() raises an error for a name without an end.
        image = self._file.image
        names = image.contents(image.sections[image.header.e_shstrndx])
        start = image.sections[index].sh_name
        return bytes(names[start : start + len(_PERCPU)]) == _PERCPU

    def is_in_memory(self, sym: Sym) -> bool:
        """Return True if a symbol is in a section of :attr:`bounds`; others name no address."""
        name, info, _, index, value, _ = sym
        if index not in self.bounds or not name or info & 0xF in UNNAMED:
            return False
        # In a per-CPU section at 0, a value up to the section's size is an offset.
        return value > self._percpu_sizes.get(index, -1)

    @cached_property
    def runs(self) -> dict[int, list[int]]:
        """The numbers of the symbols in each section of :attr:`bounds`, in order of address.

        Symbol 0 is included if it is a real symbol. ELF does not allow that, but files of
        vmlinux-to-elf 1.4 have one. Addresses in it resolve to no symbol, and not to a symbol
        that encloses it.
        """
        found: dict[int, list[int]] = {index: [] for index in self.bounds}
        add = {index: run.append for index, run in found.items()}.get
        # Apply the rule of is_in_memory() to all symbols, in a fifth of the time.
        for number, (name, info, index) in enumerate(zip(*self._columns())):
            append = add(index)
            if append is not None and name and info & 0xF not in UNNAMED:
                append(number)
        for index, size in self._percpu_sizes.items():
            found[index] = [n for n in found[index] if self._values[n] > size]

        for run in found.values():
            run.sort(key=self._values.__getitem__)
        return {index: run for index, run in found.items() if run}

    def numbers(self) -> npt.NDArray[np.int64]:
        """Return the numbers of all symbols in :attr:`runs`, ascending."""
        import numpy as np

        found = [np.array(run, np.int64) for run in self.runs.values()]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))

    def find(self, address: int) -> int:
        """Return the number of the symbol that ``address`` lies in; 0 if there is none."""
        best: list[NumberedRow] = []
        for index, run in self.runs.items():
            found = self._nearest(index, run, address)

            # In an object file the first section that contains the address decides.
            if self.unlinked:
                first, stop = self.bounds[index]
                if found and self._has_bytes(found):
                    return min(found)[0]
                if first <= address < stop:
                    return 0

            # In any other file the symbols with the highest start are the nearest.
            if not found:
                continue
            start = found[0][1].st_value
            if not best or start > best[0][1].st_value:
                best = found
            elif start == best[0][1].st_value:
                best = best + found
        return self._first(best) if best else 0

    def _nearest(self, index: int, run: list[int], address: int) -> list[NumberedRow]:
        """Return the innermost symbols of a section that contain ``address``, or [].

        They all start at one address, the nearest. The search goes down from ``address``, to
        the symbols of one address at a time::

            a          |----------------------|
            b, c             |----|               c has the size 0: it is as long as b
            address                    ^          passes b and c, and finds a

        If all symbols at the first address below have the size 0, they extend to the end of the
        section, since no other symbol lies between.

        In an object file, symbols that only mark the end of the section at ``address`` are
        returned if no other symbol contains it.
        """
        start, stop = self.bounds[index]
        at = bisect_right(run, address, key=self._values.__getitem__)
        passed = 0
        ends: list[NumberedRow] = []
        while at > 0 and passed < _NESTED:
            # Collect the symbols at the next lower address.
            group = []
            value = self._values[run[at - 1]]
            while at > 0 and self._values[run[at - 1]] == value:
                at -= 1
                sym = self._file.row(run[at])
                if can_name_address(self._file, sym):
                    group.append((run[at], sym))
            if not group:
                continue

            longest = max(sym.st_size for _, sym in group)
            if not longest and not passed and start <= value < stop:
                # All have the size 0, and no symbol that names an address lies between.
                longest = stop - value

            if self.unlinked and value == address and not longest:
                ends = group
            elif value == address or address - value < longest:
                return [
                    row for row in group if address - value < (row[1].st_size or longest)
                ] or group
            passed += len(group)
        return ends

    def _has_bytes(self, group: list[NumberedRow]) -> bool:
        """Return False if ``group``, symbols at one address, only mark their section's end."""
        sym = group[0][1]
        start, stop = self.bounds[sym.st_shndx]
        return start <= sym.st_value < stop or any(other.st_size for _, other in group)

    def _first(self, rows: list[NumberedRow]) -> int:
        """Return the number of the symbol of ``rows`` that is printed.

        The rows start at one address, and another address lies in them. So they are the longest
        of the symbols that start there: of the sizes 8, 8 and 4, an address lies in all three
        symbols or in the first two. Their start and their count therefore identify them, and
        the answer is kept under these.
        """
        if len(rows) == 1:
            return rows[0][0]
        among = rows[0][1].st_value, len(rows)
        if among not in self._firsts:
            self._firsts[among] = self._by_precedence(rows)[0]
        return self._firsts[among]

    def _by_precedence(self, rows: list[NumberedRow]) -> list[int]:
        """Return the numbers of symbols at one address, the one that is printed first.

        Symbols that only mark the end of a section come last. Of a module's symbols, the first
        one in the table is printed (kernel/module/kallsyms.c, find_kallsyms_symbol).
        """
        groups: dict[int, list[NumberedRow]] = {}
        for row in rows:
            groups.setdefault(row[1].st_shndx, []).append(row)
        ends = {index for index, group in groups.items() if not self._has_bytes(group)}
        order = {index: at for at, index in enumerate(self.bounds)}

        def precedence(row: NumberedRow) -> tuple[object, ...]:
            number, sym = row
            end = sym.st_shndx in ends
            if self.unlinked:
                return end, order[sym.st_shndx], number
            return end, *self.precedence_key(number)

        return [number for number, _ in sorted(rows, key=precedence)]

    def precedence_key(self, number: int) -> tuple[object, ...]:
        """Return the sort key of a symbol among those at its address in a linked file."""
        sym = self._file.row(number)
        weak = sym.st_info >> 4 == elf.STB_WEAK and sym.st_info & 0xF != elf.STT_OBJECT
        name = self._file.image.string(self._file.strtab, sym.st_name)
        return *key(name, weak), number

    def numbers_at(self, address: int) -> list[int]:
        """Return the numbers of all symbols that start at ``address``, by precedence."""
        found = []
        for number in self._starting(address):
            sym = self._file.row(number)
            if number and can_name_address(self._file, sym):
                found.append((number, sym))
        return self._by_precedence(found) if len(found) > 1 else [n for n, _ in found]

    def _starting(self, address: int) -> Iterator[int]:
        """Yield the numbers of the symbols that start at ``address``, section by section."""
        if len(self.runs) > _MANY:
            yield from self._starts.get(address, ())
            return
        for run in self.runs.values():
            at = bisect_left(run, address, key=self._values.__getitem__)
            while at < len(run) and self._values[run[at]] == address:
                yield run[at]
                at += 1

    @cached_property
    def _starts(self) -> dict[int, list[int]]:
        """The numbers of the symbols that start at each address, section by section."""
        found: dict[int, list[int]] = {}
        for run in self.runs.values():
            for number in run:
                found.setdefault(self._values[number], []).append(number)
        return found

    def size(self, sym: Sym) -> int:
        """Return the size in bytes of a symbol whose ``st_size`` is 0.

        It is the largest size of the symbols at its address in its section. If all of them are
        0, the symbol extends to the next symbol of the section, or to the end of the section.
        The result is 0 for a symbol that only marks an end, or that names no address.
        """
        if not self.is_in_memory(sym) or not can_name_address(self._file, sym):
            return 0
        where = index, value = sym.st_shndx, sym.st_value
        if where not in self._sizes:
            self._sizes[where] = self._infer_size(index, value)
        return self._sizes[where]

    def _infer_size(self, index: int, value: int) -> int:
        """Return :meth:`size` of the symbols at one address of a section."""
        run = self.runs[index]
        start, stop = self.bounds[index]
        inside = start <= value < stop

        # Find the largest size of the symbols at ``value``, and the start of the next symbol.
        longest = 0
        at = bisect_left(run, value, key=self._values.__getitem__)
        while at < len(run):
            sym = self._file.row(run[at])
            later = sym.st_value > value
            if later and (longest or sym.st_value >= stop):
                break
            if can_name_address(self._file, sym):
                if later:
                    stop = sym.st_value
                    break
                longest = max(longest, sym.st_size)
            at += 1
        return longest or (min(stop - value, TOP - 1) if inside else 0)
