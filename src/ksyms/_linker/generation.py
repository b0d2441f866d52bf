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

    from .uevents import ModuleEvents

    T = TypeVar("T")

_MODULES: Final = "proc/modules"
_SEQNUM: Final = "sys/kernel/uevent_seqnum"
TRIES: Final = 3
"""How often to try for one moment, as the driver: ``for(try = 0; try < 3; try++)``."""


class Generation(NamedTuple):
    """The set of linker files at one moment, as far as the kernel tells.

    ``text`` is that of /proc/modules. ``events`` counts what came or went meanwhile, in words:
    a module that goes and comes back to its address, or comes and goes, leaves the text as it
    was. ``symbols`` counts what came and went without a module (BPF programs, trampolines).
    None where the kernel does not tell.
    """

    text: bytes | None
    events: dict[str, int] | None
    symbols: int | None

    @property
    def modules(self) -> dict[str, Module]:
        """The modules by name, the oldest first; none where the kernel does not tell.

        Raises:
            KallsymsError: the text is not that of /proc/modules.
        """
        return {} if self.text is None else parse_modules(self.text)

    def moved(self, later: Generation) -> list[str]:
        """What is different ``later``, in words; nothing where the set of files is the same."""
        moved = {}
        before, after = (self.modules, later.modules) if self.text != later.text else ({}, {})
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                moved[f"module {name}"] = "went"
            elif name not in before:
                moved[f"module {name}"] = "came"
            elif before[name].placed != after[name].placed:
                moved[f"module {name}"] = f"is {after[name].state}"
        old, new = self.events or {}, later.events or {}
        for what in sorted(new.keys() - moved.keys()):
            times = new[what] - old.get(what, 0)
            if times:
                moved[what] = "came or went" if times == 1 else "came and went"
        words = [f"{what} {how}" for what, how in moved.items()]
        if self.symbols != later.symbols:
            words.append("a BPF program or a trampoline of ftrace or kprobes came or went")
        return words

    def released(self, later: Generation) -> list[str]:
        """The modules that have another reference count ``later``."""
        before, after = (self.modules, later.modules) if self.text != later.text else ({}, {})
        return [n for n in before if n in after and before[n].refcount != after[n].refcount]


UNASKED: Final = Generation(b"", {}, -1)
"""In place of a generation before what tells of it is watched."""


class Watch:
    """Asks for the generation of the kernel under ``root``, now and again.

    Where the running kernel allows it, the rings and the socket of its events are open from
    :meth:`begin` as long as this is; where it does not, ``root.absent`` says why. A saved copy
    has one generation.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._saved: Generation | None = None
        self._events: KernelEvents | None = None
        self._uevents: ModuleEvents | None = None
        self._modules = StandingFile(root.name_of(_MODULES))
        self._seqnum = StandingFile(root.name_of(_SEQNUM))
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
        from .uevents import ModuleEvents  # which a saved copy does without

        try:
            self._uevents = ModuleEvents()
        except (OSError, ValueError) as error:
            self.root.missed("NETLINK_KOBJECT_UEVENT", error)
        self._begun = True

    def close(self) -> None:
        """Stop watching."""
        self._begun = False
        self._modules.close()
        self._seqnum.close()
        for events in (self._events, self._uevents):
            if events is not None:
                events.close()

    @property
    def whole(self) -> bool:
        """Whether every change is told: else what does not seem to move may have moved.

        A kernel without loadable modules has no /proc/modules.
        """
        if self._saved is not None:
            return True
        now = self.generation()
        hidden = self._modular and None in (now.text, now.events)
        return now.symbols is not None and not hidden

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
            return Generation(self.root.read(_MODULES), None, None)
        text = self._asked(_MODULES, self._modules.text) if self._modular else None
        # After the text: what went before that was read has told of it by now.
        uevents = self._uevents.drain() if self._uevents else self._asked(_SEQNUM, self._all)
        return Generation(text, uevents, self._events.drain() if self._events else None)

    def _all(self) -> dict[str, int]:
        """The events of all devices and modules, where those of modules do not come here."""
        return {"a device or a module": int(self._seqnum.value())}

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
