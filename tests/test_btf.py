"""BTF in the file, and C prototypes from it: held against C, bpftool, and BTF by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms
from command import ksyms as command
from elf_files import EXEC, Row, Section, compile_c, elf_file
from ksyms._symbols.btf import Btf

PROTOTYPES = """\
void alpha(void)
int beta(const char *fmt, ...)
struct file *many(struct file *file, const union value *const value, enum colour colour)
long unsigned int wide(unsigned char c, _Bool flag, long long int big, double ratio)
void callback(int (*fn)(void *, struct file *), void (**table)(void))
void (*handler(int number, void (*old)(int)))(int)
int rows(int (*matrix)[12], char *const *argv, const word_t *volatile where)
void *restricted(void *restrict to, const void *restrict from)
fn_t *named(struct forward *what, enum wide64 e, fn_t *fn)
volatile const int *both(volatile const int *p)
"""
"""The prototypes of the functions below, as gcc, pahole and BTF name C's types."""

DECLARATIONS = """\
struct file { int f; }; union value { int i; float g; }; struct forward;
enum colour { RED }; enum wide64 { BIG = 0x123456789abcULL };
typedef unsigned int word_t; typedef int fn_t(int, const char *);
"""
MODULE = "int mod_start(struct file *file, struct own *own)\nint clash(int mine)\n"
KALLSYMS = """\
ffffffff81000000 T _stext
{kernel}
ffffffff81000f00 t clash
ffffffff81000f10 t again
ffffffff81000f20 t again
ffffffff81001000 T _etext
ffffffff81400000 d datum
ffffffffc0000000 t mod_start\t[mod]
ffffffffc0000020 t clash\t[mod]
ffffffffc0000040 t alpha\t[mod]
ffffffffc0001000 t alpha\t[other]
"""

LIVE = {
    "vfs_read": "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)",
    "_printk": "int _printk(const char *fmt, ...)",
    "schedule": "void schedule(void)",
    "kfree": "void kfree(const void *object)",
}
"""Prototypes in the kernel's headers that are the same from Linux 5.15 to 6.18."""


def _source(prototypes: str) -> str:
    return "".join(f"{line} {{ __builtin_trap(); }}\n" for line in prototypes.splitlines())


def _name(prototype: str) -> str:
    match = re.search(r"\b(?!fn_t|void)(\w+)\((?!\*)", prototype)
    assert match is not None
    return match[1]


def _section(elf: Path, name: str) -> bytes:
    out = elf.with_suffix(".section")
    subprocess.run(["objcopy", f"--dump-section={name}={out}", elf, os.devnull], check=True)
    return out.read_bytes()


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The BTF of a kernel of these functions and of a module, made as the kernel's is."""
    path = tmp_path_factory.mktemp("btf")
    more = "int clash(char **theirs)\nvoid again(int either)\n"
    kernel = compile_c(
        path / "kernel", DECLARATIONS + _source(PROTOTYPES + more), "-c", "-g", "-gdwarf-4"
    )
    declarations = DECLARATIONS + "struct own { struct file *file; };\n"
    module = compile_c(path / "mod", declarations + _source(MODULE), "-c", "-g", "-gdwarf-4")
    subprocess.run(["pahole", "-J", kernel], check=True)
    base = path / "vmlinux"
    base.write_bytes(_section(kernel, ".BTF"))
    subprocess.run(["pahole", "-J", f"--btf_base={base}", module], check=True)
    split = path / "mod.btf"
    split.write_bytes(_section(module, ".BTF"))
    return {"vmlinux": base, "mod": split}


@pytest.fixture(scope="module")
def root(btf: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved root with that kernel's symbols and BTF."""
    path = tmp_path_factory.mktemp("root")
    kernel = [
        f"ffffffff810001{number:02x} T {_name(line)}"
        for number, line in enumerate(PROTOTYPES.splitlines())
    ]
    for name, data in {
        "proc/kallsyms": KALLSYMS.format(kernel="\n".join(kernel)).encode(),
        "proc/modules": b"other 4096 0 - Live 0xffffffffc0001000\n"
        b"mod 4096 0 - Live 0xffffffffc0000000\n",
        "proc/version": b"Linux version 6.9.1-test (you@there) #1 SMP\n",
        "proc/sys/kernel/arch": b"x86_64\n",
        "sys/kernel/cpu_byteorder": b"little\n",
        "sys/kernel/btf/vmlinux": btf["vmlinux"].read_bytes(),
        "sys/kernel/btf/mod": btf["mod"].read_bytes(),
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.fixture(scope="module")
def elf(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elf") / "kernel.elf"
    run = command("snapshot", "--btf", "--root", root, "-o", path)
    assert (run.returncode, run.stderr) == (0, "")
    return path


# -- the sections ---------------------------------------------------------------------------


def test_the_sections_are_the_kernels_files(elf: Path, root: Path) -> None:
    assert _section(elf, ".BTF") == (root / "sys/kernel/btf/vmlinux").read_bytes()
    assert _section(elf, "[mod].BTF") == (root / "sys/kernel/btf/mod").read_bytes()
    facts = ksyms.load(elf).facts
    sizes = {file["name"]: file.get("btf") for file in facts["files"]}
    sections = {name: len(_section(elf, f"{name}.BTF")) for name in ("", "[mod]")}
    assert sizes == {"kernel": sections[""], "mod": sections["[mod]"], "other": None}
    assert facts["absent"]["sys/kernel/btf/other"] == "No such file or directory"


def test_tools_read_the_file(elf: Path, btf: dict[str, Path]) -> None:
    dumps = [
        subprocess.check_output(["bpftool", "btf", "dump", "file", path])
        for path in (elf, btf["vmlinux"])
    ]
    assert dumps[0] == dumps[1]
    assert dumps[0].count(b" FUNC ") == len(PROTOTYPES.splitlines()) + 2
    lint = subprocess.check_output(["eu-elflint", "-d", elf], text=True)
    assert lint == "No errors\n"
    gdb = ["gdb", "-batch", "-ex", "info symbol 0xffffffff81000100", str(elf)]
    assert subprocess.check_output(gdb, text=True) == "alpha in section .text\n"


def test_without_btf_nothing_of_it_is_there(root: Path, elf: Path) -> None:
    plain = ksyms.load(ksyms.snapshot(root).image)
    assert b"BTF" not in bytes(ksyms.snapshot(root).image)
    assert not any("btf" in path for path in plain.facts["absent"])
    assert not plain.has_prototypes
    assert list(plain) == list(ksyms.load(elf))


@pytest.mark.parametrize("data", [None, b"", b"\x9f", b"no BTF at all"])
def test_a_kernel_without_it(data: bytes | None, root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    (copy / "sys/kernel/btf/vmlinux").unlink()
    if data is not None:
        (copy / "sys/kernel/btf/vmlinux").write_bytes(data)
    table = ksyms.load(ksyms.snapshot(copy, btf=True).image)
    why = "No such file or directory" if data is None else "it is not BTF"
    assert table.facts["absent"]["sys/kernel/btf/vmlinux"] == why
    assert not table.has_prototypes
    assert table.prototype(table.find("alpha")[0]) is None


@pytest.mark.parametrize("name", ["vmlinux", "../btf/mod"])
def test_a_modules_name_is_no_path_to_another_file(
    name: str, root: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    modules = (copy / "proc/modules").read_text().replace("other ", f"{name} ")
    (copy / "proc/modules").write_text(modules)
    facts = ksyms.load(ksyms.snapshot(copy, btf=True).image).facts
    assert [file["name"] for file in facts["files"] if "btf" in file] == ["kernel", "mod"]


def test_an_archive_has_btf_on_request(root: Path, tmp_path: Path) -> None:
    plain, archive, out = (tmp_path / name for name in ("plain.tgz", "host.tgz", "out.elf"))
    assert command("collect", "--root", root, "-o", plain).returncode == 0
    with tarfile.open(plain) as opened:
        assert not any("btf" in name for name in opened.getnames())
    assert command("collect", "--btf", "--root", root, "-o", archive).returncode == 0
    assert command("snapshot", "--btf", "--root", archive, "-o", out).returncode == 0
    for file in (out, archive):
        table = ksyms.load(file)
        assert table.prototype(table.find("alpha")[0]) == "void alpha(void)"
    absent = ksyms.load(ksyms.snapshot(plain, btf=True).image).facts["absent"]
    assert absent["sys/kernel/btf/vmlinux"] == "it is not in the archive"


def test_the_running_kernel(tmp_path: Path) -> None:
    """The running kernel's BTF, if it shows it."""
    out, shown = tmp_path / "live.elf", Path("/sys/kernel/btf/vmlinux")
    assert command("snapshot", "--btf", "-o", out).returncode == 0
    table = ksyms.load(out)
    assert table.has_prototypes == shown.exists()
    assert ("sys/kernel/btf/vmlinux" in table.facts["absent"]) != shown.exists()
    if shown.exists():
        assert _section(out, ".BTF") == shown.read_bytes()
        for name, prototype in LIVE.items():
            assert _prototypes(table, name)[None] == prototype


@pytest.mark.parametrize("arguments", ["--kernel vmlinux", "--layout freebsd"])
def test_asking_for_btf_where_there_is_none_is_a_usage_error(
    arguments: str, tmp_path: Path
) -> None:
    run = command("snapshot", "--btf", *arguments.split(), cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert "--btf: not allowed" in run.stderr
    with pytest.raises(ValueError, match="btf"):
        ksyms.snapshot(layout="freebsd", btf=True)


# -- prototypes -----------------------------------------------------------------------------


def _prototypes(table: ksyms.SymbolTable, name: str) -> dict[str | None, str | None]:
    return {symbol.module: table.prototype(symbol) for symbol in table.find(name)}


def test_prototypes_are_as_they_were_written(elf: Path) -> None:
    table = ksyms.load(elf)
    found = [_prototypes(table, _name(line))[None] for line in PROTOTYPES.splitlines()]
    assert found == PROTOTYPES.splitlines()


def test_a_modules_are_its_own(elf: Path) -> None:
    """Its functions go by its own BTF, whose types are the kernel's where they are one."""
    table = ksyms.load(elf)
    own = "int mod_start(struct file *file, struct own *own)"
    assert _prototypes(table, "mod_start") == {"mod": own}
    assert _prototypes(table, "clash") == {
        None: "int clash(char **theirs)",
        "mod": "int clash(int mine)",
    }
    assert _prototypes(table, "alpha") == {
        None: "void alpha(void)",
        "mod": None,
        "other": None,
    }


def test_several_functions_of_one_name_have_no_one_prototype(elf: Path) -> None:
    """BTF has no addresses: which of them it means, nothing tells."""
    table = ksyms.load(elf)
    first, second = table.find("again")
    assert table.prototype(first) is table.prototype(second) is None
    assert table.prototypes(first) == ["void again(int either)"]


def test_only_functions_have_prototypes(elf: Path) -> None:
    table = ksyms.load(elf)
    assert _prototypes(table, "datum") == {None: None}
    assert _prototypes(table, "_stext") == {None: None}


def test_lookup_shows_them(elf: Path, root: Path) -> None:
    run = command("lookup", "--from", elf, "beta", "again", "0xffffffff81400000")
    assert (run.returncode, run.stderr) == (0, "")
    lines = [re.split(" {2,}", line) for line in run.stdout.splitlines()]
    assert [line[5:] for line in lines] == [
        ["int beta(const char *fmt, ...)"],
        ["ambiguous: void again(int either)"],
        ["ambiguous: void again(int either)"],
        [],
    ]
    run = command("lookup", "--from", elf, "--json", "beta", "again")
    records = [json.loads(line) for line in run.stdout.splitlines()]
    found = [record["prototype"] for record in records]
    assert found == ["int beta(const char *fmt, ...)", None, None]
    assert "prototype" not in command("lookup", "--root", root, "--json", "beta").stdout


# -- by hand: both byte orders, every kind, and what is damaged -----------------------------

INT, PTR, ARRAY, STRUCT, FWD, TYPEDEF, CONST, FUNC, PROTO = 1, 2, 3, 4, 7, 8, 10, 12, 13
ENUM, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = 6, 14, 15, 16, 17, 18, 19
ROW = (Row(1, 0x1000, 8),)


def _elf_with(btf: bytes, order: str = "<", rows: tuple[Row, ...] = ROW) -> bytes:
    text = Section(".text", 1, 6, 0x1000, b"\x90" * 64, align=16)
    sections = (text, Section(".BTF", 1, data=btf, align=4))
    return elf_file(list(rows), b"\0f\0", order=order, kind=EXEC, sections=sections)


class _Maker:
    """BTF as it is put together by hand, by Documentation/bpf/btf.rst."""

    def __init__(self, order: str = "<") -> None:
        self.order, self.words, self.count = order, list[int](), 0
        self.strings = b"\0"

    def string(self, text: str) -> int:
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at if text else 0

    def type(self, kind: int, name: str, third: int, *more: int, vlen: int = 0) -> int:
        self.words += [self.string(name), kind << 24 | vlen, third, *more]
        self.count += 1
        return self.count

    def data(self) -> bytes:
        types = struct.pack(f"{self.order}{len(self.words)}I", *self.words)
        header = (0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings))
        return struct.pack(f"{self.order}HBBIIIII", *header) + types + self.strings


def _whole(order: str = "<") -> bytes:
    make = _Maker(order)
    number = make.type(INT, "int", 4, 1 << 24 | 32)
    body = make.type(
        STRUCT, "s", 8, make.string("a"), number, 0, make.string("b"), 1, 32, vlen=2
    )
    make.type(ENUM, "e", 4, make.string("X"), 1, vlen=1)
    big = make.type(ENUM64, "e64", 8, make.string("Y"), 1, 1, vlen=1)
    make.type(VAR, "v", number, 1)
    make.type(DATASEC, ".data", 4, 5, 0, 4, vlen=1)
    ratio = make.type(FLOAT, "float", 4)
    make.type(DECL_TAG, "tag", body, 0xFFFFFFFF)
    user = make.type(TYPE_TAG, "user", body)
    pointer = make.type(PTR, "", user)
    odd = make.type(PTR, "", make.type(TYPE_TAG, "odd", number))
    space = make.type(TYPE_TAG | 1 << 7, "address_space(1)", number)
    gone = make.type(PTR, "", make.type(FWD | 1 << 7, "gone", 0))
    nameless = make.type(STRUCT, "", 0)
    row = make.type(ARRAY, "", 0, number, number, 0)
    places = [(f"p{n}", t) for n, t in enumerate((pointer, odd, space, gone, row, nameless))]
    places += [("", big), ("r", ratio), ("", 0)]
    members = [word for name, kind in places for word in (make.string(name), kind)]
    proto = make.type(PROTO, "", number, *members, vlen=len(places))
    make.type(FUNC, "f", proto, vlen=1)
    return make.data()


WANTED = (
    'int f(struct s __user *p0, int __attribute__((btf_type_tag("odd"))) *p1, '
    "int __attribute__((address_space(1))) p2, union gone *p3, int p4[], struct {...} p5, "
    "enum e64, float r, ...)"
)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_in_either_byte_order(order: str) -> None:
    table = ksyms.load(memoryview(_elf_with(_whole(order), order)))
    assert table.prototype(table[0]) == WANTED


def test_bpftool_reads_the_btf_made_by_hand(tmp_path: Path) -> None:
    (path := tmp_path / "whole").write_bytes(_whole())
    dump = subprocess.check_output(["bpftool", "btf", "dump", "file", path], text=True)
    assert re.search(r"FUNC 'f' type_id=\d+ linkage=global", dump)


def test_several_prototypes_of_one_name_are_all_given() -> None:
    make = _Maker()
    number = make.type(INT, "int", 4, 32)
    for result in (number, 0, number):
        make.type(FUNC, "f", make.type(PROTO, "", result))
    table = ksyms.load(memoryview(_elf_with(make.data())))
    assert table.prototypes(table[0]) == ["int f(void)", "void f(void)"]
    assert table.prototype(table[0]) is None


def _refused(btf: bytes) -> str:
    """Why it is; the file's symbols are what they are without it."""
    table = ksyms.load(memoryview(_elf_with(btf)))
    assert table.lookup(0x1004) == table[0]
    assert (table.prototype(table[0]), table.prototypes(table[0])) == (None, [])
    with pytest.raises(ksyms.ImageError) as caught:
        Btf(btf, lambda what: ksyms.ImageError(what, "")).prototypes("f")
    return caught.value.what


def test_types_that_never_end_are_refused() -> None:
    for kind in (PTR, CONST, TYPEDEF, TYPE_TAG):
        make = _Maker()
        cycle = make.type(kind, "t" if kind in (TYPEDEF, TYPE_TAG) else "", 1)
        make.type(FUNC, "f", make.type(PROTO, "", cycle))
        table = ksyms.load(memoryview(_elf_with(make.data())))
        if kind == TYPEDEF:  # its name is enough
            assert table.prototype(table[0]) == "t f(void)"
        else:
            assert "has no end" in _refused(make.data())
    make = _Maker()
    make.type(PROTO, "", 0, 0, 1, 0, 1, vlen=2)  # each of its parameters is of its own type
    make.type(FUNC, "f", 1)
    assert "has no end" in _refused(make.data())


def test_impossible_types_are_refused() -> None:
    def of(result: int, kind: int = PROTO, name: str = "f") -> bytes:
        make = _Maker()
        make.type(FUNC, name, make.type(kind, "", result))
        return make.data()

    assert "no type 77" in _refused(of(77))
    assert "no prototype" in _refused(of(0, PTR))
    whole = of(0)
    assert "cut short" in _refused(whole[:20])
    assert "past its end" in _refused(whole[:-1])
    assert "magic" in _refused(b"\0\0" + whole[2:])
    assert "version 2" in _refused(whole[:2] + b"\2" + whole[3:])
    assert "kind 31" in _refused(of(0, 31))
    make = _Maker()
    make.type(TYPEDEF, "\x1b[2J", 0)
    make.type(FUNC, "f", make.type(PROTO, "", 1))
    assert "a name of its BTF" in _refused(make.data())


def test_a_split_one_without_its_base_has_no_prototypes(btf: dict[str, Path]) -> None:
    """Every stock module's BTF is such: its types continue the kernel's."""
    split = btf["mod"].read_bytes()
    assert "continues another one" in _refused(split)
    assert not ksyms.load(memoryview(_elf_with(split))).has_prototypes
    assert ksyms.load(memoryview(_elf_with(_whole()))).has_prototypes


@pytest.mark.parametrize("btf", [_whole()[:-1], b"", b"\x9f", bytes(64)])
def test_lookup_does_without_a_damaged_one(btf: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(_elf_with(btf))
    run = command("lookup", "--from", path, "f", "0x1004")
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split()[3] for line in run.stdout.splitlines()] == ["f", "f+0x4/0x8"]


def test_a_section_without_bytes_has_no_types(tmp_path: Path) -> None:
    """A snapshot of ELF files has each section of theirs by name, and none of its bytes."""
    text = Section(".text", 1, 6, 0x1000, b"\x90" * 64, align=16)
    types = Section(".BTF", 1, 2, 0x2000, _whole(), align=4)
    (path := tmp_path / "vmlinux").write_bytes(
        elf_file([Row(1, 0x1000, 8)], b"\0f\0", sections=(text, types))
    )
    assert ksyms.load(path).prototype(ksyms.load(path)[0]) == WANTED
    ksyms.snapshot(kernel=path).write(tmp_path / "snapshot")
    table = ksyms.load(tmp_path / "snapshot")
    found = table.lookup(0x1004)
    assert found is not None
    assert found.name == "f"
    assert (table.has_prototypes, table.prototype(found)) == (False, None)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_a_prototype(data: st.DataObject) -> None:
    """Any bytes changed, or the end cut off: no other error, and soon."""
    whole = bytearray(_whole(data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for btf in (bytes(whole), cut):
        table = ksyms.load(memoryview(_elf_with(btf)))
        texts = table.prototypes(table[0])
        assert all(text.isprintable() and len(text) < 1 << 20 for text in texts)
