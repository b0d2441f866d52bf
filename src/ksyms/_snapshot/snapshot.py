"""A snapshot: size pass, copy pass, and the check that both saw one moment."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from .. import _portable
from .._errors import KsymsError, LayoutError, MovedError
from .._linker import TRIES
from .._output import write_whole
from .._typing import TYPE_CHECKING, Any, Final
from .emitter import Emitter, ResidueError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .._linker import Generation, Linker
    from .._linker.elf_files import ElfLinker


class Layout(Protocol):
    """How an image is laid out: one module a layout, with the driver's two passes."""

    def gather(self, linker: Linker | ElfLinker, reading: Any) -> Any:
        """What the passes work on: an object with a ``generation``."""

    def size(self, files: Any) -> Any:
        """The size pass: an object whose ``total`` is the image's size in bytes."""

    def copy(self, files: Any, sizes: Any, out: Emitter) -> None:
        """The copy pass: write the image, given what the size pass found."""


LAYOUTS: Final = ("linux", "freebsd")
"""The name of every layout, as the API and the command line take it, and its module's here."""


class Snapshot:
    """The kernel's symbols of one moment, as one ELF image that never changes."""

    def __init__(self, image: npt.NDArray[np.uint8], generation: Generation) -> None:
        self._image = image
        self.generation = generation

    @property
    def image(self) -> memoryview:
        """The whole ELF file: a read-only view of format ``B``."""
        return self._image.data

    def portable(self, progress: Callable[[int], None] | None = None) -> bytes:
        """The image packed: a zstd file that says what it is of (docs/format.md).

        ``progress`` is called with the number of bytes each time some have been packed.

        Raises:
            ImageError: the image is of the ``freebsd`` layout, which has no note.
        """
        return _portable.pack(self.image, progress)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the image to ``path``; a half-written file never has that name.

        A new file can be read by its owner only: kernel addresses are secrets. A device
        or a pipe is written to as it is.

        Raises:
            OutputError: the place cannot be written to, or is full; nothing is left there.
        """
        write_whole(os.fspath(path), self.image)


def take(linker: Linker | ElfLinker, layout: str = "linux") -> Snapshot:
    """Take a snapshot of ``linker``'s files, all of one generation.

    Args:
        linker: where the symbols come from.
        layout: a name in :data:`LAYOUTS`.

    Raises:
        ValueError: there is no such layout.
        MovedError: the files moved during every one of :data:`TRIES` tries.
        KsymsError: whatever ``linker`` raises where the files cannot be had at all.
    """
    return take_reading(linker, layout)[0]


def take_reading(linker: Linker | ElfLinker, layout: str = "linux") -> tuple[Snapshot, Any]:
    """As :func:`take`, with the linker's reading, by which it tells whether that stands."""
    if layout not in LAYOUTS:
        raise ValueError(f"no layout is called {layout!r}; there is {', '.join(LAYOUTS)}")
    moved: list[str] = []
    for _ in range(TRIES):
        reading: Any = linker.read()
        moved = linker.moved(reading)
        if moved:
            continue
        try:
            # Not before the text is read, which begins before numpy is imported.
            module = cast(Layout, import_module(f".{layout}", __package__))
            files = module.gather(linker, reading)
            image = _image(files, module)
            moved = linker.moved(reading) if linker.reads_late else []
        except MemoryError:
            raise LayoutError(
                "There is not enough memory for an image of these symbols.",
                "Free some, or leave out some of the files.",
                errno=errno.ENOMEM,
            ) from None
        except ResidueError as error:
            moved = [f"the symbol tables ({error})"]
        except KsymsError:
            # What was read may be half of one file and half of another.
            moved = linker.moved(reading) if linker.reads_late else []
            if not moved:
                raise
        if not moved:
            return Snapshot(image, files.generation), reading
    raise MovedError(
        f"The kernel's symbols moved during each of {TRIES} tries, at last: "
        f"{', '.join(moved)}.",
        linker.remedy,
    )


def _image(files: Any, layout: Layout) -> npt.NDArray[np.uint8]:
    sizes = layout.size(files)
    out = Emitter(sizes.total)
    layout.copy(files, sizes, out)
    return out.finish()
