"""From served to not served: what signals ask, and what is open still."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from .._device import Device, Event
from .._errors import DeviceError
from .._transport import Operations

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_UNDER_WAY: Final = 1.0
"""Seconds for calls that were under way; what is in use then, and not open, is no call."""


class Life:
    """The life of what is served.

    Args:
        devices: what is open, by name.
        end: ends it; True forces it, else it raises OSError where something is in use.
        event: told in words what happens.
    """

    def __init__(
        self,
        devices: dict[str, Device],
        end: Callable[[bool], None],
        event: Callable[[str], None],
    ) -> None:
        self._devices = devices
        self._end = end
        self._event = event
        self._asked = 0
        self._over = threading.Event()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def over(self) -> None:
        """To be called when the connection has ended, from any thread."""
        self._over.set()
        with suppress(BlockingIOError):  # it is full: that wakes too
            os.write(self._wake, b"\0")

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Load the devices, and count the signals that ask for an end."""

        def asked(number: int, frame: FrameType | None) -> None:
            self._asked += 1

        for device in self._devices.values():
            device.modevent(Event.LOAD)
        # What was set to be ignored stays so: nohup.
        heard = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, asked) for number in heard}
        # A signal that comes just before select() is called does not interrupt it.
        woken_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, served: Operations) -> None:
        """Wait for the end: by a signal and the last close, or by somebody else's doing.

        Only what is open is waited for, as the driver's unload is refused for that alone. A
        working directory or an O_PATH descriptor needs no right to open, and holds up nothing.
        ``served`` is what answers opens.
        """
        told = False
        due = None
        while not self._over.is_set():
            if self._asked > 1:
                self._force("forced to end: what is open fails from now on")
                return
            if self._asked:
                served.closing = True
                busy = self._busy()
                if busy and not told:
                    self._event(f"busy ({busy}): ends at the last close")
                    told = True
                elif not busy:
                    if self._unload():
                        return
                    due = due or time.monotonic() + _UNDER_WAY
                    if time.monotonic() > due:
                        self._force("in use, but not open: ends all the same")
                        return
            # A close wakes nobody here; a server that is to end can look now and then.
            select.select([self._woken], [], [], 0.2 if self._asked else None)
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)

    def _busy(self) -> str:
        """What is open, in words."""
        opens = {name: len(device.openers()) for name, device in self._devices.items()}
        return ", ".join(f"{name} open {count} times" for name, count in opens.items() if count)

    def _unload(self) -> bool:
        """Whether the driver's unload is done; else something is in use still."""
        try:
            self._end(False)
            for device in self._devices.values():
                device.modevent(Event.UNLOAD)
        except (OSError, DeviceError):
            return False
        return True

    def _force(self, words: str) -> None:
        self._event(words)
        with suppress(OSError):
            self._end(True)


def notify(state: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + path[1:] if path.startswith("@") else path)
        notify.send(state.encode())
