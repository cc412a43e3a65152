"""A real Chromium without a window, and what it notes while it shows the dashboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, ViewportSize, async_playwright, expect

__all__ = ["PATIENCE", "WIDE", "Visit", "chromium", "needs_chromium", "visit"]

PATIENCE: Final = 20_000
"""Milliseconds for what a page is to show at once: this machine may have much else to do."""
WIDE: Final = ViewportSize(width=1440, height=900)

_CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_REPORT_VIOLATIONS: Final = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates ${event.violatedDirective}: ${event.blockedURI}`));
"""

expect.set_options(timeout=PATIENCE)

needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


class Visit:
    """A page of the dashboard in a browser: what it asked for, and the faults that it or the browser reported.

    A browser notes each answer that is an error: what a test brings about on purpose holds the text `forgiven`.
    """

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.forgiven = ""
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type != "log" and not (self.forgiven and self.forgiven in message.text):
            self.faults.append(f"console: {message.text}")

    async def go(self, place: str) -> None:
        """Go to a place of the dashboard (`routes?q=shop`), and wait until its figures are of now."""
        await self.page.goto(f"{self.origin}/dashboard/#/{place}")
        await self.live()

    async def live(self) -> None:
        """Wait until the page is told what it shows."""
        await self.page.wait_for_selector("#state.live")

    async def rows(self, name: str) -> list[list[str]]:
        """Return the texts of the cells of a list's rows, of those in the document."""
        found = await self.page.locator(f".list.{name} .list-body .list-row").evaluate_all(
            "rows => rows.map(row => [...row.children].map(cell => cell.innerText))"
        )
        return [[str(text) for text in row] for row in found]

    def strangers(self) -> list[str]:
        """Return what the page asked of any other server."""
        return [url for url in self.asked if f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" != self.origin]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the browser."""
    # Its sandbox needs namespaces that containers seldom have; root may not start it with one at all.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visit(
    port: int,
    place: str = "overview",
    *,
    size: ViewportSize = WIDE,
    scheme: Literal["light", "dark"] = "light",
) -> AsyncIterator[Visit]:
    """Show a place of the dashboard at `port`; at the end nothing may have gone wrong, or gone elsewhere."""
    async with chromium() as browser:
        context = await browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        await context.add_init_script(_REPORT_VIOLATIONS)
        visited = Visit(await context.new_page(), f"http://127.0.0.1:{port}")
        await visited.go(place)
        yield visited
    assert visited.faults == [], visited.faults
    assert visited.strangers() == [], visited.strangers()
