"""Who reads the dashboard: by keyboard, on a phone, in the dark, with a screen reader."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.async_api import ViewportSize, expect

from dashboard.browser import WIDE, Visit, needs_chromium, visit
from dashboard.objects import ingress, running, service, write

pytestmark = needs_chromium

PHONE: Final = ViewportSize(width=360, height=740)
SMALLEST: Final = ViewportSize(width=320, height=640)
PLACES: Final = (
    "overview",
    "explain?url=http%3A%2F%2Fshop.example%2Fcart",
    "routes",
    "hosts",
    "upstreams",
    "flows",
    "certificates",
    "problems",
    "generations",
)

# Every text that is seen, against what is behind it (WCAG 2.2, 1.4.3): 4.5, or 3 where it is large.
_FAINT: Final = """
() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
    return ["white", ...layers];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const text = walk.currentNode.data.trim();
    if (!text || element.closest(".spoken, noscript, option") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    const [a, b] = [light(paint(ground)), light(paint([...ground, style.color]))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if ((a + 0.05) / (b + 0.05) < least) found.push(`${((a + 0.05) / (b + 0.05)).toFixed(2)} ${text}`);
  }
  return found;
}
"""
_SIDEWAYS: Final = "document.documentElement.scrollWidth > innerWidth"
_CONTROLS: Final = re.compile(
    r"^\s*- (?:button|link|textbox|searchbox|combobox|checkbox|grid|table|region|navigation|dialog|img|complementary)"
    r"(?: \[[^\]]*\])*:?$"
)


@asynccontextmanager
async def shown(
    folder: Path, place: str, *, size: ViewportSize = WIDE, scheme: Literal["light", "dark"] = "light"
) -> AsyncIterator[Visit]:
    """Show a place of a dashboard that has something of each kind to show."""
    long = "a-host-with-a-name-that-is-as-long-as-names-may-be.and-then-some-more-of-it.example"
    write(
        folder / "shop.json",
        service("web", 9, 10),
        ingress("shop", "shop.example", {"/": "web", "/cart": "web", "=/login": "gone"}, limit_rps="50"),
        ingress("long", long, {"/a/path/of/many/segments/which/goes/on/and/on/and/on": "web"}),
    )
    async with running("-f", folder) as (_, port), visit(port, place, size=size, scheme=scheme) as visited:
        yield visited


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_its_ground(tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    faint: list[str] = []
    async with shown(tmp_path, PLACES[0], scheme=scheme) as visited:
        for place in PLACES:
            await visited.go(place)
            faint += [f"{place}: {text}" for text in await visited.page.evaluate(_FAINT)]
    assert faint == []


async def test_every_control_and_landmark_has_a_name(tmp_path: Path) -> None:
    nameless: list[str] = []
    async with shown(tmp_path, PLACES[0]) as visited:
        for place in PLACES:
            await visited.go(place)
            told = await visited.page.locator("body").aria_snapshot()
            nameless += [f"{place}: {line}" for line in told.splitlines() if _CONTROLS.match(line)]
            assert await visited.page.get_by_role("heading", level=1).count() == 1
            assert await visited.page.get_by_role("main").count() == 1
    assert nameless == []


@pytest.mark.parametrize("size", [PHONE, SMALLEST], ids=["phone", "smallest"])
async def test_nothing_is_wider_than_a_phone(tmp_path: Path, size: ViewportSize) -> None:
    wide: list[str] = []
    async with shown(tmp_path, PLACES[0], size=size) as visited:
        for place in PLACES:
            await visited.go(place)
            if await visited.page.evaluate(_SIDEWAYS):
                wide.append(place)
        await visited.go("routes")
        await visited.page.get_by_role("row", name="/cart").click()
        await expect(visited.page.get_by_role("complementary", name="Route")).to_contain_text("Ingress shop/shop")
        assert not await visited.page.evaluate(_SIDEWAYS)
    assert wide == []


async def test_the_keyboard_alone_leads_everywhere(tmp_path: Path) -> None:
    async with shown(tmp_path, "overview") as visited:
        page = visited.page
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main")).to_be_focused()
        await page.keyboard.press("/")
        field = page.get_by_role("searchbox", name="Search routes")
        await expect(field).to_be_focused()
        await page.keyboard.type("login")
        await expect(page.get_by_text("1 route of 4")).to_be_visible()
        grid = page.get_by_role("grid", name="Routes")
        while not await grid.evaluate("grid => grid === document.activeElement"):
            await page.keyboard.press("Tab")
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        aside = page.get_by_role("complementary", name="Route")
        await expect(aside).to_be_focused()
        await expect(aside).to_contain_text("/login")
        await page.keyboard.press("Escape")
        await expect(aside).to_be_hidden()
        await expect(grid).to_be_focused()
        await page.get_by_role("link", name="Overview", exact=True).focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("link", name="Explain")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1, name="Explain")).to_be_visible()


async def test_the_focus_is_always_seen(tmp_path: Path) -> None:
    async with shown(tmp_path, "routes") as visited:
        page = visited.page
        seen = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        stops = set()
        for _ in range(30):
            await page.keyboard.press("Tab")
            stops.add(await page.evaluate("document.activeElement.outerHTML.slice(0, 80)"))
            if await page.evaluate("document.activeElement !== document.body"):
                assert await page.evaluate(seen), await page.evaluate("document.activeElement.outerHTML.slice(0, 80)")
        assert len(stops) > 12


async def test_the_theme_is_that_of_the_system_until_somebody_chooses(tmp_path: Path) -> None:
    async with shown(tmp_path, "overview", scheme="dark") as visited:
        page = visited.page
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(ground)
        await page.get_by_role("button", name="Theme: system").click()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        light = await page.evaluate(ground)
        assert light != dark
        await page.reload()
        await visited.live()
        assert await page.evaluate(ground) == light
        await page.get_by_role("button", name="Theme: light").click()
        assert await page.evaluate(ground) == dark
