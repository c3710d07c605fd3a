"""Headless Chromium over its debugging pipe: a page seen, heard, clicked, typed at and printed."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]
KEYS = {"Tab": 9, "Enter": 13, " ": 32}
_ONTO_3_AND_4 = """
import os, sys
a, b = (os.dup(os.dup(os.dup(int(fd)))) for fd in sys.argv[1:3])
os.dup2(a, 3); os.dup2(b, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page in a browser. Console messages and faults of scripts are kept in `said`."""

    def __init__(self, to, back):
        self._to, self._back, self._buffer, self._id, self._session = to, back, b"", 0, None
        self.said, self._tab = [], None
        self.new_tab()

    def new_tab(self):
        """An empty tab in place of the one so far: nothing that was emulated or shown there is left."""
        before, self._session = self._tab, None
        self._tab = self.send("Target.createTarget", url="about:blank")["targetId"]
        if before:
            self.send("Target.closeTarget", targetId=before)
        self._session = self.send("Target.attachToTarget", targetId=self._tab, flatten=True)["sessionId"]
        for domain in ("Runtime", "Page", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """The result of one command; a fault of the protocol fails the test."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _read(self):
        while b"\0" not in self._buffer:
            more = os.read(self._back, 1 << 20)
            assert more, "the browser ended"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        if event.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.said.append(event["params"])

    def open(self, page, width=1280, height=1600):
        """Loads the file or URL in a window of width x height CSS pixels and waits for it."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.said.clear()
        self.send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while (event := self._read()).get("method") != "Page.loadEventFired":
            self._note(event)

    def value(self, expression):
        """What the expression is on the page, or its promise becomes, as JSON would have it."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression):
        """Waits, on the page, for the expression to become true."""
        look = f"({expression}) ? done() : setTimeout(look, 20)"
        self.value(f"new Promise((done) => {{ const look = () => {look}; look(); }})")

    def press(self, key):
        """One key, down and up, as a keyboard sends it."""
        text = {"text": {"Enter": "\r"}.get(key, key)} if key != "Tab" else {}
        code = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    def click(self, expression):
        """The left button in the middle of the element."""
        self.value(f"({expression}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y, width, height = self.value(f"Object.values(({expression}).getBoundingClientRect().toJSON()).slice(0, 4)")
        where = {"x": x + width / 2, "y": y + height / 2, "button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", **where)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", **where)

    def heard(self):
        """(role, name) of everything that assistive technology is told, in order."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        told = [node for node in nodes if not node.get("ignored")]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told]

    def shot(self, scheme="light"):
        """Pixels [height, width, 3] of what the window shows."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media="", features=media)
        png = base64.b64decode(self.send("Page.captureScreenshot")["data"])
        with Image.open(io.BytesIO(png)) as drawn:
            return np.asarray(drawn.convert("RGB")).astype(int)

    def pdf(self):
        """The page printed, as the bytes of a PDF."""
        return base64.b64decode(self.send("Page.printToPDF")["data"])


@contextmanager
def browser(folder, *more, without=()):
    """A Browser whose profile lies in the folder; it ends with the block. more, without: flags beside the usual ones,
    and some of those left out."""
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    flags = [
        *(flag for flag in FLAGS if flag not in without),
        *more,
        "--remote-debugging-pipe",
        f"--user-data-dir={folder / 'profile'}",
    ]
    with subprocess.Popen(
        [sys.executable, "-c", _ONTO_3_AND_4, str(to_read), str(back_write), CHROMIUM, *flags],
        pass_fds=(to_read, back_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        os.close(to_read)
        os.close(back_write)
        try:
            yield Browser(to_write, back_read)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            os.close(to_write)
            os.close(back_read)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium installed; `apt-get install chromium`")
