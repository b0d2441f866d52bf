"""The device and the plain file in a mounted directory."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from .._beneath import open_regular
from .._device import Device
from .._errors import ServeError, reason
from .._note import has
from .._transport import (
    FORCE,
    KIND,
    STATUS,
    Channel,
    Directory,
    Mount,
    check,
    mount,
    mounted,
    unmount,
)
from .life import Life, notify
from .server import DEVICE, PATIENCE, Server

FILE: Final = "vmlinux"
_LARGEST: Final = 1 << 20  # bytes of .status: a thousand openers have a tenth
_NUMBER: Final = (int, type(None))
_FACTS: Final[dict[str, Any]] = {
    "pid": int,
    "generation": {"*": _NUMBER},
    "sources_missing": {"*": str},
    "shared": bool,
    "taken": int,
    "age": (int, float),
    "snapshots": int,
    "bytes": int,
    "why_no_passthrough": (str, type(None)),
    "openers": [{"file": str, "pid": int}],
}
"""What ``.status`` has, as :func:`~.._note.has` takes it."""


class DirectoryServer(Server):
    """Serves ``directory``, through FUSE.

    Args:
        directory: where to mount; it is made if it is not there.
        link: a symlink to make to the device, as ``/dev/ksyms``.
        allow_other: whether the kernel lets other users than this in.
        others: see :class:`Server`.
    """

    def __init__(
        self,
        directory: str,
        *,
        link: str | None = None,
        allow_other: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        if not directory:
            raise ServeError("The directory has no name.", "Name one.", errno=errno.ENOENT)
        self.directory = _placed(directory)
        self.link = link
        self.allow_other = allow_other

    def run(self) -> None:
        """See :meth:`Server.run`; it ends too when somebody unmounts the directory."""
        with ExitStack() as stack:
            check()
            stack.enter_context(self._place())
            latest = self.latest(stack)
            self._recover()  # another server can have begun meanwhile
            mounted_at = mount(self.directory, self.allow_other)
            stack.callback(os.close, mounted_at.fd)
            stack.callback(self._unmount, mounted_at, FORCE)
            several = replace(self.policy, opens_per_process=None)
            files = {DEVICE: Device(self.policy), FILE: Device(several)}
            channel = Channel(mounted_at.fd)
            tree = Directory(
                channel,
                mounted_at.device,
                files,
                latest,
                self.gate,
                lambda: {**self.facts(latest), "directory": self.directory},
                self.event,
            )

            def end(force: bool) -> None:
                if not self._unmount(mounted_at, FORCE if force else 0):
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

            life = Life(tree, files, end, self.event)
            stack.enter_context(life.signals())
            self.serve(life, channel, tree, self._linked())
        self.event("ended")

    def _unmount(self, mounted_at: Mount, flags: int) -> bool:
        """Unmount what this server mounted, and nobody else's; false where it is not gone."""
        try:
            found = mounted(self.directory)
            if found is None:
                return True  # somebody else did; it can live on in another place
            if found[1] != mounted_at.device:
                return False
            unmount(self.directory, mounted_at.by_helper, flags)
        except OSError:
            return False
        return True

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
            raise _not_made(self.directory, error) from None
        if not stat.S_ISDIR(os.lstat(self.directory).st_mode):
            raise ServeError(
                f"{self.directory} is not a directory.",
                "Name one, or a place for one.",
                errno=errno.ENOTDIR,
            )
        if os.listdir(self.directory):
            raise ServeError(
                f"{self.directory} is not empty.",
                "Name an empty directory, or one that is not there yet.",
                errno=errno.ENOTEMPTY,
            )
        try:
            yield
        finally:
            if made:
                with suppress(OSError):
                    os.rmdir(self.directory)

    def _recover(self) -> None:
        while (found := mounted(self.directory)) is not None:
            self._remove(found[0])

    def _remove(self, kind: str) -> None:
        """Remove a dead mount of an earlier server.

        Raises:
            ServeError: it is not dead, or something else.
        """
        if kind != KIND:
            raise ServeError(
                f"Something else ({kind}) is mounted at {self.directory}.",
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
        self.event(f"removed the dead mount at {self.directory}")

    @contextmanager
    def _linked(self) -> Iterator[None]:
        """The symlink, for as long as the device is served; and the word that it is."""
        with self._link():
            self.event(f"serving {self.directory}")
            notify("READY=1")
            yield

    @contextmanager
    def _link(self) -> Iterator[None]:
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
            self.event(f"{self.link} cannot be made: {reason(error)}")
            yield
            return
        try:
            yield
        finally:
            with suppress(OSError):
                if os.readlink(self.link) == target:
                    os.unlink(self.link)


def _placed(directory: str) -> str:
    """``directory`` as mountinfo has it: absolute, without symlinks on the way to it.

    Raises:
        ServeError: there is no way to it.
    """
    # Its own name is looked up only where it must be: a dead mount would not answer.
    parent, name = os.path.split(directory.rstrip("/"))
    if name in ("", ".", ".."):
        parent, name = directory, ""
    try:
        found = os.path.realpath(parent or ".", strict=True)
    except OSError as error:
        raise _not_made(directory, error) from None
    return os.path.join(found, name) if name else found


def _not_made(directory: str, error: OSError) -> ServeError:
    return ServeError(
        f"{directory} cannot be made: {reason(error)}.",
        "Name a directory that is there, or can be made.",
        errno=error.errno,
    )


def status(directory: str) -> dict[str, Any]:
    """What the server of ``directory`` says of itself.

    Raises:
        ServeError: nobody serves there; EACCES, if this user may not know.
    """
    try:
        # Whoever made the directory may have put anything there.
        with open(open_regular(directory, STATUS), "rb") as file:
            found: dict[str, Any] = json.loads(file.read(_LARGEST))
        if not has(found, _FACTS):
            raise ValueError
        return found
    except PermissionError as error:
        raise ServeError(
            f"{directory} does not say who uses it: {reason(error)}.",
            "Ask as the user that serves it.",
            errno=error.errno,
        ) from None
    except (OSError, ValueError, RecursionError) as error:
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
    asking.join(PATIENCE)
    return not found or found[0]
