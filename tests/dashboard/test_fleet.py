"""The dashboard of an operator in a real browser: real proxies follow it over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web
from playwright.async_api import expect

from dashboard.browser import needs_chromium, visit
from portway_operator.fleet import Fleet
from portway_proxy.admin_access import Access
from portway_proxy.admin_site import AdminSite
from portway_proxy.dashboard.board import Board
from portway_proxy.dashboard.pages import DashboardPages
from portway_proxy.explain.page import ExplainPage
from portway_proxy.history_pages import Chronicle, add_history
from portway_proxy.pages import add_upstreams
from wire.parts import serve_web, snapshot
from wire.streams import Operator, cluster, following, operator

pytestmark = needs_chromium


@asynccontextmanager
async def pages(op: Operator) -> AsyncIterator[int]:
    """Serve the pages of an operator's fleet, and yield their port."""
    app = web.Application()
    Access().guard(app)
    fleet, chronicle = Fleet(op.publisher, "operator-0"), Chronicle()
    DashboardPages(Board(fleet)).add_to(app)
    ExplainPage(fleet).add_to(app)
    add_upstreams(app, fleet)
    add_history(app, chronicle)
    site = AdminSite(app)
    try:
        yield await site.start("127.0.0.1", 0)
    finally:
        await site.close()
        await chronicle.close()


async def test_an_operator_shows_its_proxies_and_what_each_serves(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(serve_web())
        shared = await stack.enter_async_context(cluster(tmp_path))
        op = await stack.enter_async_context(operator(shared))
        await op.publish(snapshot(endpoint.port))
        await stack.enter_async_context(following(shared.credentials(), op.address, node="proxy-0"))
        port = await stack.enter_async_context(pages(op))
        visited = await stack.enter_async_context(visit(port, "proxies"))
        page = visited.page
        await expect(page.locator("#where")).to_contain_text("the fleet · operator-0")
        await expect(page.get_by_role("row", name="proxy-0")).to_contain_text("current")
        async with following(shared.credentials(), op.address, node="proxy-1"):
            await expect(page.get_by_role("row", name="proxy-1")).to_contain_text("current")
            await expect(page.get_by_role("row", name="proxy-1")).to_contain_text("generation 1")
            await expect(page.get_by_role("link", name="Proxies")).to_contain_text("2")
            await op.publish(snapshot(endpoint.port, certificates=[]))
            await expect(page.get_by_role("row", name="proxy-1")).to_contain_text("generation 2")
        # What only a proxy tells is said to be so, and not asked for.
        await visited.go("flows")
        await expect(page.get_by_text("for each proxy to say")).to_be_visible()
        await visited.go("upstreams")
        await page.get_by_role("row", name="shop/web:80").click()
        told = page.get_by_role("complementary", name="Upstream").get_by_role("row", name=f"127.0.0.1:{endpoint.port}")
        await expect(told).to_contain_text("ready")
        await visited.go("explain?url=http://shop.example/")
        await expect(page.get_by_role("region", name="Outcome")).to_contain_text("shop/web:80")
