"""The evidence from which a linker file's regions are inferred."""

from __future__ import annotations

import numpy as np

from .._typing import TYPE_CHECKING, NamedTuple
from .addresses import LAST_ADDRESS
from .files import KERNEL_ID
from .modules import PSEUDO, Module, Sections

if TYPE_CHECKING:
    from .._arrays import U8, U64


class RegionInput(NamedTuple):
    """A linker file, with the evidence for its regions.

    - ``address`` (uint64), ``letter`` (uint8): of its symbols that have an address in memory.
      The letter is 0 for a label, which is no evidence of the memory's kind
    - ``sections``: a module's sections in sysfs
    - ``module``: its line of /proc/modules
    - ``symtab_copy``: the size in bytes of the kernel's copy of the module's symbol table,
      which lies after the module's data; 0 for other files
    - ``separate``: True if this kernel allocates a module's code and data separately
    - ``guarded``: True if this kernel leaves a page unmapped after each allocation of a module
    """

    id: int
    name: str
    address: U64
    letter: U8
    sections: Sections = Sections((), ())
    module: Module | None = None
    symtab_copy: int = 0
    separate: bool = False
    guarded: bool = False

    @property
    def in_one_allocation(self) -> bool:
        """True if all sections and symbols of a module are in one allocation.

        The kernel allocated modules in this way before Linux kernel commit ac3b43283923
        ("module: replace module_layout with module_memory") (in v6.4).
        """
        if self.module is None or not self.module.address or not self.sections.starts:
            return False
        if self.separate:
            return False
        low, high = self.module.address, self.module.address + self.module.size
        inside = (self.address >= low) & (self.address < high)
        return all(low <= s < high for s in self.sections.starts) and bool(inside.all())


def count_unplaced(file: RegionInput) -> int:
    """Return the number of a module's symbols that lie in none of its sections in sysfs.

    The ends of sections are known only from the module's debug file. If the end of a section is
    not known, each address from its start up to the next section is taken to be in it.
    """
    if file.id == KERNEL_ID or file.name in PSEUDO or not len(file.address):
        return 0
    starts = np.array(file.sections.starts, np.uint64)
    ends = np.array([0, *(end or LAST_ADDRESS for end in file.sections.ends)], np.uint64)
    # An address below all sections gets the index 0, whose end is 0.
    section = np.searchsorted(starts, file.address, "right")
    return int((file.address > ends[section]).sum())
