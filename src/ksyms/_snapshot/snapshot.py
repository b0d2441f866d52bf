"""Snapshots: size pass, copy pass, and the check that both saw one moment."""

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
    """The input of the passes: linker files, or their tables, of one generation."""

    @property
    def generation(self) -> Generation: ...


class _Sizes(Protocol):
    """The result of a size pass: bytes of the image, symbols without symbol 0, the note."""

    @property
    def total(self) -> int: ...

    @property
    def symbols(self) -> int: ...

    @property
    def facts(self) -> NoteFacts | None: ...


Gathered = TypeVar("Gathered", bound=_Moment)
Sizes = TypeVar("Sizes", bound=_Sizes)


class Layout(Protocol[Gathered, Sizes]):
    """The layout of an image: a module with the driver's two passes."""

    def gather(self, source: Source[Reading], reading: Reading, /) -> Gathered:
        """Return the input of the passes."""

    def size(self, gathered: Gathered, /) -> Sizes:
        """Return the size of the image, and of its parts (size pass)."""

    def copy(self, gathered: Gathered, sizes: Sizes, out: Emitter, /) -> None:
        """Write the image into ``out`` (copy pass)."""


LAYOUTS: Final = ("linux", "freebsd")
"""The layouts, as the API and the command line name them."""


class Snapshot:
    """The kernel's symbols of one moment, as one ELF image that never changes.

    ``generation`` is the generation at that moment. ``symbols`` is the number of symbols in the
    image, without symbol 0; ``facts`` are those of its note (docs/format.md), None in the
    ``freebsd`` layout, which has no note::

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
        """The whole ELF file: a read-only view of format ``B``."""
        return self._image.data

    def portable(self, progress: Callable[[int], None] | None = None) -> bytes:
        """Return the image packed: a zstd file that starts with the facts (docs/format.md).

        ``progress`` is called with the number of bytes each time some have been packed.

        Raises:
            ImageError: the image is of the ``freebsd`` layout, which has no note.
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
    """Take a snapshot, as :func:`take` does, of what a user named.

    Raises:
        SourceError: it cannot be opened.
        ImageError: it is no source of symbols.
    """
    with choose_source(given).open(given) as source:
        return take(source, layout)


def take(source: Source[Reading], layout: str = "linux") -> Snapshot:
    """Take a snapshot of ``source``'s files, all of one generation.

    Args:
        source: the source of the symbols.
        layout: a name in :data:`LAYOUTS`.

    Raises:
        ValueError: there is no such layout.
        MovedError: the files moved during every one of :data:`TRIES` tries.
        KsymsError: an error of ``source``: its files cannot be read at all.
    """
    return take_reading(source, layout)[0]


def take_reading(source: Source[Reading], layout: str = "linux") -> tuple[Snapshot, Reading]:
    """Take a snapshot as :func:`take` does; return it with the reading that it is of.

    While ``source.moved(reading)`` is empty, the snapshot is still of the present.
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
            # The reader may have seen half of one file and half of another.
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
    """Log which files the facts and the sizes are from, and why others were not used."""
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
    """Run the passes of ``layout``.

    The layouts need numpy. So they are imported here, after the text has been read, since the
    thread that reads it starts before numpy is imported.
    """
    if layout == "linux":
        from . import linux

        return _two_passes(source, reading, linux)
    from . import freebsd

    return _two_passes(source, reading, freebsd)


def _two_passes(
    source: Source[Reading], reading: Reading, layout: Layout[Gathered, Sizes]
) -> Snapshot:
    gathered = layout.gather(source, reading)
    sizes = layout.size(gathered)
    out = Emitter(sizes.total)
    layout.copy(gathered, sizes, out)
    return Snapshot(out.finish(), gathered.generation, sizes.symbols, sizes.facts)
