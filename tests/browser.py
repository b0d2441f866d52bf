"""Control a headless Chromium by the DevTools protocol, through two pipes."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import struct
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

PROGRAM = "chromium-headless-shell"
# Root cannot use the sandbox, and the tests only open pages of their own.
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars")
WAIT = 60  # seconds for an answer
_KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
_KEYS |= {"ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9}


class Browser:
    """A browser with one tab; ``events`` are the messages that answered no call."""

    def __init__(self, directory: Path) -> None:
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        theirs_in, self._out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())
        self._in, theirs_out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())

        def place() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = subprocess.Popen(
            [PROGRAM, *_OPTIONS, f"--user-data-dir={directory}", "about:blank"],
            stderr=subprocess.DEVNULL,
            preexec_fn=place,  # noqa: PLW1509 # the tests have no threads
            pass_fds=(3, 4),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, **_NO_NETWORK)

    def close(self) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(WAIT)
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], WAIT)[0], "the browser does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has gone"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page; of a promise, its result."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + WAIT
        while not self.js(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def media(self, **features: str) -> None:
        """Emulate media features such as ``prefers_color_scheme="dark"``; reset all others."""
        named = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def load(self, path: Path) -> None:
        """Open a page and wait until it says that it is ready; forget earlier events."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def mouse(self, x: float, y: float, click: bool = False) -> None:
        at = {"x": x, "y": y}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call(
                    "Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at
                )

    def key(self, name: str) -> None:
        code = {"key": name, "windowsVirtualKeyCode": _KEYS[name]} if name in _KEYS else {}
        for kind in ("keyDown", "keyUp"):
            text = {} if code or kind == "keyUp" else {"text": name}
            self.call("Input.dispatchKeyEvent", type=kind, **{"key": name, **code, **text})

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def pixels(self, x: float, y: float, width: int, height: int) -> list[tuple[int, ...]]:
        """Return red, green and blue of each pixel in a part of the window, row after row."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", clip=clip)
        return _pixels(base64.b64decode(answer["data"]))


def _pixels(png: bytes) -> list[tuple[int, ...]]:
    """Return the pixels of a PNG of 8 bits, RGB or RGBA (PNG Specification, 9.2)."""
    parts, at = b"", 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", png, at + 8)
        if kind == b"IDAT":
            parts += png[at + 8 : at + 8 + length]
        at += length + 12
    assert depth == 8
    step = {2: 3, 6: 4}[colour]
    raw, above = zlib.decompress(parts), bytes(width * step)
    found = []
    for row in range(height):
        start = row * (width * step + 1)
        line = bytearray(raw[start + 1 : start + 1 + width * step])
        for i in range(len(line)):
            left, corner = (line[i - step], above[i - step]) if i >= step else (0, 0)
            line[i] = (line[i] + _predicted(raw[start], left, above[i], corner)) % 256
        found += [tuple(line[i : i + 3]) for i in range(0, len(line), step)]
        above = bytes(line)
    return found


def _predicted(kind: int, left: int, above: int, corner: int) -> int:
    """Return the byte that the filter type ``kind`` predicts from its neighbours."""
    if kind < 4:
        return (0, left, above, (left + above) // 2)[kind]
    # Paeth: of the three the nearest to this sum; the first of equal ones.
    return min((left, above, corner), key=lambda value: abs(left + above - corner - value))


_NO_NETWORK = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
