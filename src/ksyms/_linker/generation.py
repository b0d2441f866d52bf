"""One value that differs when the kernel's linker files have changed."""

from __future__ import annotations

from typing import NamedTuple

from .root import Root


class Generation(NamedTuple):
    """The set of linker files at one moment, as far as the kernel tells.

    ``modules`` has name, size, state and address of each module, by name: /proc/modules
    without what moves on its own (the reference counts). ``events`` is
    /sys/kernel/uevent_seqnum, which moves when a module comes or goes, also where an
    unload and a reload at one address leave /proc/modules as it was. None where the
    kernel does not tell.
    """

    modules: dict[str, tuple[str, ...]] | None
    events: int | None

    def moved(self, later: Generation) -> list[str]:
        """What is different ``later``, in words; nothing where the two are equal."""
        if self == later:
            return []
        words = []
        before, after = self.modules or {}, later.modules or {}
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                words.append(f"module {name} went")
            elif name not in before:
                words.append(f"module {name} came")
            elif before[name] != after[name]:
                words.append(f"module {name} changed")
        return words or [f"a device or module event came ({self.events} to {later.events})"]


def read_generation(root: Root) -> Generation:
    """Ask the kernel, or a saved copy of its files, for the generation now."""
    text = root.read("proc/modules")
    modules = None
    if text is not None:
        rows = (line.split() for line in text.decode("utf-8", "replace").splitlines())
        modules = {r[0]: tuple(r[1:2] + r[4:6]) for r in rows if r}
    events = root.text("sys/kernel/uevent_seqnum")
    return Generation(modules, int(events) if events and events.isdecimal() else None)
