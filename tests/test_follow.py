"""``ksyms decode`` of texts that still come: each line when it is there, and none is lost."""

from __future__ import annotations

import os
import pty
import signal
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksyms as library
from command import TEXT
from following import PATIENCE, Following
from ksyms._decode import Boot, Decoder, Follower, Incoming, follow

TOLD = b"[<ffffffff81000018>] alpha+0x8/0x30\n"
RAW, NAMED = b"ffffffff81000018", b"ffffffff81000018 alpha+0x8/0x30"
LATE = "In a second nothing came that tells which boot it is of"


@pytest.fixture(scope="module")
def symbols(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("symbols") / "kallsyms"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("boot", ["given", "told"])
def test_a_line_is_out_before_the_next_comes(boot: str, symbols: Path) -> None:
    options = ["--slide", "0"] if boot == "given" else []
    with Following("--from", symbols, *options) as run:
        if boot == "told":
            run.write(TOLD)
            run.wait_for(TOLD)
        for number in range(20):
            run.write(b"%d %s\n" % (number, RAW))
            run.wait_for(b"%d %s\n" % (number, NAMED))
        status, _, said = run.end()
    assert (status, said) == (0, "")


def test_lines_without_addresses_wait_for_nothing(symbols: Path) -> None:
    with Following("--from", symbols) as run:
        for number in range(20):
            run.write(b"[    0.%06d] ordinary words\n" % number)
            run.wait_for(b"[    0.%06d] ordinary words\n" % number)
        assert run.end()[0] == 0


def steadily(write: Callable[[bytes], object], line: bytes, enough: threading.Event) -> int:
    """Write ``line`` each third of a second until it is enough; gives how many were."""
    count = 0
    while not enough.wait(1 / 3) and count < 3 * PATIENCE:
        write(line)
        count += 1
    return count


def test_lines_that_do_not_end_are_not_waited_for(symbols: Path) -> None:
    """They come one after the other, and nothing tells the boot: said once, and named."""
    enough = threading.Event()
    with Following("--from", symbols) as run:
        writer = threading.Thread(target=steadily, args=(run.write, RAW + b"\n", enough))
        writer.start()
        try:
            while run.out.count(NAMED) < 9 and run.comes():
                pass
            assert writer.is_alive()
        finally:
            enough.set()
            writer.join()
        status, _, said = run.end()
    assert status == 0
    assert said.count("which boot it is of") == 1
    assert LATE in said


def test_a_pause_before_what_tells_the_boot(symbols: Path) -> None:
    """What comes within the second still counts for what is held."""
    slid = b"ffffffff81400018"
    with Following("--from", symbols) as run:
        run.write(b"words\n" + slid + b"\n")
        run.wait_for(b"words\n")
        run.write(b"[<%s>] alpha+0x8/0x30\n" % slid)
        run.wait_for(b"%s alpha+0x8/0x30\n[<%s>] alpha+0x8/0x30\n" % (slid, slid))
        run.write(RAW + b"\n")
        run.wait_for(RAW + b"\n")  # no symbol's, in that boot
        assert run.end()[0] == 0


@pytest.mark.parametrize("options", [[], ["--slide", "0"]], ids=["unknown", "given"])
def test_a_prompt(options: list[str], symbols: Path) -> None:
    with Following("--from", symbols, *options) as run:
        run.write(b"host login: ")
        run.wait_for(b"host login: ")
        run.write(b"root\nPassword: ")
        run.wait_for(b"host login: root\nPassword: ")
        run.write(b"\n")
        run.wait_for(b"Password: \n")
        assert run.end()[:2] == (0, b"host login: root\nPassword: \n")


def test_an_address_that_comes_in_parts(symbols: Path) -> None:
    with Following("--from", symbols, "--slide", "0") as run:
        run.write(b"at 0xffffffff81")
        run.wait_for(b"at ")
        assert not run.comes(0.5)
        run.write(b"000018 ")
        assert not run.comes(0.5)
        run.write(b"alpha+0x8/0x30\nat 0xffffffff81000018")
        run.wait_for(b"at 0xffffffff81000018 alpha+0x8/0x30\nat ")
        status, out, _ = run.end()
    assert (status, out.count(b"alpha+0x8/0x30")) == (0, 2)


def test_a_serial_line(symbols: Path) -> None:
    """A terminal that is read as what it is, until the other end is gone."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with Following("--from", symbols, "--slide", "0", text=os.ttyname(theirs)) as run:
        for number in range(5):
            os.write(ours, b"[%d] %s\r\n" % (number, RAW))
            run.wait_for(b"[%d] %s\r\n" % (number, NAMED))
        os.write(ours, b"login: ")
        run.wait_for(b"login: ")
        os.close(theirs)
        os.close(ours)
        status, out, said = run.ended()
    assert out.endswith(b"login: ")
    assert (status, said) == (0, "") or "cannot be read to its end" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--slide", "0"], ["--json"]])
def test_a_signal_puts_out_what_is_held(
    number: signal.Signals, options: list[str], symbols: Path
) -> None:
    with Following("--from", symbols, *options) as run:
        run.write(RAW + b"\nhalf a line " + RAW)
        run.wait_until_read()
        run.process.send_signal(number)
        status, out, said = run.ended()
    assert status == 128 + number, said
    if options == ["--json"]:
        assert out.count(b'"symbol": "alpha"') == 2
    else:
        assert out == NAMED + b"\nhalf a line " + NAMED


def test_a_second_signal_does_not_wait(symbols: Path) -> None:
    """Whoever reads our output does not; what is held stays unwritten."""
    with Following("--from", symbols, "--slide", "0") as run:
        writer = threading.Thread(target=steadily_all, args=(run.write, (RAW + b"\n") * 50_000))
        writer.start()
        time.sleep(1)
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(PATIENCE) == 130
        writer.join()


def steadily_all(write: Callable[[bytes], object], data: bytes) -> None:
    try:
        for at in range(0, len(data), 4096):
            write(data[at : at + 4096])
    except BrokenPipeError:
        pass


class Clock:
    """The time for :class:`Follower`, which passes where a read waits for nothing."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Parts(Incoming):
    """A text in parts, with a pause where there is None."""

    def __init__(self, parts: list[bytes | None], clock: Clock) -> None:
        self._parts, self._clock = iter(parts), clock

    def read(self, until: float | None = None) -> bytes | None:
        for part in self._parts:
            if part is not None:
                return part
            if until is not None:
                self._clock.now = max(until, self._clock.now)
                return None
        return b""


parts = st.one_of(
    *(st.none(), st.binary(min_size=1, max_size=9)),
    st.sampled_from([RAW, b"0x" + RAW, b"[<" + RAW + b">] ", NAMED, RAW + b" [unknown] (k)"]),
    st.sampled_from([b"ffff", b"0x", b"0", b"ffffffff8100", b"0018", b" ", b"\n", b" alpha"]),
    st.sampled_from([b"+0x8/0x30", b"]  [<", b"login: ", b"\\nffffffff81000018", b" (", b"\r"]),
)


@pytest.fixture(scope="module")
def table(symbols: Path) -> library.SymbolTable:
    return library.load(symbols)


def followed(
    found: list[bytes | None], decoder: Decoder, tell: Callable[[], object]
) -> list[bytes]:
    """What is put out of a text that comes in these parts."""
    clock, out = Clock(), list[bytes]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "time", clock)
        Follower(
            Parts(found, clock),
            decoder,
            lambda block: decoder.decode(block[0]) if block[1] else block[0],
            out.append,
            tell,
        ).run()
    return out


@settings(deadline=None, max_examples=400)
@given(found=st.lists(parts, max_size=40))
def test_pauses_change_nothing(found: list[bytes | None], table: library.SymbolTable) -> None:
    """Wherever a text halts, and a line is shown so far, what comes out is the same."""
    decoder = Decoder(table, Boot())
    out = followed(found, decoder, lambda: pytest.fail("nothing is to be told"))
    whole = b"".join(part or b"" for part in found)
    assert b"".join(out) == Decoder(table, Boot()).decode(whole)


@settings(deadline=None, max_examples=200)
@given(found=st.lists(parts, max_size=40))
def test_nothing_is_lost_or_twice_where_the_boot_is_unknown(
    found: list[bytes | None], table: library.SymbolTable
) -> None:
    """With what tells the boot at the end: held and shown parts make the same text."""
    late = list[bool]()
    decoder, reference = Decoder(table), Decoder(table)
    found = [*found, b"\n", TOLD]
    out = followed(found, decoder, lambda: late.append(True))
    assert len(late) < 2
    whole = b"".join(part or b"" for part in found)
    reference.look_ahead([whole])
    assert b"".join(out) == reference.decode(whole)
