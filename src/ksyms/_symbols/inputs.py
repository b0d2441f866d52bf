"""Symbol tables from files of any kind: an image, a text or an archive, packed or not."""

from __future__ import annotations

import os

from .. import _portable
from .._elf import read_image
from .._sources import ANY, Input, choose_source
from .table import SymbolTable


def load(source: str | os.PathLike[str] | memoryview, *, copy: bool = False) -> SymbolTable:
    """Load the symbols of an ELF image, of a saved text, or of an archive of a machine's files.

    For example, with a file that ``ksyms snapshot`` wrote::

        table = ksyms.load("kernel.elf")
        table.lookup(0xFFFFFFFF81000000)

    A mapped file must not change while its table is in use. If it is written to, the table's
    answers change with it. If it is truncated, the next answer from a lost page ends the
    process with SIGBUS (mmap(2)), which no program can turn into an error. It is safe to
    replace the file by renaming a new one over it, as ksyms does. If others can write to the
    file, ``copy`` it.

    Args:
        source: a file, or the ``image`` of a snapshot. The file is an ELF image with a
            ``.symtab`` (a snapshot, a vmlinux, a module, a file of debug info), which stays
            mapped while the table is in use; a saved ``/proc/kallsyms`` or a System.map; the
            image of a kernel, such as a vmlinuz; or a tar with ``proc/kallsyms`` and
            ``proc/modules`` somewhere in it. Each may be packed by gzip, bzip2, xz or zstd, as
            ``ksyms snapshot --portable`` does, and may come through a pipe, which is read to
            its end, 1 GiB at most. ``/proc/kallsyms`` itself is the running kernel.
        copy: read the whole file into memory instead of mapping it, so that later changes of
            the file do not affect the table.

    Raises:
        SourceError: the file cannot be opened, or a text or an archive in it cannot be read.
        ImageError: it is none of these, has no ``.symtab``, or a field of it is wrong.
        KallsymsError: the text is no kallsyms, or was cut short.
        HiddenError: all addresses of the text are zero.
        NoteError: its ``.note.ksyms`` is of a version that this ksyms does not know.
    """
    if isinstance(source, memoryview):
        return SymbolTable(read_image(source.cast("B"), "the image"))
    label = os.fspath(source)
    given = Input(label, ANY, btf=True, copy=copy)
    kind = choose_source(given)
    image = kind.image(given)
    if image is None:
        from .._snapshot import take

        with kind.open(given) as opened:
            image = read_image(take(opened).image, label)
    table = SymbolTable(image)
    if (told := given.header_facts()) is not None:  # of a portable file
        _portable.check_matches(told, table.facts, label)
    return table
