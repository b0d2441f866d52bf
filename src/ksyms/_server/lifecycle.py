"""The lifecycle of a server: signals ask it to end, and open files delay its end."""

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
"""Seconds for which the end waits if no file is open, but the mount is in use.

A call under way ends within them. What lasts longer is, for example, a working directory.
"""


class Lifecycle:
    """The state of a server from its start to its end.

    Args:
        devices: the devices that are served, by name.
        end: ends the service. end(False) raises OSError if a file or directory is in use;
            end(True) forces the end.
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
        """The number of signals that have asked for the end."""
        self._closed = threading.Event()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def connection_closed(self) -> None:
        """Note that the connection has ended. Any thread may call this."""
        self._closed.set()
        with suppress(BlockingIOError):  # a full pipe wakes wait() too
            os.write(self._wake, b"\0")

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Load the devices; in this context count the signals that ask for the end."""

        def asked(number: int, frame: FrameType | None) -> None:
            self._signals += 1

        for device in self._devices.values():
            device.modevent(Event.LOAD)
        # A signal that is ignored stays ignored, as nohup wants it.
        heard = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, asked) for number in heard}
        # Each signal also writes to the pipe: one just before select() would not interrupt it.
        woken_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, served: Operations) -> None:
        """Wait for a reason to end, then end the service.

        A reason is one of these:

        - a signal, and after it the last close; ``served`` refuses opens meanwhile
        - a second signal
        - an unmount

        Only open files delay the end, because only they make the driver refuse its unload. A
        working directory or an O_PATH descriptor does not: it takes no permission to open.
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

            # A close does not write to the pipe. So after a signal look five times a second.
            select.select([self._woken], [], [], 0.2 if self._signals else None)
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)

    def _busy(self) -> str:
        """Return which files are open how many times, as a phrase; "" if none is open."""
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
        """Report ``words``, and end the service even if something is in use."""
        self._event(words)
        with suppress(OSError):
            self._end(True)


def notify(state: str) -> None:
    """Send ``state`` to systemd if it expects messages of this process (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + path[1:] if path.startswith("@") else path)
        notify.send(state.encode())
