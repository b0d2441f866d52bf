"""The linker files of a kernel, in load order, from its text files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from .._errors import KallsymsError
from .._typing import TYPE_CHECKING, Final
from .generation import UNASKED, Generation, Watch
from .host import STEADY, hidden
from .machines import MACHINE_LANDMARKS
from .reader_thread import ReaderThread
from .root import Root

if TYPE_CHECKING:
    from .files import Files
    from .members import Members, Reading


class Linker:
    """Reads the linker files of the running kernel, or of one saved under a root.

    A context manager. The kernel's events are watched from the first read, or the first call of
    :meth:`generation`, until its end::

        with Linker() as linker:
            reading = linker.read()
            if not linker.moved(reading):
                files = linker.files(reading)

    Args:
        root: the directory that holds ``proc`` and ``sys``, or an archive of one.
        kallsyms: the path of a kallsyms text alone, in place of a root.
        progress: called with the number of bytes each time some have been read.
        debug: directories in which to look for files with exact sizes, before the usual ones;
            None to infer all sizes from the text.
        btf: True to read the kernel's and the modules' BTF too.
        data: the contents of the text or the archive, if they have been read already and cannot
            be read again, as from a pipe.
        files: the files that a kernel's image stands for, by their names (:mod:`~.._images`).

    Raises:
        SourceError: ``root`` is neither a directory nor an archive.
    """

    remedy: Final = "Try again when no modules are being loaded or unloaded."
    """The remedy in the error if the files change during every try."""

    reads_late: Final = False
    """True if tables are read while they are copied.

    Here everything that can change is read before.
    """

    def __init__(
        self,
        root: str = "/",
        kallsyms: str | None = None,
        progress: Callable[[int], None] | None = None,
        debug: tuple[str, ...] | None = (),
        btf: bool = False,
        data: bytes | None = None,
        files: dict[str, bytes] | None = None,
    ) -> None:
        self.root = Root(root, kallsyms, data, files)
        self.btf = btf
        self.progress = progress
        self.debug = debug
        self._watch = Watch(self.root)

    def __enter__(self) -> Linker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the rings and the socket of the kernel's events."""
        self._watch.close()

    @property
    def watched(self) -> bool:
        """True if the kernel reports every change, so that a snapshot is valid until then."""
        return self._watch.whole

    def generation(self) -> Generation:
        """Return the value that changes when the linker files change."""
        return self._watch.generation()

    def read(self) -> Reading:
        """Read everything that must be of one moment: the text, then the BPF programs.

        Raises:
            HiddenError: every address is zero.
            KallsymsError: the text is not what the kernel prints, or was cut short.
            SourceError: the text of kallsyms cannot be read.
        """
        source = self.root.open_kallsyms()
        live = self.root.live
        with ReaderThread(source, self.root.kallsyms, self._watch.glance, live) as ahead:
            # The kernel prints its own symbols first, which never move, so there is time to
            # start watching.
            self._watch.begin()
            # These import numpy, which takes longer than the kernel takes to print.
            from .bpf import NAME, read_programs
            from .kallsyms import read_kallsyms
            from .kallsyms_symbols import lines_of
            from .members import Reading, came
            from .regions import LANDMARKS

            if live:
                self.root.keep(STEADY)  # in the time until the first text arrives
            text = read_kallsyms(ahead, LANDMARKS | MACHINE_LANDMARKS, self.progress)

        if not text.address.any():
            raise hidden(self.root)
        if ("_stext" in text.landmarks) != ("_etext" in text.landmarks):
            missing = "_etext" if "_stext" in text.landmarks else "_stext"
            raise KallsymsError(
                f"{self.root.kallsyms} has no {missing}, which every kernel has: "
                "it is not whole.",
                "Save the whole of /proc/kallsyms with cat, and change nothing in it.",
            )

        if text.generation is UNASKED:  # lines that can change came before the watch had begun
            return self.read()

        lines = lines_of(text)
        # Read before moved() is called, which then covers them too.
        programs = read_programs(self.root) if NAME in lines else None
        told = live and text.generation.text is not None
        return Reading(text, lines, programs, came(text, lines) if told else ())

    def moved(self, reading: Reading) -> list[str]:
        """Return the changes since ``reading`` was begun, in words; empty if there are none."""
        before, now = reading.text.generation, self.generation()
        if before == now and not self._watch.unsure and not reading.came:
            return []

        words = before.moved(now)

        # The kernel stops listing a module's init symbols only after its state is Live and its
        # event was sent; at the same time it drops a reference (kernel/module/main.c,
        # do_init_module). So a changed reference count is the only sign of it.
        if released := before.released(now):
            for name in sorted(self._members.initializing(reading).intersection(released)):
                words.append(f"module {name} let go of its init section")

        listed: set[int] = set()
        for part in reading.lines.get("bpf", ()):
            listed.update(reading.text.address[part].tolist())
        if self._watch.leaving(listed):
            words.append("a BPF program was about to go")
        return words or [f"{what} came and went" for what in reading.came]

    def files(self, reading: Reading) -> Files:
        """Return the linker files of ``reading``; the rest, such as sysfs, is read now.

        Raises:
            KallsymsError: a file such as /proc/modules is not what the kernel prints.
        """
        rest = self._members.read_rest(reading)
        return self._members.files(reading, rest, self.generation())

    def tables(self, reading: Reading) -> None:
        """Return None: a text has no ELF tables, which the driver's layout copies."""

    @cached_property
    def _members(self) -> Members:
        from .members import Members

        return Members(self.root, self.debug, self.btf, self.progress)
