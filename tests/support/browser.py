"""A real browser for the tests of the page, and what must never happen in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MISSING = "Chromium is not here. To run the tests of the page, install it with: apt-get install chromium"

FLAGS = (
    "--no-sandbox",  # a container's root may have no namespaces; it opens only what these tests serve
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_SECONDS = 10.0

_REFUSED = "Failed to load resource: the server responded with a status of "

_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`Violation of the policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


def find_chromium() -> str | None:
    """Return the program that $CLIPSEARCH_CHROMIUM names, else Chromium of the system."""
    return os.environ.get("CLIPSEARCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browsing(chromium: str) -> Iterator[Any]:
    """Start a browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Faults:
    """What went wrong in a page: errors in its console, violations of its policy, requests to other hosts.

    Attributes:
        expected: Statuses of answers that the test provokes; the console lists them as errors too.
    """

    host: str
    expected: set[int] = field(default_factory=set)
    found: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        """Note what goes wrong from now on."""
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("request", self._see)

    def _hear(self, message: Any) -> None:
        status = message.text.removeprefix(_REFUSED)[:3]
        if message.type in ("error", "warning") and not (status.isdigit() and int(status) in self.expected):
            self.found.append(f"{message.type}: {message.text}")

    def _see(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self.host:
            self.found.append(f"a request to {request.url}")


def open_page(browser: Any, address: str, **options: Any) -> tuple[Any, Faults]:
    """Open an address in a session of its own; options: of Browser.new_context. The caller closes page.context."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **options})
    context.set_default_timeout(_SECONDS * 1000)
    context.add_init_script(_VIOLATIONS)
    page = context.new_page()
    faults = Faults(urlsplit(address).netloc)
    faults.watch(page)
    page.goto(address)
    return page, faults


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true. Playwright's own wait evaluates text, which the policy of the page forbids."""
    end = time.monotonic() + _SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"it never came: {expression}"
        page.wait_for_timeout(20)
