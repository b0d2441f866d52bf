"""A server's life: mount, serve, unmount; signals; a dead mount of an earlier one."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ._device import Device, Event, Policy
from ._errors import ServeError, reason
from ._linker import Linker, Rule
from ._snapshot import Latest, Snapshot
from ._transport import (
    FORCE,
    KIND,
    STATUS,
    Backing,
    Channel,
    Directory,
    Request,
    check,
    mount,
    mounted,
    serve,
    unmount,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

DEVICE: Final = "ksyms"
FILE: Final = "vmlinux"
_PATIENCE: Final = 2.0
"""Seconds to wait for a mount that may have nobody behind it any more."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Server:
    """Serves ``directory`` from :meth:`run`'s begin to its end.

    Args:
        directory: where to mount; it is made if it is not there.
        link: a symlink to make to the device, as ``/dev/ksyms``.
        mode: the files' permissions.
        allow_other: whether the kernel lets other users than this in.
        event: told in words what happens.
        call: told of each call: the request, its errno and how many seconds it took.
    """

    def __init__(
        self,
        directory: str,
        *,
        link: str | None = None,
        mode: int = 0o400,
        allow_other: bool = False,
        event: Callable[[str], None] = lambda words: None,
        call: Callable[[Request, int, float], None] | None = None,
    ) -> None:
        # Not the directory itself: a dead mount there would not answer.
        parent, name = os.path.split(os.path.abspath(directory))
        self.directory = os.path.join(os.path.realpath(parent), name)
        self.link = link
        self.mode = mode
        self.allow_other = allow_other
        self._event = event
        self._call = call
        self._taken = 0.0

    def run(self) -> None:
        """Serve until a signal ends it, or somebody unmounts the directory.

        Raises:
            KsymsError: this process cannot take a snapshot itself, or cannot serve.
        """
        with ExitStack() as stack:
            check()
            stack.enter_context(self._place())
            linker = stack.enter_context(Linker())
            latest = Latest(linker, self._kept)
            latest.get()  # who cannot read cannot serve, and says so now
            mounted_at = mount(self.directory, self.allow_other)
            stack.callback(os.close, mounted_at.fd)
            policy = Policy(mode=self.mode, owner=os.geteuid(), group=os.getegid())
            files = {
                DEVICE: Device(policy),
                FILE: Device(replace(policy, opens_per_process=None)),
            }
            for device in files.values():
                device.modevent(Event.LOAD)
            channel = Channel(mounted_at.fd)
            tree = Directory(
                channel,
                mounted_at.device,
                files,
                latest,
                Rule().shows,
                lambda: self._facts(linker, latest, tree),
                self._event,
            )
            life = _Life(self.directory, mounted_at.by_helper, tree, files, self._event)
            with life.signals():
                # A daemon: where only the end of the process ends the connection, it is that.
                loop = threading.Thread(
                    target=life.dispatch, args=(channel, self._call), daemon=True
                )
                loop.start()
                stack.enter_context(self._linked())
                self._event(f"serving {self.directory}")
                _notify("READY=1")
                life.wait()
                loop.join(_PATIENCE)
        self._event("ended")

    def _kept(self, snapshot: Snapshot) -> Backing:
        backing = Backing(snapshot.image)
        self._taken = time.time()
        self._event(f"snapshot of {backing.size} bytes taken")
        return backing

    def _facts(
        self, linker: Linker, latest: Latest[Backing], tree: Directory
    ) -> dict[str, Any]:
        generation = latest.generation
        assert generation is not None
        return {
            "pid": os.getpid(),
            "directory": self.directory,
            "link": self.link,
            "generation": {
                "modules": None if generation.text is None else len(generation.modules),
                "uevent_seqnum": generation.events and int(generation.events),
                "perf_events": generation.symbols,
            },
            "sources_missing": dict(linker.root.absent),
            "shared": latest.shared,
            "taken": latest.taken,
            "age": round(time.time() - self._taken, 3),
            "passthrough": tree.passthrough is None,
            "why_no_passthrough": tree.passthrough,
        }

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A directory to mount on, free of what an earlier server left there."""
        self._recover()
        made = False
        try:
            os.mkdir(self.directory, 0o755)
            made = True
        except FileExistsError:
            pass
        except OSError as error:
            raise ServeError(
                f"{self.directory} cannot be made: {reason(error)}.",
                "Name a directory that is there, or can be made.",
                errno=error.errno,
            ) from None
        if not stat.S_ISDIR(os.lstat(self.directory).st_mode):
            raise ServeError(
                f"{self.directory} is not a directory.",
                "Name one, or a place for one.",
                errno=errno.ENOTDIR,
            )
        try:
            yield
        finally:
            if made:
                with suppress(OSError):
                    os.rmdir(self.directory)

    def _recover(self) -> None:
        found = mounted(self.directory)
        if found is None:
            return
        if found[0] != KIND:
            raise ServeError(
                f"Something else ({found[0]}) is mounted at {self.directory}.",
                "Name another directory, or unmount it.",
                errno=errno.EBUSY,
            )
        if answers(self.directory):
            raise ServeError(
                f"{self.directory} is served already.",
                "Name another directory, or stop that server.",
                errno=errno.EBUSY,
            )
        try:
            unmount(self.directory, os.geteuid() != 0, FORCE)
        except OSError as error:
            raise ServeError(
                f"The dead mount at {self.directory} cannot be removed: {reason(error)}.",
                "Unmount it as root: umount -l.",
                errno=error.errno,
            ) from None
        self._event(f"removed the dead mount at {self.directory}")

    @contextmanager
    def _linked(self) -> Iterator[None]:
        """The symlink, for as long as the device is served."""
        if self.link is None:
            yield
            return
        target = os.path.join(self.directory, DEVICE)
        try:
            # One that an earlier server left here is ours.
            if os.path.islink(self.link) and os.readlink(self.link) == target:
                os.unlink(self.link)
            os.symlink(target, self.link)
        except OSError as error:
            self._event(f"{self.link} cannot be made: {reason(error)}")
            yield
            return
        try:
            yield
        finally:
            with suppress(OSError):
                if os.readlink(self.link) == target:
                    os.unlink(self.link)


class _Life:
    """From mounted to unmounted: what signals ask, and what is open still."""

    def __init__(
        self,
        directory: str,
        by_helper: bool,
        tree: Directory,
        files: dict[str, Device],
        event: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.by_helper = by_helper
        self.tree = tree
        self.files = files
        self.event = event
        self._asked = 0
        self._ended = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def dispatch(
        self, channel: Channel, call: Callable[[Request, int, float], None] | None
    ) -> None:
        """Serve until the connection ends."""
        try:
            serve(channel, self.tree, call)
        finally:
            self._ended.set()
            os.eventfd_write(self._wake, 1)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Count the signals that ask for an end."""

        def asked(number: int, frame: FrameType | None) -> None:
            self._asked += 1
            os.eventfd_write(self._wake, 1)

        before = {number: signal.signal(number, asked) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake)

    def wait(self) -> None:
        """Wait for the end: by a signal and the last close, or unmounted by somebody."""
        told = False
        while not self._ended.is_set():
            if self._asked > 1:
                self.event("forced to end: what is open gets ENOTCONN")
                self._unmount(FORCE)
                return
            if self._asked:
                self.tree.closing = True
                if not self._busy() and self._unmount(0):
                    return
                if not told:
                    self.event(f"busy ({self._busy() or 'in use'}): ends at the last close")
                    told = True
            # A close wakes nobody here; a server that is to end can look now and then.
            select.select([self._wake], [], [], 0.2 if self._asked else None)
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _busy(self) -> str:
        opens = {name: len(device.openers()) for name, device in self.files.items()}
        return ", ".join(f"{name} open {count} times" for name, count in opens.items() if count)

    def _unmount(self, flags: int) -> bool:
        try:
            unmount(self.directory, self.by_helper, flags)
        except OSError:
            return False
        return True


def status(directory: str) -> dict[str, Any]:
    """What the server of ``directory`` says of itself.

    Raises:
        ServeError: nobody serves there.
    """
    try:
        with open(os.path.join(directory, STATUS), "rb") as file:
            found: dict[str, Any] = json.loads(file.read())
            return found
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "it says nothing"
        raise ServeError(
            f"{directory} is not served: {why}.",
            "Name the directory that ksyms serve mounted.",
            errno=getattr(error, "errno", None),
        ) from None


def answers(directory: str) -> bool:
    """Whether somebody answers behind the mount at ``directory``."""
    found: list[bool] = []

    def ask() -> None:
        try:
            os.stat(os.path.join(directory, STATUS))  # a name is never kept
        except OSError as error:
            found.append(error.errno != errno.ENOTCONN)
        else:
            found.append(True)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return not found or found[0]


def _notify(state: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + path[1:] if path.startswith("@") else path)
        notify.send(state.encode())
