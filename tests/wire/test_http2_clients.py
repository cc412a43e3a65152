"""HTTP/2 as people's programs speak it, to real workers: curl, nghttp and h2load."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from certs import certificate
from portway_proxy.metrics import HTTP2_FAULTS
from portway_proxy.snapshot import Snapshot, TlsTerms
from portway_proxy.supervisor import Supervisor
from wire.http2_client import Http2Peer, request_fields
from wire.parts import metrics, port_of, running, settings, snapshot
from wire.programs import needed, output

NAME = "web.example"


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of an endpoint that answers with the body that it gets, or with a word of its own."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=await request.read() or b"hello")

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        await supervisor.apply(_secured(echo))
        yield supervisor


def _secured(port: int, terms: TlsTerms | None = None) -> Snapshot:
    return msgspec.structs.replace(snapshot(port, certificates=[certificate("shop/web", NAME)]), tls=terms)


async def _curl(proxy: Supervisor, scheme: str, *options: str) -> tuple[str, str]:
    """Return the version that was spoken and the body of the answer."""
    port = proxy.https_port if scheme == "https" else proxy.http_port
    to_proxy = ("--connect-to", f"::127.0.0.1:{port}", "-w", "\n%{http_version}")
    said = await output("curl", "-sSk", "--max-time", "20", *to_proxy, *options, f"{scheme}://{NAME}/")
    body, _, version = said.rpartition("\n")
    return version, body


async def test_curl_speaks_http_2_by_alpn_and_with_prior_knowledge(proxy: Supervisor) -> None:
    assert await _curl(proxy, "https", "--http2") == ("2", "hello")
    assert await _curl(proxy, "http", "--http2-prior-knowledge") == ("2", "hello")
    assert await _curl(proxy, "https", "--http1.1") == ("1.1", "hello")
    # It asks for an upgrade to h2c, which nobody need grant.
    assert await _curl(proxy, "http", "--http2") == ("1.1", "hello")


async def test_http_2_is_switched_off_and_on_without_a_restart(proxy: Supervisor, echo: int) -> None:
    await proxy.apply(_secured(echo, TlsTerms(http2=False)))
    assert await _curl(proxy, "https", "--http2") == ("1.1", "hello")
    await proxy.apply(_secured(echo))
    assert await _curl(proxy, "https", "--http2") == ("2", "hello")


async def test_curl_sends_and_gets_a_large_body(proxy: Supervisor, tmp_path: Path) -> None:
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(bytes(range(256)) * 40_000)
    for scheme, way in (("https", "--http2"), ("http", "--http2-prior-knowledge")):
        version, _ = await _curl(proxy, scheme, way, "--data-binary", f"@{sent}", "-o", str(got))
        assert version == "2"
        assert got.read_bytes() == sent.read_bytes()


async def test_nghttp_asks_with_priorities_padding_and_trailers(proxy: Supervisor, tmp_path: Path) -> None:
    [nghttp] = needed("nghttp")
    body = tmp_path / "body"
    body.write_bytes(b"x" * 100_000)
    said = await output(
        nghttp,
        "-nv",
        "--multiply=20",
        "--window-bits=16",
        "--padding=100",
        "--header=trailer: x-sum",
        "--trailer=x-sum: 1",
        f"--header=:authority: {NAME}",
        f"--data={body}",
        f"https://127.0.0.1:{proxy.https_port}/",
    )
    assert len(re.findall(r":status: 200", said)) == 20
    assert not re.findall(r"recv (?:GOAWAY|RST_STREAM)", said)


async def test_h2load_gets_everything_that_it_asks_for(proxy: Supervisor) -> None:
    [h2load] = needed("h2load")
    url = f"https://127.0.0.1:{proxy.https_port}/"
    said = await output(h2load, "-n2000", "-c10", "-m32", f"--header=:authority: {NAME}", url)
    assert "2000 done, 2000 succeeded, 0 failed" in said
    assert "Application protocol: h2" in said
    assert not [name for name in await metrics(proxy) if name[0] == HTTP2_FAULTS.name]


async def test_workers_that_are_replaced_finish_what_they_were_asked(echo: int) -> None:
    chosen = settings(workers=1)
    async with running(chosen) as supervisor:
        await supervisor.apply(_secured(echo))
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Http2Peer, "127.0.0.1", port_of(supervisor))
        async with asyncio.TaskGroup() as tasks:
            renewal = tasks.create_task(supervisor.renew(chosen))
            while not client.goodbyes:
                asked = [client.ask(request_fields()) for _ in range(8)]
                assert [(await client.answer(number)).status for number in asked] == [200] * 8
            await client.end()
            await renewal
    assert [code for _, code in client.goodbyes] == [0, 0]
