"""The served device in a kernel with CUSE: devices.py CLIENT OPENS, as root in the VM.

Serves /dev/ksyms through CUSE and a directory through FUSE, and prints a JSON object: what
the C program's calls gave on the character device, who may see, OPENS opens of each file
while modules come and go, and what became of each side when the other ended. Leaves
``copy``, which the C program read from the character device, and ``kallsyms``.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from guest import NOBODY as NOBODY_READING
from opens import under_churn

from bpf import sysctl
from callers import (
    CALLERS,
    WITHOUT_SYSLOG,
    after_the_open,
    by_one_number,
    judged_again,
    shown,
)
from command import COMMAND
from served import Served, Serving, answers, wait_for

CHARACTER = Path("/dev/ksyms")
DIRECTORY = Path("/run/ksyms")
FILES = [CHARACTER, DIRECTORY / "ksyms", DIRECTORY / "vmlinux"]
CLIENT = Path("/run/client")
"""Where everybody may run it."""
KILLS = 20


def main(client: str, opens: int) -> None:
    shutil.copy(client, CLIENT)
    subprocess.run(["modprobe", "-a", "fuse", "cuse"], check=True)
    found: dict[str, Any] = {"seconds": {}}
    begun = time.monotonic()

    def step(name: str, what: Callable[[], Any]) -> None:
        begun = time.monotonic()
        found[name] = what()
        found["seconds"][name] = round(time.monotonic() - begun, 1)
        print(name, found["seconds"][name], file=sys.stderr, flush=True)

    with ThreadPoolExecutor(2) as pool:  # the VM's processors
        for place, *arguments in (
            ["/dev/blind", "--cuse", "--name", "blind"],
            ["/run/blind", "/run/blind"],
        ):
            pool.submit(step, f"blind {arguments[0]}", partial(blind, Path(place), arguments))
        pool.submit(step, "apart", apart)
        character, directory = pool.map(
            lambda start: start(), (serve_character, serve_directory)
        )
    found["seconds"]["all served"] = round(time.monotonic() - begun, 1)
    step("calls", calls)
    step("tools", tools)
    step("seen", seen)
    step("without root", without_root)
    step("after the open", lambda: {str(f): after_the_open(CLIENT, f) for f in FILES})
    step("judged again", lambda: {str(f): judged_again(CLIENT, f) for f in FILES})
    step("by one number", lambda: {str(f): by_one_number(CLIENT, f) for f in FILES})
    step("churn", lambda: under_churn(list(map(str, FILES)), opens))
    found["passthrough"] = directory.status()["passthrough"]
    found["directory"] = [directory.end(), DIRECTORY.exists()]
    step("life", lambda: life(character))
    json.dump(found, sys.stdout)


def serve_character() -> Serving:
    return Serving(CHARACTER, Path("/run/cuse.log"), "--cuse", "--mode", "0444")


def serve_directory() -> Served:
    return Served(DIRECTORY, "--mode", "0444", "--allow-other")


def blind(place: Path, arguments: list[str]) -> list[Any]:
    """What a server of ``place`` says that may not see addresses itself, and if it is left."""
    command: list[str | Path] = [*WITHOUT_SYSLOG, COMMAND, "serve", *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    return [run.returncode, run.stderr, place.exists()]


def apart() -> list[str]:
    """An open of a device whose server is in a pid namespace below."""
    place = Path("/dev/apart")
    arguments = ["--cuse", "--name", place.name, "--mode", "0444"]
    before = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    server = Serving(place, Path("/run/apart.log"), *arguments, before=before)
    found = answers(CLIENT, f"open={place}")
    server.process.kill()
    server.process.wait()
    return found


def calls() -> list[str]:
    """One C program's calls on the character device; a line each."""
    asked = [
        *(f"open={CHARACTER}", "fstat", "size", "size32", "addr", "mmap", "mmappart"),
        *("read=100", "lseek=5", "read=100", "pread=0", "ioctl=0x5401", "write"),
        *("value=schedule", "kallsyms=schedule", "value=no_such_symbol", "badname"),
        *(f"open={CHARACTER}", f"threadopen={CHARACTER}", f"childopen={CHARACTER}"),
        *("close", f"open={CHARACTER}", "copy=copy", "read=1", "dup", "close"),
        *(f"open={CHARACTER}", "close", f"open={CHARACTER}", f"mode={CHARACTER}"),
        *("close", f"openw={CHARACTER}", f"openrw={CHARACTER}", f"loop=200,{CHARACTER}"),
    ]
    found = answers(CLIENT, *asked)
    return [f"{call.partition('=')[0]} {word}" for call, word in zip(asked, found, strict=True)]


def tools() -> list[str]:
    """Those that find a symbol in the character device itself."""
    shutil.copy("/proc/kallsyms", "kallsyms")
    address = hex(2 * int(answers(CLIENT, "kallsyms=schedule")[0]))
    asked = [
        ["nm"],
        ["eu-nm", "-B"],
        ["readelf", "-s", "-W"],
        ["eu-readelf", "-s"],
        ["objdump", "-t"],
        ["addr2line", "-f", address, "-e"],
        ["eu-addr2line", "-f", address, "-e"],
        ["gdb", "-batch", "-ex", f"info symbol {address}"],
    ]
    with ThreadPoolExecutor(2) as pool:
        commands = [[*words, str(CHARACTER)] for words in asked]
        runs = pool.map(lambda c: subprocess.run(c, capture_output=True, text=True), commands)
        return [words[0] for words, run in zip(asked, runs) if "schedule" in run.stdout]


def seen() -> list[list[Any]]:
    """Each cell: the two sysctls, the caller, and what it is shown."""
    cells: list[list[Any]] = []
    with ThreadPoolExecutor(2) as pool:
        for restrict, paranoid in product((0, 1, 2), (1, 2, 3)):
            sysctl("kptr_restrict", restrict)
            sysctl("perf_event_paranoid", paranoid)
            found = pool.map(lambda caller: shown(CLIENT, caller, FILES), CALLERS)
            cells += [[restrict, paranoid, *cell] for cell in zip(CALLERS, found)]
    sysctl("kptr_restrict", 1)
    return cells


def without_root() -> dict[str, Any]:
    """A directory that nobody serves while all may see addresses: what nobody and root are
    shown, what root's command says, and what they are shown once fewer may see."""
    Path("/dev/fuse").chmod(0o666)  # as udev does (50-udev-default.rules)
    place = Path("/run/without-root")
    place.mkdir()
    shutil.chown(place, 65534, 65534)
    sysctl("kptr_restrict", 0)
    sysctl("perf_event_paranoid", 1)
    server = Served(place, "--mode", "0444", before=NOBODY_READING)
    files = [server.device, server.file]
    found: dict[str, Any] = {}
    for restrict in (0, 1, 2, 0):
        sysctl("kptr_restrict", restrict)
        for caller in ("nobody", "root"):
            found.setdefault(f"{caller}, {restrict}", []).append(shown(CLIENT, caller, files))
    command: list[str | Path] = [COMMAND, "lookup", "--from", server.file, "schedule"]
    run = subprocess.run(command, capture_output=True, text=True)
    found["root's command"] = [run.returncode, run.stderr]
    found["ended"] = server.end()
    sysctl("kptr_restrict", 1)
    return found


def waits_in_open(process: int) -> bool:
    """Whether a process is in one openat(2), and not in those of its libraries before it."""
    call = Path(f"/proc/{process}/syscall")
    before = call.read_text()
    time.sleep(0.3)
    return before.startswith("257 ") and call.read_text() == before


def life(server: Serving) -> dict[str, Any]:
    """Ends of the character device's server, and of programs that have it open."""
    found: dict[str, Any] = {"rmmod while served": rmmod()}
    opener = hold("wait", "read=4", "wait", "read=4", "size", "mmap", "close")
    found["rmmod while open"] = rmmod()
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "busy (ksyms open 1 times)" in server.words())
    found["open while it ends"] = answers(CLIENT, f"open={CHARACTER}")
    found["read while it ends"] = go_on(opener, 2)
    found["a second SIGTERM"] = [server.end(), CHARACTER.exists()]
    found["opener after it"] = go_on(opener, 5)

    server = serve_character()
    opener = hold("wait", "read=4", "size", "close", f"open={CHARACTER}", "read=4")
    server.process.send_signal(signal.SIGSTOP)
    waiting = start(f"open={CHARACTER}")
    wait_for(lambda: waits_in_open(waiting.pid))
    server.process.kill()
    found["SIGKILL"] = [server.process.wait(), CHARACTER.exists()]
    found["open that waited"] = waiting.communicate()[0].split()
    server = serve_character()
    found["opener after the next began"] = go_on(opener, 6)

    chance = random.Random(7)
    for _ in range(KILLS):
        child = start(f"loop=1000000,{CHARACTER}")
        time.sleep(chance.random() * 0.1)
        child.kill()
        child.communicate()
    opener = hold("wait", "close")
    opener.kill()
    opener.communicate()
    found["after openers were killed"] = answers(CLIENT, f"open={CHARACTER}", "read=4")
    opener = hold("wait", "close")
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "busy (ksyms open 1 times)" in server.words())
    found["last close"] = [*go_on(opener, 2), server.process.wait(60), CHARACTER.exists()]
    found["rmmod after the end"] = rmmod()
    return found


def rmmod() -> str:
    """What rmmod of CUSE says; nothing if it has gone."""
    return subprocess.run(["rmmod", "cuse"], capture_output=True, text=True).stderr


def start(*asked: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([CLIENT, *asked], stdin=pipe, stdout=pipe, text=True)


def hold(*asked: str) -> subprocess.Popen[str]:
    """A program that has opened the character device, and waits to be told to go on."""
    child = start(f"open={CHARACTER}", *asked)
    assert child.stdout is not None
    assert child.stdout.readline() == "0\n"
    return child


def go_on(child: subprocess.Popen[str], lines: int) -> list[str]:
    """Tell it to; what its next ``lines`` calls gave, the wait among them."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return [child.stdout.readline().strip() for _ in range(lines)]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
