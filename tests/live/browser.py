"""A browser: headless Chromium, driven over W3C WebDriver, which is JSON over HTTP.

with Browser(tmp_path) as browser:
    browser.open("http://127.0.0.1:8000/page")
    assert browser.run("return document.title") == "..."
    assert browser.console() == []
"""

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from .harness import PATIENCE_S, eventually, free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1000,700"),
)
_STARTS_WITHIN_S = 30.0
TAB, ENTER, SPACE = "\ue004", "\ue007", " "


# Why it may be left out: only make and Python may be assumed of a newcomer's machine. `.ci/run` installs browser and
# driver, so there nothing is left out.
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="there is no browser here (Debian: apt install chromium chromium-driver)"
)


class Browser:
    """One window. `folder` takes the profile and what the driver says; `arguments` are further ones of Chromium."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments

    def __enter__(self) -> Self:
        assert DRIVER is not None
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        with (self._folder / "driver.log").open("wb") as log:
            self._driver = subprocess.Popen(
                [DRIVER, f"--port={port}"],
                env={**os.environ, "HOME": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            eventually(self._is_ready, _STARTS_WITHIN_S)
            options = {
                "binary": CHROMIUM,
                "args": [*_ARGUMENTS, *self._arguments, f"--user-data-dir={self._folder / 'profile'}"],
            }
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}}, _STARTS_WITHIN_S)
            self._url += f"/session/{made['sessionId']}"
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(OSError):
                self._ask("DELETE", "")
        finally:
            self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._driver.pid, signal.SIGKILL)
        self._driver.wait(PATIENCE_S)

    def _is_ready(self) -> bool:
        assert self._driver.poll() is None, "chromedriver did not start"
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: Any = None, timeout_s: float = PATIENCE_S) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json"} if data else {}, method=method
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=timeout_s
            ) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(json.load(error)["value"]["message"]) from None

    # -- what a test asks -----------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go there, and wait until the page is loaded."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """What a function with this body returns in the page."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def console(self) -> list[str]:
        """What the console said since it was last asked."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def resize(self, width: int, height: int = 900) -> None:
        """The window, in CSS pixels; as a phone where it is narrow."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._command("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._command("Emulation.setEmulatedMedia", {"features": features})

    def press(self, *keys: str) -> None:
        """Keys, one after the other: characters, or those that WebDriver has numbers for, as TAB and ENTER here."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def _command(self, name: str, params: dict[str, Any]) -> None:
        self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": params})

    def screenshot(self) -> bytes:
        """A PNG of the window."""
        return b64decode(self._ask("GET", "/screenshot"))
