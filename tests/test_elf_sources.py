"""The linux layout of ELF files: exact sizes, sections by name, and what the tools say."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import pytest

import ksyms
from command import ksyms as ksyms_command
from command import nm, refused
from elf_files import REL, SHN_COMMON, Row, Section, compile_c, elf_file

KERNEL = """
int counter = 5, empty[50];
__thread int each = 3;
__attribute__((weak)) int maybe(void) { return counter; }
static __attribute__((noinline)) int inner(int a) { return a + empty[a] + each; }
int _text(int a) { return a ? inner(a) : maybe(); }
int main(int n) { return _text(n); }
"""
MODULE = """
extern int counter;
int state[9] = {1}, later[30];
static __attribute__((noinline)) int helper(int a) { return a + later[a]; }
int mod_init(int a) { return helper(a) + counter + state[a]; }
"""
BASE = 0xFFFFFFFFC0100000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A static program for a kernel, a module, and the snapshot of both."""
    directory = tmp_path_factory.mktemp("elf")
    kernel = compile_c(directory / "kernel", KERNEL, "-static", "-Wl,--build-id=sha1")
    module = compile_c(directory / "my-mod.ko", MODULE, "-c")
    out = directory / "out"
    modules = [(module, BASE)]
    ksyms.snapshot(kernel=kernel, modules=modules).write(out)
    return kernel, module, out


def test_symbols_and_sizes_are_the_files_own(built: tuple[Path, Path, Path]) -> None:
    """nm -S of the program: the same names, addresses and sizes; nothing undefined."""
    kernel, _, out = built
    table = ksyms.load(out)
    ours = {(s.address, s.size, s.name) for s in table if s.module is None and s.exact}
    text = subprocess.run(["nm", "-S", kernel], capture_output=True, text=True, check=True)
    rows = re.findall(r"^([0-9a-f]{16}) ([0-9a-f]{16}) [^Uu] (.+)$", text.stdout, re.M)
    theirs = {(int(a, 16), int(size, 16), name) for a, size, name in rows}
    assert ours == theirs
    named = {line for line in nm(kernel) if re.match("[0-9a-f]{16} ", line)}
    assert named == {line for line in nm(out) if int(line.split()[0], 16) < BASE}


def test_letters_are_nms(built: tuple[Path, Path, Path]) -> None:
    kernel, _, out = built
    text = subprocess.run(["nm", kernel], capture_output=True, text=True, check=True).stdout
    letters = {m[2]: m[1] for m in re.finditer(r"^[0-9a-f]{16} (\w) (\w+)$", text, re.M)}
    table = ksyms.load(out)
    for name in ("counter", "empty", "inner", "main"):
        [symbol] = table.find(name)
        assert symbol.letter == letters[name], name
    [weak] = table.find("maybe")
    assert (weak.letter, weak.binding, weak.kind) == ("W", "weak", "function")


def test_a_module_has_sections_of_its_own(built: tuple[Path, Path, Path]) -> None:
    _, module, out = built
    table = ksyms.load(out)
    found = {s.name: (s.module, s.section, s.size, s.exact) for s in table if s.module}
    assert found["mod_init"][:2] == ("my_mod", "[my_mod].text")
    assert found["state"] == ("my_mod", "[my_mod].data", 36, True)
    assert found["later"] == ("my_mod", "[my_mod].bss", 120, True)
    assert found["helper"][0] == "my_mod"
    [inside] = [symbol for symbol in [table.lookup(BASE + 1)] if symbol]
    assert inside.module == "my_mod"
    listed = ksyms_command("info", out).stdout
    assert "my_mod" in listed
    assert table.facts["files"][1]["debug"] == str(module)


def test_a_thread_variable_is_no_address(built: tuple[Path, Path, Path]) -> None:
    """st_value of a TLS symbol is an offset: it never answers for an address."""
    _, _, out = built
    table = ksyms.load(out)
    [each] = table.find("each")
    assert each.section is None
    found = table.lookup(each.address)
    assert found is None or found.name != "each"


def test_the_tools(built: tuple[Path, Path, Path]) -> None:
    kernel, _, out = built
    lint = subprocess.run(["eu-elflint", "-d", out], capture_output=True, text=True)
    assert (lint.returncode, lint.stdout) == (0, "No errors\n"), lint.stdout
    for command in (["readelf", "-a", "-W"], ["llvm-readelf", "-a"], ["objdump", "-t"]):
        run = subprocess.run([*command, out], capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, ""), command
    [symbol] = ksyms.load(kernel).find("main")
    for address in (symbol.address, symbol.address + symbol.size - 1):
        command = ["addr2line", "-fe", str(out), hex(address)]
        assert subprocess.check_output(command, text=True).split()[0] == "main"
    asked = ["gdb", "-batch", "-ex", f"info symbol {BASE:#x}", str(out)]
    assert "in section [my_mod].text" in subprocess.check_output(asked, text=True)


def test_the_build_id_goes_with_it(built: tuple[Path, Path, Path]) -> None:
    kernel, _, out = built
    ids = [
        re.findall(r"Build ID: (\w+)", subprocess.check_output(["readelf", "-n", f], text=True))
        for f in (kernel, out)
    ]
    assert ids[0] == ids[1] != []


def test_per_cpu_variables_linked_at_zero(tmp_path: Path) -> None:
    """x86's are offsets: absolute, and never an answer (before Linux 6.15)."""
    sections = (
        Section(".text", 1, 6, 0x1000, b"\x90" * 64, align=16),
        Section(".data..percpu", 1, 3, 0, bytes(64)),
    )
    rows = [Row(1, 0x1000, 16), Row(5, 16, 8, 0x11, 2)]
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(elf_file(rows, b"\0run\0here\0", sections=sections))
    table = ksyms.load(ksyms.snapshot(kernel=kernel).image)
    [here] = table.find("here")
    assert (here.section, here.size, table.lookup(20)) == (None, 8, None)


def test_what_it_refuses(tmp_path: Path) -> None:
    """Other classes and orders, in a sentence that names the file and the way out."""
    for bits, order in ((32, "<"), (32, ">"), (64, ">")):
        kernel = tmp_path / f"kernel{bits}"
        kernel.write_bytes(elf_file([Row(1, 0x1000)], b"\0a\0", bits=bits, order=order))
        run = ksyms_command("snapshot", "--kernel", kernel, "-o", tmp_path / "out")
        refused(run, f"{kernel} is not one", "--layout freebsd")
    assert not (tmp_path / "out").exists()


def test_names_that_overlap_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A symbol at each byte of one long name: 400 MB of names in a file of 1 MB."""
    rows = [Row(1 + n, 0x1000) for n in range(28_000)]
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file(rows, b"\0" + b"a" * 28_000 + b"\0"))
    with pytest.raises(ksyms.ImageError, match="names overlap"):
        ksyms.snapshot(kernel=kernel)
    assert len(ksyms.load(ksyms.snapshot(layout="freebsd", kernel=kernel).image)) == 28_000


def test_what_has_no_place(tmp_path: Path) -> None:
    """An object file for a kernel, sections that overlap, two modules at one address."""
    kernel, module = tmp_path / "kernel", tmp_path / "m.ko"
    text = Section(".text", 1, 6, 0x1000, b"x" * 64)
    inner = Section(".inner", 1, 6, 0x1010, b"x" * 16)
    for data, what in (
        (elf_file([Row(1)], b"\0a\0", kind=REL), "whose symbols have no addresses"),
        (elf_file([Row(1)], b"\0a\0", sections=(text, inner)), "sections .text and .inner"),
        (elf_file(None, b""), "it has no .symtab"),
    ):
        kernel.write_bytes(data)
        with pytest.raises(ksyms.ImageError, match=what):
            ksyms.snapshot(kernel=kernel)
    kernel.write_bytes(elf_file([Row(1, 0x1000)], b"\0a\0", sections=(text,)))
    module.write_bytes(elf_file([Row(1)], b"\0b\0", kind=REL))
    modules = [(module, BASE), (module, BASE + 16)]
    with pytest.raises(ksyms.LayoutError, match=r"\[m\].text and \[m\].text both claim"):
        ksyms.snapshot(kernel=kernel, modules=modules)
    with pytest.raises(ksyms.LayoutError, match=r".text and \[m\].text both claim"):
        ksyms.snapshot(kernel=kernel, modules=[(module, 0x1020)])


def test_a_symbol_within_another(tmp_path: Path) -> None:
    """Exact sizes can nest: the inner one answers for its own bytes, the outer for the rest."""
    kernel = tmp_path / "kernel"
    rows = [Row(1, 0x1000, 64), Row(7, 0x1010, 4)]
    kernel.write_bytes(elf_file(rows, b"\0outer\0inner\0"))
    for table in (ksyms.load(kernel), ksyms.load(ksyms.snapshot(kernel=kernel).image)):
        found = [table.lookup(address) for address in (0x100F, 0x1013, 0x1014, 0x103F, 0x1040)]
        names = [symbol and symbol.name for symbol in found]
        assert names == ["outer", "inner", "outer", "outer", None]


def test_what_is_no_address_never_answers(tmp_path: Path) -> None:
    """SHN_COMMON's value is an alignment, a TLS symbol's an offset."""
    kernel = tmp_path / "kernel"
    rows = [Row(1, 32, 100, 0x11, SHN_COMMON), Row(5, 4, 8, 0x16)]
    kernel.write_bytes(elf_file(rows, b"\0com\0tls\0"))
    table = ksyms.load(ksyms.snapshot(layout="freebsd", kernel=kernel).image)
    assert (table.lookup(40), table.lookup(5)) == (None, None)
    assert (table.find_best("com"), table.find_best("tls")) == (None, None)


def test_machine_and_impossible_sizes(tmp_path: Path) -> None:
    """e_machine is the file's, known or not; a size that leaves its section is not believed."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file([Row(1, 0x1000, 1 << 63)], b"\0a\0", machine=50))
    image = bytes(ksyms.snapshot(kernel=kernel).image)
    assert int.from_bytes(image[18:20], "little") == 50
    [symbol] = ksyms.load(memoryview(image))
    assert (symbol.size, symbol.exact) == (64, False)


def test_a_packed_module(tmp_path: Path) -> None:
    """Modules are packed on most machines; one that was cut is refused."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(elf_file([Row(1, 0x1000)], b"\0a\0"))
    text = Section(".text", 1, 6, 0, bytes(32), align=16)
    module = tmp_path / "m.ko"
    module.write_bytes(elf_file([Row(1, 8, 4)], b"\0inside\0", kind=REL, sections=(text,)))
    subprocess.run(["xz", "-k", module], check=True)
    subprocess.run(["zstd", "-q", "-k", module], check=True)
    for packed in (f"{module}.xz", f"{module}.zst"):
        for layout in ("linux", "freebsd"):
            image = ksyms.snapshot(layout=layout, kernel=kernel, modules=[(packed, BASE)]).image
            [symbol] = ksyms.load(image).find("inside")
            assert (symbol.address, symbol.size) == (BASE + 8, 4)
    Path(f"{module}.gz").write_bytes(gzip.compress(module.read_bytes())[:-4])
    with pytest.raises(ksyms.ImageError, match="cannot be unpacked"):
        ksyms.snapshot(kernel=kernel, modules=[(f"{module}.gz", BASE)])
