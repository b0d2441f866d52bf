"""The words that the kernel and its tools print before frames, in the same line.

A name beside an address is evidence of a boot where these words are the kernel's own, and
nothing a user of the machine can have chosen is among them. What prints frames is known;
messages that have a user's words in them are too many to be listed. So all words before a
frame must be of :data:`_WORDS`, behind one of :data:`_LEADS` if there is one; and the line
must not be the rest of a message that begins with others.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from . import forms, lines
from .belief import places_of
from .users import BEHIND, INDENTED, Span, is_in

FRAME: Final = b"\0"
"""Stands for a frame that is before another one in its line."""
_ADDRESS: Final = rb"(?:0[xX])?"
_CAST: Final = (
    rb"\((?:(?:const|volatile|struct|union|enum|unsigned|signed|long) ){0,4}\w{1,64}"
    rb"(?: ?\*{1,3})?(?: ?\(\*{1,2}\)\([\w *,]{0,255}\))?\) ?"
)
"""A type of C as debuggers print it."""
# kernel/trace/trace_entries.h: events of which a program writes all words.
_USERS_EVENT: Final = (
    rb"(?:ftrace:)?(?:tracing_mark_write|print|bprint|bputs|raw_data|user_stack)\b"
    rb"|(?:bpf_trace:)?bpf_trace_printk\b|user_events:"
)
_LEADS: Final = (
    # mm/kasan/report.c, mm/kmsan/report.c, kernel/kcsan/report.c, mm/kfence/report.c
    rb"BUG: K[A-Z]+: [\w-]{1,32}(?: [\w-]{1,16}){0,2} in ",
    # kernel/panic.c, __warn
    rb"WARNING: (?:CPU: \d+ PID: \d+ )?(?:at )?[\w./+-]{1,255}:\d+ (?:at )?",
    # kernel/locking/lockdep.c, print_lock: the class is the source's words
    rb" {0,8}(?:-> )?#\d+: +(?:"
    + FRAME
    + rb"|[0-9a-f]{8,16})? ?(?:\([^()\n]{1,255}(?:\(\))?\)\{)?"
    rb"[-.+?]+\}(?:-\{\d+:\d+\})?, at: ",
    rb"(?:[0-9a-f]{8,16} )?\([^()\n]{1,255}\)\{[-.+?]+\}(?:-\{\d+:\d+\})?, at: ",
    # lib/dump_stack.c, print_worker_info; the name is a workqueue's and a source's word
    rb"Workqueue: [\w.:/-]{1,64} ",
    # arch/arm/kernel/traps.c, dump_backtrace_entry, since Linux 5.13: a blank is before it
    rb" [A-Za-z_][\w.]{0,255}(?: \[\w{1,64}\])? from ",
    # kernel/trace/trace_output.c and ftrace_dump, trace-cmd report: a comm of 15 bytes, and
    # the event's name. Its fields are judged as all words are: strings among them are a user's.
    rb" *[^\n]{1,16}-\d{1,7} +(?:\( *[\d-]+\) )?\[\d{1,4}\] (?:[\w.#+-]{4,7} )? *"
    rb"\d+(?:\.\d+|us)?(?: ?[:!+#*@$]) (?!" + _USERS_EVENT + rb")(?:[\w:]{1,64}: )?",
    # kernel/trace/trace_functions_graph.c
    rb" *\d{1,4}\)[^\n|\"']{0,32}\|  [^\n\"']{0,255}/\* <?-?",
    # perf script (tools/perf/builtin-script.c): a comm, its number, the event
    rb" *[^\n]{1,16} +\d{1,7}(?:/\d{1,7})? +(?:\[\d{3,4}\] )? *(?:\S{4,5} )?\d+\.\d+: +"
    rb"(?:\d+ +)?(?!" + _USERS_EVENT + rb")[\w:/.=,-]{1,64}: ",
    # perf report --stdio, with -v
    rb" *\d{1,3}\.\d\d% +[^\n]{1,16} +[\[\]\w.]{1,64} +(?=0x)",
    # gdb/stack.c: a frame with its arguments
    rb"#\d+ +(?:0x)?" + FRAME + rb"[^\n\"']{0,1024}\([^\n\"']{0,1024}=",
    # gdb/printcmd.c, print_value: a pointer, with its type
    rb"\$\d{1,6} = " + _CAST + rb"?",
    # drgn, libdrgn/language_c.c: an object, or a member of one
    rb"[ \t]*(?:\.\w{1,64} = )?" + _CAST,
    # gdb/valprint.c and crash's struct: a member, which is indented
    rb"(?: {2,16}|\t)\w{1,64} = (?=0x)",
    # bpftrace: a map
    rb"@\w{0,64}(?:\[\d{0,20}\])?: ",
    # gdb's x/i and disassemble, crash's dis, objdump: an instruction
    rb"[ \t]*(?:=> ?)?"
    + _ADDRESS
    + FRAME
    + rb"[ \t]?(?:<\+\d+>)?:[ \t]+(?:[0-9a-f]{2} )*[ \t]*"
    rb"[a-z]{1,12}[a-z0-9.]{0,8}[ \t]+[^\n\"']{0,80}?",
)
"""Beginnings of lines with words that are not in :data:`_WORDS`."""
_WORDS: Final = frozenset(
    # a trace and its marks: arch/*/kernel/{dumpstack,stacktrace,traps}.c
    b"""Call Trace trace Backtrace backtrace Stack stack IRQ EOI NMI TASK SOFTIRQ EXCEPTION
    interrupt syscall softirq Caller Function entered from at in is Process Trace Badness
    unable handle kernel NULL paging request pointer dereference call idling skipped
    XEN Code func function entry ret call_on_stack Exception page_fault Tainted
    """.split()
    # registers: show_regs of arch/*
    + b"""RIP EIP IP ip PC pc LR lr NIP CTR REGS MSR CR XER CFAR DAR DSISR IRQMASK SOFTE GPR CCR
    RSP ESP SP sp EFLAGS RFLAGS FLAGS eflags rflags eip rip
    pstate cpsr psr Flags fp sl tls epc ra gp tp status badaddr cause EPC BADV ERA PRMD EUEN
    ECFG ESTAT CRMD era Krnl PSW GPRS ACRS IAOQ IASQ IIR ISR IOR RP RPC TPC TNPC TSTATE
    TICK Y PR PR_REG GBR MACH MACL a0 hi lo Hi Lo Cause BadVA PrId Status Epc exception ORIG_RAX
    ORIG_EAX GS FS DS ES SS CS KERNEL_GS gs fs GSBASE pal pv pgd
    last Last Breaking Event Address b0 b6 b7 ar rnat bspstore itc ps pr""".split()
    # lockdep's, kmemleak's, the allocators', the workqueues' and others'
    + b"""key hardirqs softirqs enabled disabled irq event stamp INFO Allocated Freed
    backtrace for cpu CPU NMI calling initcall mce Hardware Error INEXACT TSC ADDR work
    Returning to From From: EIP; page last allocated free via order Modules handlers BUG
    scheduling while atomic Preemption preempted task stack_trace us RPL BUG held""".split()
    # fields of events that are addresses or numbers: include/trace/events
    + b"""kmalloc kfree kmem_cache_alloc call_site caller parent ptr bytes_req bytes_alloc
    gfp_flags node timer hrtimer expires now flags softexpires mode skbaddr protocol location
    reason work workqueue ip addr address error_code vec action rip""".split()
    # ksymoops, crash, drgn and bpftrace
    + b"exception code text trapped".split()
)
_REGISTER: Final = (
    rb"[RE]?(?:[ABCD]X|[SD]I|[SB]P|IP)|[RXrx]\d{1,2}|[DC]R\d|GPR\d\d|[sawtvgoliIGVfbp]\d{1,2}"
    rb"|arg\d{1,2}|[rR][abcds][xip]|RR\d"
)
# Numbers; two, four, eight or sixteen letters are one only where the kernel dumps memory.
_NUMBER: Final = rb"\d[0-9a-fA-FxX]*(?:ns|us|ms|s|kB|th)?|[0-9a-fA-F]*\d[0-9a-fA-F]*"
_NUMBER_ALSO: Final = rb"|[0-9a-fA-F]{2}|[0-9a-fA-F]{8}|[0-9a-fA-F]{16}"
_IS_WORD: Final = re.compile(rb"[A-Za-z_0-9]+")
_IS_NO_WORD: Final = re.compile(rb"(?:" + _REGISTER + rb"|" + _NUMBER + _NUMBER_ALSO + rb")")
_IS_ESCAPE: Final = re.compile(
    rb"\\u[0-9a-fA-F]{4}|\\x[0-9a-f]{2}|\\[ntr]|&[lg]t;|=20|=3D|</?[a-z]+>|"
    + forms.COLOUR.pattern
)
_LEAD: Final = re.compile(rb"(?:" + rb"|".join(_LEADS) + rb")")
# Behind these a line of a report's has a task's name, or the source's words.
_REPORT_LINES: Final = (
    # arch/x86/kernel/process_64.c, __show_regs
    rb"[RE][A-Z0-9]{2}: |[CDEFG]S: |[CD]R\d: |PKRU: ",
    # arch/*/kernel/{dumpstack,traps,process}.c, arch/*/mm/fault.c
    rb"Call [Tt]race:|Stack:|Backtrace:|Code: |RIP: |Modules linked in:|Instruction dump:",
    rb"\s*</?[A-Z_]{2,16}>|[ >]?ffff[0-9a-f]{4}|Krnl (?:PSW|GPRS|Code)|Last Breaking-Event",
    rb"Process [^\n]{1,16} \(pid: \d|#PF: |PGD |\[[0-9a-f]{8,16}\] pgd",
    rb"(?:Mem|Data) abort info|Oops[:\[ ]|Internal error: |Unable to handle |8<--- cut here",
    rb"general protection fault|divide error: |invalid opcode: |kernel BUG at |Kernel BUG at ",
    rb"Unhandled (?:fault|prefetch abort): |Insufficient stack |Fixing recursive fault",
    rb"SMP (?:NR_CPUS=\d|\Z)|Kernel Offset: |KASLR (?:dis|en)abled|Kernel relocated by ",
    # lib/dump_stack.c, print_worker_info of kernel/workqueue.c
    rb"(?:CPU|Pid|PID): \d|Hardware name: |Workqueue: |Tainted: ",
    # kernel/panic.c, kernel/exit.c, kernel/reboot.c, arch/arm64/kernel/smp.c
    rb"-{3,}\[ |Kernel panic - |note: [^\n]{1,16}\[\d+\] exited with |Rebooting in \d",
    rb"Shutting down cpus|WARNING: (?:CPU: \d|at |[\w./+-]{1,255}:\d)",
    # kernel/locking/lockdep.c
    rb"={4,}|WARNING: (?:possible |inconsistent |suspicious |bad |lock held |Nested lock )",
    rb"Disabling lock debugging|Showing all locks",
    # kernel/watchdog.c, kernel/hung_task.c, kernel/rcu, lib/nmi_backtrace.c
    rb"watchdog: BUG: |INFO: task |rcu: |NMI (?:backtrace|watchdog)|Sending NMI ",
    # mm/kasan/report.c and what is like it, kernel/sched/core.c, lib/spinlock_debug.c
    rb"BUG: (?:K[A-Z]+: |kernel |unable to handle |soft lockup|scheduling while |sleeping )",
    rb"BUG: (?:spinlock |workqueue lockup|using |stack guard |Bad page )",
    rb"Allocated by task |Freed by task |The buggy address |Memory state |page:[0-9a-f]",
    rb"which belongs to |located \d",
    # init/version.c, kernel/trace/trace.c
    rb"Linux version |Dumping ftrace buffer",
)
_REPORT: Final = re.compile(rb"(?:" + rb"|".join(_REPORT_LINES) + rb")")
# "%s[%d]" begins messages on a program, which can be called "Code: " (arch/x86/kernel/traps.c,
# arch/x86/mm/fault.c, signal_fault of arch/x86/kernel/signal.c); a report has "note: %s[%d]".
_PROGRAM: Final = re.compile(rb"(?:traps: )?(?!note: )[^\n]{1,15}\[\d{1,7}\](?:[: ]|\Z)")
# drivers/input/input.c prints a device's name behind "input: ", as it is.
_DRIVER: Final = re.compile(rb"(?!input: )[A-Za-z][\w-]{0,31}: (?:0x)?")
_ALONE: Final = re.compile(
    rb"[0-9a-f]{8,16} is [A-Za-z_.$][\w.$]{0,511}\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}"
    rb"(?: \[[\w-]{1,64}(?: [0-9a-f]{40})?\])?[ \t\r]*(?:\n|\Z|\\n|\")"
)
_SHORT: Final = 8
"""The digits of an address that can be in a task's name, of 15 bytes, with a name behind it."""
_AFTER_FRAME: Final = re.compile(
    rb"[>)\]]{0,2}(?:[ \t\r]*(?:\n|\Z|\\n|\")| \((?:[\[/]|vmlinux)| \[[A-Za-z_]|:?\t)"
)
"""The end of a row, or a file of perf's, a module, an instruction of gdb's."""
# arch/x86/include/asm/segment.h: the lowest two bits of a process's code segment are set. Xen's
# kernel has e033.
_PROCESS: Final = re.compile(rb"[RE]IP: 00[0-9a-f][37bf]:")
# perf script and others: an address of a process, and its symbol, which is called as a frame.
_USERS_ROW: Final = re.compile(rb"[ \t]+(?:0x)?[0-9a-f]{6,16} +(?:0x)?")
_USERS_ROWS: Final = re.compile(
    rb"[ \t]+(?:0x)?(?!f{4})(?=[0-9a-f]{5})0*[1-9a-f][0-9a-f]{3,15} "
)
"""A process's row of a stack: the kernel's are before it, and what follows is its own words."""
_KERNEL_ROW: Final = re.compile(rb"[ \t]+(?:=> )?[\[<]{0,2}(?:0x)?[0-9a-f]{8,16}|[ \t]*=> ")
# kernel/trace/trace_output.c: a stack comes behind its heading, and not behind an event, of
# which a field can be a file's name.
_USERS_TRACE: Final = re.compile(
    rb"[^\n]{1,32}-\d{1,7} +(?:\( *[\d-]+\) )?\[\d{1,4}\] (?![^\n]*<stack trace>)"
    rb"|[^\n]*<user stack trace>"
)
_ROWS: Final = 256
"""Limit on the rows of a stack, the kernel's own (include/linux/perf_event.h)."""
_MOST: Final = 1 << 12
"""Bytes of a line before a frame in which its words are looked for."""
_AT_ONCE: Final = 1 << 8
"""Keys of a block that are indexed at a time."""
_HOST: Final = re.compile(rb"(?<![^ ])([A-Za-z][\w.:@-]{0,255}) \Z(?<!kernel: )")
"""A host's name at the end of a prefix, or a message's first word."""
_ZERO: Final = re.compile(rb"\[ *0\.0+\]?")
"""The time before the clock runs, when there is no user yet."""


class _Line(NamedTuple):
    """A line: its time if no other message can have the same, and its part of a message."""

    time: bytes
    indented: bool
    is_stamped: bool
    content: bytes


@lru_cache(maxsize=1 << 12)
def is_said(words: bytes) -> bool:
    """Return whether these are words that the kernel or its tools have before a frame."""
    words = _IS_ESCAPE.sub(b" ", words)
    lead = _LEAD.match(words)
    return _are_known(words) or (lead is not None and _are_known(words[lead.end() :]))


def _are_known(words: bytes) -> bool:
    return all(
        word in _WORDS or _IS_NO_WORD.fullmatch(word) is not None
        for word in _IS_WORD.findall(words)
    )


class Contexts:
    """The words before the frames of one block of a text.

    Args:
        before: the end of the text before the block, of :data:`BEHIND` bytes; None where the
            lines are some of a block.
        text: the block, and ``pieces`` and ``keys`` what it was split into.
        digits: how many an address has.
        told: by number, keys with names that stand in lines of their own.
        spans: what users wrote for sure.
    """

    def __init__(
        self,
        before: bytes | None,
        text: bytes,
        pieces: Sequence[bytes],
        keys: Sequence[bytes],
        digits: int,
        told: Mapping[int, bytes],
        spans: Sequence[Span] = (),
    ) -> None:
        self.are_alone = before is None
        """True if the lines do not follow each other: then all frames count as evidence."""
        self._before, self._text = before or b"", text
        self._pieces, self._keys, self._digits = pieces, keys, digits
        self._told, self._spans = told, spans
        self._numbers: dict[bytes, list[int]] = {}
        self._indexed = 0
        self._known: dict[bytes, bool] = {}
        self._silent: dict[int, bool] = {}
        self._above: dict[int, tuple[_Line, bool]] = {}
        """Lines that were looked at as those above others, by where they are in the block."""
        self.unsaid: dict[bytes, int] = {}
        """Keys that were asked for and are no evidence; where in the block each is first."""

    def is_evidence(self, key: bytes) -> bool:
        """Return whether a key stands where the kernel prints frames, at one place or more."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = any(map(self._is_said_at, self._numbers_of(key)))
            if not known and (numbers := self._numbers.get(key)):
                self.unsaid[key] = self._places[numbers[0]]
        return known

    def _numbers_of(self, key: bytes) -> Iterator[int]:
        """Give the numbers that a key has in the block; most need one, which comes soon."""
        if not self._indexed:
            for number, one in self._told.items():
                self._numbers.setdefault(one, []).append(number)
        given = 0
        while True:
            numbers = self._numbers.get(key, [])
            yield from numbers[given:]
            given = len(numbers)
            begin = self._indexed
            if begin == len(self._keys):
                return
            self._indexed = min(begin + _AT_ONCE, len(self._keys))
            for number in range(begin, self._indexed):
                self._numbers.setdefault(self._keys[number], []).append(number)

    @cached_property
    def _places(self) -> list[int]:
        """The offset of each key in the block."""
        return places_of(self._pieces)

    def _is_said_at(self, number: int) -> bool:
        place = self._places[number]
        if self._spans and is_in(self._spans, place):
            return False
        return self.is_printed(place, number)

    def is_key(self, place: int) -> bool:
        """Return whether the address at a place stands where the kernel prints frames."""
        return self._is_said_at(bisect_left(self._places, place))

    def is_printed(self, place: int, number: int | None = None) -> bool:
        """Return whether what is at a place of the block can be evidence.

        It is the frame of a number, or a name without an address.
        """
        if self.are_alone:
            return True
        line = lines.begin(self._text, place)
        if line < 0 or place - line > _MOST or (line == 0 and self._before[-1:] not in b"\n"):
            return False
        words = self._text[line:place] if number is None else self._words(number, line)
        words = forms.FRAMES.sub(FRAME, words)
        content = self._content(words)
        if number is not None and self._is_users(number, line, words):
            return False
        said = is_said(content) or is_said(words) or self._is_drivers(content, place)
        return said and not self.goes_on(line)

    def _is_users(self, number: int, line: int, words: bytes) -> bool:
        """Return True if a frame may be a user's by its row, though the words are a tool's.

        It is the name of a program's symbol or file in a row of a stack, or of a task.
        """
        if self._digits == _SHORT and not self._is_longer_than_comm(number):
            return True
        if _PROCESS.search(words) or _USERS_ROW.fullmatch(words):
            return True
        mark = words.strip(b" \t[<")
        if not mark:
            return self._is_behind(line, _USERS_ROWS)
        return mark == b"=>" and self._is_behind(line, _USERS_TRACE)

    def _is_longer_than_comm(self, number: int) -> bool:
        """Return True if a frame with 8 digits has more words than a task's name can have.

        ``c0fff201 up+0x1`` is 15 bytes long. The kernel prints a size; tools print no size, but
        a file behind the frame, or the end of the line.
        """
        key, after = self._keys[number], self._pieces[2 * number + 2]
        return len(key) == self._digits or b"/" in key or _AFTER_FRAME.match(after) is not None

    def _is_behind(self, line: int, row: re.Pattern[bytes]) -> bool:
        """Return True if the rows right before a line end with ``row`` before another line."""
        text, at = self._text, line
        if at < BEHIND and self._before:
            text, at = self._before + text, at + len(self._before)
        for _ in range(_ROWS):
            if at <= 0:
                return False
            end, at = at - 1, text.rfind(b"\n", 0, at - 1) + 1
            if row.match(text, at, end):
                return True
            if not _KERNEL_ROW.match(text, at, end):
                return False
        return True

    def _is_drivers(self, words: bytes, place: int) -> bool:
        """Return whether a driver's word is before a frame, and nothing behind its name.

        As ``pr_info("%px is %pS", ...)`` of a module prints it, with its pr_fmt before it
        (include/linux/printk.h). Messages with a user's words in them have others beside these.
        """
        return _DRIVER.fullmatch(words) is not None and bool(_ALONE.match(self._text, place))

    def _content(self, line: bytes) -> bytes:
        """Give a line without what printk and loggers put before a message.

        A word that may be a host's or the message's own is a host's where the block's first
        and last such line have it too.
        """
        prefix = lines.PREFIX.match(line)
        assert prefix is not None
        host = _HOST.search(prefix[0])
        if host is None or host[1] == self._host:
            return line[prefix.end() :]
        return line[host.start() :]

    @cached_property
    def _host(self) -> bytes:
        """The host whose log the block is of; b"" where its lines have none, or several."""
        found = set[bytes]()
        logged = 0
        for line in _some_lines(self._text):
            prefix = lines.PREFIX.match(line)
            if prefix is not None and len(prefix[0].strip()) > _LEAST:
                host = _HOST.search(prefix[0])
                found.add(b"" if host is None else host[1])
                logged += 1
        return found.pop() if logged > 1 and len(found) == 1 else b""

    def _words(self, number: int, line: int) -> bytes:
        """Give the words between a line's begin and a frame in it."""
        words: list[bytes] = []
        for at in range(number, -1, -1):
            piece, key, place = self._pieces[2 * at], self._keys[at], self._places[at]
            begin = place - len(piece)
            piece = piece[max(line - begin, 0) :]
            if key[self._digits : self._digits + 1] == forms.BEFORE:
                piece = _without_name(piece, key)
            words.append(piece)
            if begin <= line:
                break
            words.append(FRAME)
        return b"".join(reversed(words))

    def _line(self, text: bytes, begin: int) -> _Line:
        end = text.find(b"\n", begin)
        whole = text[begin : len(text) if end < 0 else end]
        indent = INDENTED.match(whole)
        if indent is not None:
            return _Line(b"", True, False, whole[indent.end() :])
        prefix = lines.PREFIX.match(whole)
        assert prefix is not None
        time = prefix["stamp"] or b""
        if not _PRECISE.match(time) or _ZERO.match(time):
            time = b""
        is_stamped = len(prefix[0].strip()) > _LEAST
        return _Line(time, False, is_stamped, self._content(whole))

    def _line_above(self, text: bytes, at: int, place: int) -> tuple[_Line, bool]:
        """Give a line of ``text``, and True if it is a report's; ``place`` is in the block."""
        known = self._above.get(place)
        if known is None:
            line = self._line(text, at)
            known = self._above[place] = line, _is_reports(line.content)
        return known

    def goes_on(self, line: int) -> bool:
        """Return whether a line goes on with a message that begins with other words."""
        if self.are_alone:
            return False
        known = self._silent.get(line)
        if known is None:
            known = self._silent[line] = self._goes_on(line)
        return known

    def _goes_on(self, line: int) -> bool:
        text, at = self._text, self._text.rfind(b"\n", 0, line) + 1
        if at < line:  # a string of JSON
            others = text[line - 2 : line] == b"\\n" and _is_of_record(text, line)
            return others or self.goes_on(at)
        if line < BEHIND and self._before:
            text, at = self._before + text, line + len(self._before)
        here = self._line(text, at)
        time, searching, others = here.time, here.indented, False
        last = max(at - BEHIND, 0)
        skipped = len(text) - len(self._text)
        while at > last and (time or searching):
            at = text.rfind(b"\n", 0, at - 1) + 1
            above, is_reports = self._line_above(text, at, at - skipped)
            others |= not is_reports
            if above.indented:
                continue
            if not above.is_stamped or (time and above.time != time):
                return False
            if others:
                return True
            time, searching = above.time, False
        return False


def _without_name(piece: bytes, key: bytes) -> bytes:
    """Give what is before an address without the name that stands there."""
    name = key[key.index(b" ") + 1 :]
    at = piece.rfind(name)
    return piece if at < 0 else piece[:at]


_PRECISE: Final = re.compile(rb"\[ *\d+\.\d{6}")
"""A time that two messages seldom have."""
_LEAST: Final = 8
"""Bytes that the time before an indented line's first one has at least."""


def _some_lines(text: bytes) -> list[bytes]:
    """Give some lines from both ends of a text, each once."""
    if len(text) < 2 * _MOST:
        return text.split(b"\n")
    return text[:_MOST].split(b"\n")[:-1] + text[-_MOST:].split(b"\n")[1:]


def _is_of_record(text: bytes, line: int) -> bool:
    """Return whether a line of a string in JSON goes on with a record's other words."""
    first = text.rfind(b"\n", 0, line) + 1
    quote = text.rfind(b'"', first, line)
    while quote >= 0 and lines.is_escaped(text, quote):
        quote = text.rfind(b'"', first, quote)
    return not all(map(_is_reports, text[quote + 1 : line - 2].split(b"\\n")))


def _is_reports(content: bytes) -> bool:
    """Return whether a line is a report's: it has frames, or begins as some of its lines do."""
    if _PROGRAM.match(content):
        return False
    if _REPORT.match(content):
        return True
    frames = forms.FRAMES.search(content)
    return is_said(content[: frames.start()] if frames else content)
