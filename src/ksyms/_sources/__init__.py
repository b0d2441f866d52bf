"""Where symbols come from: each kind of source, and the choice among them.

A new kind is a file here with a class of :class:`~.kind.SourceKind`, and a row of
:data:`~.choose.KINDS`.
"""

from .choose import choose_source
from .input import ANY, KALLSYMS, KERNEL, ROOT, Input

__all__ = ["ANY", "KALLSYMS", "KERNEL", "ROOT", "Input", "choose_source"]
