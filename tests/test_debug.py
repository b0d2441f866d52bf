"""Exact sizes from files that gcc and ld made, and only from those with the right build-id."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import ksyms
from command import ksyms as ksyms_command

RELEASE = "6.9.1-test"
KERNEL_ID = "00112233445566778899aabbccddeeff00112233"
MODULE_ID = "ffeeddccbbaa99887766554433221100ffeeddcc"
OTHER_ID = "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
SLIDE = 0x1200000  # KASLR moves x86 in steps of 2 MB

KERNEL = """
.text
.globl _text, _stext, alpha, _etext
_text: _stext: .skip 16
.type alpha, @function
alpha: .skip 40
.size alpha, 40
.skip 8
.type beta, @function
beta: .skip 30
.size beta, 30
.skip 2
label: .skip 4096 - 96
_etext:
"""
MODULE = """
.text
.type work, @function
work: .skip 20
.size work, 20
.skip 12
.weak maybe
.type maybe, @function
maybe: .skip 5
.size maybe, 5
.data
.type state, @object
state: .skip 100
.size state, 100
.section .data..percpu, "aw"
.skip 16
.type counter, @object
counter: .skip 24
.size counter, 24
.type other, @object
other: .skip 8
.size other, 8
"""
LINKED = 0xFFFFFFFF81000000
KALLSYMS = f"""\
{LINKED + SLIDE:x} T _text
{LINKED + SLIDE:x} T _stext
{LINKED + SLIDE + 16:x} T alpha
{LINKED + SLIDE + 64:x} t beta
{LINKED + SLIDE + 96:x} t label
{LINKED + SLIDE + 4096:x} T _etext
ffffffffc0100000 t work\t[mod_a]
ffffffffc0100020 w maybe\t[mod_a]
ffffffffc0200040 d state\t[mod_a]
0000000000024690 a counter\t[mod_a]
00000000000246a8 a other\t[mod_a]
"""


def build(source: str, out: Path, *link: str) -> Path:
    assembly = out.with_suffix(".s")
    assembly.write_text(source)
    subprocess.run(["gcc", "-c", assembly, "-o", out.with_suffix(".o")], check=True)
    subprocess.run(["ld", *link, out.with_suffix(".o"), "-o", out], check=True)
    return out


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with a kernel and a module, and no files to take sizes from."""
    root = tmp_path / "root"
    header = struct.pack("<III4s", 4, 20, 3, b"GNU")
    for name, data in {
        "proc/kallsyms": KALLSYMS.encode(),
        "proc/modules": b"mod_a 16384 0 - Live 0xffffffffc0100000\n",
        "proc/sys/kernel/osrelease": RELEASE.encode(),
        "proc/sys/kernel/arch": b"x86_64\n",
        "sys/kernel/notes": header + bytes.fromhex(KERNEL_ID),
        "sys/module/mod_a/notes/.note.gnu.build-id": header + bytes.fromhex(MODULE_ID),
        "sys/module/mod_a/sections/.text": b"0xffffffffc0100000\n",
        "sys/module/mod_a/sections/.data": b"0xffffffffc0200040\n",
        "sys/module/mod_a/sections/.init.text": b"0xffffffffc0300000\n",
        "sys/module/mod_a/srcversion": b"0123456789ABCDEF\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def module_file(root: Path, ending: str, identity: str = MODULE_ID) -> Path:
    """A .ko where modprobe would find it, its name with a dash as the kernel's build has it."""
    directory = root / "lib/modules" / RELEASE
    directory.mkdir(parents=True)
    built = build(MODULE, root / "mod-a.ko", "-r", f"--build-id=0x{identity}")
    pack: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".xz": lzma.compress,
        ".gz": gzip.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }
    path = directory / f"mod-a.ko{ending}"
    path.write_bytes(pack[ending](built.read_bytes()))
    (directory / "modules.dep").write_text(f"{path.name}:\n")
    return path


def sizes(table: ksyms.SymbolTable) -> dict[str, tuple[int, bool]]:
    return {symbol.name: (symbol.size, symbol.exact) for symbol in table}


@pytest.mark.parametrize("ending", ["", ".xz", ".gz", ".zst"])
def test_a_module_file(root: Path, ending: str) -> None:
    """Its sizes, types and bindings, by hand from the assembly above."""
    path = module_file(root, ending)
    table = ksyms.load(ksyms.snapshot(root).image)
    found = sizes(table)
    assert found["work"] == (20, True)
    assert found["maybe"] == (5, True)
    assert found["state"] == (100, True)
    # sysfs has no start for per-CPU variables: theirs is told by the symbols themselves.
    assert (found["counter"], found["other"]) == ((24, True), (8, True))
    assert found["alpha"] == (48, False)  # no vmlinux: up to beta
    assert [(s.binding, s.kind) for s in table.find("maybe")] == [("weak", "function")]
    [module] = [file for file in table.facts["files"] if file["kind"] == "module"]
    assert module["debug"] == str(path)
    ends = {r["section"]: (int(r["end"], 16), r["end_inferred"]) for r in module["ranges"]}
    assert ends["[mod_a].text"] == (0xFFFFFFFFC0100000 + 37, False)
    assert ends["[mod_a].data"] == (0xFFFFFFFFC0200040 + 100, False)
    assert module["module"]["srcversion"] == "0123456789ABCDEF"
    assert table.facts["sizes"]["exact"] == 5
    assert table.lookup(0xFFFFFFFFC0100000 + 25) is None  # between work and maybe
    assert table.facts["refused"] == {}


def test_a_module_file_of_another_build(root: Path) -> None:
    """Replaced on disk since it was loaded: never trusted, and named."""
    path = module_file(root, "", OTHER_ID)
    table = ksyms.load(ksyms.snapshot(root).image)
    assert not any(exact for _, exact in sizes(table).values())
    assert table.facts["refused"] == {
        str(path): f"its build-id is {OTHER_ID}, and {MODULE_ID} runs"
    }


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF" + bytes(200), b"text\n"])
@pytest.mark.parametrize("ending", ["", ".xz", ".gz", ".zst"])
def test_a_module_file_that_is_none(root: Path, ending: str, data: bytes) -> None:
    path = module_file(root, ending)
    path.write_bytes(data)
    table = ksyms.load(ksyms.snapshot(root).image)
    assert not any(exact for _, exact in sizes(table).values())
    assert list(table.facts["refused"]) == [str(path)]


def vmlinux(root: Path, identity: str, place: str) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    return build(
        KERNEL,
        path,
        *("-nostdlib", f"--build-id=0x{identity}", f"-Ttext={LINKED:#x}", "-e0"),
    )


@pytest.mark.parametrize(
    "place",
    [
        f"usr/lib/debug/boot/vmlinux-{RELEASE}",
        f"usr/lib/debug/lib/modules/{RELEASE}/vmlinux",
        f"lib/modules/{RELEASE}/build/vmlinux",
        f"usr/lib/debug/.build-id/{KERNEL_ID[:2]}/{KERNEL_ID[2:]}.debug",
    ],
)
def test_a_vmlinux(root: Path, place: str) -> None:
    """Linked elsewhere: moved to where _stext runs; and it says where that was."""
    path = vmlinux(root, KERNEL_ID, place)
    table = ksyms.load(ksyms.snapshot(root).image)
    found = sizes(table)
    assert found["alpha"] == (40, True)
    assert found["beta"] == (30, True)
    assert found["label"] == (4000, False)  # no size in the assembly: to _etext
    assert table.lookup(LINKED + SLIDE + 16 + 39) == table.find("alpha")[0]
    assert table.lookup(LINKED + SLIDE + 16 + 40) is None
    assert table.facts["link_time"] == {
        "_text": f"{LINKED:#x}",
        "_stext": f"{LINKED:#x}",
        "source": str(path),
    }


def test_a_directory_of_debug_files(root: Path, tmp_path: Path) -> None:
    """Searched before the usual places: a kernel's by its name, a module's anywhere in it."""
    debug = tmp_path / "debug"
    vmlinux(debug, KERNEL_ID, "vmlinux")
    path = module_file(root, ".xz")
    (debug / "deep").mkdir()
    path.rename(debug / "deep" / path.name)
    elf = tmp_path / "exact.elf"
    run = ksyms_command("snapshot", "--root", root, "--debug-dir", debug, "-o", elf)
    assert (run.returncode, run.stderr) == (0, "")
    assert sizes(ksyms.load(elf)) == sizes(
        ksyms.load(ksyms.snapshot(root, debug_dirs=[debug]).image)
    )
    assert sizes(ksyms.load(elf))["alpha"] == (40, True)
    assert sizes(ksyms.load(elf))["work"] == (20, True)


def test_a_vmlinux_of_another_build(root: Path) -> None:
    path = vmlinux(root, OTHER_ID, f"usr/lib/debug/boot/vmlinux-{RELEASE}")
    table = ksyms.load(ksyms.snapshot(root).image)
    assert not any(exact for _, exact in sizes(table).values())
    assert table.facts["link_time"]["source"] is None
    assert list(table.facts["refused"]) == [str(path)]


def test_a_loading_modules_init_section(root: Path) -> None:
    """.init.text is stale once nothing is listed in it, and live as long as something is."""
    kallsyms = root / "proc/kallsyms"
    stale = ksyms.load(ksyms.snapshot(root).image)
    assert "0xffffffffc0300000" not in str(stale.facts["files"])
    kallsyms.write_text(KALLSYMS + "ffffffffc0300010 t setup\t[mod_a]\n")
    (root / "proc/modules").write_text("mod_a 16384 1 - Loading 0xffffffffc0100000\n")
    live = ksyms.load(ksyms.snapshot(root).image)
    [setup] = live.find("setup")
    assert (setup.module, setup.section) == ("mod_a", "[mod_a].text.2")
    [module] = [file for file in live.facts["files"] if file["kind"] == "module"]
    assert module["unplaced"] == 0
    assert module["absolute"] == 2  # the per-CPU variables, which sysfs has no section for


def test_a_snapshot_is_no_source_of_exact_sizes(root: Path, tmp_path: Path) -> None:
    """It has the running build-id, and sizes that were inferred."""
    directory = tmp_path / "debug"
    directory.mkdir()
    ksyms.snapshot(root).write(directory / "vmlinux")
    table = ksyms.load(ksyms.snapshot(root, debug_dirs=[directory]).image)
    assert table.facts["sizes"]["exact"] == 0
    assert "it is a snapshot itself" in table.facts["refused"][str(directory / "vmlinux")]


def test_the_log_has_the_files_and_their_refusals(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Which file the sizes are from, and which was refused by its build-id."""
    caplog.set_level("DEBUG", "ksyms")
    path = module_file(root, "")
    (tmp_path / "wrong").mkdir()
    wrong = build(MODULE, tmp_path / "wrong/mod_a.ko", "-r", f"--build-id=0x{OTHER_ID}")
    ksyms.snapshot(root, debug_dirs=[tmp_path / "wrong"])
    assert f"exact sizes of mod_a are from {path}" in caplog.messages
    assert (
        f"{wrong} gives no exact sizes: its build-id is {OTHER_ID}, and {MODULE_ID} runs"
        in caplog.messages
    )


def test_the_log_has_a_system_map_that_is_not_trusted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose boundaries lie apart otherwise than this kernel's, so of another build."""
    caplog.set_level("DEBUG", "ksyms")
    other = root / f"boot/System.map-{RELEASE}"
    other.parent.mkdir()
    lines = {"_text": LINKED, "_stext": LINKED, "_etext": LINKED + 8192}
    other.write_text("".join(f"{address:x} T {name}\n" for name, address in lines.items()))
    ksyms.snapshot(root)
    said = f"/boot/System.map-{RELEASE} is not of this kernel, by 3 boundaries"
    assert said in caplog.messages
