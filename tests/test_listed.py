"""What kallsyms lists besides live functions: it names no address that the kernel does not.

The right names are those of the kernel's rule, by hand: kernel/kallsyms.c,
kallsyms_lookup_buildid, and what it calls. tests/vm/test_names.py asks kernels themselves.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import ksyms

KERNEL = """\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000010 t __pfx_vfs_read
ffffffff81000020 T vfs_read
ffffffff81000080 T seq_printf
ffffffff81100000 T _etext
ffffffff81200000 D __start_rodata
ffffffff81200100 d table
ffffffff81201000 D __end_rodata
ffffffff81300000 D _sdata
ffffffff81300040 d counters
ffffffff81301000 D _edata
ffffffff81400000 D _end
"""
Names = dict[int, str | None]


def saved(
    root: Path,
    kallsyms: str,
    modules: str = "",
    sections: dict[str, dict[str, int]] | None = None,
) -> Path:
    """Save files of a kernel below ``root``; ``sections`` are modules', by name."""
    (root / "proc").mkdir(parents=True)
    (root / "proc/kallsyms").write_text(kallsyms)
    if modules:
        (root / "proc/modules").write_text(modules)
    for module, starts in (sections or {}).items():
        directory = root / "sys/module" / module / "sections"
        directory.mkdir(parents=True)
        for name, start in starts.items():
            (directory / name).write_text(f"0x{start:016x}\n")
    return root


def words(table: ksyms.SymbolTable, address: int) -> str | None:
    """What ``%pS`` would print by this table."""
    symbol = table.lookup(address)
    if symbol is None:
        return None
    module = f" [{symbol.module}]" if symbol.module else ""
    return f"{symbol.name}+{address - symbol.address:#x}/{symbol.size:#x}{module}"


def check(root: Path, names: Names) -> ksyms.SymbolTable:
    """Hold ``names`` against the image, one by one and all at once, and gdb and elfutils."""
    snapshot = ksyms.snapshot(root)
    table = ksyms.load(snapshot.image)
    assert {address: words(table, address) for address in names} == names
    many = ksyms.load(snapshot.image)
    places = many.locate(list(names))
    told = [None if place == len(many) else many[place].name for place in places.tolist()]
    assert told == [name and name.partition("+")[0] for name in names.values()]
    elf = root / "kernel.elf"
    snapshot.write(elf)
    assert in_gdb(elf, list(names)) == in_elfutils(elf, list(names)) == places_of(names)
    return table


def places_of(names: Names) -> list[tuple[str, int] | None]:
    """Name and offset of each."""
    matches = [name and re.match(r"(.+)\+0x(\w+)/", name) for name in names.values()]
    return [(match[1], int(match[2], 16)) if match else None for match in matches]


def in_gdb(elf: Path, addresses: list[int]) -> list[tuple[str, int] | None]:
    asked = [word for a in addresses for word in ("-ex", f"info symbol {a:#x}")]
    run = subprocess.run(["gdb", "-batch", "-nx", *asked, elf], capture_output=True, text=True)
    found: list[tuple[str, int] | None] = []
    for line in run.stdout.splitlines():
        match = re.match(r"(\S+)(?: \+ (\d+))? in section", line)
        if match or line.startswith("No symbol matches"):
            found.append((match[1], int(match[2] or "0")) if match else None)
    return found


def in_elfutils(elf: Path, addresses: list[int]) -> list[tuple[str, int] | None]:
    command = ["eu-addr2line", "-S", "-e", str(elf), *(f"{a:#x}" for a in addresses)]
    run = subprocess.run(command, capture_output=True, text=True)
    lines = [line.partition("+") for line in run.stdout.splitlines()[::2]]
    return [None if "?" in name else (name, int(more or "0", 16)) for name, _, more in lines]


BAR = """\
ffffffffc0100000 t bar_open\t[bar]
ffffffffc0100100 t bar_read\t[bar]
ffffffffc0100200 t bar_last\t[bar]
"""
FOO = """\
ffffffffc0200000 t foo_open\t[foo]
ffffffffc0200040 t foo_exit\t[foo]
"""
DEAD = """\
ffffffffc0100180 T foo_setup\t[foo]
ffffffffc0100100 T foo_init\t[foo]
"""
LIVE: Names = {
    0xFFFFFFFFC0100100: "bar_read+0x0/0x100 [bar]",
    0xFFFFFFFFC0100190: "bar_read+0x90/0x100 [bar]",
    0xFFFFFFFFC01001FF: "bar_read+0xff/0x100 [bar]",
    0xFFFFFFFFC0100210: "bar_last+0x10/0xe00 [bar]",
    0xFFFFFFFFC0200050: "foo_exit+0x10/0xfc0 [foo]",
}
"""Who answers where freed functions of ``foo`` lie in ``bar``."""
MODULES = """\
bar 4096 0 - Live 0xffffffffc0100000
foo 4096 0 - Live 0xffffffffc0200000
"""
SECTIONS = {
    "bar": {".text": 0xFFFFFFFFC0100000},
    "foo": {".text": 0xFFFFFFFFC0200000, ".init.text": 0xFFFFFFFFC0100100},
}


@pytest.mark.parametrize("sysfs", [True, False])
@pytest.mark.parametrize(
    "order", [BAR + FOO + DEAD, FOO + BAR + DEAD], ids=["adjoins", "apart"]
)
def test_a_live_module_answers_before_freed_functions(
    tmp_path: Path, order: str, sysfs: bool
) -> None:
    """Also where the freed ones follow the lines of their own module at once."""
    more = (MODULES, SECTIONS) if sysfs else ()
    table = check(saved(tmp_path / "root", KERNEL + order, *more), LIVE)
    assert not table.find("foo_init")
    assert [s.name for s in table].count("foo_init") == 1  # it is listed, and stays so


@pytest.mark.parametrize("order", [BAR + FOO, FOO + BAR])
def test_freed_functions_answer_where_nothing_lies(tmp_path: Path, order: str) -> None:
    """Each ends before the padding of the next (Linux 6.2 on), the last with its page."""
    dead = "ffffffffc0300080 T foo_two\t[foo]\nffffffffc0300010 T foo_one\t[foo]\n"
    names: Names = {
        0xFFFFFFFFC0300000: None,
        0xFFFFFFFFC0300010: "foo_one+0x0/0x60 [foo]",
        0xFFFFFFFFC030006F: "foo_one+0x5f/0x60 [foo]",
        0xFFFFFFFFC0300070: None,
        0xFFFFFFFFC0300080: "foo_two+0x0/0xf80 [foo]",
        0xFFFFFFFFC0300FFF: "foo_two+0xf7f/0xf80 [foo]",
        0xFFFFFFFFC0301000: None,
        **LIVE,
    }
    sections = {**SECTIONS, "foo": {**SECTIONS["foo"], ".init.text": 0xFFFFFFFFC0300000}}
    check(saved(tmp_path / "root", KERNEL + order + dead, MODULES, sections), names)


def test_of_two_freed_functions_the_one_listed_first_answers(tmp_path: Path) -> None:
    """It was freed last; the kernel looks at the list from its head."""
    dead = "ffffffffc0300040 T new\t[bar]\nffffffffc0300060 T old\t[foo]\n"
    names: Names = {0xFFFFFFFFC0300064: "new+0x24/0xfc0 [bar]"}
    check(saved(tmp_path / "root", KERNEL + BAR + FOO + dead, MODULES, SECTIONS), names)


def test_a_bpf_program_answers_before_freed_functions(tmp_path: Path) -> None:
    text = KERNEL + FOO + BAR + "ffffffffc0300010 T foo_one\t[foo]\n"
    text += "ffffffffc0300000 t bpf_prog_6deef7357e7b4530\t[bpf]\n"
    table = ksyms.load(ksyms.snapshot(saved(tmp_path / "root", text)).image)
    assert words(table, 0xFFFFFFFFC0300014) == "bpf_prog_6deef7357e7b4530+0x14/0x1000 [bpf]"


PATCH = """\
0000000000000000 a patch.c\t[lp]
ffffffffc0400000 t lp_show\t[lp]
ffffffffc0400030 t lp_exit\t[lp]
ffffffffc0100110 t lp_init\t[lp]
ffffffffc0402000 d lp_patch\t[lp]
ff41a60c40465106 ? __UNIQUE_ID_license1\t[lp]
0000000000035000 a lp_percpu\t[lp]
ffffffff81000020 u vfs_read\t[lp]
ffffffff81000080 u seq_printf\t[lp]
0000000000000000 w lp_weak\t[lp]
ffffffff81000010 w lp_other\t[lp]
"""
PATCHED: Names = {
    **dict.fromkeys((0, 1, 0x28, 0x35000, 0x35004, 0xFF41A60C40465106), None),
    0xFFFFFFFF81000010: "__pfx_vfs_read+0x0/0x10",
    0xFFFFFFFF81000024: "vfs_read+0x4/0x60",
    0xFFFFFFFFC0400000: "lp_show+0x0/0x30 [lp]",
    0xFFFFFFFFC0400FFF: "lp_exit+0xfcf/0xfd0 [lp]",
    0xFFFFFFFFC0401000: None,
    0xFFFFFFFFC0402FFF: "lp_patch+0xfff/0x1000 [lp]",
}
LP = {
    ".text": 0xFFFFFFFFC0400000,
    ".data": 0xFFFFFFFFC0402000,
    ".init.text": 0xFFFFFFFFC0100110,
}


def test_a_livepatch_names_its_own_memory_alone(tmp_path: Path) -> None:
    """All of its symbol table stays in kallsyms: files, undefined symbols, freed ones."""
    modules = "lp 8192 1 - Live 0xffffffffc0400000 (OEK)\n" + MODULES
    root = saved(tmp_path / "root", KERNEL + PATCH + BAR + FOO, modules, {"lp": LP, **SECTIONS})
    names = {**LIVE, **PATCHED, 0xFFFFFFFFC0100118: "bar_read+0x18/0x100 [bar]"}
    table = check(root, names)
    assert [symbol.module for symbol in table.find("seq_printf")] == [None]
    [symbol] = table.find("lp_percpu")
    assert (symbol.section, symbol.module) == (None, "lp")
    assert {s.module for s in table if s.letter in ("U", "u", "a")} == {"lp"}


def test_a_module_that_is_loading_names_its_init_functions(tmp_path: Path) -> None:
    modules = "lp 8192 1 - Loading 0xffffffffc0400000 (OE)\n"
    text = KERNEL + PATCH.replace("c0100110", "c0500110")
    sections = {"lp": {**LP, ".init.text": 0xFFFFFFFFC0500000}}
    root = saved(tmp_path / "root", text, modules, sections)
    check(root, {**PATCHED, 0xFFFFFFFFC0500118: "lp_init+0x8/0xef0 [lp]"})


def test_a_kernel_that_lists_data_names_all_of_its_image(tmp_path: Path) -> None:
    """get_symbol_pos: the last symbol before the address, from _stext to _end."""
    names: Names = {
        0xFFFFFFFF810FFFFF: "seq_printf+0xfff7f/0xfff80",
        0xFFFFFFFF81100000: "_etext+0x0/0x100000",
        0xFFFFFFFF811FFFFF: "_etext+0xfffff/0x100000",
        0xFFFFFFFF81200180: "table+0x80/0xf00",
        0xFFFFFFFF81250000: "__end_rodata+0x4f000/0xff000",
        0xFFFFFFFF81300050: "counters+0x10/0xfc0",
        0xFFFFFFFF81301004: "_edata+0x4/0xff000",
        0xFFFFFFFF81400001: None,
        0xFFFFFFFF80FFFFFF: None,
    }
    table = check(saved(tmp_path / "root", KERNEL), names)
    assert table.facts["lists"] == "all"
    assert table.lookup(0xFFFFFFFF81400000) is None  # _end; elfutils takes it by its address


def test_a_kernel_that_lists_functions_only_names_its_text_alone(tmp_path: Path) -> None:
    """is_ksym_addr without CONFIG_KALLSYMS_ALL; what the linker makes is listed too."""
    text = """\
ffffffff81000000 T _stext
ffffffff81000020 T vfs_read
ffffffff81100000 T _etext
ffffffff81200000 D __start_rodata
ffffffff81300000 D __start_init_stack
ffffffff81400000 T _sinittext
ffffffff81400000 B __init_begin
ffffffff81400010 t early
ffffffff81401000 T _einittext
ffffffff81500000 R __start_notes
"""
    names: Names = {
        0xFFFFFFFF81000030: "vfs_read+0x10/0xfffe0",
        0xFFFFFFFF81400014: "early+0x4/0xff0",
        **dict.fromkeys(
            (0xFFFFFFFF81200001, 0xFFFFFFFF81300004, 0xFFFFFFFF81310000, 0xFFFFFFFF81500001)
        ),
    }
    table = check(saved(tmp_path / "root", text), names)
    assert table.facts["lists"] == "functions"
    assert table.lookup(0xFFFFFFFF81300000) is None
    (found,) = table.find("__start_init_stack")
    assert (found.address, found.size) == (0xFFFFFFFF81300000, 1)


def test_the_last_function_of_a_module_has_the_rest_of_the_code(tmp_path: Path) -> None:
    """find_kallsyms_symbol: up to the end of the allocation, whatever sections are there."""
    text = KERNEL + (
        "ffffffffc0600000 t ovl_open\t[overlay]\n"
        "ffffffffc0600320 t ovl_exit\t[overlay]\n"
        "ffffffffc0603000 r ovl_table\t[overlay]\n"
        "ffffffffc0606000 d ovl_data\t[overlay]\n"
        "ffffffffc0606200 b ovl_bss\t[overlay]\n"
    )
    modules = "overlay 12288 1 - Live 0xffffffffc0600000\n"  # three pages
    sections = {
        ".text": 0xFFFFFFFFC0600000,
        ".exit.text": 0xFFFFFFFFC0600320,
        ".altinstr_replacement": 0xFFFFFFFFC0600400,
        ".rodata": 0xFFFFFFFFC0603000,
        ".rodata.str1.1": 0xFFFFFFFFC0603100,
        ".data": 0xFFFFFFFFC0606000,
        ".data.once": 0xFFFFFFFFC0606100,
        ".bss": 0xFFFFFFFFC0606140,
    }
    names: Names = {
        0xFFFFFFFFC0600322: "ovl_exit+0x2/0xce0 [overlay]",
        0xFFFFFFFFC0600410: "ovl_exit+0xf0/0xce0 [overlay]",
        0xFFFFFFFFC0603180: "ovl_table+0x180/0x1000 [overlay]",
        0xFFFFFFFFC0606180: "ovl_data+0x180/0x200 [overlay]",
        0xFFFFFFFFC0606FFF: "ovl_bss+0xdff/0xe00 [overlay]",
        0xFFFFFFFFC0608000: None,
    }
    root = saved(tmp_path / "root", text, modules, {"overlay": sections})
    table = check(root, names)
    (file,) = (file for file in table.facts["files"] if file["name"] == "overlay")
    assert not any(place["end_inferred"] for place in file["ranges"])


def test_modules_that_share_no_page_are_left_alone(tmp_path: Path) -> None:
    """A module whose functions come in two runs of lines only for another's between them."""
    text = KERNEL + BAR + FOO + "ffffffffc0400000 t ftrace_trampoline\t[__builtin__ftrace]\n"
    names: Names = {
        **LIVE,
        0xFFFFFFFFC0400FFF: "ftrace_trampoline+0xfff/0x1000 [__builtin__ftrace]",
        0xFFFFFFFFC0401000: None,
    }
    check(saved(tmp_path / "root", text, MODULES, SECTIONS), names)


NEAR = """\
ffffffffc0300f00 t n4_read\t[n4]
ffffffffc0300f40 t n4_write\t[n4]
"""
IN_N4: Names = {0xFFFFFFFFC0300F48: "n4_write+0x8/0x40 [n4]"}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (
            "ffffffffc0300f80 t n5\t[n5]\n",
            {0xFFFFFFFFC0300F80: "n5+0x0/0x80 [n5]", 0xFFFFFFFFC0300FFF: "n5+0x7f/0x80 [n5]"},
        ),
        ("ffffffffc0300f80 T n5\t[n5]\n", {0xFFFFFFFFC0300F80: "n5+0x0/0x80 [n5]"}),
        (
            "ffffffffc0300f80 t n5\t[n5]\nffffffffc0300f90 T more\t[n5]\n",
            {
                0xFFFFFFFFC0300F84: "n5+0x4/0x10 [n5]",
                0xFFFFFFFFC0300F90: "more+0x0/0x70 [n5]",
            },
        ),
        (
            "ffffffffc0300f80 T n5\t[n5]\nffffffffc0301010 T more\t[n5]\n",
            {
                0xFFFFFFFFC0300F80: "n5+0x0/0x90 [n5]",
                0xFFFFFFFFC0301010: "more+0x0/0xff0 [n5]",
            },
        ),
        (  # no function that ftrace remembers has another letter
            "ffffffffc0302000 t n5\t[n5]\nffffffffc0300f80 t more\t[n5]\n",
            {
                0xFFFFFFFFC0302000: "n5+0x0/0x1000 [n5]",
                0xFFFFFFFFC0300F80: "more+0x0/0x1080 [n5]",
            },
        ),
        (
            "ffffffffc0300f80 t n5\t[n5]\nffffffffc0300fc0 T n6\t[n6]\n",
            {0xFFFFFFFFC0300FBF: "n5+0x3f/0x40 [n5]", 0xFFFFFFFFC0300FC0: "n6+0x0/0x40 [n6]"},
        ),
    ],
    ids=["alone", "global", "two", "on to the next page", "elsewhere too", "three modules"],
)
def test_modules_by_hand_that_share_a_page(tmp_path: Path, line: str, names: Names) -> None:
    """No kernel has them, and each line says whose it is."""
    check(saved(tmp_path / "root", KERNEL + NEAR + line), {**IN_N4, **names})


@pytest.mark.parametrize(("start", "alive"), [(0xC0300F80, True), (0xC0302000, False)])
def test_a_page_that_proc_modules_says_the_owner_of(
    tmp_path: Path, start: int, alive: bool
) -> None:
    """A module whose only line is on another's page is there, or was."""
    modules = f"n5 64 0 - Live 0xffffffff{start:x}\nn4 64 0 - Live 0xffffffffc0300f00\n"
    text = KERNEL + NEAR + "ffffffffc0300f80 T n5\t[n5]\n"
    told = "n5+0x0/0x80 [n5]" if alive else "n4_write+0x40/0xc0 [n4]"
    table = ksyms.load(ksyms.snapshot(saved(tmp_path / "root", text, modules)).image)
    assert words(table, 0xFFFFFFFFC0300F80) == told
    assert bool(table.find("n5")) == alive


def test_freed_functions_of_a_text_sorted_by_address(tmp_path: Path) -> None:
    lines = sorted((BAR + DEAD + FOO).splitlines(keepends=True))
    names = {address: LIVE[address] for address in list(LIVE)[1:]}
    check(saved(tmp_path / "root", KERNEL + "".join(lines)), names)


ONE = "one 16384 0 - Live 0xffffffffc0700000\n"


def test_init_functions_that_stay(tmp_path: Path) -> None:
    """Within the module they are not freed: so it is on POWER (module_init_section)."""
    text = KERNEL + (
        "ffffffffc0700000 t one_open\t[one]\n"
        "ffffffffc0700100 t init_module\t[one]\n"
        "ffffffffc0700140 t one_exit\t[one]\n"
    )
    sections = {".text": 0xFFFFFFFFC0700000, ".init.text": 0xFFFFFFFFC0700100}
    names: Names = {
        0xFFFFFFFFC07000FF: "one_open+0xff/0x100 [one]",
        0xFFFFFFFFC0700104: "init_module+0x4/0x40 [one]",
    }
    check(saved(tmp_path / "root", text, ONE, {"one": sections}), names)


def test_where_the_code_of_one_allocation_ends(tmp_path: Path) -> None:
    """At the page that follows it, also where nothing there has a symbol (arm64's 6.1)."""
    text = KERNEL + "ffffffffc0700000 t one_open\t[one]\nffffffffc0700104 t one_exit\t[one]\n"
    sections = {
        ".text": 0xFFFFFFFFC0700000,
        ".plt": 0xFFFFFFFFC0700140,
        ".altinstructions": 0xFFFFFFFFC0701000,
        "__bug_table": 0xFFFFFFFFC0702000,
    }
    names: Names = {
        0xFFFFFFFFC0700FFF: "one_exit+0xefb/0xefc [one]",
        0xFFFFFFFFC0701000: None,
    }
    check(saved(tmp_path / "root", text, ONE, {"one": sections}), names)


def test_init_sections_of_arm(tmp_path: Path) -> None:
    """They have other names too (arch/arm/kernel/module.c, module_init_section)."""
    text = KERNEL + "ffffffffc0700000 t one_open\t[one]\n"
    sections = {
        ".text": 0xFFFFFFFFC0700000,
        ".ARM.exidx.exit.text": 0xFFFFFFFFC0701000,
        ".ARM.exidx.init.text": 0xFFFFFFFFC0900000,
    }
    names: Names = {
        0xFFFFFFFFC0700FFF: "one_open+0xfff/0x1000 [one]",
        0xFFFFFFFFC0701000: None,
        0xFFFFFFFFC0900000: None,
    }
    table = check(saved(tmp_path / "root", text, ONE, {"one": sections}), names)
    assert "0xffffffffc0900000" not in str(table.facts["files"])


def test_a_label_of_another_kind_ends_no_size(tmp_path: Path) -> None:
    text = KERNEL + (
        "ffffffffc0700000 t one_open\t[one]\n"
        "ffffffffc0702000 d one_data\t[one]\n"
        "ffffffffc0702010 r $d\t[one]\n"
        "ffffffffc0702040 d one_more\t[one]\n"
    )
    sections = {".text": 0xFFFFFFFFC0700000, ".data": 0xFFFFFFFFC0702000}
    names: Names = {0xFFFFFFFFC070203F: "one_data+0x3f/0x40 [one]"}
    check(saved(tmp_path / "root", text, ONE, {"one": sections}), names)


def test_freed_functions_on_the_last_page(tmp_path: Path) -> None:
    """What they take ends with the last address, and not behind it."""
    lines = (
        "c0000000 t one_read\t[one]",
        "c0001000 t two_read\t[two]",
        "ffffffff t gone\t[one]",
    )
    text = KERNEL + "".join(f"ffffffff{line}\n" for line in lines)
    names = {0xFFFFFFFFC0000004: "one_read", (1 << 64) - 1: "gone"}
    table = ksyms.load(ksyms.snapshot(root=saved(tmp_path / "root", text)).image)
    for address, name in names.items():
        symbol = table.lookup(address)
        assert symbol is not None
        assert symbol.name == name
