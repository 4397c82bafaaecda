"""Debian's chromium, driven by Playwright; what its pages did that they must not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from client_session import CLIENTS
from needs import needs, needs_installed
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

SECONDS: Final = 30.0
"""How long a test waits for what a page should show."""

RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a profile. While it runs, its thread runs no other event loop."""
    chromium = needs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page of a visitor, and what the browser had to say about it."""

    context: BrowserContext
    page: Page
    server: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Keep complaints of the console, and requests to any other host."""
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.on("request", lambda request: self._see(request.url))

    def _note(self, message: Any) -> None:
        # An answer with an error is told in the console, too: pages cannot prevent that.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _see(self, url: str) -> None:
        if not url.startswith((self.server, "data:", "blob:")):
            self.foreign.append(url)


@contextlib.contextmanager
def visiting(
    browser: Browser, server: str, path: str = "/", expected: str = "", **options: Any
) -> Iterator[Page]:
    """A new visitor's page of this server. No script failed on it, no other host was asked;
    complaints that have `expected` in them are what the test is about."""
    context = browser.new_context(**{"locale": "en-US", "viewport": WIDE} | options)
    context.set_default_timeout(SECONDS * 1000)
    visit = Visit(context, context.new_page(), server)
    visit.watch()
    visit.page.goto(server + path)
    try:
        yield visit.page
        assert visit.foreign == []
        assert [c for c in visit.complaints if not expected or expected not in c] == []
    finally:
        context.close()


WIDE: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 390, "height": 844}


def violations(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page as it is now."""
    source = needs_installed(CLIENTS / "node_modules") / "axe-core" / "axe.min.js"
    page.evaluate(source.read_text())
    report = page.evaluate(
        "async (tags) => await axe.run({runOnly: {type: 'tag', values: tags}})", RULES
    )
    return [
        f"{found['id']}: {node['target']} {node['failureSummary']}"
        for found in report["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
