"""What ksyms exec preloads is root's or the user's own, whatever others put in its way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ksyms
from callers import NOBODY
from command import COMMAND, refused

SOURCE = Path(ksyms.__file__).parent / "_preload/preload.c"
NAME = f"preload-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
"""What the library is called: everybody can know."""
EVIL = """\
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void evil(void) { close(creat("%s/ran", 0666)); }
"""
DAEMON = 1
"""The user that attacks nobody."""


@pytest.fixture
def top() -> Iterator[Path]:
    """A directory that all can reach, with evil.so, and with evil.h, that leaves word in it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        word = path / "word"
        word.mkdir()
        word.chmod(0o777)
        (path / "evil.c").write_text(EVIL % word)
        build: list[str | Path] = [
            "gcc",
            "-shared",
            "-fPIC",
            path / "evil.c",
            "-o",
            path / "evil.so",
        ]
        subprocess.run(build, check=True)
        yield path


def ran(top: Path) -> bool:
    """Whether anything of the attacker's was run."""
    return (top / "word/ran").exists()


def run(
    top: Path, *before: str, program: str = "cat", **changed: str
) -> subprocess.CompletedProcess[str]:
    """``ksyms exec`` of a program that says what it has loaded."""
    environment = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"} | changed
    command: list[str | Path] = [*before, COMMAND, "exec", "--", program, "/proc/self/maps"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=top)


def loaded(done: subprocess.CompletedProcess[str]) -> str:
    """The library that the program had loaded."""
    assert (done.returncode, done.stderr) == (0, "")
    [path] = {line.split()[-1] for line in done.stdout.splitlines() if NAME in line}
    return path


def shell(script: str, top: Path) -> None:
    environment = {**os.environ, "NAME": NAME}
    subprocess.run(["sh", "-ec", script], cwd=top, env=environment, check=True)


def test_evil_is_evil(top: Path) -> None:
    """What the tests look for does happen where it is loaded."""
    subprocess.run(["true"], env={"LD_PRELOAD": str(top / "evil.so")}, check=True)
    assert ran(top)


# -- root ----------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
@pytest.mark.parametrize(
    "script",
    [
        "cp evil.so $NAME; chown -R 65534:65534 .",
        "cp evil.so $NAME; chown 65534:65534 .",
        "cp evil.so $NAME",
        "chown -R 65534:65534 .",
        "mv evil.so ..; ln -s ../../evil.so $NAME; chown -h 65534 $NAME",
    ],
)
def test_root_has_a_place_of_its_own(script: str, variable: str, top: Path) -> None:
    """As under ``sudo -E``, which leaves HOME and XDG_CACHE_HOME another user's."""
    inside = "cache/ksyms" if variable == "XDG_CACHE_HOME" else "cache/.cache/ksyms"
    shell(f"mkdir -p {inside}; cp evil.so {inside}; cd {inside}; {script}", top)
    before = sorted(top.rglob("*"))
    done = run(top, **{variable: str(top / "cache")})
    assert loaded(done) == f"/var/cache/ksyms/{NAME}"
    assert sorted(top.rglob("*")) == before
    assert not ran(top)


def in_a_cache(script: str, top: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    """``ksyms exec`` by root with another /var/cache, made by ``script``."""
    words = f'mount -t tmpfs none /var/cache; {script}; exec "$@"'
    before = ("unshare", "-m", "--propagation", "private", "sh", "-ec", words, "sh")
    return run(top, *before, NAME=NAME, **changed)


PLANT = f"cp evil.so /var/cache/ksyms/{NAME}"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("chown 65534 /var/cache", "/var/cache is another user's (uid 65534)"),
        ("chmod 777 /var/cache", "/var/cache can be written to by others"),
        ("chmod 775 /var/cache", "/var/cache can be written to by others"),
        (f"mkdir /var/cache/ksyms; {PLANT}; chown 65534 /var/cache/ksyms", "is another user's"),
        (f"mkdir -m 777 /var/cache/ksyms; {PLANT}", "ksyms can be written to by others"),
        (f"mkdir -m 770 /var/cache/ksyms; {PLANT}", "ksyms can be written to by others"),
        (f"mkdir /var/cache/ksyms; {PLANT}; chown 65534 /var/cache/ksyms/*", "another user's"),
        (f"mkdir /var/cache/ksyms; {PLANT}; chmod 757 /var/cache/ksyms/*", "by others"),
        (f"mkdir /var/cache/ksyms; {PLANT}; chmod 775 /var/cache/ksyms/*", "by others"),
        ("chmod 1777 /var/cache; mkdir /var/cache/ksyms; chown 65534 /var/cache/*", "another"),
        ("chmod 1777 /var/cache; ln -s /tmp /var/cache/ksyms; chown -h 65534 /var/cache/*",
         "another user's link"),
        (f"mkdir -m 1777 /var/cache/ksyms; ln -s $PWD/evil.so /var/cache/ksyms/{NAME};"
         " chown -h 65534 /var/cache/ksyms/*", "another user's link"),
        (f"mkdir /var/cache/ksyms; chown 65534 evil.so;"
         f" ln -s $PWD/evil.so /var/cache/ksyms/{NAME}", "evil.so is another user's"),
        (f"mkdir -p /var/cache/ksyms/{NAME}", "is no regular file"),
        (f"mkdir /var/cache/ksyms; mkfifo /var/cache/ksyms/{NAME}", "is no regular file"),
        ("touch /var/cache/ksyms", "Not a directory"),
        ("mount -o remount,ro /var/cache", "Read-only file system"),
    ],
)  # fmt: skip
def test_a_place_of_roots_that_is_not_roots_alone(script: str, words: str, top: Path) -> None:
    done = in_a_cache(script, top)
    refused(done, words, "/var/cache")
    assert not ran(top)


@pytest.mark.parametrize(
    ("script", "modes"),
    [
        ("true", "755 755"),
        ("umask 0", "755 755"),
        ("umask 077", "700 755"),
        ("chmod 1777 /var/cache", "755 755"),
        ("chmod 1777 /var/cache; mkdir -m 1777 /var/cache/ksyms", "1777 755"),
        ("mkdir /var/cache/far; ln -s far /var/cache/ksyms", "777 755"),
    ],
)
def test_a_place_of_roots_is_made(script: str, modes: str, top: Path) -> None:
    """And others can load from it: what runs can become another user."""
    look = f"stat -c %a /var/cache/ksyms /var/cache/ksyms/{NAME}"
    show = f"{COMMAND} exec -- cat /proc/self/maps && {look} >&2"
    done = in_a_cache(f"{script}; {show}; exit", top)
    assert done.stdout.count(NAME) > 1
    assert done.stderr.split() == modes.split()


def test_the_compiler_is_trusted_too(top: Path) -> None:
    """Neither another's compiler in PATH nor another's files in the compiler's variables."""
    (top / "bin").mkdir()
    (top / "include").mkdir()
    for name in ("cc", "gcc", "clang", "as", "ld", "cc1", "collect2"):
        (top / "bin" / name).write_text(f"#!/bin/sh\ntouch {top}/word/ran\n")
        (top / "bin" / name).chmod(0o755)
    evil = (top / "evil.c").read_text()
    (top / "include/dlfcn.h").write_text(f"#include_next <dlfcn.h>\n{evil}")
    shell("chown -R 65534:65534 bin include", top)
    usual = os.environ["PATH"]
    hers = f"{top}/bin"
    for changed in (
        {"PATH": f"{hers}:{usual}"},
        {"CPATH": f"{top}/include"},
        {"C_INCLUDE_PATH": f"{top}/include"},
        {"COMPILER_PATH": hers, "GCC_EXEC_PREFIX": f"{hers}/", "LIBRARY_PATH": hers},
        {"TMPDIR": hers},
    ):
        assert loaded(in_a_cache("true", top, **changed)) == f"/var/cache/ksyms/{NAME}"
        assert not ran(top), changed
    words = 'PATH=/usr/bin:/bin mount -t tmpfs none /var/cache; exec "$@"'
    before = ("/usr/bin/unshare", "-m", "/bin/sh", "-ec", words, "sh")
    done = run(top, *before, program="/bin/cat", PATH=hers)
    refused(done, f"to build the library that maps the device: {hers} is another user's", "gcc")
    done = run(top, *before, program="/bin/cat", PATH="/nowhere")
    refused(done, "There is no C compiler", "Install gcc or clang")
    assert not ran(top)


# -- a user --------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", [True, False], ids=["planted", "empty"])
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("chown {0} .", "cache is another user's (uid 1)"),
        ("chown {0} x", "x is another user's"),
        ("chown {0} x/ksyms", "ksyms is another user's"),
        ("chmod 777 .", "cache can be written to by others"),
        ("chmod 775 .", "cache can be written to by others"),
        ("chmod 777 x", "x can be written to by others"),
        ("chmod 770 x/ksyms", "ksyms can be written to by others"),
        ("mv x y; ln -s y x; chown -h {0} x", "x is another user's link"),
        ("mv x y; ln -s ../cache/z x; ln -s y z; chown -h {0} z", "z is another user's link"),
        ("chmod 1777 .; chown {0} x", "x is another user's"),
    ],
)
def test_a_users_place_that_others_can_change(
    script: str, words: str, planted: bool, top: Path
) -> None:
    plant = "cp ../evil.so x/ksyms/$NAME" if planted else "true"
    made = "mkdir -p cache/x/ksyms; chown -R 65534:65534 cache; cd cache"
    own = "[ ! -e x/ksyms/$NAME ] || chown 65534 x/ksyms/$NAME"
    shell(f"{made}; {plant}; {own}; {script.format(DAEMON)}", top)
    done = run(top, *NOBODY, XDG_CACHE_HOME=str(top / "cache/x"))
    refused(done, words, "Set XDG_CACHE_HOME")
    assert not ran(top)


@pytest.mark.parametrize(
    "script",
    ["chown 1 {}", "chmod 777 {}", "chmod 720 {}", "rm {0}; ln -s ../../evil.so {0}"],
)
def test_a_library_that_others_can_change(script: str, top: Path) -> None:
    file = f"cache/ksyms/{NAME}"
    made = f"mkdir -p cache/ksyms; cp evil.so {file}; chown -R 65534:65534 cache"
    shell(f"chown 1 evil.so; {made}; {script.format(file)}", top)
    done = run(top, *NOBODY, XDG_CACHE_HOME=str(top / "cache"))
    refused(done, "is not loaded", "Set XDG_CACHE_HOME")
    assert not ran(top)


@pytest.mark.parametrize(
    "script",
    [
        "true",
        "chmod 1777 cache",
        "chown 0 cache; mkdir cache/ksyms; chown 65534 cache/ksyms",
        "mv cache far; ln -s far cache",
        "mv cache far; ln -s far cache; chown -h 65534 cache",
    ],
)
def test_a_users_own_place(script: str, top: Path) -> None:
    """Built there once, and loaded from there, by way of links of the user's and root's."""
    shell(f"mkdir cache; chown 65534:65534 cache; {script}", top)
    for _ in range(2):
        done = run(top, *NOBODY, XDG_CACHE_HOME=str(top / "cache"))
        assert Path(loaded(done)).parent == (top / "cache").resolve() / "ksyms"
    [file] = (top / "cache/ksyms").iterdir()
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (65534, 0o700)


SWAP = """
import ctypes, sys
a, b = (name.encode() for name in sys.argv[1:])
libc = ctypes.CDLL(None)
print("ready", flush=True)
while True:
    libc.renameat2(-100, a, -100, b, 2)  # RENAME_EXCHANGE
"""


@pytest.mark.parametrize("mode", ["755", "777"])
def test_swapped_all_the_time(mode: str, top: Path) -> None:
    """Directories, the user's own and one with the attacker's library, change places."""
    shell(
        "mkdir -p hers/mine/ksyms hers/evil/ksyms; chown -R 65534 hers/mine;"
        "cp evil.so hers/evil/ksyms/$NAME; chown -R 1 hers/evil; chown 1 hers;"
        f"chmod {mode} hers",
        top,
    )
    attacker = [
        "setpriv",
        "--reuid=1",
        "--regid=1",
        "--clear-groups",
        sys.executable,
        "-c",
        SWAP,
    ]
    names = [str(top / "hers/mine"), str(top / "hers/evil")]
    with subprocess.Popen([*attacker, *names], stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == b"ready\n"
        try:
            for number in range(20):
                before = NOBODY if number % 2 else ()
                done = run(top, *before, XDG_CACHE_HOME=names[0])
                assert not ran(top)
                if before:
                    refused(done, "hers ", "Set XDG_CACHE_HOME")
                else:
                    assert loaded(done).startswith("/var/cache/")
        finally:
            swapper.kill()
