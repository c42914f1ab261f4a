"""A real browser for tests: headless Chromium, spoken to over a pipe in the Chrome DevTools protocol.

No package is needed: Chromium itself reads commands from one pipe and answers on another (`--remote-debugging-pipe`),
one JSON object at a time with a zero byte after it. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--force-color-profile=srgb", "--remote-debugging-pipe",
    "--disable-features=RenderDocument",  # a page is loaded into the process of the last one: a third less work
)  # fmt: skip
# The browser finds the pipes as its descriptors 3 and 4.
START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
for place, pipe in zip((3, 4), pipes):
    os.dup2(pipe, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {
    "Enter": (13, "\r"), " ": (32, " "), "Escape": (27, ""), "Tab": (9, ""), "Home": (36, ""), "End": (35, ""),
    "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""),
}  # fmt: skip
ALT, CONTROL, META, SHIFT = 1, 2, 4, 8


def find_browser() -> str | None:
    """Path of a Chromium, CRP_TEST_BROWSER first; None where there is none."""
    named = os.environ.get("CRP_TEST_BROWSER")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One Chromium with one page.

    Attributes
    ----------
    requests
        Addresses of everything the page asked for since `open`.
    complaints
        Console errors and warnings, uncaught exceptions and log entries since `open`.
    """

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="crp-browser-", ignore_cleanup_errors=True)
        read_command, self._write = os.pipe()
        self._read, write_answer = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(read_command), str(write_answer), program, *FLAGS,
             f"--user-data-dir={self._profile.name}", "--window-size=1300,900", "about:blank"],
            pass_fds=(read_command, write_answer), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_command)
        os.close(write_answer)
        self._buffer, self._count, self._session, self._context = b"", 0, None, None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False
        self.renew()

    def renew(self) -> None:
        """Close the page, and give one in a profile of its own: without history, storage or settings."""
        self._session = None
        if self._context:
            self.send("Target.disposeBrowserContext", browserContextId=self._context)
        self._context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        try:
            self._session = None
            self.send("Browser.close")
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    # -- the protocol

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; RuntimeError if the browser refuses it."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(60)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], seconds)[0]:
                raise TimeoutError("the browser does not answer")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise OSError("the browser has ended")
            self._buffer += piece
        text, self._buffer = self._buffer.split(b"\0", 1)
        answer = json.loads(text)
        self._note(answer.get("method"), answer.get("params", {}))
        return answer

    def _note(self, event: str | None, details: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            exception = details["exceptionDetails"]
            self.complaints.append(exception.get("exception", {}).get("description", exception["text"]))
        elif event == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([argument.get("value") for argument in details["args"]]))
        elif event == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.complaints.append(details["entry"]["text"])
        elif event == "Page.loadEventFired":
            self._loaded = True

    # -- what a reader does

    def open(
        self, path: Path, fragment: str = "", *, width: int = 1300, height: int = 900, scripts: bool = True
    ) -> None:
        """Load a file and wait until it has."""
        self._load("about:blank")
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.send("Emulation.setEmulatedMedia", media="", features=[])
        self.resize(width, height)
        self.requests, self.complaints = [], []
        self._load(path.resolve().as_uri() + (f"#{fragment}" if fragment else ""))

    def _load(self, address: str) -> None:
        self._loaded = False
        self.send("Page.navigate", url=address)
        start = time.monotonic()
        while not self._loaded:
            self._receive(60 - (time.monotonic() - start))

    def resize(self, width: int, height: int, *, density: float = 1) -> None:
        """Give the page a window of so many CSS pixels, each of `density` pixels of the screen a side."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=density, mobile=False
        )

    def media(self, *, kind: str = "", dark: bool = False, forced: bool = False) -> None:
        """Show the page as on "screen" or in "print", dark or light, with the colours of the system if `forced`."""
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "forced-colors": "active" if forced else "none",
        }
        self.send(
            "Emulation.setEmulatedMedia",
            media=kind,
            features=[{"name": name, "value": value} for name, value in features.items()],
        )

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression (promises awaited), as plain values."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", expression))
        return answer["result"].get("value")

    def place(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Return a point of an element, in the window, after scrolling there if need be; by default its middle."""
        found = self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " let box = found.getBoundingClientRect();"
            " const there = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);"
            " if (box.top < 0 || box.bottom > innerHeight || !found.contains(there)) {"
            "   found.scrollIntoView({block: 'center'}); box = found.getBoundingClientRect(); }"
            " return [box.left, box.top, box.width, box.height]; })()"
        )
        left, top, width, height = found
        return left + x * width, top + y * height

    def mouse(self, kind: str, point: tuple[float, float], modifiers: int = 0) -> None:
        """Move, press or release the mouse ("Moved", "Pressed", "Released") at a point of the window."""
        pressed = {} if kind == "Moved" else {"button": "left", "clickCount": 1}
        x, y = point
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, modifiers=modifiers, **pressed)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        point = self.place(selector)
        for kind in ("Moved", "Pressed", "Released"):
            self.mouse(kind, point)

    def hover(self, selector: str) -> None:
        """Move the mouse onto an element."""
        self.mouse("Moved", self.place(selector))

    def drag(self, start: tuple[float, float], end: tuple[float, float], modifiers: int = 0) -> None:
        """Press the mouse at one point of the window, move to another, release."""
        self.mouse("Moved", start, modifiers)
        self.mouse("Pressed", start, modifiers)
        for part in (0.5, 1):
            point = tuple(a + part * (b - a) for a, b in zip(start, end, strict=True))
            self.send(
                "Input.dispatchMouseEvent", type="mouseMoved", x=point[0], y=point[1], button="left", buttons=1,
                modifiers=modifiers,
            )  # fmt: skip
        self.mouse("Released", end, modifiers)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        code, text = KEYS[key] if key in KEYS else (ord(key.upper()), key)
        typed = {"text": text} if text and not modifiers & (CONTROL | ALT | META) else {}
        for kind in ("keyDown" if typed else "rawKeyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=modifiers,
                **(typed if kind == "keyDown" else {}),
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Type text into what has the focus."""
        for character in text:
            self.press(character)

    def screenshot(self, *, whole: bool = True, of: str = "", margin: int = 0, sharpness: float = 1) -> bytes:
        """Return what is shown as PNG: the whole page, the window, or an element with a margin.

        Each pixel of the page becomes `sharpness` pixels a side of the picture.
        """
        metrics = self.send("Page.getLayoutMetrics")
        if of:
            box = self.run(
                f"(({{left, top, width, height}}) => ({{x: left + scrollX - {margin}, y: top + scrollY - {margin},"
                f" width: width + {2 * margin}, height: height + {2 * margin}}}))"
                f"(document.querySelector({json.dumps(of)}).getBoundingClientRect())"
            )
        elif whole:
            box = metrics["cssContentSize"]
        else:
            view = metrics["cssLayoutViewport"]
            box = {"x": view["pageX"], "y": view["pageY"], "width": view["clientWidth"], "height": view["clientHeight"]}
        options = {"captureBeyondViewport": bool(of or whole), "clip": {**box, "scale": sharpness}}
        # the same pixels in a file a quarter larger, for less than half the work
        found = self.send("Page.captureScreenshot", format="png", optimizeForSpeed=True, **options)
        return base64.b64decode(found["data"])

    def pixels(self, of: str = "", *, sharpness: float = 1) -> np.ndarray:
        """Return what is shown of an element, or of the whole page, as uint8 `[H, W, 3]`."""
        # not at the top: benchmarks run this file in an interpreter that has only Python's own library
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(self.screenshot(of=of, sharpness=sharpness))) as picture:
            return np.asarray(picture.convert("RGB"))

    def pdf(self, path: Path) -> None:
        """Keep the page as it prints."""
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"]))
