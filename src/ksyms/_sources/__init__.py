"""Where symbols come from: the kinds of sources, and the choice among them.

To add a kind, add a file with a subclass of :class:`~.kind.SourceKind`, and a row in
:data:`~.choose.KINDS`.
"""

from .choose import choose_source
from .input import ANY, KALLSYMS, KERNEL, ROOT, Input

__all__ = ["ANY", "KALLSYMS", "KERNEL", "ROOT", "Input", "choose_source"]
