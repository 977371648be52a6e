"""A WebDriver session: chromium driven by chromedriver over plain HTTP, offline."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
]  # fmt: skip
# Errors and policy violations, collected from before the first script of the page.
WATCH = """
window.__errors = [];
addEventListener('error', (e) => __errors.push(String(e.message)));
addEventListener('unhandledrejection', (e) => __errors.push(String(e.reason)));
document.addEventListener('securitypolicyviolation', (e) => __errors.push('CSP ' + e.blockedURI));
"""


class Browser:
    """A WebDriver session: just the calls that these tests need."""

    def __init__(self, port: int, profile: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{answer['sessionId']}"
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=240) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:600]) from error

    def cdp(self, command: str, **params: Any) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", **metrics)

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def open(self, path: Path, fragment: str = "") -> None:
        self.call("POST", "/url", {"url": "about:blank"})
        self.log("browser")
        self.log("performance")
        self.call("POST", "/url", {"url": path.resolve().as_uri() + fragment})

    def run(self, script: str, *args: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": args})

    def wait(self, expression: str, seconds: float = 240) -> Any:
        until = time.monotonic() + seconds
        while not (found := self.run(f"return {expression}")):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def mouse(self, kind: str, x: float, y: float, held: bool = False) -> None:
        button = {"button": "left", "buttons": int(held), "clickCount": 1}
        where = {"x": round(x), "y": round(y)}
        self.cdp("Input.dispatchMouseEvent", type=f"mouse{kind}", **where, **button)

    def drag(self, start: tuple[int, int], stop: tuple[int, int]) -> None:
        self.mouse("Moved", *start)
        self.mouse("Pressed", *start, held=True)
        for share in (0.1, 0.5, 1.0):
            at = [a + share * (b - a) for a, b in zip(start, stop, strict=True)]
            self.mouse("Moved", *at, held=True)
            time.sleep(0.05)
        self.mouse("Released", *stop)

    def hover(self, x: float, y: float) -> None:
        self.mouse("Moved", x - 30, y)
        time.sleep(0.05)
        self.mouse("Moved", x, y)

    def log(self, kind: str) -> list[dict[str, Any]]:
        return self.call("POST", "/se/log", {"type": kind})

    def complaints(self) -> list[str]:
        severe = [entry["message"] for entry in self.log("browser") if entry["level"] != "INFO"]
        return severe + self.run("return window.__errors")

    def requests(self) -> list[str]:
        """Every address asked for since open(), the page itself left out."""
        asked = []
        for entry in self.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        resources = "return performance.getEntriesByType('resource').map((r) => r.name)"
        return [url for url in asked + self.run(resources) if url.split(":")[0] not in OFFLINE]


OFFLINE = ("file", "data", "blob", "about")


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser that ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    session = None
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        session = Browser(port, profile)
        yield session
    finally:
        if session:
            session.call("DELETE", "")
        server.terminate()
        server.wait(10)
