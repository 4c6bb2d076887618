"""A real headless Chromium, driven over its debugging pipe (the Chrome DevTools Protocol, with messages that end in a zero byte)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

_OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run"]
# Chromium reads commands from descriptor 3 and writes to 4.
_LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Network.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 15) -> Any:
        """The value of an expression once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"(value => value instanceof Node || value)({condition})")):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.03)
        return value

    def click(self, element: str) -> None:
        """A real click in the middle of the element that a JavaScript expression gives."""
        self.wait_for(f"{element} && !{element}.getAnimations({{subtree: true}}).length")
        self.run(f"{element}.scrollIntoView({{block: 'nearest'}})")
        box = self.run(f"(r => ({{x: r.x + r.width / 2, y: r.y + r.height / 2}}))({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box["x"], y=box["y"], button="left", clickCount=1)

    def offline(self, is_offline: bool) -> None:
        self.call("Network.emulateNetworkConditions", offline=is_offline, latency=0, downloadThroughput=-1, uploadThroughput=-1)

    def hidden(self, is_hidden: bool) -> None:
        """As if another tab were looked at."""
        self.run(
            f"Object.defineProperty(document, 'visibilityState', {{configurable: true, value: '{'hidden' if is_hidden else 'visible'}'}}),"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    def screenshot(self, path: Path, width: int = 1200, height: int = 800) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(0.4)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


class Browser:
    """A running Chromium with a fresh profile."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = os.fdopen(reads, "rb"), os.fdopen(writes, "wb")
        self._number = 0
        self._buffer = b""

    @contextmanager
    def private_page(self) -> Iterator[Page]:
        """A tab with cookies and storage of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        try:
            yield Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        self._writes.write(json.dumps(message).encode() + b"\0")
        self._writes.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            data = os.read(self._reads.fileno(), 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def close(self) -> None:
        self._reads.close()
        self._writes.close()


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser that is ended with the block."""
    command_reads, command_writes = os.pipe()
    answer_reads, answer_writes = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(command_reads), str(answer_writes), str(CHROMIUM), *_OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(command_reads, answer_writes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_reads)
    os.close(answer_writes)
    browser = Browser(answer_reads, command_writes)
    try:
        yield browser
    finally:
        browser.close()  # the end of the pipe ends it
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
