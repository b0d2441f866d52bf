"""A server of the device, and of a plain file, in a mounted directory."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from .._beneath import open_regular
from .._device import Device
from .._errors import ServeError, os_error, reason
from .._note.schema import has, is_count
from .._paths import UntrustedError, descend, place
from .._threads import begin
from .._transport import (
    FORCE,
    KIND,
    STATUS,
    Channel,
    Directory,
    check_fuse,
    check_namespace,
    find_mount,
    mount,
    try_unmount,
    unmount,
)
from .lifecycle import Lifecycle, notify
from .server import DEVICE, PATIENCE, Server

FILE: Final = "vmlinux"
_OPEN_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGEST: Final = 1 << 20  # bytes read of .status: ten times what 1,000 openers take


def _is_count_or_none(value: object) -> bool:
    return value is None or is_count(value)


def _is_seconds(value: object) -> bool:
    # JSON as Python reads it has NaN and Infinity: neither is within these bounds.
    return isinstance(value, (int, float)) and 0 <= value < 1 << 64


_FACTS: Final[dict[str, Any]] = {
    "pid": is_count,
    "generation": {"*": _is_count_or_none},
    "sources_missing": {"*": str},
    "shared": bool,
    "taken": is_count,
    "age": _is_seconds,
    "snapshots": is_count,
    "bytes": is_count,
    "why_no_passthrough": (str, type(None)),
    "openers": [{"file": str, "pid": is_count}],
    "more_openers": is_count,
}
"""The members of ``.status`` and their types, for :func:`~.._note.schema.has`."""


class DirectoryServer(Server):
    """A server of ``directory``, through FUSE.

    Args:
        directory: the directory to mount on; it is made if it does not exist.
        link: the path of a symlink to make to the device, such as ``/dev/ksyms``.
        allow_other: True if the kernel shall also let users other than this one in.
        others: the arguments of :class:`Server`.
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
        self.directory = directory
        self.link = link
        self.allow_other = allow_other

    def run(self) -> None:
        """Serve until a signal or an unmount ends it; see :meth:`Server.run`."""
        with ExitStack() as stack:
            check_namespace()
            check_fuse()
            at = stack.enter_context(self._mount_point())
            latest = self.latest(stack)
            several = replace(self.policy, opens_per_process=None)
            files = {DEVICE: Device(self.policy), FILE: Device(several)}

            def end(force: bool) -> None:
                if not try_unmount(mounted_at, FORCE if force else 0):
                    raise os_error(errno.EBUSY)

            lifecycle = Lifecycle(files, end, self.event)

            # From here on a signal is only counted and raises nothing, so that no mount stays.
            stack.enter_context(lifecycle.signals())
            self._remove_dead_mounts(at)  # another server may have mounted meanwhile
            mounted_at = mount(at, self.allow_other)
            stack.callback(os.close, mounted_at.fd)
            stack.callback(try_unmount, mounted_at, FORCE)
            channel = Channel(mounted_at.fd)
            tree = Directory(
                channel,
                mounted_at.mounted.device,
                files,
                latest,
                self.gate,
                self.readers,
                lambda: {**self.facts(latest), "directory": self.directory},
                self.event,
            )

            self.serve(lifecycle, channel, tree, self._linked())
        self.event("ended")

    @contextmanager
    def _mount_point(self) -> Iterator[int]:
        """Yield a descriptor of the directory to mount on; make it if it does not exist.

        A dead mount is one whose server has ended. If an earlier server left one there, remove
        it first.
        """
        with ExitStack() as stack:
            # Open the parent first: if a dead mount is on the directory, opening that fails.
            parent, name = os.path.split(self.directory.rstrip("/"))
            if name in ("", ".", ".."):
                parent, name = self.directory, ""
            try:
                above = _open_directory(parent, stack)
                self.directory = os.path.join(place(above), name) if name else place(above)
                self._remove_dead_mounts(above, name)
                if name:
                    stack.enter_context(_making_directory(above, name))
            except (OSError, UntrustedError) as error:
                raise _not_made_error(self.directory, error) from None
            try:
                at = os.open(name or ".", _OPEN_DIRECTORY, dir_fd=above)
            except OSError as error:
                raise ServeError(
                    f"{self.directory} is not a directory."
                    if error.errno == errno.ENOTDIR
                    else f"{self.directory} cannot be opened: {reason(error)}.",
                    "Name a directory, or a path at which one can be made.",
                    errno=error.errno,
                ) from None

            stack.callback(os.close, at)
            self._check_empty(at)
            yield at

    def _check_empty(self, at: int) -> None:
        """Check that the directory ``at`` is empty.

        Raises:
            ServeError: it is not empty, or may not be read.
        """
        try:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            try:
                empty = not os.listdir(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise ServeError(
                f"{self.directory} cannot be read: {reason(error)}.",
                "Name an empty directory, or one that is not there yet.",
                errno=error.errno,
            ) from None
        if not empty:
            raise ServeError(
                f"{self.directory} is not empty.",
                "Name an empty directory, or one that is not there yet.",
                errno=errno.ENOTEMPTY,
            )

    def _remove_dead_mounts(self, at: int, name: str = "") -> None:
        """Unmount dead mounts of earlier servers from the directory ``at``, or ``name`` in it.

        Raises:
            ServeError: a server still answers there, or another file system is mounted there.
        """
        directory = os.path.join(place(at), name).rstrip("/") or "/"
        while (found := find_mount(directory)) is not None:
            self._remove_dead_mount(directory, found.kind, at, name)

    def _remove_dead_mount(self, directory: str, kind: str, at: int, name: str) -> None:
        """Unmount the mount of the type ``kind`` at ``directory``.

        Raises:
            ServeError: it is not a dead mount of ksyms.
        """
        if kind != KIND:
            raise ServeError(
                f"Something else ({kind}) is mounted at {directory}.",
                "Name another directory, or unmount it.",
                errno=errno.EBUSY,
            )

        if is_alive(directory):
            raise ServeError(
                f"{directory} is served already.",
                "Name another directory, or stop that server.",
                errno=errno.EBUSY,
            )

        try:
            unmount(at, name, os.geteuid() != 0, FORCE)
        except OSError as error:
            raise ServeError(
                f"The dead mount at {directory} cannot be removed: {reason(error)}.",
                "Unmount it as root: umount -l.",
                errno=error.errno,
            ) from None
        self.event(f"removed the dead mount at {directory}")

    @contextmanager
    def _linked(self) -> Iterator[None]:
        """Keep the symlink while the device is served, and report that it is ready."""
        with self._link():
            self.event(f"serving {self.directory}")
            notify("READY=1")
            yield

    @contextmanager
    def _link(self) -> Iterator[None]:
        """Make the symlink, and remove it at the end. A failure to make it is only reported."""
        if self.link is None:
            yield
            return

        target = os.path.join(self.directory, DEVICE)
        with ExitStack() as stack:
            parent, name = os.path.split(self.link)
            try:
                at = _open_directory(parent, stack)
                # Replace a link to this device that an earlier server left.
                if _link_target(at, name) == target:
                    os.unlink(name, dir_fd=at)
                os.symlink(target, name, dir_fd=at)
            except (OSError, UntrustedError) as error:
                self.event(f"{self.link} cannot be made: {reason(error)}")
                # ``at`` may be in the served directory, and would keep that busy.
                stack.close()
                yield
                return
            try:
                yield
            finally:
                with suppress(OSError):
                    if _link_target(at, name) == target:
                        os.unlink(name, dir_fd=at)


def _link_target(at: int, name: str) -> str | None:
    """Return the target of the symlink ``name`` in ``at``; None if it is not a symlink."""
    try:
        return os.readlink(name, dir_fd=at)
    except OSError:
        return None


def _open_directory(path: str, stack: ExitStack) -> int:
    """Open the directory ``path`` until ``stack`` is closed; return the descriptor."""
    fd = descend(path)
    stack.callback(os.close, fd)
    return fd


@contextmanager
def _making_directory(above: int, name: str) -> Iterator[None]:
    """Make the directory ``name`` in ``above`` if it does not exist.

    At the end of the context remove it again if it was made here.
    """
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            os.rmdir(name, dir_fd=above)


def _not_made_error(directory: str, error: OSError | UntrustedError) -> ServeError:
    return ServeError(
        f"{directory} cannot be made: {reason(error)}.",
        "Name a directory that is there, or can be made.",
        errno=error.errno,
    )


def status(directory: str) -> dict[str, Any]:
    """Return the facts about the server of ``directory``, which it has in ``.status``.

    Raises:
        ServeError: no server answers there; EACCES, if this user may not read ``.status``.
    """
    try:
        # Not trusted: the directory's owner may have put any file there.
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


def is_alive(directory: str) -> bool:
    """Return True unless the server of the mount at ``directory`` has ended.

    A server that does not answer within PATIENCE counts as alive.
    """
    found: list[bool] = []

    def ask() -> None:
        try:
            os.stat(os.path.join(directory, STATUS))  # asks the server: no name is cached
        except OSError as error:
            found.append(error.errno != errno.ENOTCONN)
        else:
            found.append(True)

    begin(ask).acquire(timeout=PATIENCE)
    return not found or found[0]
