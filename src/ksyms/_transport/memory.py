"""The memory of the processes that call, as other processes read it for the server.

A page of it may never come: it can be of a file system of the caller's own. Who waits for that
cannot always be killed, and what such a process has open stays open. So the server reads none
itself. It asks a process that has neither /dev/fuse nor anything else of it, and gives that up
where it does not answer in time (:mod:`.reader`).
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final, NamedTuple

from .._errors import lacks_room
from .protocol import Request

PATIENCE: Final = 5.0
"""Seconds in which a caller's page has to come."""
_PROGRAM: Final = os.path.join(os.path.dirname(__file__), "reader.py")
_EACH: Final = 4
"""Readers at once a user, and of them given up and not gone."""
_ALL: Final = 32
"""Readers at most that were given up and are not gone."""
_BEGUN: Final = 30.0  # seconds in which a reader has to begin
_GONE: Final = 0.5  # seconds in which one that was killed goes, if it can


class _Reader:
    """A process that reads.

    Raises:
        OSError: there is no room for one.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                # Isolated, and without the packages of a site: it begins sooner.
                [sys.executable, "-I", "-S", _PROGRAM],
                # The program that runs, whether its path leads this user to it or not.
                executable="/proc/self/exe",
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # a terminal's signals are for the server
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._socket.settimeout(_BEGUN)
        with suppress(OSError):  # who asks it is told that it has gone
            self._socket.recv(16)
        self._socket.settimeout(PATIENCE)

    def ask(self, message: bytes) -> bytes:
        """Its answer; nothing where it has gone.

        Raises:
            TimeoutError: there was none in time.
        """
        try:
            self._socket.send(message)
            return self._socket.recv(4096)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def end(self) -> bool:
        """Kill it; false where it has not gone yet."""
        self._socket.close()
        self._process.kill()
        try:
            self._process.wait(_GONE)
        except subprocess.TimeoutExpired:
            return False
        return True

    def gone(self) -> bool:
        """Whether it has gone."""
        return self._process.poll() is not None


class Readers:
    """The processes that read; the first begins with the first question. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []
        self._stuck: dict[_Reader, int] = {}
        """Those that were killed and are not gone, and the user that each was for."""

    def ask(self, user: int, *words: bytes) -> bytes | None:
        """What a reader found for ``user``; None where there is none.

        Raises:
            OSError: EFAULT, if the memory did not answer in time; EAGAIN, if there is no
                reader to be had.
        """
        self._admit(user)
        message = b"\0".join(words)
        with self._lock:
            reader = self._idle.pop() if self._idle else None
        answer = b"" if reader is None else self._asked(reader, user, message)
        if not answer:  # there was none, or it was killed meanwhile: by whoever lacks memory
            reader = _begun()
            answer = self._asked(reader, user, message)
        return _found(answer)

    def close(self) -> None:
        """End those that wait for a question."""
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.end()

    def _admit(self, user: int) -> None:
        with self._lock:
            self._stuck = {r: own for r, own in self._stuck.items() if not r.gone()}
            stuck = list(self._stuck.values())
        if len(stuck) >= _ALL or stuck.count(user) >= _EACH:
            raise _again()

    def _asked(self, reader: _Reader, user: int, message: bytes) -> bytes:
        try:
            answer = reader.ask(message)
        except TimeoutError:
            if not reader.end():
                with self._lock:
                    self._stuck[reader] = user
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT)) from None
        except BaseException:  # MemoryError: an answer may be under way
            reader.end()
            raise
        with self._lock:
            kept = bool(answer) and len(self._idle) < _EACH
            if kept:
                self._idle.append(reader)
        if not kept:
            reader.end()
        return answer


class Memory(NamedTuple):
    """The memory of the process with thread ``task`` of ``user``, and which mapping counts.

    A file is told by its device (``major:minor`` in hexadecimal, as maps prints it) and its
    inode: its path can be any, and "(deleted)". All ``size`` bytes of it must be mapped; 0
    is a file that cannot be.

    The methods raise an OSError as :meth:`Readers.ask` does.
    """

    readers: Readers
    user: int
    task: int
    device: bytes = b""
    inode: int = 0
    size: int = 0

    def mapped_at(self) -> int | None:
        """Where it has the file mapped from its first byte; None where it has not."""
        if not self.size:
            return None
        numbers = b"%d" % self.inode, b"%d" % self.size
        found = self.readers.ask(self.user, b"map", b"%d" % self.task, self.device, *numbers)
        return None if found is None else int(found)

    def string_at(self, address: int, longest: int) -> bytes | None:
        """The string at ``address``, without its NUL; None where that cannot be read."""
        numbers = b"%d" % self.task, b"%d" % address, b"%d" % longest
        return self.readers.ask(self.user, b"string", *numbers)


def lane(request: Request, handle: int) -> tuple[int, int]:
    """Where a request that needs its caller's memory waits for others of the same user."""
    return request.uid, handle % _EACH


def _begun() -> _Reader:
    try:
        return _Reader()
    except OSError as error:
        # ENOENT of a program that has been removed must not be taken for a symbol's.
        raise (error if lacks_room(error) else _again()) from None


def _found(answer: bytes) -> bytes | None:
    kind, found = answer[:1], answer[1:]
    if kind == b"+":
        return found
    if kind == b"-":
        return None
    if kind == b"!":
        number = int(found)
        error = OSError(number, os.strerror(number))
        if not lacks_room(error):
            return None  # the process has gone, or may not be looked at
        raise error
    raise _again()


def _again() -> OSError:
    return OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
