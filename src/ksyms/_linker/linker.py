"""The linker files of a kernel, in load order, from its files in /proc and /sys."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from .._errors import KallsymsError
from .._typing import TYPE_CHECKING, Final
from .generation import NOT_WATCHING, Generation, Watch
from .host import STEADY, hidden
from .machines import MACHINE_LANDMARKS
from .reader_thread import ReaderThread
from .root import Root

if TYPE_CHECKING:
    from .exact_sizes import ExactSizes
    from .files import Files
    from .raw_files import RawFileReader
    from .reading import Reading


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
        files: the files that were made from a kernel image, by name (:mod:`~.._images`).

    Raises:
        SourceError: ``root`` is neither a directory nor an archive.
    """

    remedy: Final = "Try again when no modules are being loaded or unloaded."
    """The remedy in the error if the files change during every try."""

    reads_late: Final = False
    """True if the tables are read only while they are copied into the snapshot.

    This linker reads everything that can change before that.
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
        """True if the kernel reports every change; a snapshot is then valid until the next."""
        return self._watch.whole

    def generation(self) -> Generation:
        """Return the present generation, a value that changes when the linker files change."""
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
        with ReaderThread(source, self.root.kallsyms, self._watch.poll, live) as ahead:
            # The kernel prints its own symbols first, which never move, so there is time to
            # start watching.
            self._watch.start()
            # These import numpy, which takes longer than the kernel takes to print.
            from .boundaries import LANDMARKS
            from .bpf_programs import NAME as BPF
            from .bpf_programs import read_programs
            from .kallsyms import read_kallsyms
            from .kallsyms_symbols import lines_of
            from .reading import Reading, find_newcomers

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

        # The first lines that can change were read before the watch had started.
        if text.generation is NOT_WATCHING:
            return self.read()

        lines = lines_of(text)
        # Read before moved() is called, which then covers them too.
        programs = read_programs(self.root) if BPF in lines else None
        has_modules = live and text.generation.text is not None
        newcomers = find_newcomers(text, lines) if has_modules else ()
        return Reading(text, lines, programs, newcomers)

    def moved(self, reading: Reading) -> list[str]:
        """Return the changes since the start of ``reading``, in words; empty if none."""
        before, now = reading.text.generation, self.generation()
        if before == now and not self._watch.unsure and not reading.newcomers:
            return []

        words = before.moved(now)

        # The kernel stops listing a module's init symbols only after its state is Live and its
        # event was sent; at the same time it drops a reference (kernel/module/main.c,
        # do_init_module). So a changed reference count is the only sign of it.
        if released := before.released(now):
            for name in sorted(self._raw_files.initializing(reading).intersection(released)):
                words.append(f"module {name} freed its init section")

        listed: set[int] = set()
        for part in reading.lines.get("bpf", ()):
            listed.update(reading.text.address[part].tolist())
        if self._watch.leaving(listed):
            words.append("a BPF program was about to go")
        return words or [f"{what} came and went" for what in reading.newcomers]

    def files(self, reading: Reading) -> Files:
        """Return the linker files of ``reading``; sysfs and the other files are read now.

        Raises:
            KallsymsError: a file such as /proc/modules is not what the kernel prints.
        """
        from .assemble import assemble

        raw = self._raw_files.read(reading)
        later = self.generation()
        return assemble(raw, reading.text, later, self.root, self._exact_sizes)

    def tables(self, reading: Reading) -> None:
        """Return None: the freebsd layout copies ELF tables, and a text has none."""

    @cached_property
    def _raw_files(self) -> RawFileReader:
        from .raw_files import RawFileReader

        return RawFileReader(self.root, self.btf)

    @cached_property
    def _exact_sizes(self) -> ExactSizes:
        from .exact_sizes import ExactSizes

        return ExactSizes(self.root, self.debug, self.progress)
