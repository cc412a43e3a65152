from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from importlib import resources

import aiohttp
import pytest

from portway_proxy.admin import Admin
from portway_proxy.dashboard.pages import _found
from wire.parts import port_of, running, settings

STATIC = resources.files("portway_proxy.dashboard") / "static"
FILES = dict(_found(STATIC))


@pytest.fixture
async def site() -> AsyncIterator[aiohttp.ClientSession]:
    """A browser's session with the admin server of a proxy that serves nothing yet."""
    async with running(settings(workers=1)) as proxy:
        assert isinstance(proxy._admin, Admin)
        assert port_of(proxy)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{proxy.admin_port}", auto_decompress=False) as session:
            yield session


async def test_the_page_and_all_its_files_are_served_with_their_types(site: aiohttp.ClientSession) -> None:
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert "index.html" in FILES
    for name, content in FILES.items():
        async with site.get(f"/dashboard/{name}", headers={"Accept-Encoding": "identity"}) as response:
            assert (response.status, await response.read()) == (200, content), name
            assert response.content_type == kinds[name.rpartition(".")[2]]
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    async with site.get("/dashboard/", headers={"Accept-Encoding": "identity"}) as response:
        assert (response.content_type, await response.read()) == ("text/html", FILES["index.html"])


async def test_the_page_asks_nobody_else_for_anything() -> None:
    named = re.compile(rb"""(?:src|href|from|import|url)\s*[=(]?\s*["']?(?:https?:)?//""")
    assert [name for name, content in FILES.items() if named.search(content)] == []


async def test_a_file_that_a_browser_has_is_not_sent_again(site: aiohttp.ClientSession) -> None:
    async with site.get("/dashboard/main.js") as response:
        tag = response.headers["ETag"]
    for shown, status in ((tag, 304), ('"another"', 200), (f'"another", {tag}', 304)):
        async with site.get("/dashboard/main.js", headers={"If-None-Match": shown}) as response:
            assert (response.status, response.headers["ETag"]) == (status, tag)


async def test_text_is_compressed_for_who_takes_that(site: aiohttp.ClientSession) -> None:
    async with site.get("/dashboard/main.js", headers={"Accept-Encoding": "gzip, br"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()) == FILES["main.js"]
    async with site.get("/dashboard/routes", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert b'"routes":[]' in gzip.decompress(await response.read())


@pytest.mark.parametrize(
    "name", ["none.js", "../board.py", "%2e%2e/board.py", "views/../../board.py", "views", "views/"]
)
async def test_what_is_no_file_of_the_page_is_not_found(site: aiohttp.ClientSession, name: str) -> None:
    async with site.get(f"/dashboard/{name}") as response:
        assert response.status == 404
        assert b"Board" not in await response.read()


async def test_the_page_without_its_slash_leads_to_the_one_with_it(site: aiohttp.ClientSession) -> None:
    async with site.get("/dashboard", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, "dashboard/")


async def test_nobody_is_a_reader_who_asks_for_the_head_of_the_stream(site: aiohttp.ClientSession) -> None:
    async with site.head("/dashboard/stream") as response:
        assert response.status == 404
