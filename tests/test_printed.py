"""Names that clang's LTO made longer: which kernel prints what, in lookup and in decode.

What each release prints is written here from its kernel/kallsyms.c, cleanup_symbol_name; the
first lines of LTO are a 6.12's with ThinLTO, as its kallsyms has them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ksyms as library
from command import ksyms, write_root
from conftest import Kernel
from ksyms._decode import Decoder, Frames
from ksyms._symbols.by_name import NameSearch

MS, TWIN, OTHER_TWIN = "6623264625898998537", "6308137600086831619", "845825335708300392"
LTO = f"""\
ffffffffa7600000 T _stext
ffffffffa7600000 T _text
ffffffffa7986730 t PageHuge.llvm.{TWIN}
ffffffffa7986780 t trace_rss_stat
ffffffffa7a13700 t PageHuge.llvm.{OTHER_TWIN}
ffffffffa7a13740 t migration
ffffffffa7a471a0 t ms_store.llvm.{MS}
ffffffffa7a471e0 t low_store
ffffffffa7a706b0 T do_filp_open
ffffffffa7a70820 t tpm_tis_init.part.0
ffffffffa7a70900 t __pfx_tcp_urg.llvm.12
ffffffffa7a70910 t tcp_urg.llvm.12
ffffffffa7a70a00 t tcp_urg_end
ffffffffa8600000 T _etext
ffffffffc0100000 t netfs_read.llvm.77\t[netfs]
ffffffffc0100100 t netfs_end\t[netfs]
"""
HASH = "707af9a22804d33c81801f27dcfe489b"
CFI = f"""\
ffffff8008080000 T _text
ffffff8008080800 T _stext
ffffff8008081000 t probe${HASH}
ffffff8008081100 t poll.{HASH}
ffffff8008081200 t poll.{HASH}.cfi_jt
ffffff8008081208 T ioctl.cfi_jt
ffffff8008081210 t open${HASH}.cfi_jt
ffffff8008081300 T ioctl
ffffff8008081400 T write.cfi
ffffff8008081500 t again
ffffff8008081600 T write
ffffff8009000000 T _etext
"""
GCC = """\
ffffffff81000000 T _stext
ffffffff81000100 t foo.isra.0
ffffffff81000200 t foo.constprop.0.cold
ffffffff81000300 t bar
ffffffff81000400 t _RNvCs9ltgdHTiPiY_4core3fmt.llvm.4711
ffffffff81000500 t anon.707af9a22804d33c81801f27dcfe489b.5.llvm.12
ffffffff81001000 T _etext
"""
WHOLE = f"ms_store.llvm.{MS}"
PART = "tpm_tis_init.part.0"
RELEASES = {
    None: (WHOLE, PART),  # unknown
    "5.10.157-android13-4": (WHOLE, PART),
    "5.13.0": (WHOLE, PART),
    "5.15.78-android13-8": (WHOLE, PART),  # nothing tells
    "5.16.0": ("ms_store", "tpm_tis_init"),
    "6.0.19": ("ms_store", "tpm_tis_init"),
    "6.1.41": ("ms_store", "tpm_tis_init"),
    "6.1.42-android14-3": ("ms_store", PART),
    "6.1.0-18-amd64": ("ms_store", PART),  # which 6.1.y of the two that is, is not told
    "6.2.16": ("ms_store", "tpm_tis_init"),
    "6.4.6": ("ms_store", "tpm_tis_init"),
    "6.4.7": ("ms_store", PART),
    "6.5.0-14-generic": ("ms_store", PART),
    "6.6.30-android15-8": ("ms_store", PART),
    "6.10.6": ("ms_store", PART),
    "6.10.7": (WHOLE, PART),
    "6.11.0-rc2": (WHOLE, PART),  # the third was the first that prints all
    "6.12.117": (WHOLE, PART),
    "7.2.0": (WHOLE, PART),
}
"""The words that kernels print for the two names of LTO; the listed name if unknown."""


def kernel(
    directory: Path, text: str, release: str | None = None, machine: str = "x86_64"
) -> library.SymbolTable:
    """The symbols of a saved kernel with such a kallsyms."""
    write_root(directory, text, machine)
    if release is not None:
        version = f"Linux version {release} (builder@host) (clang version 17.0.6) #1 SMP\n"
        (directory / "proc/version").write_text(version)
    library.snapshot(directory).write(directory / "kernel.elf")
    return library.load(directory / "kernel.elf")


def decoded(table: library.SymbolTable, text: str) -> str:
    decoder = Decoder(table)
    decoder.look_ahead([text.encode()])
    return decoder.decode(text.encode()).decode()


def frames(table: library.SymbolTable, text: str) -> list[dict[str, Any]]:
    decoder = Decoder(table)
    decoder.look_ahead([text.encode()])
    return [json.loads(line) for line in Frames(decoder, table).lines(text.encode())]


def at(found: list[library.Symbol]) -> list[int]:
    return [symbol.address for symbol in found]


@pytest.mark.parametrize("release", RELEASES)
def test_the_word_that_each_release_prints(release: str | None, tmp_path: Path) -> None:
    table = kernel(tmp_path, LTO, release)
    assert table.facts.get("release") == release
    store, part = RELEASES[release]
    for address, name, listed in (
        (0xFFFFFFFFA7A471B0, store, WHOLE),
        (0xFFFFFFFFA7A70830, part, PART),
        (0xFFFFFFFFA7A706C0, "do_filp_open", "do_filp_open"),
    ):
        symbol = table.lookup(address)
        assert symbol is not None
        assert (symbol.name, table.printed(symbol)) == (listed, name)
        size = symbol.size
        assert decoded(table, f"{address:x}\n") == f"{address:x} {name}+0x10/{size:#x}\n"
        record = frames(table, f"{address:x}\n")[0]
        assert (record["symbol"], record.get("listed", name)) == (name, listed)
    module = decoded(table, "ffffffffc0100010\n")
    short = "netfs_read" if store == "ms_store" else "netfs_read.llvm.77"
    assert module == f"ffffffffc0100010 {short}+0x10/0x100 [netfs]\n"


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("slide", [0, 0x1E000000, -0x2000000])
def test_short_and_whole_names_tell_the_boot(
    release: str | None, slide: int, tmp_path: Path
) -> None:
    """Both agree, whatever the release: perf prints what kallsyms lists."""
    table = kernel(tmp_path, LTO, release)
    word = f"{0xFFFFFFFFA7A706C0 + slide:x}"
    named = f"{word} do_filp_open+0x10/0x170"
    for name in ("ms_store", WHOLE):
        lockdep = f"[<{0xFFFFFFFFA7A471B0 + slide:x}>] {name}+0x10/0x40\n"
        assert decoded(table, f"{lockdep}RCX: {word}\n") == f"{lockdep}RCX: {named}\n"
        record = frames(table, lockdep)[0]
        assert record["agrees"] is True
        assert record["file_address"] == "0xffffffffa7a471b0"
    # The size is another's.
    assert frames(table, "ms_store+0x10/0x48\n")[0]["symbol"] is None
    assert frames(table, "ms_store+0x10/0x40\n")[0]["file_address"] == "0xffffffffa7a471b0"


def test_a_wrong_name_does_not_agree(tmp_path: Path) -> None:
    table = kernel(tmp_path, LTO, "6.6.1")
    text = (
        f"{0xFFFFFFFFA7A706C4:x} do_filp_open+0x14/0x170\n{0xFFFFFFFFA7A471B0:x} tcp_urg+0x10\n"
    )
    assert decoded(table, text).splitlines()[1] == f"{0xFFFFFFFFA7A471B0:x} ms_store+0x10"


def test_several_of_one_short_name(tmp_path: Path) -> None:
    """A text's PageHuge can be either, unless its size or an address tells."""
    table = kernel(tmp_path, LTO, "6.6.1")
    assert at(table.find("PageHuge")) == [0xFFFFFFFFA7986730, 0xFFFFFFFFA7A13700]
    assert at(table.find(f"PageHuge.llvm.{TWIN}")) == [0xFFFFFFFFA7986730]
    found = {size: frames(table, f"PageHuge+0x4/{size}\n")[0] for size in ("0x50", "0x40")}
    assert found["0x50"]["file_address"] == "0xffffffffa7986734"
    assert found["0x40"]["file_address"] == "0xffffffffa7a13704"
    slid = f"{0xFFFFFFFFA7A13710 + 0x1E000000:x} PageHuge+0x10/0x40\n"
    one = f"{0xFFFFFFFFA7A471B0 + 0x1E000000:x} ms_store+0x10/0x40\n"
    raw = f"{0xFFFFFFFFA7A706C0 + 0x1E000000:x}"
    # The other PageHuge is no multiple of 2 MiB away, so this one tells the slide as well.
    for line in (slid, one, slid + one):
        assert decoded(table, f"{line}{raw}\n") == f"{line}{raw} do_filp_open+0x10/0x170\n"


def test_a_function_of_that_name_and_one_that_lto_named(tmp_path: Path) -> None:
    """find returns the one with that very name; a text can mean both."""
    text = LTO.replace("t low_store", "T ms_store")
    table = kernel(tmp_path, text, "6.6.1")
    assert at(table.find("ms_store")) == [0xFFFFFFFFA7A471E0]
    assert at(table.said("ms_store")) == [0xFFFFFFFFA7A471A0, 0xFFFFFFFFA7A471E0]
    for line in (
        "ffffffffa7a471b0 ms_store+0x10/0x40\n",
        "ffffffffa7a471f0 ms_store+0x10/0x294d0\n",
    ):
        assert decoded(table, line) == line
        assert frames(table, line)[0]["agrees"] is True


ANSWERS = {
    "ms_store": [0xFFFFFFFFA7A471A0],
    "tcp_urg": [0xFFFFFFFFA7A70910],
    "__pfx_tcp_urg": [0xFFFFFFFFA7A70900],
    "netfs_read": [0xFFFFFFFFC0100000],
    "PageHuge": [0xFFFFFFFFA7986730, 0xFFFFFFFFA7A13700],
    "ms_store.llvm": [],
    "ms_stor": [],
    "s_store": [],
    "ms_store.": [],
    "": [],
    "*": [],
    "tpm_tis_init": [],
}


@pytest.mark.parametrize("scans", [True, False])
@pytest.mark.parametrize("release", [None, "6.12.1", "6.6.1", "6.2.1"])
def test_find_by_the_short_name(
    release: str | None, scans: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a scan of the strings, and by the index; for every release."""
    monkeypatch.setattr(NameSearch, "scans", scans)
    table = kernel(tmp_path, LTO, release)
    by_dot = release in (None, "6.2.1")  # and of those where it is not known, perhaps
    answers = {**ANSWERS, "tpm_tis_init": [0xFFFFFFFFA7A70820]} if by_dot else ANSWERS
    assert {name: at(table.find(name)) for name in answers} == answers
    assert [s.name for s in table.find("ms_store")] == [WHOLE]


@pytest.mark.parametrize("scans", [True, False])
def test_cfi(scans: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function is found, not its entry in the jump table, which is printed alike."""
    monkeypatch.setattr(NameSearch, "scans", scans)
    table = kernel(tmp_path, CFI, "5.15.1", "aarch64")
    assert at(table.find("probe")) == [0xFFFFFF8008081000]
    assert at(table.find("poll")) == [0xFFFFFF8008081100]
    assert at(table.find("ioctl")) == [0xFFFFFF8008081300]
    assert at(table.find("open")) == [0xFFFFFF8008081210]  # there is no other
    assert at(table.said("poll")) == [0xFFFFFF8008081100, 0xFFFFFF8008081200]
    assert at(table.said("ioctl")) == [0xFFFFFF8008081208, 0xFFFFFF8008081300]


@pytest.mark.parametrize(
    ("release", "printed"),
    [
        ("4.19.1", f"probe poll.{HASH} poll.{HASH}.cfi_jt ioctl.cfi_jt open write"),
        ("5.4.86", f"probe poll.{HASH} poll.{HASH}.cfi_jt ioctl.cfi_jt open write.cfi"),
        ("5.15.1", f"probe poll.{HASH} poll.{HASH}.cfi_jt ioctl.cfi_jt open write.cfi"),
        ("6.0.1", f"probe poll poll ioctl open${HASH} write"),
        ("6.1.1", f"probe${HASH} poll poll ioctl open${HASH} write"),
        (None, f"probe${HASH} poll.{HASH} poll.{HASH}.cfi_jt ioctl.cfi_jt open${HASH}.cfi_jt"),
    ],
)
def test_the_printed_word_with_cfi(release: str | None, printed: str, tmp_path: Path) -> None:
    table = kernel(tmp_path, CFI, release, "aarch64")
    starts = (0x1000, 0x1100, 0x1200, 0x1208, 0x1210, 0x1400)
    found = [table.lookup(0xFFFFFF8008080000 + start) for start in starts]
    assert [table.printed(s) for s in found if s][: len(printed.split())] == printed.split()


@pytest.mark.parametrize("scans", [True, False])
@pytest.mark.parametrize("release", [None, "5.16.0", "6.1.0-56-amd64", "6.2.0", "6.6.1"])
def test_other_compilers_names_stay(
    release: str | None, scans: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcc's, clang's without LTO, and those that rustc makes beside either of them."""
    monkeypatch.setattr(NameSearch, "scans", scans)
    table = kernel(tmp_path, GCC, release)
    assert [table.printed(symbol) for symbol in table] == [
        line.split()[2] for line in GCC.splitlines()
    ]
    for name in ("foo", "foo.constprop", "anon", "_RNvCs9ltgdHTiPiY_4core3fmt"):
        assert table.find(name) == table.said(name) == []
    text = "ffffffff81000110 foo+0x10/0x100\nffffffff81000310 bar+0x10/0x100\n"
    assert [frame["agrees"] for frame in frames(table, text)] == [False, True]


def test_lookup_prints_the_kernels_word(tmp_path: Path) -> None:
    """A single lookup, without numpy: at an address the kernel's word, by name the list's."""
    kernel(tmp_path, LTO, "6.6.1")
    elf = tmp_path / "kernel.elf"
    run = ksyms("lookup", "--from", elf, "ffffffffa7a471b0", "ms_store+0x10", "ms_store")
    rows = [line.split()[3] for line in run.stdout.splitlines()]
    assert rows == ["ms_store+0x10/0x40", "ms_store+0x10/0x40", WHOLE]
    run = ksyms("lookup", "--json", "--from", elf, "ffffffffa7a471b0", "ms_store", PART)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [(r["name"], r.get("listed")) for r in records] == [
        ("ms_store", WHOLE),
        (WHOLE, None),
        (PART, None),
    ]


def test_names_of_no_use(tmp_path: Path) -> None:
    """A name that begins with the sign would be cut to nothing, so it stays whole."""
    text = LTO.replace("t low_store", "t .llvm.5").replace("T do_filp_open", "t .part.0")
    table = kernel(tmp_path, text, "6.2.0")
    assert [table.printed(s) for s in table if s.name[0] == "."] == [".llvm.5", ".part.0"]


def test_an_ordinary_kernel_is_not_touched(saved: dict[str, Kernel]) -> None:
    """Every name of two kernels that gcc compiled, of a release that would cut at a dot too."""
    for kernel in saved.values():
        table = library.load(kernel.elf)
        dotted = [symbol for symbol in table if "." in symbol.name]
        assert len(dotted) > 1000
        assert all(table.printed(symbol) == symbol.name for symbol in dotted)
        assert table.find("__func__") == []
