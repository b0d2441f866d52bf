"""Find the parts of a text whose numbers look like kernel addresses but are not.

With 64 bits there are few: only kernel addresses begin with the digits ffff. With 32 bits, and
for kernels at low addresses (s390, sparc64, parisc, UML), instructions, UUIDs and addresses of
devices look the same as kernel addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .hints import Pairs
from .users import Span, joined

_WORDS: Final = rb"(?:[ \t]{1,3}[<(]?[0-9a-f]{2,8}[>)]?)"
_MORE_LINES: Final = (
    rb"(?:\n[^\n\[]{0,32}(?:\[[^\n\]]{1,32}\])?" + _WORDS + rb"+ ?\r?(?=\n|\Z))*"
)
# 32-bit instructions have as many digits as 32-bit addresses (arm's dump_instr).
_CODE: Final = re.compile(
    rb"(?:Code:|\bIIR:)" + _WORDS + rb"+|Instruction dump:" + _WORDS + rb"*" + _MORE_LINES
)
# Lines that say at which addresses the kernel lies: evidence, not frames.
_LAYOUT: Final = re.compile(
    rb"Kernel Offset: [^\n]*"
    rb"|Kernel relocated by [^\n]*(?:\n[^\n]{0,64}\.(?:text|data|bss) +@ [^\n]*){0,3}"
    rb"|SYMBOL\(\w+\)=[^\n]*"  # /proc/vmcore's note, VMCOREINFO
    rb"|PERF_RECORD_MMAP[^\n]*"
    rb"|(?:vmalloc|vmemmap|IO) (?:start|end) +=[^\n]*"  # arch/powerpc/mm/mem.c, mem_init
)
LAYOUT_HINTS: Final = (
    b"Kernel Offset: ",
    b"Kernel relocated by ",
    b"SYMBOL(",
    b"PERF_RECORD_M",
    b"vmalloc start",
)
# A process's registers, instructions and last branch (arch/s390/kernel/dumpstack.c, show_regs).
# The kernel's own begin with "Krnl".
_PROCESS: Final = re.compile(
    rb"User (?:PSW|GPRS|Code) *:(?:(?!Krnl |Call Trace:|Breaking-Event)[^\n]){0,256}"
    rb"(?:\n(?:(?!Krnl |Call Trace:|Breaking-Event|User process fault)[^\n]){0,256}){0,30}"
    rb"(?:\n?[^\n]{0,64}Breaking-Event-Address:[^\n]*(?:\n[^\n]*)?)?"
)
# Lines on devices and memory; s390's lines of instructions ("Krnl Code:"), whose addresses are
# no frames, at their start and as operands; and the banner ("Linux version"), which has a date.
_LINE: Final = re.compile(
    rb"\[mem |\b(?:UU|PARTUU|uu)(?:ID|id)\b|\b(?:mmio|MMIO|iomem|io mem|abar|framebuffer)\b"
    rb"|\b(?:reg|regs|registers|membase|mapbase|irq_base|dma|DMA|BAR ?\d)\b:?(?: at)? ?0x"
    rb"|\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b|Linux version "
    rb"|[0-9a-f]{16}: (?:[0-9a-f]{4}){1,3}[ \t]+[a-z]"
)
_BEHIND: Final = 1 << 12
"""Bytes before a block in which a part can begin that goes on in the block."""


class Stretches:
    """A finder of the parts without kernel addresses in one text, block after block.

    Args:
        digits: the number of digits of an address.
        low: True if other numbers begin with the same digits as kernel addresses.
    """

    def __init__(self, digits: int, low: bool) -> None:
        self._narrow = digits == 8
        self._low = low
        self._before = b""

    def find(self, block: bytes, pairs: Pairs) -> list[Span]:
        """Return the parts of a block without kernel addresses, in order.

        ``pairs`` are the pairs of bytes of the block.
        """
        found = list(self._spans(block, pairs))
        whole = self._before + block
        if self._low and b"User " in whole:
            skip = len(self._before)
            spans = (match.span() for match in _PROCESS.finditer(whole))
            found += [(begin - skip, end - skip) for begin, end in spans if end > skip]
        if self._low:
            self._before = whole[-_BEHIND:]
        return joined(sorted(found))

    def _spans(self, block: bytes, pairs: Pairs) -> Iterator[Span]:
        """Yield the parts that can be found in one block alone, in no order."""
        if pairs.any(LAYOUT_HINTS):
            yield from (match.span() for match in _LAYOUT.finditer(block))
        if self._narrow:
            yield from (match.span() for match in _CODE.finditer(block))
        if self._low:
            for match in _LINE.finditer(block):
                begin = block.rfind(b"\n", 0, match.start()) + 1
                end = block.find(b"\n", match.end())
                yield begin, len(block) if end < 0 else end
