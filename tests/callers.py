"""Kinds of callers, and what the kernel and served files show to each."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from started import start_as

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
WITHOUT_SYSLOG = ("setpriv", "--bounding-set=-syslog", "--inh-caps=-syslog")
NOBODY_WITH_SYSLOG = (*NOBODY, "--inh-caps=+syslog", "--ambient-caps=+syslog")
USER_NAMESPACE = ("unshare", "--user", "--map-root-user")
CALLERS: dict[str, tuple[str, ...]] = {
    "root": (),
    "root without CAP_SYSLOG": WITHOUT_SYSLOG,
    "nobody": NOBODY,
    "nobody with CAP_SYSLOG": NOBODY_WITH_SYSLOG,
    "root of a user namespace that root made": USER_NAMESPACE,
    "root of a user namespace that nobody made": (*NOBODY, *USER_NAMESPACE),
    "root of a pid namespace below": ("unshare", "--pid", "--fork"),
}
"""What starts a program as each of them, from root."""


def shown(client: Path, caller: str, files: list[Path]) -> list[str]:
    """The address of ``_stext``, halved, that one process of ``caller`` is shown by
    /proc/kallsyms ("0": it is hidden), and by each of ``files`` (or its open's errno)."""
    calls = [call for file in files for call in (f"open={file}", "value=_stext")]
    command: list[str | Path] = [*CALLERS[caller], client, "kallsyms=_stext", *calls]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    address, *answers = run.stdout.split()
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return [address, *(value if opened == "0" else opened for opened, value in pairs)]


def after_the_open(client: Path, file: Path) -> dict[str, list[str]]:
    """What is shown of an open of ``file``: by the opener, by nobody who was handed it over a
    socket, and by the opener once it is nobody: kallsyms' ``_stext``, the open file's, the sum
    of all bytes, and an open of its own."""
    calls = ["kallsyms=_stext", "value=_stext", "sum", f"open={file}"]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = os.open(file, os.O_RDONLY)
        socket.send_fds(ours, [b"."], [fd])
        os.close(fd)
        handed = _said([*NOBODY, client, "take", *calls], theirs.fileno())
    return {
        "opener": _said([client, f"open={file}", *calls]),
        "handed": handed,
        "dropped": _said([client, f"open={file}", "nobody", *calls])[1:],
    }


def judged_again(client: Path, file: Path) -> dict[str, list[str]]:
    """What a thread is answered that opens ``file`` twice, then becomes root of a user
    namespace, or nobody, and is shown kallsyms, and opens it again."""
    ask = f"open={file}"
    found = {}
    for change in ("userns", "nobody"):
        command: list[str | Path] = [client, ask, ask, change, "kallsyms=_stext", ask]
        found[change] = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return found


def by_one_number(client: Path, file: Path) -> list[str]:
    """What three processes of one number are answered to an open of ``file``: root's, then
    nobody's, then root's."""
    command: list[str | Path] = [client, f"open={file}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        found = [process.communicate()[0].strip()]
    for before in (NOBODY, ()):
        reading, writing = os.pipe()
        start_as(process.pid, [*before, *command], writing)
        os.close(writing)
        with open(reading) as said:
            found.append(said.read().strip())
        os.waitpid(process.pid, 0)
    return found


def _said(command: list[str | Path], stdin: int | None = None) -> list[str]:
    """What the calls after the first gave; the first must be good."""
    run = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=True)
    first, *others = run.stdout.split()
    assert first == "0", run.stdout
    return others
