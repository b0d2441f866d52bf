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
    """A server of the character device ``/dev/NAME``, with its policy's mode and owner.

    Args:
        name: the device's name.
        others: the arguments of :class:`Server`.
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
                """Do nothing: the device goes with the connection, at the process's exit."""

            lifecycle = Lifecycle({self.name: device}, end, self.event)
            stack.enter_context(lifecycle.signals())
            self.serve(lifecycle, channel, character, nullcontext())
        self.event("ended")

    def _ready(self) -> None:
        """Set the node's mode and owner, which the kernel does not take from the server."""
        path = f"/dev/{self.name}"
        with suppress(OSError):
            os.chown(path, self.policy.owner, self.policy.group)
            os.chmod(path, self.policy.mode)
        self.event(f"serving {path}")
        notify("READY=1")
