"""`/explain` and `portway explain` at a real proxy, beside what its traffic gets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
import pytest
from typer.testing import CliRunner

from certs import certificate, common_name
from portway_operator.cli import app
from portway_proxy.explain.explanation import Explanation
from portway_proxy.policies import Policy, RateLimit
from portway_proxy.snapshot import (
    Affinity,
    Ejection,
    Endpoint,
    Host,
    PathMatch,
    Route,
    Snapshot,
    Upstream,
    UpstreamPolicy,
)
from portway_proxy.supervisor import Supervisor
from wire.parts import (
    ORIGIN,
    WEB,
    admin,
    echoes,
    free_port,
    port_of,
    refused,
    running,
    serve_echo,
    serve_web,
    settings,
    snapshot,
)

HOSTS = ("shop.example", "*.example", "default.example")


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings(workers=1)) as supervisor:
        yield supervisor


async def explained(proxy: Supervisor, **asked: str | list[str]) -> Explanation:
    status, text = await admin(proxy, "/explain?" + urlencode({**asked, "format": "json"}, doseq=True))
    assert status == 200, text
    return msgspec.json.decode(text, type=Explanation)


def balanced(policy: UpstreamPolicy, *ports: int, route: Policy | None = None) -> Snapshot:
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in sorted(ports))
    return Snapshot(
        hosts=(Host("", (Route("/", PathMatch.PREFIX, WEB, ORIGIN, route),)),),
        upstreams=(Upstream(WEB, endpoints=endpoints, policy=policy),),
    )


async def ask(proxy: Supervisor, path: str = "/", **fields: str) -> tuple[int, dict[str, str]]:
    url = f"http://127.0.0.1:{proxy.http_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=fields) as response:
        await response.read()
        return response.status, {cookie.key: cookie.value for cookie in response.cookies.values()}


async def test_the_page_knows_the_real_ports_and_the_generation(proxy: Supervisor) -> None:
    async with serve_web() as web:
        await proxy.apply(snapshot(web.port))
        found = await explained(proxy, url=f"http://shop.example:{proxy.http_port}/")
        assert (found.generation, found.stages[0].why) == (proxy.generation, "")
        assert (found.outcome.kind, found.outcome.endpoint) == ("forward", f"127.0.0.1:{web.port}")
        plain = await explained(proxy, url=f"http://shop.example:{proxy.https_port}/")
        assert plain.outcome.reason == "plain_http"


async def test_the_page_is_text_for_people_and_tells_what_it_cannot_read(proxy: Supervisor) -> None:
    status, text = await admin(proxy, "/explain?url=http://shop.example/")
    assert status == 200
    assert text.startswith("GET http://shop.example/ from 198.51.100.1\n")
    assert "=> 404 Not Found." in text
    for query in ("", "?url=ftp://x/", "?url=http://x/&header=none", "?url=http://x/&client_ip=x"):
        assert (await admin(proxy, f"/explain{query}"))[0] == 400


async def test_endpoints_have_the_states_that_workers_see(proxy: Supervisor) -> None:
    async with serve_web() as web:
        gone = free_port()
        await proxy.apply(balanced(UpstreamPolicy(ejection=Ejection(1, 60.0, 50)), web.port, gone))

        states: dict[str, str] = {}
        async with asyncio.timeout(10):
            while states != {f"127.0.0.1:{web.port}": "ready", f"127.0.0.1:{gone}": "ejected"}:
                await ask(proxy)
                found = await explained(proxy, url="http://shop.example/")
                states = {one.address: str(one.state) for one in found.endpoints}
        assert found.outcome.endpoint == f"127.0.0.1:{web.port}"
        assert {one.address: one.connections for one in found.endpoints}[f"127.0.0.1:{web.port}"] == 1


async def test_a_cookie_of_the_proxys_own_leads_where_its_traffic_goes(proxy: Supervisor) -> None:
    async with serve_web("a") as one, serve_web("b") as other:
        await proxy.apply(balanced(UpstreamPolicy(affinity=Affinity()), one.port, other.port))
        _, cookies = await ask(proxy)
        cookie = f"portway={cookies['portway']}"
        found = await explained(proxy, url="http://shop.example/", header=[f"Cookie: {cookie}", "X-A: b"])
        url = f"http://127.0.0.1:{port_of(proxy)}/"
        async with aiohttp.ClientSession() as session, session.get(url, headers={"Cookie": cookie}) as response:
            name = (await response.text()).removeprefix("sent by ")
        assert found.outcome.endpoint == f"127.0.0.1:{ {'a': one.port, 'b': other.port}[name] }"
        assert "X-A: b" in found.head
        assert cookies["portway"] not in msgspec.json.encode(found).decode()


async def test_asking_counts_for_nothing(proxy: Supervisor) -> None:
    async with serve_web() as web:
        limited = Policy(limit=RateLimit("zone", ((0.01, 0),)))
        await proxy.apply(balanced(UpstreamPolicy(), web.port, route=limited))
        for _ in range(5):
            found = await explained(proxy, url="http://shop.example/", client_ip="127.0.0.1")
            assert (found.outcome.kind, found.outcome.otherwise[0].status) == ("forward", 503)
        assert [(await ask(proxy))[0] for _ in range(2)] == [200, 503]


async def shown(port: int, name: str) -> str:
    """Return the first host of the certificate that a client is shown who asks for `name`."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        return common_name(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["shop.example", "www.example", "a.b.example", "127.0.0.1"])
async def test_the_certificate_is_the_one_that_clients_are_shown(proxy: Supervisor, name: str) -> None:
    made = {one: certificate(f"shop/{number}", one) for number, one in enumerate(HOSTS)}
    await proxy.apply(snapshot(1, certificates=made.values(), default_certificate=made["default.example"].name))
    assert proxy.https_port is not None
    real = await shown(proxy.https_port, name)
    found = await explained(proxy, url=f"https://{name}/")
    (stage,) = (one for one in found.stages if one.stage == "certificate")
    assert stage.chosen.startswith(f"{made[real].name} (ECDSA")


async def test_a_port_of_layer_4_is_explained_as_it_is_open(proxy: Supervisor) -> None:
    async with serve_echo() as echo:
        port, closed = free_port(), free_port()
        await proxy.apply(snapshot(1, echo_port=echo, ports=[port]))
        found = await explained(proxy, url=f"tcp://shop.example:{port}")
        assert (found.outcome.kind, found.outcome.endpoint) == ("relay", f"127.0.0.1:{echo}")
        assert await echoes(port)
        assert (await explained(proxy, url=f"tcp://shop.example:{closed}")).outcome.kind == "refuse"
        assert await refused(closed)


async def test_the_command_asks_the_admin_port(proxy: Supervisor) -> None:
    def command(*arguments: str) -> tuple[int, str]:
        asked = ["explain", *arguments, "--admin", f"http://127.0.0.1:{proxy.admin_port}"]
        result = CliRunner().invoke(app, asked)
        return result.exit_code, result.output

    async def run(*arguments: str) -> tuple[int, str]:
        return await asyncio.to_thread(command, *arguments)

    async with serve_web() as web:
        await proxy.apply(snapshot(web.port))
        status, text = await run("POST", "http://shop.example/a", "-H", "X-A: b", "--client-ip", "10.0.0.1")
        assert (status, text.splitlines()[0]) == (0, "POST http://shop.example/a from 10.0.0.1")
        assert f"127.0.0.1:{web.port} ready, 0 connections" in text
        status, text = await run("http://shop.example/", "--json")
        found: dict[str, Any] = json.loads(text)
        assert (status, found["schema"], found["outcome"]["kind"]) == (0, 1, "forward")
        await proxy.apply(Snapshot())
        assert (await run("http://shop.example/"))[0] == 1
        assert (await run("ftp://shop.example/"))[0] == 2
