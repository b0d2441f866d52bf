"""The lifecycle of a server: signals ask for its end, and open files delay it."""

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
_GRACE: Final = 1.0
"""Seconds in which calls under way can end.

A use that lasts longer is not a call but, for example, a working directory.
"""


class Lifecycle:
    """The state of a server from its start to its end.

    Args:
        devices: the devices that are served, by name.
        end: ends the service: end(True) forces it; end(False) raises OSError if a file or
            directory is in use.
        event: called with one sentence about each event.
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
        self._signals = 0
        self._closed = threading.Event()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def connection_closed(self) -> None:
        """Note that the connection has ended; may be called from any thread."""
        self._closed.set()
        with suppress(BlockingIOError):  # a full pipe wakes wait() as well
            os.write(self._wake, b"\0")

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Load the devices, and count the signals that ask for an end."""

        def asked(number: int, frame: FrameType | None) -> None:
            self._signals += 1

        for device in self._devices.values():
            device.modevent(Event.LOAD)
        # A signal that is ignored stays ignored (nohup).
        heard = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, asked) for number in heard}
        # The pipe is needed: a signal just before select() would not interrupt it.
        woken_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, served: Operations) -> None:
        """Wait for the end: a signal and then the last close, a second signal, or an unmount.

        Only open files are waited for, as only they make the driver refuse its unload. A
        working directory or an O_PATH descriptor needs no permission to open, and does not
        delay the end. ``served`` answers opens: they are refused after the first signal.
        """
        reported = False
        due = None
        while not self._closed.is_set():
            if self._signals > 1:
                self._force("forced to end: calls on open files fail from now on")
                return
            if self._signals:
                served.closing = True
                busy = self._busy()
                if busy and not reported:
                    self._event(f"busy ({busy}): ends at the last close")
                    reported = True
                elif not busy:
                    if self._unload():
                        return
                    due = due or time.monotonic() + _GRACE
                    if time.monotonic() > due:
                        self._force("in use, but not open: ends nevertheless")
                        return

            # A close does not write to the pipe, so poll once a signal has come.
            select.select([self._woken], [], [], 0.2 if self._signals else None)
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)

    def _busy(self) -> str:
        """Return the open files and their counts as a phrase; "" if none is open."""
        opens = {name: len(device.openers()) for name, device in self._devices.items()}
        return ", ".join(f"{name} open {count} times" for name, count in opens.items() if count)

    def _unload(self) -> bool:
        """End the service and unload the devices; return False if something is in use."""
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
    """Send ``state`` to systemd if it started this process so (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + path[1:] if path.startswith("@") else path)
        notify.send(state.encode())
