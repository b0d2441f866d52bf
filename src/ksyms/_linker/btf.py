"""BTF, the types of the kernel and its modules, byte for byte as sysfs has it.

sysfs has the BTF of the kernel since Linux 5.5, and that of a module since 5.11
(Documentation/ABI/testing/sysfs-kernel-btf). The type numbers of a module continue those of the
kernel (split BTF), so a module's BTF is of no use without the kernel's.
"""

from __future__ import annotations

from .._typing import Final
from .root import LARGE, Root

DIRECTORY: Final = "sys/kernel/btf"
_KERNEL: Final = "vmlinux"
_MAGIC: Final = (b"\x9f\xeb", b"\xeb\x9f")
"""The first two bytes of BTF, in either byte order (Documentation/bpf/btf.rst)."""


def read_btf(root: Root, module: str | None = None) -> bytes | None:
    """Return the BTF of the kernel, or of ``module``.

    None if it cannot be read; then ``root.absent`` has the reason.
    """
    if module is not None and (module == _KERNEL or "/" in module):
        return None  # the name would lead to another file
    name = f"{DIRECTORY}/{module or _KERNEL}"
    data = root.read(name, LARGE)
    if data is not None and not data.startswith(_MAGIC):
        root.absent[name] = "it is not BTF"
        return None
    return data
