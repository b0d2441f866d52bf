"""Tell frames that the kernel or a tool prints from names that a user wrote.

A name beside an address is evidence of a boot only if the kernel or one of its tools printed
it. Any user of the machine can get words into the log: the name of a program or of a file, for
example. There are too many messages with such words to list them, but few that have frames. So
the words before a frame decide. All of them must be known words (:data:`_WORDS`), except for a
known beginning of the line (:data:`_LEADS`):

    RIP: 0010:vfs_open+0x2e/0xf0                    evidence: "RIP" is a known word
    Workqueue: events vfs_open+0x2e/0xf0            evidence: a known beginning
    usb 1-2: Product: ffffffff81200a2e vfs_open+0x2e/0xf0      none: a device sent its name

The frame's line must also not be a later line of a message that begins with other words: a
name can have line feeds in it (:meth:`Contexts.is_continuation`).
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
"""The byte that replaces an earlier frame in the words before a frame."""
_ADDRESS: Final = rb"(?:0[xX])?"
_CAST: Final = (
    rb"\((?:(?:const|volatile|struct|union|enum|unsigned|signed|long) ){0,4}\w{1,64}"
    rb"(?: ?\*{1,3})?(?: ?\(\*{1,2}\)\([\w *,]{0,255}\))?\) ?"
)
"""A type of C in parentheses, as debuggers print it before a value."""
# kernel/trace/trace_entries.h: the events whose words all come from a program.
_USERS_EVENT: Final = (
    rb"(?:ftrace:)?(?:tracing_mark_write|print|bprint|bputs|raw_data|user_stack)\b"
    rb"|(?:bpf_trace:)?bpf_trace_printk\b|user_events:"
)
_LEADS: Final = (
    # mm/kasan/report.c, mm/kmsan/report.c, kernel/kcsan/report.c, mm/kfence/report.c
    rb"BUG: K[A-Z]+: [\w-]{1,32}(?: [\w-]{1,16}){0,2} in ",
    # kernel/panic.c, __warn
    rb"WARNING: (?:CPU: \d+ PID: \d+ )?(?:at )?[\w./+-]{1,255}:\d+ (?:at )?",
    # kernel/locking/lockdep.c, print_lock: the name of the lock's class is from the source
    rb" {0,8}(?:-> )?#\d+: +(?:"
    + FRAME
    + rb"|[0-9a-f]{8,16})? ?(?:\([^()\n]{1,255}(?:\(\))?\)\{)?"
    rb"[-.+?]+\}(?:-\{\d+:\d+\})?, at: ",
    rb"(?:[0-9a-f]{8,16} )?\([^()\n]{1,255}\)\{[-.+?]+\}(?:-\{\d+:\d+\})?, at: ",
    # lib/dump_stack.c, print_worker_info: the name of the workqueue is from the source
    rb"Workqueue: [\w.:/-]{1,64} ",
    # arch/arm/kernel/traps.c, dump_backtrace_entry, since Linux 5.13: it begins with a blank
    rb" [A-Za-z_][\w.]{0,255}(?: \[\w{1,64}\])? from ",
    # kernel/trace/trace_output.c and ftrace_dump, trace-cmd report: a comm of at most 15 bytes,
    # and the event's name. The fields after it must be known words: a string can be a user's.
    rb" *[^\n]{1,16}-\d{1,7} +(?:\( *[\d-]+\) )?\[\d{1,4}\] (?:[\w.#+-]{4,7} )? *"
    rb"\d+(?:\.\d+|us)?(?: ?[:!+#*@$]) (?!" + _USERS_EVENT + rb")(?:[\w:]{1,64}: )?",
    # kernel/trace/trace_functions_graph.c
    rb" *\d{1,4}\)[^\n|\"']{0,32}\|  [^\n\"']{0,255}/\* <?-?",
    # perf script (tools/perf/builtin-script.c): a comm, its process id, the event
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
    # gdb/valprint.c and crash's struct: an indented member
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
"""Patterns of the known beginnings of lines with words that are not in :data:`_WORDS`."""
_WORDS: Final = frozenset(
    # a trace and the marks in it: arch/*/kernel/{dumpstack,stacktrace,traps}.c
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
# Numbers have a decimal digit, or the size of a byte or of an address in a dump of memory. Any
# other word of the letters a to f can be English, such as "face".
_NUMBER: Final = rb"\d[0-9a-fA-FxX]*(?:ns|us|ms|s|kB|th)?|[0-9a-fA-F]*\d[0-9a-fA-F]*"
_NUMBER_ALSO: Final = rb"|[0-9a-fA-F]{2}|[0-9a-fA-F]{8}|[0-9a-fA-F]{16}"
_IS_WORD: Final = re.compile(rb"[A-Za-z_0-9]+")
_IS_NO_WORD: Final = re.compile(rb"(?:" + _REGISTER + rb"|" + _NUMBER + _NUMBER_ALSO + rb")")
_IS_ESCAPE: Final = re.compile(
    rb"\\u[0-9a-fA-F]{4}|\\x[0-9a-f]{2}|\\[ntr]|&[lg]t;|=20|=3D|</?[a-z]+>|"
    + forms.COLOUR.pattern
)
_LEAD: Final = re.compile(rb"(?:" + rb"|".join(_LEADS) + rb")")
# The beginnings of a report's lines. A task's name can follow, or words of the source.
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
    # mm/kasan/report.c and its like, kernel/sched/core.c, lib/spinlock_debug.c
    rb"BUG: (?:K[A-Z]+: |kernel |unable to handle |soft lockup|scheduling while |sleeping )",
    rb"BUG: (?:spinlock |workqueue lockup|using |stack guard |Bad page )",
    rb"Allocated by task |Freed by task |The buggy address |Memory state |page:[0-9a-f]",
    rb"which belongs to |located \d",
    # init/version.c, kernel/trace/trace.c
    rb"Linux version |Dumping ftrace buffer",
)
_REPORT: Final = re.compile(rb"(?:" + rb"|".join(_REPORT_LINES) + rb")")
# "%s[%d]" begins messages about a program, whose name can be "Code: " (arch/x86/kernel/traps.c,
# arch/x86/mm/fault.c, signal_fault of arch/x86/kernel/signal.c). A report has "note: %s[%d]".
_PROGRAM: Final = re.compile(rb"(?:traps: )?(?!note: )[^\n]{1,15}\[\d{1,7}\](?:[: ]|\Z)")
# drivers/input/input.c prints a device's name unchanged after "input: ".
_DRIVER: Final = re.compile(rb"(?!input: )[A-Za-z][\w-]{0,31}: (?:0x)?")
_ALONE: Final = re.compile(
    rb"[0-9a-f]{8,16} is [A-Za-z_.$][\w.$]{0,511}\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}"
    rb"(?: \[[\w-]{1,64}(?: [0-9a-f]{40})?\])?[ \t\r]*(?:\n|\Z|\\n|\")"
)
_SHORT: Final = 8
"""The number of digits of an address that fits into a task's name together with a symbol."""
_AFTER_FRAME: Final = re.compile(
    rb"[>)\]]{0,2}(?:[ \t\r]*(?:\n|\Z|\\n|\")| \((?:[\[/]|vmlinux)| \[[A-Za-z_]|:?\t)"
)
"""What tools print after a frame: a line's end, perf's file, a module, or gdb's instruction."""
# arch/x86/include/asm/segment.h: the lowest two bits of a process's code segment are set. Xen's
# kernel has e033.
_PROCESS: Final = re.compile(rb"[RE]IP: 00[0-9a-f][37bf]:")
# perf script and others: an address of a process, whose symbol can have the name of a frame.
_USERS_ROW: Final = re.compile(rb"[ \t]+(?:0x)?[0-9a-f]{6,16} +(?:0x)?")
_USERS_ROWS: Final = re.compile(
    rb"[ \t]+(?:0x)?(?!f{4})(?=[0-9a-f]{5})0*[1-9a-f][0-9a-f]{3,15} "
)
"""A process's row in a stack. They come after the kernel's rows, and end the kernel's part."""
_KERNEL_ROW: Final = re.compile(rb"[ \t]+(?:=> )?[\[<]{0,2}(?:0x)?[0-9a-f]{8,16}|[ \t]*=> ")
# kernel/trace/trace_output.c: a kernel stack comes after its heading. Rows after another event
# can be a file's name with line feeds in it, and those after a user's stack are a program's.
_USERS_TRACE: Final = re.compile(
    rb"[^\n]{1,32}-\d{1,7} +(?:\( *[\d-]+\) )?\[\d{1,4}\] (?![^\n]*<stack trace>)"
    rb"|[^\n]*<user stack trace>"
)
_ROWS: Final = 256
"""Limit on the rows that are searched: the 4,095 bytes of a path hold fewer."""
_MOST: Final = 1 << 12
"""Limit on the bytes before a frame in its line; after more it is no evidence."""
_AT_ONCE: Final = 1 << 8
"""The number of keys that are added to the index at a time."""
_HOST: Final = re.compile(rb"(?<![^ ])([A-Za-z][\w.:@-]{0,255}) \Z(?<!kernel: )")
"""The last word of a prefix: the name of a host, or the first word of the message."""
_ZERO: Final = re.compile(rb"\[ *0\.0+\]?")
"""The time of messages before the clock runs. Many have it, and there is no user yet."""


class _Line(NamedTuple):
    """A line of a log in its parts.

    - ``time``: its time stamp if hardly another message has the same, else b""
    - ``indented``: True if dmesg indented it, as a message's second line
    - ``is_stamped``: True if it has a prefix that is as long as a time stamp
    - ``content``: the text after the prefix
    """

    time: bytes
    indented: bool
    is_stamped: bool
    content: bytes


@lru_cache(maxsize=1 << 12)
def are_known_words(words: bytes) -> bool:
    """Return True if the kernel or its tools print ``words`` before a frame."""
    words = _IS_ESCAPE.sub(b" ", words)
    lead = _LEAD.match(words)
    return _are_known(words) or (lead is not None and _are_known(words[lead.end() :]))


def _are_known(words: bytes) -> bool:
    """Return True if all words are in :data:`_WORDS`, or are registers or numbers."""
    return all(
        word in _WORDS or _IS_NO_WORD.fullmatch(word) is not None
        for word in _IS_WORD.findall(words)
    )


class Contexts:
    """The words before the frames of one block of a text, to decide which are evidence.

    Args:
        before: the last :data:`BEHIND` bytes of the text before the block; None if the lines of
            the block do not follow each other in the text.
        text: the block.
        pieces: the block, split at its addresses.
        keys: the addresses with their annotations.
        digits: the number of digits of an address.
        told: the keys with names in separate lines, by number.
        spans: the parts of the block that users certainly wrote.
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
        """True if the lines do not follow each other; then every frame counts as evidence."""
        self._before, self._text = before or b"", text
        self._pieces, self._keys, self._digits = pieces, keys, digits
        self._told, self._spans = told, spans
        self._numbers: dict[bytes, list[int]] = {}  # by key, of the keys up to ``_indexed``
        self._indexed = 0
        self._known: dict[bytes, bool] = {}  # the results of is_evidence(), by key
        self._continuations: dict[
            int, bool
        ] = {}  # the results of is_continuation(), by the line's offset
        self._above: dict[int, tuple[_Line, bool]] = {}
        """The results of :meth:`_line_above`, by the line's offset in the block."""
        self.rejected_keys: dict[bytes, int] = {}
        """The keys that :meth:`is_evidence` rejected, with their first offset in the block."""

    def is_evidence(self, key: bytes) -> bool:
        """Return True if a key stands at least once where the kernel prints frames."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = any(
                map(self._is_frame_printed_at, self._numbers_of(key))
            )
            if not known and (numbers := self._numbers.get(key)):
                self.rejected_keys[key] = self._places[numbers[0]]
        return known

    def _numbers_of(self, key: bytes) -> Iterator[int]:
        """Yield the numbers of a key in the block.

        Usually the first number is enough, and it is near the block's start. So the index is
        built only as far as it is needed, by :data:`_AT_ONCE` keys at a time.
        """
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

    def _is_frame_printed_at(self, number: int) -> bool:
        """Return True if the frame of that number stands where the kernel prints frames."""
        place = self._places[number]
        if self._spans and is_in(self._spans, place):
            return False
        return self.is_printed(place, number)

    def is_key(self, place: int) -> bool:
        """Return True if the address at an offset stands where the kernel prints frames."""
        return self._is_frame_printed_at(bisect_left(self._places, place))

    def is_printed(self, place: int, number: int | None = None) -> bool:
        """Return True if the name at an offset of the block can be evidence.

        ``number`` is the number of its address; None for a name without an address.
        """
        if self.are_alone:
            return True
        line = lines.begin(self._text, place)
        # If the line began in an earlier block, not all words before the frame are known.
        if line < 0 or place - line > _MOST or (line == 0 and self._before[-1:] not in b"\n"):
            return False

        words = self._text[line:place] if number is None else self._words(number, line)
        words = forms.FRAMES.sub(FRAME, words)
        content = self._content(words)
        if number is not None and self._is_users(number, line, words):
            return False
        said = (
            are_known_words(content)
            or are_known_words(words)
            or self._is_drivers(content, place)
        )
        return said and not self.is_continuation(line)

    def _is_users(self, number: int, line: int, words: bytes) -> bool:
        """Return True if a frame can be a user's although the words before it are known.

        Tools print names of users where frames stand too: the symbols and files of a program in
        the rows of its stack, and the names of tasks.
        """
        if self._digits == _SHORT and not self._is_longer_than_comm(number):
            return True
        if _PROCESS.search(words) or _USERS_ROW.fullmatch(words):
            return True
        mark = words.strip(b" \t[<")
        if not mark:
            return self._is_below_row(line, _USERS_ROWS)
        return mark == b"=>" and self._is_below_row(line, _USERS_TRACE)

    def _is_longer_than_comm(self, number: int) -> bool:
        """Return True if a frame with 8 digits is too long for the name of a task.

        ``c0fff201 up+0x1`` is 15 bytes long, as a name can be. The kernel also prints a size.
        Tools print none, but a file after the frame, or the frame ends the line.
        """
        key = self._told.get(number, self._keys[number])
        after = self._pieces[2 * number + 2]
        if not forms.parse_annotation(key[self._digits :]).name:
            return True
        return b"/" in key or _AFTER_FRAME.match(after) is not None

    def _is_below_row(self, line: int, row: re.Pattern[bytes]) -> bool:
        """Return True if the stack of a line has a match of ``row`` among the rows above it.

        The search goes up through rows of the kernel, and ends at the first other line:

            myprog 1234 [000] 5.000001: cycles:        another line: no search above it
                ffffffff81200a2e vfs_open+0x2e (...)   a row of the kernel
                    7f3a00001234 main (myprog)         a row of the process matches
                ffffffff81200a2e vfs_read+0x9a         the line

        More than :data:`_ROWS` rows do not fit into a file's name, so no user wrote them all.
        """
        text, at = self._with_text_before(line)
        for _ in range(_ROWS):
            if at <= 0:
                return False
            end, at = at - 1, text.rfind(b"\n", 0, at - 1) + 1
            if row.match(text, at, end):
                return True
            if not _KERNEL_ROW.match(text, at, end):
                return False
        return False

    @cached_property
    def _whole(self) -> bytes:
        """The block with the text before it."""
        return self._before + self._text

    def _with_text_before(self, line: int) -> tuple[bytes, int]:
        """Return a text that has the lines above ``line`` too, and the line's offset in it."""
        if line < BEHIND and self._before:
            return self._whole, line + len(self._before)
        return self._text, line

    def _is_drivers(self, words: bytes, place: int) -> bool:
        """Return True if a driver's prefix is before a frame, and nothing after its name.

        That is what ``pr_info("%px is %pS", ...)`` of a module prints, with its pr_fmt
        (include/linux/printk.h). Messages with a user's words have other words as well.
        """
        return _DRIVER.fullmatch(words) is not None and bool(_ALONE.match(self._text, place))

    def _content(self, line: bytes) -> bytes:
        """Return the message of a line: what follows the prefix of printk and loggers.

        The last word of the prefix is a host's name if the lines at the block's start and end
        all have it. Otherwise it is the first word of the message.
        """
        prefix = lines.PREFIX.match(line)
        assert prefix is not None
        host = _HOST.search(prefix[0])
        if host is None or host[1] == self._host:
            return line[prefix.end() :]
        return line[host.start() :]

    @cached_property
    def _host(self) -> bytes:
        """The name of the host in the block's lines; b"" if they have none, or several."""
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
        """Return the words from a line's start to the frame of that number.

        Earlier frames are replaced by :data:`FRAME`. ``line`` is the offset of the start.
        """
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
        """Parse the line that starts at offset ``begin`` of a text."""
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
        """Return the line at offset ``at`` of a text, and True if it is a report's.

        ``place`` is its offset in the block, by which the result is cached.
        """
        known = self._above.get(place)
        if known is None:
            line = self._line(text, at)
            known = self._above[place] = line, _is_reports(line.content)
        return known

    def is_continuation(self, line: int) -> bool:
        """Return True if a line is a later line of a message that can have a user's words.

        ``line`` is the offset of the line's start. printk puts the same time before each line
        of a message, and dmesg indents all but the first. So the lines above with that time are
        searched for one that is not a report's:

            [    5.000001] a[1]: segfault at 0 ip 0 sp 0 in x
            [    5.000001] ffffffff81200a2e vfs_open+0x2e/0xf0     goes on: a file's name
            [    7.000001] Call Trace:
            [    7.000001] ffffffff81200a2e vfs_open+0x2e/0xf0     does not: it is a report
        """
        if self.are_alone:
            return False
        known = self._continuations.get(line)
        if known is None:
            known = self._continuations[line] = self._is_continuation(line)
        return known

    def _is_continuation(self, line: int) -> bool:
        """Return the result of :meth:`is_continuation`, which caches it."""
        text, at = self._text, self._text.rfind(b"\n", 0, line) + 1
        if at < line:  # the line is in a string of JSON
            others = text[line - 2 : line] == b"\\n" and _is_of_record(text, line)
            return others or self.is_continuation(at)

        # The first lines of the message can be in the text before the block.
        text, at = self._with_text_before(line)
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
    """Return the text before an address, without the key's name at its end."""
    name = key[key.index(b" ") + 1 :]
    at = piece.rfind(name)
    return piece if at < 0 else piece[:at]


_PRECISE: Final = re.compile(rb"\[ *\d+\.\d{6}")
"""The start of a time stamp in microseconds, which two messages seldom share."""
_LEAST: Final = 8
"""Least length in bytes of a prefix with a time."""


def _some_lines(text: bytes) -> list[bytes]:
    """Return some whole lines from the start and the end of a text."""
    if len(text) < 2 * _MOST:
        return text.split(b"\n")
    return text[:_MOST].split(b"\n")[:-1] + text[-_MOST:].split(b"\n")[1:]


def _is_of_record(text: bytes, line: int) -> bool:
    """Return True if lines before a line in the same JSON string are not all a report's."""
    first = text.rfind(b"\n", 0, line) + 1
    quote = text.rfind(b'"', first, line)
    while quote >= 0 and lines.is_escaped(text, quote):
        quote = text.rfind(b'"', first, quote)
    return not all(map(_is_reports, text[quote + 1 : line - 2].split(b"\\n")))


def _is_reports(content: bytes) -> bool:
    """Return True if a line is one of a report.

    It begins like one (:data:`_REPORT_LINES`), or it has only known words, up to its frame if
    it has one.
    """
    if _PROGRAM.match(content):
        return False
    if _REPORT.match(content):
        return True
    frames = forms.FRAMES.search(content)
    return are_known_words(content[: frames.start()] if frames else content)
