"""One value that differs when the kernel's linker files have changed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection

from .._standing import StandingFile
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .ksymbols import KernelEvents
from .modules import Module, parse_modules
from .root import Root

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

_MODULES: Final = "proc/modules"
_SEQNUM: Final = "sys/kernel/uevent_seqnum"
_INSTANCES: Final = "sys/module"
TRIES: Final = 3
"""How often to try for one moment, as the driver: ``for(try = 0; try < 3; try++)``."""


class Generation(NamedTuple):
    """The set of linker files at one moment, as far as the kernel tells.

    ``text`` is that of /proc/modules. ``events`` is /sys/kernel/uevent_seqnum, which moves
    when a module comes or goes, and with every other event of a device, which anybody can
    make. ``instances`` are the inodes of what /sys/module has, by name: an unload and a reload
    at one address leave /proc/modules as it was, and make another inode. ``symbols`` counts
    what came and went without a module (BPF programs, trampolines). None where the kernel does
    not tell.
    """

    text: bytes | None
    events: bytes | None
    symbols: int | None
    instances: dict[str, int] | None = None

    @property
    def modules(self) -> dict[str, Module]:
        """The modules by name, the oldest first; none where the kernel does not tell.

        Raises:
            KallsymsError: the text is not that of /proc/modules.
        """
        return {} if self.text is None else parse_modules(self.text)

    def moved(self, later: Generation) -> list[str]:
        """What is different ``later``, in words; nothing where the set of files is the same."""
        words = []
        before, after = (self.modules, later.modules) if self.text != later.text else ({}, {})
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                words.append(f"module {name} went")
            elif name not in before:
                words.append(f"module {name} came")
            elif before[name].placed != after[name].placed:
                words.append(f"module {name} is {after[name].state}")
        if self.symbols != later.symbols:
            words.append("a BPF program or a trampoline of ftrace or kprobes came or went")
        if words:
            return words
        old, new = self.instances or {}, later.instances or {}
        if again := sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n)):
            return [f"module {name} came or went" for name in again]
        if self.events != later.events and not self._settled:
            words.append(
                f"a device or module event came ({_number(self.events)} to "
                f"{_number(later.events)})"
            )
        return words

    @property
    def _settled(self) -> bool:
        """Whether each module has an inode in sysfs as long as it lists symbols.

        One that is being unloaded loses it before its symbols (kernel/module/main.c,
        free_module); then its events tell of it, which come before either.
        """
        return self.instances is not None and all(
            module.state == "Live" for module in self.modules.values()
        )

    def released(self, later: Generation) -> list[str]:
        """The modules that have another reference count ``later``."""
        before, after = (self.modules, later.modules) if self.text != later.text else ({}, {})
        return [n for n in before if n in after and before[n].refcount != after[n].refcount]


UNASKED: Final = Generation(b"", b"", -1)
"""In place of a generation before what tells of it is watched."""


def _number(text: bytes | None) -> str:
    return "unknown" if text is None else text.decode("utf-8", "replace").strip()


def inodes(directory: str) -> dict[str, int]:
    """The inode of each entry of ``directory``, by name, without a call for each.

    sysfs gives each directory that it makes another (fs/kernfs/dir.c, __kernfs_new_node).

    Raises:
        OSError: it cannot be read.
    """
    with os.scandir(directory) as entries:
        return {entry.name: entry.inode() for entry in entries}


class Watch:
    """Asks for the generation of the kernel under ``root``, now and again.

    Where the running kernel allows it, the rings of its events are open from :meth:`begin` as
    long as this is; where it does not, ``root.absent`` says why. A saved copy has one
    generation.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._saved: Generation | None = None
        self._events: KernelEvents | None = None
        self._modules = StandingFile(root.name_of(_MODULES))
        self._seqnum = StandingFile(root.name_of(_SEQNUM))
        self._last: Generation | None = None
        # A kernel is built with loadable modules or it is not.
        self._modular = os.path.exists(self._modules.path)
        self._begun = not root.live
        if not root.live:
            self._saved = self._ask()
        elif not self._modular:
            root.missed(_MODULES, FileNotFoundError(errno.ENOENT, ""))

    def begin(self) -> None:
        """Watch from now on; nothing happens the second time.

        Each CPU has a ring, which takes the kernel 0.1 ms to make.
        """
        if self._begun:
            return
        try:
            self._events = KernelEvents()
        except OSError as error:
            self.root.missed("perf_event_open", error)
        self._begun = True

    def close(self) -> None:
        """Stop watching."""
        self._begun = False
        self._modules.close()
        self._seqnum.close()
        if self._events is not None:
            self._events.close()

    @property
    def whole(self) -> bool:
        """Whether every change is told: else what does not seem to move may have moved.

        A kernel without loadable modules has no /proc/modules.
        """
        if self._saved is not None:
            return True
        now = self.generation()
        hidden = self._modular and None in (now.text, now.events)
        return None not in (now.symbols, now.instances) and not hidden

    def generation(self) -> Generation:
        """The generation now."""
        self.begin()
        if self._events is not None:
            self._events.follow()
        return self.glance()

    def glance(self) -> Generation:
        """The generation now, but for CPUs that came since :meth:`generation` was asked.

        Before :meth:`begin`, :data:`UNASKED`.
        """
        return self._saved or (self._ask() if self._begun else UNASKED)

    def _ask(self) -> Generation:
        if not self.root.live:
            return Generation(self.root.read(_MODULES), self.root.read(_SEQNUM), None)
        events = self._asked(_SEQNUM, self._seqnum.value)
        text = self._asked(_MODULES, self._modules.text) if self._modular else None
        symbols = self._events.drain() if self._events else None
        last = self._last
        if not self._modular:
            instances: dict[str, int] | None = {}
        elif last and events and (last.events, last.text) == (events, text):
            instances = last.instances
        else:
            # After the number: whatever comes later moves that, and has this asked again.
            instances = self._asked(_INSTANCES, self._instances)
        self._last = Generation(text, events, symbols, instances)
        return self._last

    def _instances(self) -> dict[str, int]:
        return inodes(self.root.name_of(_INSTANCES))

    def _asked(self, name: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except OSError as error:
            self.root.missed(name, error)
            return None

    @property
    def unsure(self) -> bool:
        """Whether a BPF program was about to go, the last time that it was asked."""
        return self._events is not None and bool(self._events.leaving)

    def leaving(self, listed: Collection[int]) -> set[int]:
        """Which of the BPF programs ``listed`` in a text were about to go, by address."""
        if self._events is None:
            return set()
        self._events.leaving.intersection_update(listed)
        return self._events.leaving
