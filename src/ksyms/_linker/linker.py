"""The linker: every linker file of a kernel, in load order, from its text files."""

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
    """Where a kernel's symbols come from: the running one, or one saved under a root.

    A context manager: events are watched from its first question to its end.

    Args:
        root: the directory that holds ``proc`` and ``sys``, or an archive of one.
        kallsyms: a kallsyms text by itself, in place of a directory.
        progress: called with the number of bytes each time some have been read.
        debug: directories to look for files with exact sizes in, besides the usual ones;
            None for sizes inferred from the text alone.
        btf: whether the kernel's and the modules' BTF is read too.
        data: what the text or the archive has, where it has been read and can be read once;
            or the files that a kernel's image stands for (:mod:`~.._images`).

    Raises:
        SourceError: ``root`` is neither a directory nor an archive.
    """

    remedy: Final = "Try again when no modules are being loaded or unloaded."
    """What to do where the files keep moving."""

    reads_late: Final = False
    """Whether tables are read while they are copied; here all that moves is read before."""

    def __init__(
        self,
        root: str = "/",
        kallsyms: str | None = None,
        progress: Callable[[int], None] | None = None,
        debug: tuple[str, ...] | None = (),
        btf: bool = False,
        data: bytes | dict[str, bytes] | None = None,
    ) -> None:
        self.root = Root(root, kallsyms, data)
        self.btf = btf
        self.progress = progress
        self.debug = debug
        self._watch = Watch(self.root)

    def __enter__(self) -> Linker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the kernel holds for this: the rings and the socket of its events."""
        self._watch.close()

    @property
    def watched(self) -> bool:
        """Whether every change is told, so that a snapshot can stand until one is."""
        return self._watch.whole

    def generation(self) -> Generation:
        """The value that differs when the linker files have changed."""
        return self._watch.generation()

    def read(self) -> Reading:
        """Read what must be of one moment: the text.

        Raises:
            HiddenError: every address is zero.
            KallsymsError: a text is not what the kernel prints, or was cut short.
            SourceError: the text of kallsyms cannot be read.
        """
        source = self.root.open_kallsyms()
        live = self.root.live
        with ReaderThread(source, self.root.kallsyms, self._watch.glance, live) as ahead:
            # The kernel prints its own symbols first, which never move.
            self._watch.begin()
            # And with these numpy, which takes longer to import than the kernel to print.
            from .bpf import NAME, read_programs
            from .kallsyms import read_kallsyms
            from .kallsyms_symbols import lines_of
            from .members import Reading, came
            from .regions import LANDMARKS

            if live:
                self.root.keep(STEADY)  # until there is something to take apart
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
        if text.generation is UNASKED:  # what moves came with the first that was read
            return self.read()
        lines = lines_of(text)
        # Before moved() is asked, so that they are of the text's moment.
        programs = read_programs(self.root) if NAME in lines else None
        told = live and text.generation.text is not None
        return Reading(text, lines, programs, came(text, lines) if told else ())

    def moved(self, reading: Reading) -> list[str]:
        """What has changed since ``reading`` was begun, in words; nothing if nothing has."""
        before, now = reading.text.generation, self.generation()
        if before == now and not self._watch.unsure and not reading.came:
            return []
        words = before.moved(now)
        # After a module is Live, and after its event, the kernel stops listing its init
        # symbols and in the same breath drops a reference (main.c, do_init_module).
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
        """The linker files that ``reading`` tells of."""
        return self._members.files(reading, self.generation)

    @cached_property
    def _members(self) -> Members:
        from .members import Members

        return Members(self.root, self.debug, self.btf, self.progress)
