"""The served device in a kernel with CUSE: devices.py CLIENT OPENS, as root in the VM.

Starts a server of each kind, and prints a JSON object: what the C program's calls gave on the
character device, who may see by /proc/kallsyms and by each file, and OPENS opens of both
while modules come and go.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from churn import MODULES, PROCESSES, module_names, settled_lists, start

import ksyms

CHARACTER = "/dev/ksyms"
DIRECTORY = "/run/ksyms"
FILES = {"fuse ksyms": f"{DIRECTORY}/ksyms", "fuse vmlinux": f"{DIRECTORY}/vmlinux"}
FILES["cuse"] = CHARACTER
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
CALLERS = {
    "root": [],
    "root without CAP_SYSLOG": [
        *("setpriv", "--bounding-set", "-syslog", "--inh-caps", "-syslog"),
    ],
    "nobody": NOBODY,
    "nobody with CAP_SYSLOG": [*NOBODY, "--inh-caps", "+syslog", "--ambient-caps", "+syslog"],
    "root of a user namespace": ["unshare", "-Ur"],
    "a pid namespace below": ["unshare", "-pf"],
}


def main(client: str, opens: int) -> None:
    for module in ("fuse", "cuse"):
        subprocess.run(["modprobe", module], check=True)
    character = serve(CHARACTER, "--cuse", "--mode", "0444")
    directory = serve(FILES["fuse vmlinux"], DIRECTORY, "--mode", "0444", "--allow-other")
    result: dict[str, Any] = {"calls": calls(client), "copy": copy(), "seen": seen(client)}
    result["churn"] = churn(opens)
    result["passthrough"] = ksyms_status()["passthrough"]
    for server in (character, directory):
        server.send_signal(signal.SIGTERM)
    result["ended"] = [server.wait(60) for server in (character, directory)]
    result["left"] = [path for path in FILES.values() if os.path.exists(path)]
    json.dump(result, sys.stdout)


def serve(file: str, *arguments: str) -> subprocess.Popen[bytes]:
    with open("server.log", "a") as log:
        command = [sys.executable, "-m", "ksyms", "serve", *arguments]
        server = subprocess.Popen(command, stderr=log)
    end = time.monotonic() + 60
    while not os.path.exists(file):
        assert server.poll() is None, Path("server.log").read_text()
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.2)  # the mode comes after the node
    return server


def ksyms_status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(DIRECTORY, ".status").read_text())
    return found


def calls(client: str) -> list[str]:
    """One C program's calls on the character device; a line each."""
    asked = [
        *(f"open={CHARACTER}", "fstat", "size", "size32", "addr", "mmap"),
        *("read=100", "lseek=5", "read=100", "pread=0", "ioctl=0x5401", "write"),
        *("value=schedule", "value=no_such_symbol", "badname"),
        *(f"open={CHARACTER}", f"threadopen={CHARACTER}", f"childopen={CHARACTER}"),
        *("close", f"open={CHARACTER}", "sum", "read=1", "dup", "close"),
        *(f"open={CHARACTER}", "close", f"open={CHARACTER}", "mode=" + CHARACTER),
        *("close", f"openw={CHARACTER}", f"loop=200,{CHARACTER}"),
    ]
    run = subprocess.run([client, *asked], capture_output=True, text=True, check=True)
    return [f"{a.partition('=')[0]} {b}" for a, b in zip(asked, run.stdout.split())]


def copy() -> dict[str, Any]:
    """What a program that reads to the end has, and what tools say of the device itself."""
    data = Path(CHARACTER).read_bytes()
    Path("copy").write_bytes(data)
    names = subprocess.check_output(["nm", "copy"], text=True).splitlines()
    [schedule] = [line.split()[0] for line in names if line.split()[-1] == "schedule"]
    asked = {
        "gdb": ["gdb", "-batch", "-ex", f"info symbol 0x{schedule}"],
        "nm": ["nm"],
        "readelf": ["readelf", "-h"],
        "objdump": ["objdump", "-h"],
        "eu-readelf": ["eu-readelf", "-h"],
    }
    tools = {}
    for name, command in asked.items():
        for file in ("copy", CHARACTER):
            run = subprocess.run([*command, file], capture_output=True, text=True)
            good = (
                run.returncode == 0 and len(run.stdout) > 20 and "No symbol" not in run.stdout
            )
            tools[f"{name} {file}"] = good
    return {
        "symbols": len(names),
        "lines": len(Path("/proc/kallsyms").read_text().splitlines()),
        "same as vmlinux": data == Path(FILES["fuse vmlinux"]).read_bytes(),
        "tools": tools,
    }


def seen(client: str) -> list[list[Any]]:
    """Each cell: the two sysctls, the caller, and who is shown what."""
    paths = [Path("/proc/sys/kernel", n) for n in ("kptr_restrict", "perf_event_paranoid")]
    before = [path.read_text() for path in paths]
    cells = []
    for restrict in (0, 1, 2):
        for paranoid in (1, 2, 3):
            for path, value in zip(paths, (restrict, paranoid)):
                path.write_text(str(value))
            for caller, command in CALLERS.items():
                grep = ["grep", "-m1", " _stext$", "/proc/kallsyms"]
                line = subprocess.check_output([*command, *grep])
                shown = {"kallsyms": int(line.split()[0], 16) != 0}
                for name, file in FILES.items():
                    run = subprocess.run(
                        [*command, client, f"open={file}"], capture_output=True, text=True
                    )
                    shown[name] = run.stdout.split() == ["0"]
                    assert run.stdout.split()[0] in ("0", "EACCES"), (caller, run.stdout)
                cells.append([restrict, paranoid, caller, shown])
    for path, text in zip(paths, before):
        path.write_text(text)
    return cells


def churn(opens: int) -> dict[str, Any]:
    """Opens of both devices while four processes load and unload modules."""
    for module in MODULES:
        subprocess.run(["modprobe", module], check=True)
    lists = settled_lists()
    churners = [start(number, 3) for number in range(PROCESSES)]
    result: dict[str, Any] = {
        "given": 0,
        "refused": 0,
        "torn": [],
        "early": [],
        "with": Counter(),
    }
    try:
        while result["given"] < opens:
            one_open(list(FILES.values())[result["given"] % 3], lists, result)
    finally:
        for pid in churners:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return result


def one_open(file: str, lists: dict[str, Any], result: dict[str, Any]) -> None:
    before = moment()
    try:
        with open(file, "rb", buffering=0) as opened:
            after = moment()
            image = b"".join(iter(lambda: opened.read(1 << 20), b""))
    except OSError as error:
        assert error.errno == 6, error  # ENXIO: moved during each of three tries
        result["refused"] += 1
        return
    result["given"] += 1
    table = ksyms.load(memoryview(image))
    files = [f for f in table.facts["files"] if f["kind"] == "module"]
    states = {f["name"]: (f.get("module") or {}).get("state") for f in files}
    found = module_names(image)
    result["with"][len(found)] += 1
    result["torn"] += [f"{n} is listed and not loaded" for n in found.keys() - states.keys()]
    for name in states.keys() & lists.keys():
        names = found.get(name, Counter())
        more = names - lists[name] if states[name] != "Loading" else Counter()
        fewer = lists[name] - names
        if more or fewer:
            result["torn"].append(f"{name} ({states[name]}): +{dict(more)} -{dict(fewer)}")
    if before == after and set(states) != before[1]:
        result["early"].append(sorted(set(states) ^ before[1]))


def moment() -> tuple[bytes, set[str]]:
    """uevent_seqnum, and the modules that are loaded."""
    events = Path("/sys/kernel/uevent_seqnum").read_bytes()
    lines = Path("/proc/modules").read_text().splitlines()
    return events, {line.split()[0] for line in lines}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
