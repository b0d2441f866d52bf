"""From served to not served: what signals ask, and what is open still."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

from .._device import Device, Event
from .._errors import DeviceError

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Served(Protocol):
    """What answers opens; none any more once it is ``closing``."""

    closing: bool


class Life:
    """The life of what is served.

    Args:
        served: what answers opens.
        devices: what is open, by name.
        end: ends it; True forces it, else it raises OSError where something is in use.
        event: told in words what happens.
    """

    def __init__(
        self,
        served: Served,
        devices: dict[str, Device],
        end: Callable[[bool], None],
        event: Callable[[str], None],
    ) -> None:
        self._served = served
        self._devices = devices
        self._end = end
        self._event = event
        self._asked = 0
        self._over = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def over(self) -> None:
        """To be called when the connection has ended, from any thread."""
        self._over.set()
        os.eventfd_write(self._wake, 1)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Load the devices, and count the signals that ask for an end."""

        def asked(number: int, frame: FrameType | None) -> None:
            self._asked += 1
            os.eventfd_write(self._wake, 1)

        for device in self._devices.values():
            device.modevent(Event.LOAD)
        # What was set to be ignored stays so: nohup.
        heard = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, asked) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self) -> None:
        """Wait for the end: by a signal and the last close, or by somebody else's doing."""
        told = False
        while not self._over.is_set():
            if self._asked > 1:
                self._event("forced to end: what is open fails from now on")
                with suppress(OSError):
                    self._end(True)
                return
            if self._asked:
                self._served.closing = True
                busy = self._unload()
                if busy is None:
                    return
                if not told:
                    self._event(f"busy ({busy}): ends at the last close")
                    told = True
            # A close wakes nobody here; a server that is to end can look now and then.
            select.select([self._wake], [], [], 0.2 if self._asked else None)
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _unload(self) -> str | None:
        """What the driver's unload says: None if it is done, else who is in the way."""
        opens = {name: len(device.openers()) for name, device in self._devices.items()}
        busy = [f"{name} open {count} times" for name, count in opens.items() if count]
        if busy:
            return ", ".join(busy)
        try:
            self._end(False)
            for device in self._devices.values():
                device.modevent(Event.UNLOAD)
        except (OSError, DeviceError):
            return "in use"
        return None


def notify(state: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + path[1:] if path.startswith("@") else path)
        notify.send(state.encode())
