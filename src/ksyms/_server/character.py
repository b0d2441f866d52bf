"""The device as a true character device, through CUSE."""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext, suppress
from typing import Any

from .._device import Device
from .._transport import Channel, CharacterDevice, check_namespace, connect
from .lifecycle import Lifecycle, notify
from .server import Server


class CharacterServer(Server):
    """A server of ``/dev/NAME``, with the mode and owner of its policy.

    Args:
        name: the node's name.
        others: see :class:`Server`.
    """

    def __init__(self, name: str, **others: Any) -> None:
        super().__init__(**others)
        self.name = name

    def run(self) -> None:
        """Serve until a signal ends it; see :meth:`Server.run`."""
        with ExitStack() as stack:
            check_namespace()
            fd = connect(self.name)
            latest = self.latest(stack)
            device = Device(self.policy)
            channel = Channel(fd)
            character = CharacterDevice(
                self.name, device, latest, self.gate, self.readers, self._ready
            )

            def end(force: bool) -> None:
                """Do nothing: the process's exit closes the connection, and so the device."""

            lifecycle = Lifecycle({self.name: device}, end, self.event)
            stack.enter_context(lifecycle.signals())
            self.serve(lifecycle, channel, character, nullcontext())
        self.event("ended")

    def _ready(self) -> None:
        """Give the node the policy's mode and owner: the kernel makes it with others."""
        path = f"/dev/{self.name}"
        with suppress(OSError):
            os.chown(path, self.policy.owner, self.policy.group)
            os.chmod(path, self.policy.mode)
        self.event(f"serving {path}")
        notify("READY=1")
