"""The kernel's types as the kernel shows them: BTF, as it is.

Documentation/ABI/testing/sysfs-kernel-btf: the kernel's own since Linux 5.5, a module's
since 5.11. A module's is split: it goes on where the kernel's ends, and says nothing alone.
"""

from __future__ import annotations

from .._typing import Final
from .root import LARGE, Root

DIRECTORY: Final = "sys/kernel/btf"
_KERNEL: Final = "vmlinux"
_MAGIC: Final = (b"\x9f\xeb", b"\xeb\x9f")
"""What BTF begins with in either byte order (Documentation/bpf/btf.rst)."""


def read_btf(root: Root, module: str | None = None) -> bytes | None:
    """The BTF of the kernel, or of ``module``; None, and a reason in ``absent``, where not."""
    if module is not None and (module == _KERNEL or "/" in module):
        return None  # no name of a module's BTF
    name = f"{DIRECTORY}/{module or _KERNEL}"
    data = root.read(name, LARGE)
    if data is not None and not data.startswith(_MAGIC):
        root.absent[name] = "it is not BTF"
        return None
    return data
