"""Snapshots: the size pass, the copy pass, and the check that both are of one generation."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Protocol, TypeVar

from .. import _portable
from .._errors import KsymsError, LayoutError, MovedError
from .._linker import TRIES
from .._log import decided
from .._output import write_whole
from .._sources import choose_source
from .._sources.source import Reading, Source
from .._typing import TYPE_CHECKING, Final
from .emitter import Emitter, ResidueError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .._linker import Generation
    from .._note.facts import NoteFacts
    from .._sources import Input


class _Moment(Protocol):
    """The input of both passes: the linker files of one generation, or their tables."""

    @property
    def generation(self) -> Generation: ...


class _Sizes(Protocol):
    """The result of a size pass.

    ``total`` is the size of the image in bytes, ``symbols`` the number of symbols without
    symbol 0, ``facts`` the contents of the note (None if there is none).
    """

    @property
    def total(self) -> int: ...

    @property
    def symbols(self) -> int: ...

    @property
    def facts(self) -> NoteFacts | None: ...


Gathered = TypeVar("Gathered", bound=_Moment)
Sizes = TypeVar("Sizes", bound=_Sizes)


class Layout(Protocol[Gathered, Sizes]):
    """The layout of an image: a Python module with the driver's two passes."""

    def gather(self, source: Source[Reading], reading: Reading, /) -> Gathered:
        """Return the input of both passes."""

    def size(self, gathered: Gathered, /) -> Sizes:
        """Return the sizes of the image and of its parts (size pass)."""

    def copy(self, gathered: Gathered, sizes: Sizes, out: Emitter, /) -> None:
        """Write the image into ``out`` (copy pass)."""


LAYOUTS: Final = ("linux", "freebsd")
"""The names of the layouts in the API and on the command line."""


class Snapshot:
    """The kernel's symbols of one moment, as one ELF image that never changes.

    ``generation`` is the generation at that moment. ``symbols`` is the number of symbols in the
    image, without symbol 0. ``facts`` are the contents of its note (docs/format.md); they are
    None in the ``freebsd`` layout, which has no note. For example::

        snapshot = ksyms.snapshot()
        snapshot.write("kernel.elf")
        table = ksyms.load(snapshot.image)
    """

    def __init__(
        self,
        image: npt.NDArray[np.uint8],
        generation: Generation,
        symbols: int,
        facts: NoteFacts | None,
    ) -> None:
        self._image = image
        self.generation = generation
        self.symbols = symbols
        self.facts = facts

    @property
    def image(self) -> memoryview:
        """The bytes of the whole ELF file: a read-only view of format ``B``."""
        return self._image.data

    def portable(self, progress: Callable[[int], None] | None = None) -> bytes:
        """Return the portable file: the facts, then the packed image (docs/format.md).

        ``progress`` is called with the number of bytes each time some have been packed.

        Raises:
            ImageError: the image has no note, as in the ``freebsd`` layout.
        """
        return _portable.pack(self.image, progress)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the image to ``path``; a half-written file never has that name.

        Only its owner can read the new file, since kernel addresses are secrets. A device or a
        pipe is written to directly.

        Raises:
            OutputError: the file cannot be written, or the file system is full; no file is
                left there.
        """
        write_whole(os.fspath(path), self.image)


def take_chosen(given: Input, layout: str = "linux") -> Snapshot:
    """Take a snapshot of the input that a user named, as :func:`take` does.

    Raises:
        SourceError: the input cannot be opened.
        ImageError: the input is no source of symbols.
    """
    with choose_source(given).open(given) as source:
        return take(source, layout)


def take(source: Source[Reading], layout: str = "linux") -> Snapshot:
    """Take a snapshot of the linker files of ``source``, all of one generation.

    Args:
        source: the source of the symbols.
        layout: a name in :data:`LAYOUTS`.

    Raises:
        ValueError: there is no such layout.
        MovedError: the files moved during each of :data:`TRIES` tries.
        KsymsError: the source cannot be read at all.
    """
    return take_reading(source, layout)[0]


def take_reading(source: Source[Reading], layout: str = "linux") -> tuple[Snapshot, Reading]:
    """Take a snapshot as :func:`take` does; return it with its reading.

    The snapshot is current as long as ``source.moved(reading)`` returns an empty list.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"no layout is called {layout!r}; there is {', '.join(LAYOUTS)}")
    moved: list[str] = []
    for number in range(1, TRIES + 1):
        if moved:
            decided("try %d of %d: moved: %s", number - 1, TRIES, ", ".join(moved))
        reading = source.read()
        moved = source.moved(reading)
        if moved:
            continue

        # A source that reads late has read its tables during the passes: ask it once more.
        try:
            snapshot = _lay_out(source, reading, layout)
            moved = source.moved(reading) if source.reads_late else []
        except MemoryError:
            raise LayoutError(
                "There is not enough memory for an image of these symbols.",
                "Free some, or leave out some of the files.",
                errno=errno.ENOMEM,
            ) from None
        except ResidueError as error:
            moved = [f"the symbol tables ({error})"]
        except KsymsError:
            # The error may only be that a file was replaced while it was read.
            moved = source.moved(reading) if source.reads_late else []
            if not moved:
                raise
        if not moved:
            if snapshot.facts is not None:
                _log_facts(snapshot.facts)
            return snapshot, reading

    raise MovedError(
        f"The kernel's symbols moved during each of {TRIES} tries, at last: "
        f"{', '.join(moved)}.",
        source.remedy,
    )


def _log_facts(facts: NoteFacts) -> None:
    """Log the files that facts and sizes are from, and why others were not used."""
    decided("the kernel is %s, for %s", facts["release"], facts["machine"])
    decided("addresses at link time are from %s", facts["link_time"]["source"] or "nowhere")
    for file in facts["files"]:
        if file.get("debug"):
            decided("exact sizes of %s are from %s", file["name"], file["debug"])
    for path, why in facts["refused"].items():
        decided("%s gives no exact sizes: %s", path, why)
    for name, why in facts["absent"].items():
        decided("%s was not read: %s", name, why)


def _lay_out(source: Source[Reading], reading: Reading, layout: str) -> Snapshot:
    """Return a snapshot in ``layout``.

    The layouts are imported here, after the text has been read: they need numpy, whose import
    must not delay the thread that reads the text.
    """
    if layout == "linux":
        from . import linux

        return _two_passes(source, reading, linux)
    from . import freebsd

    return _two_passes(source, reading, freebsd)


def _two_passes(
    source: Source[Reading], reading: Reading, layout: Layout[Gathered, Sizes]
) -> Snapshot:
    """Run the size pass and the copy pass of ``layout``; return the snapshot.

    Raises:
        ResidueError: the passes do not agree on the size.
    """
    gathered = layout.gather(source, reading)
    sizes = layout.size(gathered)
    out = Emitter(sizes.total)
    layout.copy(gathered, sizes, out)
    return Snapshot(out.finish(), gathered.generation, sizes.symbols, sizes.facts)
