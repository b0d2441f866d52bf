"""A file or a directory that a user named as a source of symbols."""

from __future__ import annotations

from functools import cached_property

from .. import _portable
from .._compressed import FollowedError, contents, is_stream, read_stream, unpacked
from .._errors import ImageError, SourceError, reason
from .._typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence

    from .._linker.elf_table import ModuleFile
    from .._note.facts import NoteFacts

ANY: Final = "--from"
"""The argument that takes a file of any kind, as ``ksyms.load`` does."""
ROOT: Final = "--root"
KALLSYMS: Final = "--kallsyms"
KERNEL: Final = "--kernel"


class Input:
    """A file or a directory that a user named; its contents are read when they are first used.

    Args:
        path: its name.
        argument: the argument by which the user named it: :data:`ANY`, :data:`ROOT`,
            :data:`KALLSYMS` or :data:`KERNEL`.
        modules: with :data:`KERNEL`, the modules' ELF files.
        debug: directories in which to look for files with exact sizes, before the usual ones;
            None to infer all sizes from the text.
        btf: True to read the kernel's and the modules' BTF too.
        progress: called with the number of bytes each time some have been read.
        copy: with :data:`ANY`, read the file into memory instead of mapping it.
    """

    def __init__(
        self,
        path: str,
        argument: str,
        *,
        modules: Sequence[ModuleFile] = (),
        debug: tuple[str, ...] | None = None,
        btf: bool = False,
        progress: Callable[[int], None] | None = None,
        copy: bool = False,
    ) -> None:
        self.path = path
        self.argument = argument
        self.modules = modules
        self.debug = debug
        self.btf = btf
        self.progress = progress
        self._copy = copy
        self.followed: FollowedError | None = None
        """The error for a packed file that other bytes follow, after it was read; else None."""
        self._stream: bytes | None = None

    @cached_property
    def contents(self) -> bytes | mmap.mmap:
        """The bytes of the file, unpacked; a file that is not packed is mapped.

        Only a kernel image can be packed with other bytes after it, such as a device tree. Then
        the result is the file's bytes, not unpacked, and :attr:`followed` is set.

        Raises:
            SourceError: the file cannot be opened.
            ImageError: the file is damaged, or too large.
        """
        try:
            if self._is_stream():
                self._stream = read_stream(self.path)
                return unpacked(self._stream)
            return contents(self.path, self._copy)
        except OSError as error:
            raise unopened(self.path, error) from None
        except FollowedError as error:
            from .._images import whole

            self.followed = error
            return whole(self.path) if self._stream is None else self._stream
        except ValueError as error:
            raise unread(self.path, error) from None

    @property
    def plain(self) -> bytes | mmap.mmap:
        """The contents; b"" for a packed file that other bytes follow."""
        contents = self.contents
        return contents if self.followed is None else b""

    @property
    def once(self) -> bytes | None:
        """The contents if they were unpacked or came from a stream; None if they are mapped."""
        contents = self.contents
        return contents if isinstance(contents, bytes) else None

    def header_facts(self) -> NoteFacts | None:
        """Return the facts in the first frame of a portable file; None for any other file.

        Raises:
            ImageError: the first frame is not whole.
        """
        if self._stream is not None:
            return _portable.header_facts(self._stream, self.path)
        # A process can open the device only once, so only a packed file is opened again.
        return None if self.once is None else read_header_facts(self.path)

    def _is_stream(self) -> bool:
        """Return True if the file can be read once only, from start to end."""
        try:
            return is_stream(self.path)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return False  # contents() reports the reason


def read_header_facts(path: str) -> NoteFacts | None:
    """Return the facts in the first frame of a portable file; None for any other file.

    Raises:
        SourceError: the file cannot be opened.
        ImageError: the first frame is not whole.
    """
    try:
        return _portable.read_header_facts(path)
    except OSError as error:
        raise unopened(path, error) from None


def unread(path: str, error: ValueError) -> ImageError:
    """Return the error for a file whose contents cannot be read."""
    return ImageError(f"{path} cannot be read: {error}.", "Name a file that holds a snapshot.")


def unopened(path: str, error: OSError) -> SourceError:
    """Return the error for a file that cannot be opened."""
    return SourceError(
        f"{path} cannot be opened: {reason(error)}.",
        "Name a file that ksyms snapshot wrote.",
        errno=error.errno,
    )
