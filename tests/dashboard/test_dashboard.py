"""The dashboard of `portway run` in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.parse
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from dashboard.browser import PATIENCE, WIDE, chromium, needs_chromium, visit
from dashboard.objects import ingress, over_tls, running, secret, service, write
from wire.command import portway
from wire.parts import free_port, serve_echo, serve_web

pytestmark = needs_chromium

SHOP = {"/": "web", "/cart": "web", "=/login": "web"}


async def asked(port: int, path: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers={"Accept": "application/json"}) as response,
    ):
        said: dict[str, Any] = json.loads(await response.read())
        return said


async def test_the_list_has_the_rows_of_the_routes_page(tmp_path: Path) -> None:
    write(
        tmp_path / "shop.json",
        service("web", 9),
        ingress("shop", "shop.example", SHOP),
        ingress("any", "*.shop.example", {"/": "web"}, ssl_redirect="false"),
    )
    async with running("-f", tmp_path) as (_, port), visit(port, "routes") as visited:
        served = await asked(port, "/routes")
        expected = {
            (host["name"] or "*", route["path"], route["match"], route["upstream"])
            for host in served["hosts"]
            for route in host["routes"]
        }
        await expect(visited.page.locator(".list.routes")).to_have_attribute("aria-rowcount", str(len(expected) + 1))
        rows = await visited.rows("routes")
        shown = {(row[0], *row[1].rsplit(" ", 1), row[2]) for row in rows}
        assert shown == expected


async def test_a_file_that_changes_shows_without_a_reload(tmp_path: Path) -> None:
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web"}))
    async with running("-f", tmp_path) as (_, port), visit(port, "routes") as visited:
        await visited.page.evaluate("window.unloaded = false")
        await expect(visited.page.get_by_role("row", name="shop.example")).to_have_count(1)
        write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web", "/new": "web"}))
        await expect(visited.page.get_by_role("gridcell", name="/new")).to_be_visible()
        await expect(visited.page.locator(".list-row.fresh")).to_contain_text("/new")
        write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/new": "web"}))
        await expect(visited.page.get_by_role("row", name="shop.example")).to_have_count(1)
        assert await visited.page.evaluate("window.unloaded") is False


async def test_a_bad_file_is_a_problem_on_the_page_at_once_and_goes_when_it_is_mended(tmp_path: Path) -> None:
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web"}))
    async with running("-f", tmp_path) as (_, port), visit(port, "problems") as visited:
        await expect(visited.page.get_by_text("No problems", exact=True)).to_be_visible()
        write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "gone"}))
        problem = visited.page.locator(".problem")
        await expect(problem).to_contain_text("shop/gone")
        await expect(problem.locator(".mend")).to_contain_text("Mend")
        await expect(visited.page.get_by_role("link", name="Problems")).to_contain_text("1")
        await expect(visited.page.locator("#spoken")).to_have_text("Now 1 problem")
        write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web"}))
        await expect(visited.page.get_by_text("No problems", exact=True)).to_be_visible()


async def test_the_explain_box_draws_what_explain_says(tmp_path: Path) -> None:
    write(
        tmp_path / "shop.json",
        service("web", 9),
        service("none"),
        ingress("shop", "shop.example", {**SHOP, "/none": "none"}),
    )
    async with running("-f", tmp_path) as (_, port), visit(port) as visited:
        box = visited.page.get_by_role("textbox", name="URL to explain")
        for url in ("http://shop.example/cart/7", "http://shop.example/none", "http://other.example/"):
            await visited.page.goto(f"{visited.origin}/dashboard/#/overview")
            await box.fill(url)
            await box.press("Enter")
            said = await asked(port, f"/explain?format=json&method=GET&url={urllib.parse.quote(url, safe='')}")
            await expect(visited.page.get_by_role("region", name="Outcome")).to_contain_text(said["outcome"]["says"])
            assert await visited.page.locator(".way .stage:not(.end) .chosen").all_inner_texts() == [
                stage["chosen"] or "-" for stage in said["stages"]
            ]
            outcome = visited.page.get_by_role("region", name="Outcome")
            assert said["outcome"]["says"] in await outcome.inner_text()
            assert said["outcome"]["mend"] in await outcome.inner_text()
            assert said["outcome"]["reason"] in await outcome.inner_text()


async def test_what_explain_cannot_read_is_said_beside_the_box(tmp_path: Path) -> None:
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", SHOP))
    async with running("-f", tmp_path) as (_, port), visit(port, "explain") as visited:
        visited.forgiven = "status of 400"
        await visited.page.get_by_role("textbox", name="URL").fill("foo://x")
        await visited.page.get_by_role("button", name="Explain").click()
        await expect(visited.page.get_by_role("alert").filter(has_text="is no URL")).to_be_visible()


async def test_requests_show_as_figures_of_their_route(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        write(tmp_path / "shop.json", service("web", web.port), ingress("any", "*.example", {"/cart": "web"}))
        async with running("-f", tmp_path) as (command, port), visit(port) as visited:
            http = await command.port("http")
            stop = asyncio.Event()

            async def shop() -> None:
                while not stop.is_set():
                    await fetch_host(http, "shop.example", "/cart")

            shopping = asyncio.create_task(shop())  # noqa: TID251 - ended below, and awaited
            try:
                row = visited.page.get_by_role("region", name="Busiest routes").get_by_role(
                    "row", name="*.example/cart"
                )
                await expect(row).to_be_visible()
                await expect(row).to_contain_text("ms")
                await expect(visited.page.get_by_role("img", name="Requests a second")).to_be_visible()
            finally:
                stop.set()
                await shopping


async def test_an_endpoint_that_is_away_shows_as_such(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        write(
            tmp_path / "shop.json",
            service("web", web.port, away := free_port()),
            ingress("any", "*.example", {"/": "web"}),
        )
        async with running("-f", tmp_path) as (command, port), visit(port) as visited:
            http = await command.port("http")
            health = visited.page.get_by_role("region", name="Endpoints", exact=True)
            await expect(health).to_contain_text("all well")
            for _ in range(20):
                await fetch_host(http, "shop.example", "/")
            await expect(health).to_contain_text("1 ejected")
            await health.get_by_role("link", name="shop/web:80").click()
            await visited.page.get_by_role("row", name="shop/web:80").click()
            aside = visited.page.get_by_role("complementary", name="Upstream")
            await expect(aside.get_by_role("row", name=f"127.0.0.1:{away}")).to_contain_text("ejected")
            await expect(aside.get_by_role("row", name=f"127.0.0.1:{web.port}")).to_contain_text("ready")


async def test_generations_are_a_timeline_of_who_changed_what(tmp_path: Path) -> None:
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web"}))
    async with running("-f", tmp_path) as (_, port), visit(port, "generations") as visited:
        newest = visited.page.locator(".timeline > li").first
        await expect(newest).to_contain_text("Generation 1")
        write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web", "/new": "web"}))
        await expect(newest).to_contain_text("Generation 2")
        await expect(newest).to_contain_text("Ingress shop/shop changed")
        history = await asked(port, "/history?format=json")
        assert await visited.page.locator(".timeline > li").count() == len(history)


async def test_certificates_stand_in_the_order_in_which_they_end(tmp_path: Path) -> None:
    write(
        tmp_path / "shop.json",
        service("web", 9),
        *(secret(name, f"{name}.example", days=days) for name, days in (("late", 90), ("soon", 3), ("next", 20))),
        *(over_tls(ingress(name, f"{name}.example", {"/": "web"}), f"{name}-tls") for name in ("late", "soon", "next")),
    )
    async with running("-f", tmp_path) as (_, port), visit(port, "certificates") as visited:
        rows = visited.page.get_by_role("table", name="Certificates").get_by_role("row")
        await expect(rows).to_have_count(4)
        names = [(await row.inner_text()).split()[0] for row in (await rows.all())[1:]]
        assert names == ["shop/soon-tls", "shop/next-tls", "shop/late-tls"]
        await expect(rows.nth(1)).to_contain_text("2 d 23 h left")
        # One of them ends within two weeks.
        await expect(visited.page.get_by_role("link", name="Certificates")).to_contain_text("1")


async def test_who_passes_through_at_layer_4_shows_while_connected(tmp_path: Path) -> None:
    async with serve_echo() as echo:
        database = service("database", echo)
        database["metadata"]["annotations"]["portway.dev/tcp-ports"] = f"{(opened := free_port())}:80"
        write(tmp_path / "shop.json", database)
        async with running("-f", tmp_path) as (_, port), visit(port, "flows") as visited:
            page = visited.page
            await expect(page.get_by_role("region", name="Listeners").first).to_contain_text("shop/database:80/tcp")
            await expect(page.get_by_text("There are none.")).to_be_visible()
            _, writer = await asyncio.open_connection("127.0.0.1", opened)
            client = ":".join(map(str, writer.get_extra_info("sockname")))
            await expect(page.get_by_role("row", name=client)).to_contain_text(f"127.0.0.1:{echo}")
            writer.close()
            await writer.wait_closed()
            await expect(page.get_by_role("row", name=client)).to_have_count(0)


async def fetch_host(port: int, host: str, path: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host}) as response,
    ):
        return response.status


def many(count: int) -> list[dict[str, Any]]:
    hosts = count // 50
    return [
        ingress(f"shop-{host}", f"h{host}.example", {f"/p{path}": "web" for path in range(50)}) for host in range(hosts)
    ]


async def test_5000_routes_are_searched_with_few_of_them_in_the_document(tmp_path: Path) -> None:
    write(tmp_path / "shop.json", service("web", 9), *many(5000))
    async with running("-f", tmp_path) as (_, port), visit(port, "routes") as visited:
        page = visited.page
        grid = page.get_by_role("grid", name="Routes")
        await expect(grid).to_have_attribute("aria-rowcount", "5001")
        nodes = "document.querySelectorAll('*').length"
        assert await page.evaluate(nodes) < 1500
        field = page.get_by_role("searchbox", name="Search routes")
        await field.press_sequentially("h42.example p4")
        await expect(page.get_by_text("11 routes of 5000")).to_be_visible()
        found = {row[1].rsplit(" ", 1)[0] for row in await visited.rows("routes")}
        assert found == {"/p4", *(f"/p4{last}" for last in range(10))}
        await field.fill("nowhere")
        await expect(page.get_by_text("Nothing has all of these words.")).to_be_visible()
        await field.fill("")
        await grid.focus()
        await page.keyboard.press("End")
        await expect(page.get_by_role("row", name="h99.example /p9")).to_have_attribute("aria-selected", "true")
        assert await page.evaluate(nodes) < 1500


async def test_a_link_leads_to_what_was_found(tmp_path: Path) -> None:
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", SHOP))
    async with running("-f", tmp_path) as (_, port), visit(port, "routes?q=login") as visited:
        await expect(visited.page.get_by_text("1 route of 3")).to_be_visible()
        await visited.page.get_by_role("searchbox").fill("shop cart")
        await expect(visited.page.get_by_text("1 route of 3")).to_be_visible()
        await expect(visited.page).to_have_url(re.compile(r"#/routes\?q=shop\+cart$"))


async def test_a_lost_connection_is_said_and_found_again_by_itself(tmp_path: Path) -> None:
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web"}))
    port = free_port()
    command = ("run", "-f", tmp_path, "--http-port", "0", "--https-port", "0", "--admin-port", str(port))
    async with portway(*command, "--workers", "1") as first:
        await first.serving()
        async with visit(port, "routes") as visited:
            await expect(visited.page.get_by_role("row", name="shop.example")).to_be_visible()
            visited.forgiven = "Failed to load resource"
            await first.stop()
            await expect(visited.page.locator("#state")).to_have_text("connection lost")
            await expect(visited.page.locator("#lost")).to_contain_text("What you see is of")
            await expect(visited.page.locator("body")).to_have_class("stale")
            write(tmp_path / "shop.json", service("web", 9), ingress("shop", "new.example", {"/": "web"}))
            async with portway(*command, "--workers", "1") as second:
                await second.serving()
                await visited.live()
                await expect(visited.page.get_by_role("row", name="new.example")).to_be_visible()
                await expect(visited.page.get_by_role("row", name="shop.example")).to_have_count(0)
                await expect(visited.page.locator("#lost")).to_be_hidden()


async def test_a_page_that_nobody_sees_gives_its_connection_up(tmp_path: Path) -> None:
    unseen = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", {"/": "web"}))
    async with running("-f", tmp_path) as (_, port), visit(port, "routes") as visited:
        page = visited.page
        await page.clock.install()
        await page.evaluate(unseen, True)
        await page.clock.fast_forward("00:40")
        await expect(page.locator("#state")).to_have_text("paused")
        write(tmp_path / "shop.json", service("web", 9), ingress("shop", "new.example", {"/": "web"}))
        await page.evaluate(unseen, False)
        await visited.live()
        await expect(page.get_by_role("row", name="new.example")).to_be_visible()


async def test_hostile_names_are_text(tmp_path: Path) -> None:
    evil = "/<img src=x onerror=alert(1)>"
    write(
        tmp_path / "shop.json",
        service("web", 9),
        ingress("shop", "shop.example", {evil: "<script>alert(1)</script>", "/": "web"}),
    )
    async with running("-f", tmp_path) as (_, port), visit(port, "problems") as visited:
        await expect(visited.page.locator(".problem").first).to_contain_text("<script>alert(1)</script>")
        for place in ("routes", "overview", f"explain?url={urllib.parse.quote('http://shop.example' + evil)}"):
            await visited.go(place)
        await expect(visited.page.locator(".way")).to_be_visible()
        assert await visited.page.locator("#view img, #view script").count() == 0


def own_address() -> str:
    """Return an address of this machine that is not its loopback one, or nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737; nothing is sent.
        except OSError:
            return ""
        return str(probe.getsockname()[0])


async def test_who_is_elsewhere_signs_in_with_a_token(tmp_path: Path) -> None:
    address = own_address()
    if not address or address.startswith("127."):
        pytest.skip("this machine has no address but its loopback one")
    token = tmp_path / "token"
    token.write_text("a-token-of-enough-length-to-count-123\n")
    write(tmp_path / "shop.json", service("web", 9), ingress("shop", "shop.example", SHOP))
    arguments = ("-f", tmp_path / "shop.json", "--admin-address", address, "--admin-token-file", token)
    async with running(*arguments) as (_, port), chromium() as browser:
        page = await browser.new_page(viewport=WIDE)
        page.set_default_timeout(PATIENCE)
        await page.goto(f"http://{address}:{port}/dashboard/")
        await page.get_by_label("Token").fill(token.read_text().strip())
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_selector("#state.live")
        assert page.url == f"http://{address}:{port}/dashboard/"
        token.write_text("another-token-of-enough-length-to-count\n")
        await page.reload()
        await expect(page.get_by_label("Token")).to_be_visible()
