"""Reads of callers' memory, which reader processes do for the server.

A page of the caller's memory may never arrive: the caller can map it from a file system that
it serves itself. A process that waits for such a page cannot always be killed, and its files
stay open. So the server never reads callers' memory itself. It asks a reader process
(:mod:`.reader`), which has none of the server's descriptors. If the reader does not answer in
time, the server kills it and goes on::

    server                         reader                      caller
      |--- string, thread, address -->|                          |
      |                               |--- process_vm_readv() -->|  its page never arrives
      |                               :                          |
      |   after PATIENCE: kill the reader, answer EFAULT
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

from .._errors import lacks_room, os_error
from .protocol import Request

PATIENCE: Final = 5.0
"""Seconds within which a reader must answer."""
_READER: Final = os.path.join(os.path.dirname(__file__), "reader.py")
_PER_USER: Final = 4
"""Largest number of a user's lanes, and of a user's readers that were killed and still exist.

It is also the largest number of idle readers that are kept.
"""
_MOST_STUCK: Final = 32
"""Largest number of all users' readers that were killed and still exist."""
_START_SECONDS: Final = 30.0  # seconds within which a new reader must be ready
_EXIT_SECONDS: Final = 0.5  # seconds to wait for a killed reader to exit


class _ReaderProcess:
    """A reader process, from its start to its end.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                # Isolated and without site packages: it starts sooner.
                [sys.executable, "-I", "-S", _READER],
                # This interpreter, even if its path has changed or this user may not use it.
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
        self._socket.settimeout(_START_SECONDS)
        with suppress(OSError):  # if it has exited, ask() will notice
            self._socket.recv(16)
        self._socket.settimeout(PATIENCE)

    def ask(self, message: bytes) -> bytes:
        """Send a message and return the reader's answer; b"" if the reader has exited.

        Raises:
            TimeoutError: it did not answer in time.
        """
        try:
            self._socket.send(message)
            return self._socket.recv(4096)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def end(self) -> bool:
        """Kill the reader; return True if it has exited."""
        self._socket.close()
        self._process.kill()
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def gone(self) -> bool:
        """Return True if the reader has exited."""
        return self._process.poll() is not None


class Readers:
    """The pool of reader processes; the first one is started by the first question.

    The methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_ReaderProcess] = []
        self._stuck: dict[_ReaderProcess, int] = {}
        """Readers that were killed and still exist, with the user that each worked for."""

    def ask(self, user: int, *words: bytes) -> bytes | None:
        """Return a reader's answer to a question; None if the reader found nothing.

        ``words`` is the question, for example ``b"string"``, the thread's id, an address and a
        length; ``user`` is the id of the user who asks.

        Raises:
            OSError: EFAULT, if the memory did not arrive in time; EAGAIN, if no reader is
                available.
        """
        self._admit(user)
        message = b"\0".join(words)
        with self._lock:
            reader = self._idle.pop() if self._idle else None
        answer = b"" if reader is None else self._ask(reader, user, message)
        # No reader was idle, or it had been killed, for example by the OOM killer.
        if not answer:
            reader = _start_reader()
            answer = self._ask(reader, user, message)
        return _parse_answer(answer)

    def close(self) -> None:
        """End the idle readers."""
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.end()

    def _admit(self, user: int) -> None:
        """Raise EAGAIN if too many readers that were killed still exist."""
        with self._lock:
            self._stuck = {r: own for r, own in self._stuck.items() if not r.gone()}
            stuck = list(self._stuck.values())
        if len(stuck) >= _MOST_STUCK or stuck.count(user) >= _PER_USER:
            raise _no_reader()

    def _ask(self, reader: _ReaderProcess, user: int, message: bytes) -> bytes:
        """Return a reader's answer, b"" if it has exited; then keep it as idle, or end it.

        Raises:
            OSError: EFAULT, if it did not answer in time; it is killed.
        """
        try:
            answer = reader.ask(message)
        except TimeoutError:
            if not reader.end():
                with self._lock:
                    self._stuck[reader] = user
            raise os_error(errno.EFAULT) from None
        except BaseException:  # a late answer must not be taken for that to the next question
            reader.end()
            raise

        with self._lock:
            kept = bool(answer) and len(self._idle) < _PER_USER
            if kept:
                self._idle.append(reader)
        if not kept:
            reader.end()
        return answer


class Memory(NamedTuple):
    """The memory of a caller: the thread ``task`` of ``user``; and a file that it may map.

    ``device`` (``major:minor`` in hexadecimal, as /proc/PID/maps prints it) and ``inode``
    identify the file. Its path cannot: that depends on mounts, and can be "(deleted)". Only a
    mapping of all ``size`` bytes counts. ``size`` is 0 if the file cannot be mapped.

    The methods raise OSError as :meth:`Readers.ask` does.
    """

    readers: Readers
    user: int
    task: int
    device: bytes = b""
    inode: int = 0
    size: int = 0

    def mapped_at(self) -> int | None:
        """Return the address at which the file is mapped from offset 0; None if it is not."""
        if not self.size:
            return None
        numbers = b"%d" % self.inode, b"%d" % self.size
        found = self.readers.ask(self.user, b"map", b"%d" % self.task, self.device, *numbers)
        return None if found is None else int(found)

    def string_at(self, address: int, longest: int) -> bytes | None:
        """Return the string at ``address`` without its NUL; None if it cannot be read."""
        numbers = b"%d" % self.task, b"%d" % address, b"%d" % longest
        return self.readers.ask(self.user, b"string", *numbers)


def lane(request: Request, handle: int) -> tuple[int, int]:
    """Return the lane for a request that needs its caller's memory.

    Each user has a few lanes, so that one user cannot delay the others.
    """
    return request.uid, handle % _PER_USER


def _start_reader() -> _ReaderProcess:
    """Return a new reader.

    Raises:
        OSError: there is no room for one (see ``lacks_room``), or EAGAIN for any other reason.
    """
    try:
        return _ReaderProcess()
    except OSError as error:
        # The caller would take ENOENT to mean that no symbol has the name. Here it means that
        # the interpreter's file is missing.
        raise (error if lacks_room(error) else _no_reader()) from None


def _parse_answer(answer: bytes) -> bytes | None:
    """Return the bytes of a reader's answer; None if it found nothing.

    Raises:
        OSError: the reader had no room; EAGAIN, if it gave no answer.
    """
    kind, found = answer[:1], answer[1:]
    if kind == b"+":
        return found
    if kind == b"-":
        return None
    if kind == b"!":
        number = int(found)
        error = os_error(number)
        if not lacks_room(error):
            return None  # the process has exited, or its memory may not be read
        raise error
    raise _no_reader()


def _no_reader() -> OSError:
    return os_error(errno.EAGAIN)
