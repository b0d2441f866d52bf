"""What the smoke test does inside the VM: guest.py SRC RESULTS, as root.

RESULTS, which the host sees, gets a directory a step: its ``stdout``, ``stderr`` and
``status``, and in ``left`` whatever the step wrote; and copies of the kernel's own files
from right before and right after the snapshot.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import callers
from bpf import load_bpf_program, sysctl

MODULES = ("dummy", "fuse", "loop", "ext4", "nf_tables", "bridge")
SAVED_MODULES = ("dummy", "bridge")
TRACING = Path("/sys/kernel/tracing")
MOVING = 15
"""Snapshots while a module comes and goes without a pause."""
ENOUGH = 120.0
"""Seconds after which no further one is begun."""

# Another user, who may still search the directories that the checkout is in.
NOBODY = (
    *callers.NOBODY,
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)


def main(src: str, results: Path) -> None:
    steps = Steps(src, results)
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    subprocess.run(["modprobe", "-r", "dummy"], check=True)
    subprocess.run(["modprobe", "dummy"], check=True)
    place_trampolines()
    program = load_bpf_program()  # lives as long as its descriptor
    save_module_files(results)

    before, after = results / "before", results / "after"
    save_kernel_files(before)
    steps.run("snapshot")
    save_kernel_files(after)

    with ThreadPoolExecutor(2) as pool:
        for name, prefix in (
            ("no-syslog", callers.WITHOUT_SYSLOG),
            ("nobody", NOBODY),
            ("user-namespace", callers.USER_NAMESPACE),
        ):
            pool.submit(steps.run, name, *prefix)
    sysctl("perf_event_paranoid", 1)
    steps.run("nobody-allowed", *NOBODY)
    os.close(program)
    sysctl("kptr_restrict", 2)
    steps.run("kptr-restrict")
    sysctl("kptr_restrict", 1)

    with subprocess.Popen(
        ["bash", "-c", "while modprobe -r dummy && modprobe dummy; do :; done"]
    ) as moving:
        until = time.monotonic() + ENOUGH
        for number in range(MOVING):
            if time.monotonic() < until:
                steps.run(f"moving/{number}")
        still_moving = moving.poll() is None
        moving.kill()
    (results / "moving/moved").write_text(f"{still_moving}")


class Steps:
    """Runs ``ksyms snapshot -o kernel.elf`` in a new directory, and keeps what it says."""

    def __init__(self, src: str, results: Path) -> None:
        self.environment = {**os.environ, "PYTHONPATH": src, "PYTHONDONTWRITEBYTECODE": "1"}
        self.results = results

    def run(self, name: str, *prefix: str) -> None:
        step = self.results / name
        left = step / "left"
        left.mkdir(parents=True)
        left.chmod(0o777)
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "ksyms", "snapshot", "-o", "kernel.elf"],
            cwd=left,
            env=self.environment,
            capture_output=True,
        )
        (step / "stdout").write_bytes(done.stdout)
        (step / "stderr").write_bytes(done.stderr)
        (step / "status").write_text(f"{done.returncode}")


def save_kernel_files(directory: Path) -> None:
    for name in ("kallsyms", "modules"):
        copy = directory / "proc" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path("/proc", name).read_bytes())
    notes = directory / "sys/kernel/notes"
    notes.parent.mkdir(parents=True)
    notes.write_bytes(Path("/sys/kernel/notes").read_bytes())


def save_module_files(results: Path) -> None:
    """The files that the modules were loaded from, for the host to read build-ids in."""
    directory = results / "ko"
    directory.mkdir()
    for name in SAVED_MODULES:
        path = subprocess.check_output(["modinfo", "-n", name], text=True).strip()
        unpack = ["xz", "-dc", path] if path.endswith(".xz") else ["cat", path]
        (directory / f"{name}.ko").write_bytes(subprocess.check_output(unpack))


def place_trampolines() -> None:
    """Have the kernel allocate pages for a kprobe and for a function tracer's trampoline."""
    for offset in range(9, 40):  # past where ftrace would take the kprobe over
        try:
            (TRACING / "kprobe_events").write_text(f"p:ksyms_smoke kernel_clone+{offset}\n")
        except OSError:  # not where an instruction begins
            continue
        break
    (TRACING / "events/kprobes/ksyms_smoke/enable").write_text("1")
    instance = TRACING / "instances/smoke"
    instance.mkdir()
    (instance / "set_ftrace_filter").write_text("kernel_clone\n")
    (instance / "current_tracer").write_text("function\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
