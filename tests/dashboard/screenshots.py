"""Draws the pictures of docs/dashboard: a shop that is served for real, looked at in a real browser.

    PYTHONPATH=tests python -m dashboard.screenshots [FOLDER]

It takes two minutes, so that the charts have something to show.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import aiohttp
from aiohttp import web
from playwright.async_api import Browser, ViewportSize

from dashboard.browser import Visit, chromium
from dashboard.objects import ingress, over_tls, running, secret, service, write
from portway_proxy.tasks import Tasks
from wire.parts import free_port, serve_echo

_FILLED: Final = 120.0  # Seconds of traffic before the first picture.
_PAUSE: Final = 0.02  # Seconds between two requests of one client, on average.
_CLIENTS: Final = 4
_SPANS: Final = {"web": 0.004, "images": 0.002, "search": 0.015, "checkout": 0.03, "api": 0.008}
_HOSTS: Final = {
    "shop.example": {"/": "web", "/images": "images", "/search": "search", "/checkout": "checkout", "=/login": "web"},
    "api.example": {"/": "api", "/v1/orders": "api", "/v1/search": "search", "/v2": "api"},
    "docs.example": {"/": "web", "/images": "images"},
    "*.shop.example": {"/": "web"},
    "status.example": {"/": "web"},
    "mail.example": {"/": "mail"},
}
_TEAMS: Final = ("billing", "data", "growth", "ops", "people")
_APPS: Final = ("admin", "board", "mail", "reports", "search", "wiki")
_ASKED: Final = (
    ("shop.example", "/", 20),
    ("shop.example", "/images/7.png", 30),
    ("shop.example", "/search?q=boots", 9),
    ("shop.example", "/checkout", 4),
    ("api.example", "/v1/orders/7", 12),
    ("api.example", "/v2/items", 8),
    ("docs.example", "/start", 5),
    ("de.shop.example", "/", 6),
    ("wiki.ops.example", "/", 3),
    ("board.growth.example", "/api/points", 5),
    ("mail.example", "/", 0.3),
    ("nobody.example", "/", 0.4),
)


_SIZE: Final = ViewportSize(width=1280, height=840)


class Picture(NamedTuple):
    """A picture: its name, the place of the dashboard, and how it is looked at."""

    name: str
    place: str
    scheme: Literal["light", "dark"] = "light"
    size: ViewportSize = _SIZE


_PICTURES: Final = (
    Picture("overview", "overview"),
    Picture("overview-dark", "overview", "dark"),
    Picture("routes", "routes?sort=requests", size=ViewportSize(width=1440, height=840)),
    Picture("explain", "explain?url=https%3A%2F%2Fshop.example%2Fcheckout", size=ViewportSize(width=1180, height=1376)),
    Picture("phone", "overview", "dark", ViewportSize(width=390, height=844)),
)


@asynccontextmanager
async def endpoint(span: float) -> AsyncIterator[int]:
    """Run an endpoint that takes about `span` seconds, and fails once in a while; return its port."""

    async def answer(_request: web.Request) -> web.Response:
        await asyncio.sleep(random.lognormvariate(math.log(span), 0.5))
        return web.Response(text="x" * random.randrange(500, 30_000), status=503 if random.random() < 0.001 else 200)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def everything(ports: Mapping[str, list[int]], listeners: Mapping[int, int]) -> dict[str, dict[str, Any]]:
    """Return the objects of the shop by the names of their files; `listeners` maps ports to those of TCP endpoints."""
    wanted: dict[str, dict[str, str]] = {
        "shop.example": {"limit_rps": "500", "proxy_body_size": "8m", "ssl_redirect": "false"},
        "api.example": {"enable_cors": "true", "limit_rps": "300", "ssl_redirect": "false"},
        "docs.example": {"rewrite_target": "/", "ssl_redirect": "false"},
    }
    found = {f"service-{name}": service(name, *ports[name]) for name in ports}
    for host, paths in _HOSTS.items():
        name = host.replace("*", "any").partition(".example")[0].replace(".", "-")
        found[f"ingress-{name}"] = ingress(name, host, paths, **wanted.get(host, {}))
    for team in _TEAMS:
        for app in _APPS:
            found[f"ingress-{team}-{app}"] = ingress(
                f"{team}-{app}", f"{app}.{team}.example", {"/": "web", "/api": "api"}
            )
    found["ingress-shop"] = over_tls(found["ingress-shop"], "shop-tls")
    found["ingress-api"] = over_tls(found["ingress-api"], "api-tls")
    found["secret-shop"] = secret("shop", "shop.example", "*.shop.example", days=80)
    found["secret-api"] = secret("api", "api.example", days=12)
    for number, (port, target) in enumerate(listeners.items()):
        name = ("postgres", "redis")[number]
        found[f"service-{name}"] = service(name, target)
        found[f"service-{name}"]["metadata"]["annotations"]["portway.dev/tcp-ports"] = f"{port}:80"
    return found


async def ask(port: int, tasks: Tasks) -> None:
    """Send requests as clients of the shop do, more and fewer of them in waves, until the tasks end."""

    async def client() -> None:
        clock = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            while True:
                host, path, _ = random.choices(_ASKED, [weight for *_, weight in _ASKED])[0]
                with suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host}) as response:
                        await response.read()
                await asyncio.sleep(random.expovariate(1 / _PAUSE) * (1.4 + math.sin(clock.time() / 14)))

    for _ in range(_CLIENTS):
        tasks.spawn(client(), "client")


async def pass_through(ports: Mapping[int, int], tasks: Tasks) -> None:
    """Keep some connections open at layer 4, which say something now and then."""

    async def client(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            writer.write(b"x" * random.randrange(100, 5000))
            await reader.read(65536)
            await asyncio.sleep(random.random())

    for port in ports:
        for _ in range(random.randrange(3, 8)):
            tasks.spawn(client(port), "flow")


async def draw(browser: Browser, port: int, folder: Path) -> None:
    """Open all pages, wait until their charts are full, and take a picture of each."""
    async with AsyncExitStack() as stack:
        opened: list[tuple[Picture, Visit]] = []
        for picture in _PICTURES:
            context = await browser.new_context(viewport=picture.size, color_scheme=picture.scheme)
            stack.push_async_callback(context.close)
            visited = Visit(await context.new_page(), f"http://127.0.0.1:{port}")
            await visited.go(picture.place)
            opened.append((picture, visited))
        await asyncio.sleep(_FILLED)
        for picture, visited in opened:
            if picture.name == "routes":
                await visited.page.locator(".list-body .list-row").nth(1).click()
            await visited.page.screenshot(path=folder / f"{picture.name}.png")


async def main(folder: Path) -> None:
    """Serve the shop, and draw it into `folder`."""
    tasks = Tasks()
    async with AsyncExitStack() as stack:
        ports = {
            name: [await stack.enter_async_context(endpoint(span)) for _ in range(3)] for name, span in _SPANS.items()
        }
        # One endpoint of the checkout is down: nobody listens there.
        ports["checkout"].append(free_port())
        listeners = {free_port(): await stack.enter_async_context(serve_echo()) for _ in range(2)}
        files = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        objects = everything(ports, listeners)
        for name, content in objects.items():
            write(files / f"{name}.json", content)
        command, admin = await stack.enter_async_context(running("-f", files))
        stack.push_async_callback(tasks.close)
        await ask(await command.port("http"), tasks)
        await pass_through(listeners, tasks)
        objects["ingress-docs"]["spec"]["rules"][0]["http"]["paths"].pop()
        write(files / "ingress-docs.json", objects["ingress-docs"])
        await command.until(r"^generation 2: ")
        write(files / "service-search.json", service("search", *ports["search"][:2]))
        browser = await stack.enter_async_context(chromium())
        await draw(browser, admin, folder)


if __name__ == "__main__":
    drawn = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/dashboard")
    drawn.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(drawn))
