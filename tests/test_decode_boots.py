"""``ksyms decode`` of texts of other boots and of several: unknown is right, wrong is not.

The addresses come from a real kernel's kallsyms, moved as other boots would have moved it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from command import COMMAND, ksyms, refused, write_root
from conftest import Kernel
from ksyms import load
from timed import growth

SLIDE = 0x4000000
BANNER = "Linux version 6.12.117+deb12-amd64 (built somewhere)\n"
ALIEN = "Linux version 6.1.0-56-amd64 (built somewhere)\n"
DISABLED = "Kernel Offset: disabled\n"


@pytest.fixture(scope="module")
def kernel(saved: dict[str, Kernel]) -> Kernel:
    return saved["6.12.117+deb12-amd64-few"]


class At:
    """Addresses in ``kernel`` by name, and frames with and without the name beside them."""

    def __init__(self, kernel: Kernel) -> None:
        self.lines = kernel.lines
        self.places = {name: address for address, _, name, _ in self.lines}

    def raw(self, name: str, move: int = 0) -> str:
        return f"{self.places[name] + 4 + move:016x}"

    def named(self, name: str, move: int = 0, said: str = "") -> str:
        return f"{self.raw(name, move)} {said or name}+0x4/0x50"


@pytest.fixture(scope="module")
def at(kernel: Kernel) -> At:
    return At(kernel)


def decoded(kernel: Kernel, text: str, *options: str | Path) -> list[str]:
    """What decode makes of each line, and after the last what it says of the run."""
    run = ksyms("decode", "--from", kernel.elf, *options, input=text)
    assert "Traceback" not in run.stderr, run.stderr
    return [*run.stdout.splitlines(), "contradicted" if run.returncode else ""]


def test_a_banner_after_addresses_begins_another_boot(kernel: Kernel, at: At) -> None:
    raw, named = at.raw("vfs_write"), at.named("vfs_write")
    lines = decoded(kernel, f"{named}\n{BANNER}{raw}\n")
    assert lines == [named, BANNER[:-1], raw, ""]


def test_no_boot_of_several_is_the_own_one_by_itself(kernel: Kernel, at: At) -> None:
    raw = at.raw("vfs_write")
    assert decoded(kernel, f"{raw}\n{BANNER}{raw}\n")[::2] == [raw, raw]
    assert decoded(kernel, f"{BANNER}{raw}\n")[1].startswith(f"{raw} vfs_write+0x4/")


def test_a_boot_that_comes_late_contradicts_what_was_named(kernel: Kernel, at: At) -> None:
    """In a pipe that was quiet the first part has its names already."""
    command: list[str | Path] = [COMMAND, "decode", "--from", kernel.elf]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(f"{at.raw('vfs_write')}\n")
        run.stdin.flush()
        assert " vfs_write+0x4/" in run.stdout.readline()
        run.stdin.write(f"{BANNER}{at.raw('vfs_write')}\n")
        out, err = run.communicate(timeout=30)
    assert " vfs_write" not in out
    assert run.returncode == 1
    assert "tells of another" in err


def test_a_kernel_that_is_not_moved_says_nothing_of_modules(kernel: Kernel, at: At) -> None:
    """Two boots without KASLR have the kernel at one place, and modules where they like."""
    boot = f"{BANNER}{at.named('vfs_write')}\n{at.raw('cuse_channel_release')}\n"
    lines = decoded(kernel, boot * 2)
    assert lines[2] == lines[5] == at.raw("cuse_channel_release")
    assert "cuse_channel_release+0x4/" in decoded(kernel, boot)[2]


def test_addresses_where_only_another_boots_kernel_is(kernel: Kernel, at: At) -> None:
    """By perf without names: the modules' addresses lie in others of the file."""
    text = f"{at.raw('vfs_write', -0x14000000)}\n{at.raw('cuse_channel_release')}\n"
    assert decoded(kernel, text)[:2] == text.splitlines()
    both = text + at.named("vfs_write") + "\n" + at.raw("ksys_write") + "\n"
    assert " ksys_write+0x4/" in decoded(kernel, both)[3]


def test_what_bounds_a_region_is_no_address_of_another_boots(kernel: Kernel, at: At) -> None:
    """A multiple of 2 MiB is a size or a limit (MODULES_VADDR): two bytes on it is a place."""
    start = min(place for place in at.places.values() if place >= 0xFFFFFFFF80000000)
    for distance in (-0x1000000, -0x200000):
        bound = (start & -0x200000) + distance
        lines = [f"{bound + more:016x}\n{at.raw('cuse_channel_release')}\n" for more in (0, 2)]
        assert " cuse_channel_release+0x4/" in decoded(kernel, lines[0])[1]
        assert decoded(kernel, lines[1])[:2] == lines[1].splitlines()


def test_a_moved_module_does_not_leave_the_kernel_where_it_was(kernel: Kernel, at: At) -> None:
    module = f"{at.named('cuse_channel_release', 0x3000)} [cuse]"
    text = f"{module}\n{at.raw('vfs_write')}\n{at.raw('cuse_fc_release', 0x3000)}\n"
    lines = decoded(kernel, text)
    assert lines[:2] == text.splitlines()[:2]
    assert " cuse_fc_release+0x4/" in lines[2]  # the module's section is known


def test_a_module_that_was_loaded_twice(kernel: Kernel, at: At) -> None:
    """Nothing tells which of its two places an address is of."""
    first, second = (
        f"{at.named('cuse_channel_release', move)} [cuse]\n{at.raw('cuse_fc_release', move)}\n"
        for move in (0x6000, 0x7000)
    )
    known = at.named("vfs_write") + "\n"
    assert decoded(kernel, known + first + second)[1:5] == (first + second).splitlines()
    assert " cuse_fc_release+0x4/" in decoded(kernel, known + first)[2]


def test_two_modules_at_one_place(kernel: Kernel, at: At) -> None:
    """One was unloaded, and the other came: an address there is of one of the two."""
    move = at.places["p9_virtio_probe"] - at.places["cuse_channel_release"] & ~0xFFF
    moved = f"{at.named('cuse_channel_release', move)} [cuse]\n"
    other = f"{at.named('p9_virtio_probe')} [9pnet_virtio]\n"
    raw = at.raw("cuse_fc_release", move)
    lines = decoded(kernel, f"{at.named('vfs_write', SLIDE)}\n{moved}{other}{raw}\n")
    assert lines[3] == raw


def test_a_text_that_tells_nothing_is_taken_for_the_own_boot_aloud(
    kernel: Kernel, at: At
) -> None:
    alone, said = f"{at.raw('vfs_read')}\n", "Nothing in it tells which boot it is of"
    for text, options, aloud in (
        (alone, [], True),
        (alone, ["--slide", "0"], False),
        (f"{alone}{at.named('vfs_write')}\n", [], False),
        ("no address\n", [], False),
    ):
        run = ksyms("decode", "--from", kernel.elf, *options, input=text)
        assert (said in run.stderr) == aloud, text
        assert run.stdout.count("vfs_read+0x4") == text.count(alone)


def test_an_offset_that_is_disabled(kernel: Kernel, at: At) -> None:
    """The file's kernel was moved, by nobody knows what; the text's was not."""
    raw = at.raw("vfs_write")
    assert decoded(kernel, f"{raw}\n{DISABLED}")[0] == raw
    named = f"{at.named('vfs_write', SLIDE)}\n{at.raw('ksys_write', SLIDE)}\n"
    assert " ksys_write+0x4/" in decoded(kernel, f"{named}{DISABLED}")[1]


def test_an_offset_that_is_disabled_in_a_kernel_with_a_system_map(
    kernel: Kernel, at: At, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "boot").mkdir()
    for path in ("proc/modules", "proc/version", "proc/sys/kernel/osrelease"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes((kernel.root / path).read_bytes())
    lines = [line for line in at.lines if line[3] is None]
    text = "".join(f"{a:016x} {t} {n}\n" for a, t, n, _ in lines)
    (root / "proc/kallsyms").write_text(text)
    down = at.places["_text"] - 0xFFFFFFFF81000000
    links = ((a - down if a >> 63 else a, t, n) for a, t, n, _ in lines)
    release = (root / "proc/sys/kernel/osrelease").read_text().strip()
    (root / f"boot/System.map-{release}").write_text(
        "".join(f"{a:016x} {t} {n}\n" for a, t, n in links)
    )
    elf = tmp_path / "kernel.elf"
    ksyms("snapshot", "--root", root, "-o", elf, check=True)
    run = ksyms("decode", "--from", elf, input=f"{at.raw('vfs_write', -down)}\n{DISABLED}")
    assert " vfs_write+0x4/" in run.stdout, run.stderr


def test_another_kernels_part_of_a_log(kernel: Kernel, at: At) -> None:
    """Its names fit nothing, and it says itself that it is of another; the rest is decoded."""
    others = "".join(at.named("vfs_write", 0x123 * n) + "\n" for n in range(1, 13))
    own = f"{BANNER}{at.named('vfs_write', SLIDE)}\n{at.raw('ksys_write', SLIDE)}\n"
    lines = decoded(kernel, ALIEN + others + own)
    assert lines[1:13] == others.splitlines()
    assert " ksys_write+0x4/" in lines[15]


@pytest.mark.parametrize("size", ["/0x450", ""])
def test_few_names_of_another_build(kernel: Kernel, at: At, size: str) -> None:
    """Too few to refuse the text: they stay, and nothing beside them is guessed."""
    names = ("vfs_write", "ksys_write", "do_sys_poll")
    text = "".join(f"{at.raw(name, 0x123)} {name}+0x4{size}\n" for name in names)
    text += at.raw("vfs_write") + "\n"
    assert decoded(kernel, text)[:-1] == text.splitlines()


def test_many_names_of_another_build_by_perf(kernel: Kernel, at: At) -> None:
    names = [name for _, letter, name, module in at.lines if letter == "T" and not module]
    text = "".join(f"\t{at.raw(n, 0x123)} {n}+0x4 ([kernel.kallsyms])\n" for n in names[9:200])
    run = ksyms("decode", "--from", kernel.elf, input=text)
    refused(run, "of another build", "--force")


def test_a_few_strange_names_do_not_end_a_long_log(kernel: Kernel, at: At) -> None:
    start = at.places["vfs_write"]
    known = "".join(f"{start + n:x} vfs_write+{n:#x}/0x450\n" for n in range(100))
    strange = "".join(at.named("vfs_write", 0x123 * n) + "\n" for n in range(1, 13))
    pad = "\n" * (1 << 22)  # blocks of their own
    text = f"{known}{pad}{strange}{pad}{at.named('vfs_write', SLIDE)}\n"
    run = ksyms("decode", "--from", kernel.elf, input=text)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("slide", ["0x1000", "-0x200001", "1", hex(1 << 70)])
def test_a_slide_that_no_kernel_has(kernel: Kernel, slide: str) -> None:
    run = ksyms("decode", "--from", kernel.elf, f"--slide={slide}", input="")
    refused(run, "No kernel has the slide", "Give the slide")


def test_a_boot_of_another_build_without_an_id(
    kernel: Kernel, saved: dict[str, Kernel]
) -> None:
    other = saved["6.1.0-56-amd64-few"].root / "proc/kallsyms"
    run = ksyms("decode", "--from", kernel.elf, "--boot", other, input="")
    refused(run, "at one distance", "two boots of one build")


def test_programs_of_bpf_do_not_move_together(tmp_path: Path) -> None:
    """Each boot has its own, at places of their own."""
    kernel = "".join(f"ffffffff81{n:06x} T f{n}\n" for n in range(0, 0x1000, 0x10))
    kernel = f"ffffffff81000000 T _stext\n{kernel}ffffffff81001000 T _etext\n"
    program = "ffffffffc000{}00 t bpf_prog_{}\t[bpf]\n".format
    one = kernel + program("00", "a") + program("01", "b")
    two = kernel + program("50", "a") + program("71", "c")
    (tmp_path / "one").write_text(one)
    (tmp_path / "two").write_text(two)
    text = "ffffffffc0005104\n"
    options: list[str | Path] = ["--from", tmp_path / "one", "--boot", tmp_path / "two"]
    assert ksyms("decode", *options, input=text).stdout == text
    told = f"ffffffff81000104 f256+0x4/0x10\nffffffffc0005004 bpf_prog_a+0x4/0x100\n{text}"
    run = ksyms("decode", "--from", tmp_path / "one", input=told)
    assert run.stdout == told


def test_records_of_names_that_are_another_kernels(kernel: Kernel, at: At) -> None:
    frame = decoded(kernel, at.raw("vfs_write"))[0].split()[1]
    name, _, size = frame.partition("+0x4/")
    text = f"{frame}\n{name}+0x7777/{size}\n{ALIEN}{frame}\n"
    run = ksyms("decode", "--from", kernel.elf, "--json", input=text)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [r["line"] for r in records] == [1, 2, 4]
    assert [r["symbol"] for r in records] == ["vfs_write", None, None]
    assert "0x7777" in records[1]["why"]
    assert "6.1.0-56-amd64" in records[2]["why"]


def test_only_modules_that_are_linked_in_are_listed(kernel: Kernel, at: At) -> None:
    text = (
        f"{at.named('vfs_write', SLIDE)}\n{at.raw('cuse_channel_release', 0x100000)}\n"
        '"Modules linked in: cuse(OE) fuse(E+) netfs [last unloaded: gone(E)]"\n'
        '"Modules linked in: nine_p"},{"msg": "more"\n'
    )
    run = ksyms("decode", "--from", kernel.elf, input=text)
    assert "(linked in: cuse fuse netfs nine_p)." in run.stderr


def test_what_dmesg_colours(kernel: Kernel, at: At) -> None:
    """``dmesg --color=always`` colours what is before the first colon, and then the message."""
    lowest = 0xFFFFFFFF81000000
    offset = at.places["_text"] + SLIDE - lowest
    text = (
        f"{at.raw('vfs_write', SLIDE)}\n{at.raw('cuse_channel_release', 0x100000)}\n"
        "\x1b[33mModules linked in: \x1b[0m\x1b[1mcuse(OE) fuse\x1b[0m\n"
        f"\x1b[33mKernel Offset: \x1b[0m\x1b[1m{offset:#x} from {lowest:#x}\x1b[0m\n"
    )
    run = ksyms("decode", "--from", kernel.elf, input=text)
    assert run.stdout.splitlines()[0].startswith(f"{at.raw('vfs_write', SLIDE)} vfs_write+0x4/")
    assert run.stdout.splitlines()[1:] == text.splitlines()[1:]
    assert "(linked in: cuse fuse)." in run.stderr


@pytest.mark.parametrize("end", ["\r\n", '"},\n'])
def test_a_build_id_before_what_ends_a_line(kernel: Kernel, end: str) -> None:
    line = f"CPU: 0 PID: 1 Comm: sh Not tainted 6.12.117+deb12-amd64 #1 Debian {'ab' * 20}"
    refused(ksyms("decode", "--from", kernel.elf, input=line + end), "ab" * 20, "--force")


@pytest.mark.parametrize(
    "line",
    [
        lambda length: "ffffffff81000000:" * (length // 17),
        lambda length: "Comm: a Tainted:" + " " * length,
        lambda length: ("a" * 2000 + " <ffffffff81000000>") * (length // 2019),
    ],
    ids=["colons", "spaces", "names"],
)
def test_long_lines_take_no_more_time_than_others(
    kernel: Kernel, line: Callable[[int], str]
) -> None:
    """The time of each was the square of its length: minutes for these."""

    def decode(length: int) -> None:
        text = line(length)
        run = ksyms("decode", "--from", kernel.elf, input=text, timeout=300)
        assert run.returncode == 0, run.stderr

    assert growth(decode, 60_000, 1_000_000, 60) <= 60


def test_records_come_as_soon_as_what_they_are_of(kernel: Kernel, at: At) -> None:
    command: list[str | Path] = [COMMAND, "decode", "--from", kernel.elf, "--json"]
    pipe = subprocess.PIPE
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, text=True, env=buffered, stdin=pipe, stdout=pipe) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(at.named("vfs_write") + "\n")
        run.stdin.flush()
        assert json.loads(run.stdout.readline())["symbol"] == "vfs_write"
        run.stdin.close()
        assert run.wait(timeout=30) == 0


def test_a_stdin_that_is_closed(kernel: Kernel) -> None:
    command = f"exec {COMMAND} decode --from {kernel.elf} <&-"
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    refused(run, "cannot be read: it is closed", "a file that holds a text")


def bare(at: At, names: list[str], move: int = 0) -> str:
    """Lines of names without offsets beside addresses, as ftrace has them."""
    return "".join(f" => {name} <{at.raw(name, move)}>\n" for name in names)


@pytest.fixture(scope="module")
def functions(at: At) -> list[str]:
    """Names of the kernel's own functions that nothing else has."""
    called = Counter(name for _, _, name, _ in at.lines)
    own = {name for _, letter, name, module in at.lines if letter == "T" and not module}
    return [name for name, count in called.items() if name in own and count == 1][100:160]


WORD = "result"
"""An English word that is a symbol of this kernel's: data of some kilobytes."""


def accident(at: At, move: int) -> str:
    return f"entry {at.places[WORD] + 8 + move:016x} {WORD}\n"


@pytest.mark.parametrize("proof", ["a frame", "names"])
def test_a_word_beside_an_address_is_no_boot(
    kernel: Kernel, at: At, functions: list[str], proof: str
) -> None:
    """Not beside what is proven already, by a frame or by names."""
    raw = "".join(at.raw(name) + "\n" for name in functions)
    before = {"a frame": at.named("vfs_write") + "\n", "names": bare(at, functions)}
    text = before[proof] + accident(at, 3 * SLIDE) + raw
    lines = decoded(kernel, text)
    named = [line.partition("+")[0] for line in lines[-1 - len(functions) : -1]]
    assert named == [f"{at.raw(name)} {name}" for name in functions]


@pytest.mark.parametrize("place", [0xFFFF888000000000, 0xFFFFC90000000000, 0xFFFFEA0000000000])
def test_no_kernel_lies_in_the_direct_map(
    kernel: Kernel, at: At, functions: list[str], place: int
) -> None:
    move = (place - at.places["_text"]) >> 21 << 21
    lines = decoded(kernel, bare(at, functions, move) + at.raw("vfs_write") + "\n")
    assert lines[: len(functions)] == bare(at, functions, move).splitlines()
    assert "vfs_write" not in lines[-2]  # of nobody knows which boot


def test_names_of_another_build(kernel: Kernel, at: At, functions: list[str]) -> None:
    """Each at another distance from where the file has it."""
    lines = [bare(at, [name], 0x1230 * n + 0x800) for n, name in enumerate(functions, 1)]
    text = "".join(lines) + at.raw("vfs_write") + "\n"
    assert decoded(kernel, text)[:-1] == text.splitlines()


def test_names_of_two_boots(kernel: Kernel, at: At, functions: list[str]) -> None:
    """In one block nothing says where the one ends; in blocks of their own each is told."""
    one, other = bare(at, functions[:30]), bare(at, functions[30:], SLIDE)
    raw, moved = f"{at.raw('vfs_write')}\n", f"{at.raw('vfs_write', SLIDE)}\n"
    text = one + raw + other + moved
    assert decoded(kernel, text)[:-1] == text.splitlines()
    pad = "\n" * (1 << 18)
    lines = decoded(kernel, one + raw + pad + other + moved)
    assert lines[30].startswith(f"{at.raw('vfs_write')} vfs_write+0x4/")
    assert lines[-2].startswith(f"{at.raw('vfs_write', SLIDE)} vfs_write+0x4/")


def test_names_far_behind_addresses(kernel: Kernel, at: At, functions: list[str]) -> None:
    text = f"{at.raw('vfs_write', SLIDE)}\n" + "words\n" * 100_000 + bare(at, functions, SLIDE)
    assert decoded(kernel, text)[0].startswith(f"{at.raw('vfs_write', SLIDE)} vfs_write+0x4/")


def test_a_word_that_is_no_symbol_is_no_name(kernel: Kernel, at: At) -> None:
    text = f"RSP <{at.raw('vfs_write')}>\n"
    run = ksyms("decode", "--json", "--from", kernel.elf, input=text)
    record = json.loads(run.stdout)
    assert (record["said"], record["agrees"], record["text"]) == (None, None, text[5:21])


@pytest.mark.parametrize("before", ["", "a word\n", "words\t", "words and "])
def test_a_name_before_its_address(kernel: Kernel, at: At, before: str) -> None:
    """Wherever in the text and in its line it stands, it is the address's name."""
    text = f"{before}vfs_write+0x4/0x450 <{at.raw('vfs_write')}>\n"
    assert decoded(kernel, text)[:-1] == text.splitlines()


def test_the_one_boot_of_several_that_is_the_files_own(kernel: Kernel, at: At) -> None:
    """Where each boot has the kernel elsewhere its place tells of the modules too."""
    own = f"{BANNER}{at.named('vfs_write')}\n{at.raw('cuse_channel_release')}\n"
    other = f"{BANNER}{at.named('vfs_write', SLIDE)}\n{at.raw('cuse_channel_release')}\n"
    for text, line in ((own + other, 2), (other + own, 5)):
        lines = decoded(kernel, text)
        assert "cuse_channel_release+0x4/" in lines[line]
        assert lines[7 - line] == at.raw("cuse_channel_release")


ARM = """\
c0100000 T _stext
c0100100 T vfs_read
c0100200 T vfs_write
c0101000 T _etext
bf000000 t first_read\t[first]
bf000100 t first_write\t[first]
bf002000 t other_read\t[other]
bf002100 t other_write\t[other]
"""


def by_arm(tmp_path: Path, text: str) -> tuple[list[str], str]:
    """The lines that decode makes of an ARM kernel's text, and what it says."""
    elf = tmp_path / "elf"
    write_root(tmp_path / "root", ARM, "armv7l")
    ksyms("snapshot", "--root", tmp_path / "root", "-o", elf, check=True)
    run = ksyms("decode", "--from", elf, input=text)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines(), run.stderr


def test_a_kernel_that_never_moves_proves_nothing_of_modules(tmp_path: Path) -> None:
    """They are named, and that this is a guess is said; a module's own frame is no guess."""
    known, module = "[<c0100104>] vfs_read+0x4/0x100\n", "r7 : bf000004\n"
    lines, said = by_arm(tmp_path, known + module)
    assert " first_read+0x4/0x100 [first]" in lines[1]
    assert "Nothing in it tells which boot it is of" in said
    told = "[<bf000104>] first_write+0x4/0x1f00 [first]\n"
    lines, said = by_arm(tmp_path, known + told + module)
    assert " first_read+0x4/0x100 [first]" in lines[2]
    assert "Nothing in it tells" not in said


def test_a_module_elsewhere_does_not_move_arms_kernel(tmp_path: Path) -> None:
    text = "[<bf105004>] first_read+0x4/0x100 [first]\nr5 : c0100104\nr6 : bf002004\n"
    lines, _ = by_arm(tmp_path, text)
    assert lines[1] == "r5 : c0100104 vfs_read+0x4/0x100"
    assert lines[2] == "r6 : bf002004"


def test_names_in_lines_of_their_own_tell_where_a_module_is(tmp_path: Path) -> None:
    """ARM prints the names of pc and lr before their addresses."""
    text = (
        "[   83.0] PC is at first_read+0x4/0x100 [first]\n"
        "[   83.0] LR is at vfs_write+0x8/0xe00\n"
        "[   83.0] pc : [<bf105004>]    lr : [<c0100208>]    psr: 60000013\n"
        "[   83.0] r7 : bf105104  r6 : bf002004\n"
    )
    lines, _ = by_arm(tmp_path, text)
    assert "r7 : bf105104 first_write+0x4/" in lines[3]
    assert lines[3].endswith("r6 : bf002004")


def test_what_is_behind_a_modules_last_symbol_elsewhere(tmp_path: Path) -> None:
    """Its inferred size goes on to the section's end, where another boot has other modules."""
    known = "[<bf105104>] first_write+0x4/0x1f00 [first]\n"
    lines, _ = by_arm(tmp_path, f"{known}r5 : bf105ffc\nr6 : bf106004\n")
    assert " first_write+0xefc/" in lines[1]
    assert lines[2] == "r6 : bf106004"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_boot_that_is_given_is_that_of_every_banner(
    kernel: Kernel, at: At, tmp_path: Path, options: list[str]
) -> None:
    """In a file too, which is looked at before: no later banner says otherwise."""
    text = tmp_path / "text"
    text.write_text(f"{BANNER}{at.raw('vfs_write')}\n" * 2)
    run = ksyms("decode", "--from", kernel.elf, "--slide", "0", *options, text)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("vfs_write") == 2


@pytest.mark.parametrize("told", ["frame", "offset"])
def test_the_same_lines_of_two_boots(kernel: Kernel, at: At, told: str) -> None:
    """Lines that are there thousands of times have the names of the boot that each is of."""
    names = ["vfs_write", "vfs_read", "ksys_write", "do_exit"]
    own = "".join(f"\t{at.raw(name)}\n" for name in names)
    move = at.places["vfs_read"] - at.places["vfs_write"] & -0x200000 or SLIDE
    text = at.places["_text"]
    tells = {
        "frame": BANNER + at.named("vfs_fsync", move) + "\n",
        "offset": f"{BANNER}Kernel Offset: {move + text - 0xFFFFFFFF81000000:#x}"
        " from 0xffffffff81000000\n",
    }
    moved = "".join(f"\t{at.raw(name, move)}\n" for name in names)
    first = at.named("vfs_write") + "\n" + own * 9000
    lines = decoded(kernel, first + tells[told] + (own + moved) * 9000)
    begin = 1 + 4 * 9000
    named = [line.partition("+")[0] for line in lines[1:begin]]
    assert named == [f"\t{at.raw(name)} {name}" for name in names] * 9000
    later = lines[begin + tells[told].count("\n") :]
    theirs = [line.split()[1].partition("+")[0] for line in later[4 : 8 * 9000 : 8]]
    assert theirs == ["vfs_write"] * 9000
    ours = [line.partition("+")[0] for line in later[: 8 * 9000 : 8]]
    assert f"\t{at.raw('vfs_write')} vfs_write" not in ours


def test_records_of_lines_that_are_there_again(kernel: Kernel, at: At) -> None:
    """Each has its own line's number, and names without addresses are counted each time."""
    [size] = {s.size for s in load(kernel.elf).find("vfs_read")}
    lines = [
        at.raw("vfs_write"),
        "nothing",
        f"[<0>] vfs_read+0x10/{size:#x}",
        at.named("do_exit"),
    ]
    text = "".join(f"{line}\n" for line in lines) * 9000
    run = ksyms("decode", "--json", "--from", kernel.elf, input=text)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [r["line"] for r in records] == [n for n in range(1, 36001) if n % 4 != 2]
    found = [(r["symbol"], r["offset"]) for r in records]
    assert found == [("vfs_write", 4), ("vfs_read", 16), ("do_exit", 4)] * 9000
    assert "9000 of 9000 frames without an address fit" in run.stderr


def test_explain_names_the_line_among_lines_that_are_there_again(
    kernel: Kernel, at: At
) -> None:
    raw = at.raw("vfs_write") + "\n"
    first, second = at.named("vfs_read") + "\n", at.named("vfs_read", SLIDE) + "\n"
    text = first + raw * 40000 + BANNER + second + raw
    run = ksyms("decode", "--explain", "--from", kernel.elf, input=text)
    assert "line 40002: " in run.stderr, run.stderr
