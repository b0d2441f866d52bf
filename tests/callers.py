"""Open served files as several kinds of callers, and compare what each is shown.

All functions run the C program ``serve/client.c``, whose arguments are the calls that it makes.
It is compared with what the kernel shows the same process in /proc/kallsyms.
"""

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
"""For each kind of caller the command with which root starts a program as this caller."""


def shown(client: Path, caller: str, files: list[Path]) -> list[str]:
    """Return the address of ``_stext`` that a process of the kind ``caller`` is shown.

    The first is that of /proc/kallsyms ("0" if it is hidden), the others are those of
    ``files`` (the name of an errno if the open failed). An address is halved: as a
    signed number it is negative, and the client prints a negative result as an errno.
    """
    calls = [call for file in files for call in (f"open={file}", "value=_stext")]
    command: list[str | Path] = [*CALLERS[caller], client, "kallsyms=_stext", *calls]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    address, *answers = run.stdout.split()
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return [address, *(value if opened == "0" else opened for opened, value in pairs)]


def after_the_open(client: Path, file: Path) -> dict[str, list[str]]:
    """Return what three processes are shown of an open file.

    - ``opener``: the process that opened it
    - ``handed``: a process of the user nobody that got the descriptor over a socket
    - ``dropped``: the process that opened it, after it became nobody

    Each has four results: ``_stext`` by kallsyms, ``_stext`` by the open file, the sum of the
    file's bytes, and an open of its own.
    """
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
    """Return the results of a thread that opens ``file`` before and after it loses rights.

    It opens the file twice, then becomes root of a user namespace ("userns") or the user
    nobody ("nobody"), reads ``_stext`` in kallsyms, and opens the file again.
    """
    ask = f"open={file}"
    found = {}
    for change in ("userns", "nobody"):
        command: list[str | Path] = [client, ask, ask, change, "kallsyms=_stext", ask]
        found[change] = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return found


def by_one_number(client: Path, file: Path) -> list[str]:
    """Return the results of opens of ``file`` by three processes that have the same pid.

    They run one after the other, as root, as nobody, and as root again.
    """
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
    """Return the results of the client's calls without the first one, which must succeed."""
    run = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=True)
    first, *others = run.stdout.split()
    assert first == "0", run.stdout
    return others
