"""The generation: a value that changes when the set of the kernel's linker files changes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection

from .._proc_file import ProcFile
from .._typing import TYPE_CHECKING, Final, NamedTuple
from .modules import Module, parse_modules
from .perf_events import KernelEvents
from .root import Root

if TYPE_CHECKING:
    from typing import TypeVar

    from .uevents import ModuleEvents

    T = TypeVar("T")

_MODULES: Final = "proc/modules"
_SEQNUM: Final = "sys/kernel/uevent_seqnum"
TRIES: Final = 3
"""The number of tries to read everything within one generation.

It is the driver's: ``for(try = 0; try < 3; try++)``.
"""


class Generation(NamedTuple):
    """A value for the set of linker files at one moment, as far as the kernel reports it.

    - ``text``: the text of /proc/modules
    - ``events``: the number of events by what came or went, in words such as ``module dummy``.
      They are needed since a module that is unloaded and loaded again at the same address, or
      loaded and unloaded, leaves /proc/modules as it was
    - ``symbols``: the number of events of symbols that belong to no module (BPF programs,
      trampolines)

    A part that the kernel does not report is None. These parts differ after a change::

        a module is loaded                  text   events
        it is unloaded and loaded again            events
        it becomes Live                     text   events
        it is used by another module        text          (only the count: not moved)
        a BPF program is loaded                           symbols
    """

    text: bytes | None
    events: dict[str, int] | None
    symbols: int | None

    @property
    def modules(self) -> dict[str, Module]:
        """The modules by name, the oldest first; empty if there is no /proc/modules.

        Raises:
            KallsymsError: the text is not that of /proc/modules.
        """
        return {} if self.text is None else parse_modules(self.text)

    def moved(self, later: Generation) -> list[str]:
        """Return the changes between this generation and a ``later`` one, in words.

        For example ``["module dummy came"]``; empty if the linker files are the same.
        """
        moved = {}
        # Equal texts need no parsing.
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
        """Return the names of the modules whose reference count differs in ``later``."""
        before, after = (self.modules, later.modules) if self.text != later.text else ({}, {})
        return [n for n in before if n in after and before[n].refcount != after[n].refcount]


NOT_WATCHING: Final = Generation(b"", {}, -1)
"""The generation before :meth:`Watch.start` has been called; no real one is equal to it."""


class Watch:
    """Reads the present generation of the kernel under ``root``, as often as it is called.

    For the running kernel, :meth:`start` opens the perf rings and the netlink socket of its
    events, which stay open until :meth:`close`; if the kernel does not allow it,
    ``root.absent`` has the reason. A saved copy always has the same generation.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._saved: Generation | None = None
        self._events: KernelEvents | None = None
        self._uevents: ModuleEvents | None = None
        self._modules = ProcFile(root.name_of(_MODULES))
        self._seqnum = ProcFile(root.name_of(_SEQNUM))
        # Checked only once, since it depends on the kernel's configuration (CONFIG_MODULES).
        self._modular = os.path.exists(self._modules.path)
        self._watching = not root.live
        if not root.live:
            self._saved = self._ask()
        elif not self._modular:
            root.missed(_MODULES, FileNotFoundError(errno.ENOENT, ""))

    def start(self) -> None:
        """Start watching the kernel's events; a second call does nothing.

        A perf ring is opened for each CPU, which takes the kernel 0.1 ms each.
        """
        if self._watching:
            return
        try:
            self._events = KernelEvents()
        except OSError as error:
            self.root.missed("perf_event_open", error)

        from .uevents import ModuleEvents  # imported here, since a saved copy does not need it

        try:
            self._uevents = ModuleEvents()
        except (OSError, ValueError) as error:
            self.root.missed("NETLINK_KOBJECT_UEVENT", error)
        self._watching = True

    def close(self) -> None:
        """Stop watching."""
        self._watching = False
        self._modules.close()
        self._seqnum.close()
        for events in (self._events, self._uevents):
            if events is not None:
                events.close()

    @property
    def whole(self) -> bool:
        """True if the kernel reports every change, so that no change can be missed.

        /proc/modules is not needed on a kernel without loadable modules.
        """
        if self._saved is not None:
            return True
        now = self.generation()
        hidden = self._modular and None in (now.text, now.events)
        return now.symbols is not None and not hidden

    def generation(self) -> Generation:
        """Return the present generation; call :meth:`start` first if that was not done yet."""
        self.start()
        if self._events is not None:
            self._events.follow()
        return self.poll()

    def poll(self) -> Generation:
        """Return the present generation, without a check for CPUs that have come online.

        Return :data:`NOT_WATCHING` before :meth:`start`.
        """
        return self._saved or (self._ask() if self._watching else NOT_WATCHING)

    def _ask(self) -> Generation:
        """Read the parts of the generation that the kernel reports."""
        if not self.root.live:
            return Generation(self.root.read(_MODULES), None, None)
        text = self._try(_MODULES, self._modules.text) if self._modular else None
        # Read after the text, so that the events of all changes in the text are among them.
        uevents = (
            self._uevents.drain() if self._uevents else self._try(_SEQNUM, self._count_all)
        )
        return Generation(text, uevents, self._events.drain() if self._events else None)

    def _count_all(self) -> dict[str, int]:
        """Return the number of events of all devices, used if those of modules do not come."""
        return {"a device or a module": int(self._seqnum.value())}

    def _try(self, name: str, ask: Callable[[], T]) -> T | None:
        """Return the result of ``ask``; if it fails, record that ``name`` is absent."""
        try:
            return ask()
        except OSError as error:
            self.root.missed(name, error)
            return None

    @property
    def unsure(self) -> bool:
        """True if a BPF program was about to go when the events were last read."""
        return self._events is not None and bool(self._events.leaving)

    def leaving(self, listed: Collection[int]) -> set[int]:
        """Return the addresses of the ``listed`` BPF programs that were about to go.

        Programs that are not ``listed`` are forgotten.
        """
        if self._events is None:
            return set()
        self._events.leaving.intersection_update(listed)
        return self._events.leaving
