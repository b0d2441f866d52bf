"""The symbols of an ELF file that is no snapshot, by section, with their inferred sizes.

Such a file leaves open what a snapshot states. A symbol of size 0 extends to the next one of
its section, or to the section's end, as in a System.map. Of several symbols at one address the
one that the kernel prints is chosen (``precedence.py``). The sections of an object file have no
addresses yet and all start at 0: there the sections with code come first.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

from .._elf import ElfFile, Shdr, Sym
from .._elf import constants as elf
from .._typing import TYPE_CHECKING, Final
from .precedence import key

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .spans import SymbolSpans

    U64 = npt.NDArray[np.uint64]
    Index = npt.NDArray[np.int64]
    Answers = Callable[[Sym], bool]
    """A function that returns True if a symbol can name an address."""

_TOP: Final = 1 << 64
_PERCPU: Final = ".data..percpu"
_UNNAMED: Final = (elf.STT_SECTION, elf.STT_FILE, elf.STT_TLS)
_MANY: Final = 64
"""The number of sections above which symbols at an address are found by one common index."""
_NESTED: Final = 64
"""Largest number of symbols that are examined for one that encloses others."""


class SectionedSymbols:
    """The symbols of ``image`` by section.

    Args:
        image: an ELF file that is neither a snapshot nor an image in the driver's layout.
        symtab: its symbol table.
        strtab: the table of the symbols' names.
        values: ``st_value`` of each symbol.

    A symbol's name decides too if it can name an address, so the methods that need to know that
    take a function ``answers``.
    """

    def __init__(
        self, image: ElfFile, symtab: Shdr, strtab: Shdr, values: Sequence[int]
    ) -> None:
        self._image = image
        self._strtab = strtab
        self._table = image.contents(symtab)
        self._values = values
        self._unlinked = image.header.e_type == elf.ET_REL
        self._sizes: dict[tuple[int, int], int] = {}
        self._firsts: dict[tuple[int, int], int] = {}

    @cached_property
    def places(self) -> dict[int, tuple[int, int]]:
        """The first address, and the one after the last, of each section in memory, by index.

        Sections without memory and thread-local ones are left out. In an object file those with
        code come first: it is the order in which they are searched.
        """
        found = {}
        for number, section in enumerate(self._image.sections):
            if number >= elf.SHN_LORESERVE:  # st_shndx has other meanings from here on
                break

            flags, start = section.sh_flags, section.sh_addr
            if not number or not flags & elf.SHF_ALLOC or flags & elf.SHF_TLS:
                continue
            start = 0 if self._unlinked else start
            found[number] = start, min(start + section.sh_size, _TOP)
        if self._unlinked:
            code = [n for n in found if self._image.sections[n].sh_flags & elf.SHF_EXECINSTR]
            found = {n: found[n] for n in (*code, *found)}
        return found

    def _columns(self) -> tuple[Iterable[int], Iterable[int], Iterable[int]]:
        """Return ``st_name``, ``st_info`` and ``st_shndx`` of every symbol."""
        fmt = self._image.format
        if fmt.elf_class == elf.ELFCLASS64 and fmt.byteorder == sys.byteorder:
            table = self._table.cast("I")[::6], self._table[4::24], self._table.cast("H")[3::12]
            return table[0].tolist(), table[1].tolist(), table[2].tolist()
        rows = [(s.st_name, s.st_info, s.st_shndx) for s in fmt.sym.unpack_all(self._table)]
        names, infos, sections = zip(*rows) if rows else ((), (), ())
        return names, infos, sections

    @cached_property
    def _offsets(self) -> dict[int, int]:
        """The sizes in bytes of per-CPU sections at address 0, whose symbols are offsets.

        On x86 before Linux 6.15 they are linked at 0 (arch/x86/kernel/vmlinux.lds.S).
        """
        return {
            number: size
            for number, (start, size) in self.places.items()
            if not start and self._is_percpu(number)
        }

    def _lies(self, sym: Sym) -> bool:
        """Return True if a symbol is in one of :attr:`places`; others name no address."""
        name, info, _, section, value, _ = sym
        if section not in self.places or not name or info & 0xF in _UNNAMED:
            return False
        return value > self._offsets.get(section, -1)

    def _is_percpu(self, number: int) -> bool:
        # Compare the bytes in the file, so that a name without an end raises no error here.
        table = self._image.contents(self._image.sections[self._image.header.e_shstrndx])
        start = self._image.sections[number].sh_name
        return bytes(table[start : start + len(_PERCPU)]) == _PERCPU.encode()

    @cached_property
    def runs(self) -> dict[int, list[int]]:
        """The indices of the symbols in each of :attr:`places`, by address.

        Symbol 0 is among them if it is a real one, as in files of vmlinux-to-elf 1.4, which ELF
        does not allow. Addresses in it resolve to no symbol, and not to an enclosing one.
        """
        found: dict[int, list[int]] = {number: [] for number in self.places}
        add = {section: run.append for section, run in found.items()}.get
        # The rule of _lies() for all symbols, in a fifth of the time.
        for number, (name, info, section) in enumerate(zip(*self._columns())):
            append = add(section)
            if append is not None and name and info & 0xF not in _UNNAMED:
                append(number)
        for section, size in self._offsets.items():
            found[section] = [n for n in found[section] if self._values[n] > size]
        for run in found.values():
            run.sort(key=self._values.__getitem__)
        return {section: run for section, run in found.items() if run}

    def search(self, address: int, answers: Answers) -> int:
        """Return the index of the symbol that ``address`` lies in; 0 if there is none."""
        best: list[tuple[int, Sym]] = []
        for section, run in self.runs.items():
            found = self._nearest(section, run, address, answers)

            if self._unlinked:  # the first section that contains the address decides
                first, stop = self.places[section]
                if found and self._reaches(found[0][1], found):
                    return min(found)[0]
                if first <= address < stop:
                    return 0

            if not found:
                continue
            start = found[0][1].st_value
            if not best or start > best[0][1].st_value:
                best = found
            elif start == best[0][1].st_value:
                best = best + found
        return self._first(best) if best else 0

    def _nearest(
        self, section: int, run: list[int], address: int, answers: Answers
    ) -> list[tuple[int, Sym]]:
        """Return those symbols of a section, at the nearest address, that ``address`` lies in.

        Each is a pair of its index and its row.
        """
        start, stop = self.places[section]
        at = bisect_right(run, address, key=self._values.__getitem__)
        passed = 0
        ends: list[tuple[int, Sym]] = []
        while at > 0 and passed < _NESTED:
            # Collect the symbols at the next lower address.
            group = []
            value = self._values[run[at - 1]]
            while at > 0 and self._values[run[at - 1]] == value:
                at -= 1
                sym = self._sym(run[at])
                if answers(sym):
                    group.append((run[at], sym))
            if not group:
                continue

            longest = max(sym.st_size for _, sym in group)
            if not longest and not passed and start <= value < stop:
                # All are of size 0, and no symbol that can answer lies between.
                longest = stop - value
            if self._unlinked and value == address and not longest:
                ends = group
            elif value == address or address - value < longest:
                return [
                    row for row in group if address - value < (row[1].st_size or longest)
                ] or group
            passed += len(group)
        return ends

    def _reaches(self, sym: Sym, group: list[tuple[int, Sym]]) -> bool:
        """Return True unless the symbols at one address of a section only mark its end."""
        start, stop = self.places[sym.st_shndx]
        return start <= sym.st_value < stop or any(other.st_size for _, other in group)

    def _first(self, rows: list[tuple[int, Sym]]) -> int:
        """Return the index of the symbol that is printed, of ``rows`` at one address.

        They are the symbols that an address lies in, so the longest of those at their address.
        Their number therefore says which they are, and the answer is kept by it.
        """
        if len(rows) == 1:
            return rows[0][0]
        among = rows[0][1].st_value, len(rows)
        if among not in self._firsts:
            self._firsts[among] = self.in_order(rows)[0]
        return self._firsts[among]

    def in_order(self, rows: list[tuple[int, Sym]]) -> list[int]:
        """Return the indices of symbols at one address, the one that is printed first.

        Symbols that only mark a section's end come last. In a module's file the first of the
        table is printed (kernel/module/kallsyms.c, find_kallsyms_symbol).
        """
        sections: dict[int, list[tuple[int, Sym]]] = {}
        for row in rows:
            sections.setdefault(row[1].st_shndx, []).append(row)
        ends = {s for s, group in sections.items() if not self._reaches(group[0][1], group)}
        order = {section: at for at, section in enumerate(self.places)}

        def precedence(row: tuple[int, Sym]) -> tuple[object, ...]:
            number, sym = row
            end = sym.st_shndx in ends
            if self._unlinked:
                return end, order[sym.st_shndx], number
            return end, *self._key(number, sym)

        return [number for number, _ in sorted(rows, key=precedence)]

    def _key(self, number: int, sym: Sym) -> tuple[object, ...]:
        weak = sym.st_info >> 4 == elf.STB_WEAK and sym.st_info & 0xF != elf.STT_OBJECT
        return *key(self._image.string(self._strtab, sym.st_name), weak), number

    def at(self, address: int, answers: Answers) -> list[int]:
        """Return the indices of all symbols that start at ``address``, by precedence."""
        found = []
        for number in self._beginning(address):
            if number and answers(sym := self._sym(number)):
                found.append((number, sym))
        return self.in_order(found) if len(found) > 1 else [number for number, _ in found]

    def _beginning(self, address: int) -> Iterator[int]:
        """Yield the indices of the symbols that start at ``address``, by section."""
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
        """The indices of the symbols that start at each address, by section."""
        found: dict[int, list[int]] = {}
        for run in self.runs.values():
            for number in run:
                found.setdefault(self._values[number], []).append(number)
        return found

    def size(self, sym: Sym, answers: Answers) -> int:
        """Return the size in bytes of a symbol of ``st_size`` 0; 0 if it only marks an end.

        It is the largest size of the symbols at its address. If all are 0, the symbol extends
        to the next one of its section, or to the section's end.
        """
        place = section, value = sym.st_shndx, sym.st_value
        if not self._lies(sym) or not answers(sym):
            return 0
        if place not in self._sizes:
            self._sizes[place] = self._inferred(section, value, answers)
        return self._sizes[place]

    def _inferred(self, section: int, value: int, answers: Answers) -> int:
        """Return :meth:`size` of a symbol by its section and value."""
        run = self.runs[section]
        start, stop = self.places[section]
        inside = start <= value < stop
        longest = 0
        at = bisect_left(run, value, key=self._values.__getitem__)
        while at < len(run):
            sym = self._sym(run[at])
            later = sym.st_value > value
            if later and (longest or sym.st_value >= stop):
                break
            if answers(sym):
                if later:
                    stop = sym.st_value
                    break
                longest = max(longest, sym.st_size)
            at += 1
        return longest or (min(stop - value, _TOP - 1) if inside else 0)

    def numbers(self) -> Index:
        """Return the indices of all symbols in :attr:`places`, ascending."""
        import numpy as np

        found = [np.array(run, np.int64) for run in self.runs.values()]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))

    def rows(self, table: npt.NDArray[np.void], number: Index) -> SymbolSpans:
        """Return the symbols of the ``table`` that name addresses, by their indices ``number``.

        In an object file, an address belongs to the first section that contains it. If it lies
        between that section's symbols, it resolves to none: each section has a row for that.
        """
        import numpy as np

        from .spans import NOBODY, SymbolSpans

        if len(table) and self._lies(self._sym(0)):
            number = np.append(np.int64(0), number)
        rows = table[number]
        section = rows["st_shndx"].astype(np.int64)
        value, told = (rows[name].astype(np.uint64) for name in ("st_value", "st_size"))
        size, reaches = self._sized(section, value, told)

        if self._unlinked:
            # Sections are layers, in the order in which they are searched. Symbols that mark
            # the end of one come behind all of them.
            runs = list(self.runs)
            layers = np.zeros(elf.SHN_LORESERVE, np.int64)
            layers[runs] = np.arange(len(runs))
            layer = layers[section] + np.where(reaches, 0, len(runs))

            # Add a row without a symbol for each section, for addresses between its symbols.
            held = [n for n, run in enumerate(runs) if self.places[run][1]]
            sizes = np.array([self.places[runs[n]][1] for n in held], np.uint64)
            return SymbolSpans(
                np.append(number, np.full(len(held), NOBODY)),
                np.append(value, np.zeros(len(held), np.uint64)),
                np.append(size, sizes),
                np.append(number, np.full(len(held), len(table))),
                np.append(layer, np.array(held, np.int64)),
            )

        # Sort the symbols that share an address by precedence.
        by_value = np.argsort(value, kind="stable")
        same = value[by_value[1:]] == value[by_value[:-1]]
        shared = np.zeros(len(value), np.bool_)
        shared[by_value[1:][same]] = shared[by_value[:-1][same]] = True
        rival = np.flatnonzero(shared).tolist()
        keys = {
            at: (not reach, *self._key(symbol, self._sym(symbol)))
            for at, symbol, reach in zip(rival, number[rival].tolist(), reaches[rival].tolist())
        }
        order = np.zeros(len(value), np.int64)
        order[sorted(rival, key=keys.__getitem__)] = np.arange(len(rival))
        return SymbolSpans(number, value, size, order)

    def _sized(
        self, section: Index, value: U64, told: U64
    ) -> tuple[U64, npt.NDArray[np.bool_]]:
        """Infer the sizes that are 0.

        In a section from 0x1000 to 0x1100, for example::

            value    0x1000    0x1040    0x1040    0x1100
            told     0         0         0x10      0
            size     0x40      0x10      0x10      0         the last marks the section's end

        Returns:
            ``told``, with :meth:`size` instead of each 0; and an array that is True for symbols
            that do more than mark a section's end, as :meth:`_reaches`.
        """
        import numpy as np

        if not len(value):
            return told, np.zeros(0, np.bool_)

        # Group the symbols by section and address, and find the largest size of each group.
        by = np.lexsort((value, section))
        new = np.ones(len(by), np.bool_)
        new[1:] = (np.diff(value[by]) != 0) | (np.diff(section[by]) != 0)
        firsts = np.flatnonzero(new)
        longest = np.maximum.reduceat(told[by], firsts)
        start, own = value[by[firsts]], section[by[firsts]]

        # Find the last address of the section of each group.
        bounds = np.zeros((elf.SHN_LORESERVE, 2), np.uint64)
        for number, (first, stop) in self.places.items():
            # Not the address after it, which can be 2^64.
            bounds[number] = first, max(stop - 1, 0)
        last = bounds[own, 1]
        empty = np.array([number for number, (a, b) in self.places.items() if a == b], np.int64)
        inside = (bounds[own, 0] <= start) & (start <= last) & ~np.isin(own, empty)

        # A group ends before the next one of its section, if that starts before the end.
        follows = np.zeros(len(own), np.bool_)
        follows[:-1] = own[1:] == own[:-1]
        follows[:-1] &= start[1:] - np.uint64(1) < last[:-1]
        last[:-1] = np.where(follows[:-1], start[1:] - np.uint64(1), last[:-1])

        inferred = np.where(inside, last - start, 0)
        inferred += inside & (inferred < np.uint64(_TOP - 1))
        inferred = np.where(longest > 0, longest, inferred)

        group = np.empty(len(by), np.int64)
        group[by] = np.cumsum(new) - 1
        return np.where(told > 0, told, inferred[group]), (inside | (longest > 0))[group]

    def _sym(self, number: int) -> Sym:
        row = self._image.format.sym
        return row.unpack(self._table, number * row.size)
