"""The dashboard's data, from real proxies over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from certs import certificate
from eventually import eventually
from portway_proxy import gathering as gathering_module
from portway_proxy import supervisor as supervisor_module
from portway_proxy.channel import Channel, Look, Report
from portway_proxy.dashboard import board as board_module
from portway_proxy.dashboard import pages as pages_module
from portway_proxy.dashboard.board import Board, Source
from portway_proxy.snapshot import (
    BasicAuth,
    ClientAuthority,
    Credentials,
    Endpoint,
    Host,
    Keyring,
    Listener,
    Origin,
    PathMatch,
    Policy,
    Route,
    SharedKey,
    Snapshot,
    Upstream,
)
from snapshots import FULL, HASH, KEY
from wire.command import ANY_PORTS, portway
from wire.dashboard_reader import StreamReader, get, looking
from wire.parts import Client, connect, free_port, port_of, running, serve_echo, serve_web, settings, snapshot

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
WEB = "shop/web:80"


def table(port: int, *paths: str, host: str = "shop.example") -> Snapshot:
    """Return a snapshot with these paths of a host, all served by `port` of this machine."""
    routes = tuple(Route(path, PathMatch.PREFIX, WEB, ORIGIN) for path in paths)
    return Snapshot((Host(host, routes),), upstreams=(Upstream(WEB, endpoints=(Endpoint("127.0.0.1", port),)),))


async def test_the_wholesays_what_routes_says() -> None:
    async with running(settings()) as proxy:
        await proxy.apply(msgspec.structs.replace(FULL, listeners=()))
        _, text = await get(proxy.admin_port, "/routes")
        status, body = await get(proxy.admin_port, "/dashboard/routes")
    said = json.loads(body)
    lines = [line for line in text.splitlines() if " => " in line and "default =>" not in line]
    rows = [row for row in said["routes"] if row[3] != "default"]
    assert (status, len(rows)) == (200, len(lines))
    for line, (_, host, path, match, upstream, origin, does, _) in zip(lines, rows, strict=True):
        assert line.startswith(f"{host} {match} {path} => {upstream} -> ")
        assert line.endswith(f"  <- {origin}")
        assert (f" [{', '.join(does)}]" in line) == bool(does)
    assert said["certificates"] == [["shop/tls", ["*.shop.example", "shop.example"], 1_900_000_000, True]]
    assert [row[:3] for row in said["upstreams"]][2:4] == [
        ["shop/none:80", 0, "service_missing"],
        ["shop/tuned:80", 1, ""],
    ]


async def test_the_stream_says_who_speaks_and_what_is_served_and_then_only_what_is_new() -> None:
    async with serve_web() as endpoint, running(settings()) as proxy:
        await proxy.apply(table(endpoint.port, "/", "/cart"))
        async with looking(proxy.admin_port) as reader:
            hello = await reader.until("hello")
            assert (hello["role"], hello["node"]) == ("proxy", "")
            first = await reader.until("generation")
            assert (first["whole"], first["number"], first["counts"]["routes"]) == (True, 1, 2)
            before = json.loads((await get(proxy.admin_port, "/dashboard/routes"))[1])
            assert before["mark"] == reader.mark
            await proxy.apply(table(endpoint.port, "/", "/basket"))
            news = await reader.until("generation")
        assert [row[2] for row in news["routes"]] == ["/basket"]
        assert news["routes_gone"] == [row[0] for row in before["routes"] if row[2] == "/cart"]
        assert "upstreams" not in news


async def test_who_connects_again_hears_what_came_meanwhile() -> None:
    async with serve_web() as endpoint, running(settings(workers=1)) as proxy:
        await proxy.apply(table(endpoint.port, "/"))
        async with looking(proxy.admin_port) as reader:
            await reader.until("generation")
            mark = reader.mark
        await proxy.apply(table(endpoint.port, "/", "/one"))
        await proxy.apply(table(endpoint.port, "/", "/two"))
        async with looking(proxy.admin_port, mark) as reader:
            news = await reader.until("generation")
            assert [row[2] for row in news["routes"]] == ["/two"]
        async with looking(proxy.admin_port, "another-1") as reader:
            assert (await reader.until("generation"))["whole"]


async def ask(proxy_port: int, path: str, times: int, host: str = "shop.example") -> None:
    """Send requests one after the other, each on a connection of its own, so that all workers get some."""
    for _ in range(times):
        async with connect(proxy_port) as client:
            client.send(path, host)
            await client.take()


async def figures(reader: StreamReader, requests: int) -> tuple[Counter[str], list[Any]]:
    """Return how many requests each route's figures come to, and the events, once the totals have come to all."""
    counted: Counter[str] = Counter()
    told = []
    while counted["total"] < requests or counted["routes"] < requests:
        traffic = await reader.until("traffic")
        told.append(traffic)
        counted["total"] += round(traffic["total"][0] * traffic["seconds"])
        counted["failed"] += round(traffic["total"][0] * traffic["total"][1] * traffic["seconds"])
        counted["refused"] += round(traffic["total"][0] * traffic["total"][2] * traffic["seconds"])
        for number, figure in traffic["routes"].items():
            counted[number] += round(figure[0] * traffic["over"])
            counted["routes"] += round(figure[0] * traffic["over"])
            counted[f"{number} failed"] += round(figure[0] * figure[1] * traffic["over"])
        for name in ("hosts", "upstreams"):
            for key, figure in traffic[name].items():
                counted[f"{name} {key}"] += round(figure[0] * traffic["over"])
    return counted, told


async def test_the_figures_are_those_of_the_traffic_over_all_workers() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path.startswith("/slow"):
            await asyncio.sleep(0.06)
        return web.Response(status=500 if request.path == "/slow/broken" else 200)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with running(settings(workers=2)) as proxy:
        await proxy.apply(table(runner.addresses[0][1], "/fast", "/slow"))
        port = port_of(proxy)
        async with looking(proxy.admin_port) as reader:
            await reader.until("traffic")  # From here on it is counted.
            await ask(port, "/fast", 20)
            await ask(port, "/slow", 6)
            await ask(port, "/slow/broken", 4)
            counted, told = await figures(reader, 30)
            rows = {
                row[2]: str(row[0])
                for row in json.loads((await get(proxy.admin_port, "/dashboard/routes"))[1])["routes"]
            }
            assert (counted["total"], counted["failed"], counted["refused"]) == (30, 4, 0)
            assert (counted[rows["/fast"]], counted[rows["/slow"]]) == (20, 10)
            assert (counted[f"{rows['/fast']} failed"], counted[f"{rows['/slow']} failed"]) == (0, 4)
            assert (counted["hosts shop.example"], counted[f"upstreams {WEB}"]) == (30, 30)
            fast = [event["routes"][rows["/fast"]] for event in told if event["routes"].get(rows["/fast"], [0])[0]]
            slow = [event["routes"][rows["/slow"]] for event in told if event["routes"].get(rows["/slow"], [0])[0]]
            assert all(figure[3] >= 50 for figure in slow), "60 ms are in the place between 50 and 100"
            assert min(figure[3] for figure in fast) < 50
            assert sum(event["sent"] * event["seconds"] for event in told) > 1000
            # A request that no route is for is one of the total, and of nothing else.
            await ask(port, "/none", 1)
            nothing = await reader.until("traffic")
            while not nothing["total"][0]:
                nothing = await reader.until("traffic")
            assert (nothing["total"][2], [row for row in nothing["routes"].values() if row[0]]) == (1.0, [])
    await runner.cleanup()


async def test_a_worker_that_dies_takes_its_figures_with_it_and_nothing_else() -> None:
    async with serve_web() as endpoint, running(settings(workers=1)) as proxy:
        await proxy.apply(table(endpoint.port, "/"))
        async with looking(proxy.admin_port) as reader:
            await reader.until("traffic")
            (worker,) = proxy._serving.values()
            worker.kill()
            await eventually(lambda: [one for one in proxy._serving.values() if one is not worker], 15, "a successor")
            await ask(port_of(proxy), "/", 1)
            while not (await reader.until("traffic"))["total"][0]:
                await ask(port_of(proxy), "/", 1)  # Until the successor, too, is looked at.
            while (await reader.until("traffic"))["total"][0]:
                pass
            await ask(port_of(proxy), "/", 5)
            counted, told = await figures(reader, 5)
            assert (counted["total"], counted["routes"]) == (5, 5)
            assert min(event["total"][0] for event in told) >= 0


async def test_what_passes_through_and_who_is_connected_is_counted() -> None:
    async with serve_web() as endpoint, serve_echo() as echo_port, running(settings(workers=1)) as proxy:
        port = free_port()
        await proxy.apply(snapshot(endpoint.port, echo_port=echo_port, ports=(port,)))
        async with connect(port_of(proxy)) as client, connect(port) as relayed, looking(proxy.admin_port) as reader:
            await client.get("/")
            await reader.until("traffic")  # From here on it is counted.
            relayed.writer.write(b"x" * 50_000)
            await relayed.reader.readexactly(50_000)
            received = sent = 0.0
            while min(received, sent) < 49_900:  # Rates and seconds are rounded.
                traffic = await reader.until("traffic")
                received += traffic["received"] * traffic["seconds"]
                sent += traffic["sent"] * traffic["seconds"]
            assert (traffic["connections"], traffic["flows"]) == (1, 1)


async def test_a_bad_file_is_a_problem_on_the_page_with_its_mend_until_it_is_good_again(tmp_path: Path) -> None:
    good = """\
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {portway.dev/endpoints: "127.0.0.1:1"}}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: shop.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""
    file = tmp_path / "web.yaml"
    file.write_text(good)
    async with portway("run", *ANY_PORTS, "--no-access-log", "-f", tmp_path) as command:
        await command.serving()
        admin = await command.port("admin")
        async with looking(admin) as reader:
            assert (await reader.until("hello"))["role"] == "standalone"
            assert (await reader.until("problems"))["problems"] == []
            await reader.until("traffic")
            file.write_text(good.replace("name: web, port", "name: wrong, port"))
            (problem,) = (await reader.until("problems"))["problems"]
            assert problem["code"] == "service_missing"
            assert problem["remedy"]
            file.write_text(good.replace("path: /,", "path: /cart,"))
            assert (await reader.until("problems"))["problems"] == []
            rows = json.loads((await get(admin, "/dashboard/routes"))[1])["routes"]
            assert [row[2] for row in rows] == ["/cart"]


@pytest.fixture
def boards(monkeypatch: pytest.MonkeyPatch) -> list[Board]:
    """What the proxies of a test show."""
    made: list[Board] = []

    def make(source: Source) -> Board:
        made.append(Board(source))
        return made[-1]

    monkeypatch.setattr(supervisor_module, "Board", make)
    return made


async def test_nobody_is_asked_for_figures_unless_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, boards: list[Board]
) -> None:
    monkeypatch.setattr(board_module, "_LINGER", 0.1)
    monkeypatch.setattr(gathering_module, "_EVERY", 3600.0)
    sent: Counter[type] = Counter()
    send = Channel.send

    def counting(self: Channel[object], message: object, *rest: object) -> None:
        sent[type(message)] += 1
        send(self, message, *rest)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(Channel, "send", counting)
    async with serve_web() as endpoint, running(settings(workers=2)) as proxy:
        await proxy.apply(table(endpoint.port, "/"))
        await ask(port_of(proxy), "/", 2)
        await get(proxy.admin_port, "/metrics")
        assert (sent[Look], sent[Report]) == (0, 4)  # Two workers, each once by itself and once for the page.
        async with looking(proxy.admin_port) as reader:
            await reader.until("traffic")
            assert sent[Look] >= 4
        await eventually(lambda: not boards[0]._tasks, what="nobody keeps up")
        looked = sent[Look]
        for _ in range(3):
            await get(proxy.admin_port, "/metrics")
        assert (sent[Look], sent[Report]) == (looked, 10)


async def test_who_reads_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch, boards: list[Board]) -> None:
    monkeypatch.setattr(pages_module, "_PATIENCE", 0.2)
    monkeypatch.setattr(board_module, "_CHURN", 0)
    many = [f"/{'long/' * 50}{number}" for number in range(3000)]
    async with serve_web() as endpoint, running(settings(workers=1)) as proxy:
        await proxy.apply(table(endpoint.port, "/"))
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", proxy.admin_port))
            await loop.sock_sendall(sock, b"GET /dashboard/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await loop.sock_recv(sock, 1000)
            (board,) = boards
            assert board._readers == 1
            async with asyncio.timeout(60):
                for number in count():
                    if not board._readers:
                        break
                    # Each is a megabyte for who follows: more than the kernel takes for somebody who reads nothing.
                    await proxy.apply(table(endpoint.port, *many, host=f"h{number}.example"))


async def test_more_readers_than_may_be_are_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "_MOST", 1)
    async with running(settings(workers=1)) as proxy, looking(proxy.admin_port) as reader:
        await reader.until("hello")
        assert await get(proxy.admin_port, "/dashboard/stream") == (503, "1 pages are open already\n")


async def test_a_proxy_that_ends_does_not_wait_for_its_readers() -> None:
    async with running(settings(workers=1)) as proxy, looking(proxy.admin_port) as reader:
        await reader.until("hello")
        async with asyncio.timeout(10):
            await proxy.close()
        await reader.response.content.read()  # Up to its end, which was told.


async def test_nothing_secret_is_in_any_of_it() -> None:
    pem = certificate("shop/tls", "shop.example")
    guarded = Route("/private", PathMatch.PREFIX, WEB, ORIGIN, Policy(basic=BasicAuth("shop/users", "Shop")))
    async with serve_web() as endpoint, running(settings(workers=1)) as proxy:
        plain = table(endpoint.port, "/")
        await proxy.apply(
            msgspec.structs.replace(
                plain,
                hosts=(Host("shop.example", (guarded, *plain.hosts[0].routes)),),
                certificates=(pem,),
                authorities=(ClientAuthority("shop/ca", ("shop.example",), b"authority's bytes"),),
                affinity_key=SharedKey(b"affinity bytes"),
                credentials=(Credentials("shop/users", (("ada", HASH),)),),
                keyrings=(Keyring("shop/keys@1", b"keyring's bytes", chain=pem.chain, key=pem.key),),
                default_certificate="shop/tls",
                problems=FULL.problems,
            )
        )
        async with connect(port_of(proxy)) as client:
            told = b"Cookie: session=crumbs\r\nAuthorization: Basic c2VjcmV0\r\n"
            client.writer.write(b"GET /private HTTP/1.1\r\nHost: shop.example\r\n" + told + b"\r\n")
            await client.take()
        async with looking(proxy.admin_port) as reader:
            seen = [json.dumps(await reader.next()) for _ in range(6)]
        seen += [(await get(proxy.admin_port, path))[1] for path in ("/dashboard/routes", "/upstreams?format=json")]
    everything = "\n".join(seen)
    assert "shop/users" in everything
    secrets = [HASH, KEY.decode(), "BEGIN", "affinity bytes", "authority's", "keyring's", "crumbs", "c2VjcmV0"]
    secrets += [line for line in pem.key.decode().splitlines() + pem.chain.decode().splitlines() if line]
    assert [secret for secret in secrets if secret in everything] == []


async def test_endpoints_are_told_with_what_is_open_at_all_workers() -> None:
    async with serve_web() as endpoint, running(settings(workers=2)) as proxy:
        await proxy.apply(table(endpoint.port, "/"))
        clients = [await Client.to(port_of(proxy)) for _ in range(8)]
        for client in clients:
            client.send("/slow")
        await eventually(lambda: endpoint.slow == 8, what="all requests are at the endpoint")
        (row,) = json.loads((await get(proxy.admin_port, f"/upstreams?name={WEB}&format=json"))[1])["endpoints"]
        assert (row["upstream"], row["address"], row["state"]) == (WEB, f"127.0.0.1:{endpoint.port}", "ready")
        assert (row["requests"], row["connections"], row["idle"]) == (8, 8, 0)
        assert (row["workers"], row["ready"], row["share"]) == (2, 2, 1.0)
        # An endpoint that leaves while requests are under way is told until they are done.
        await proxy.apply(msgspec.structs.replace(table(1, "/")))
        _, text = await get(proxy.admin_port, "/upstreams")
        assert text.splitlines() == [
            f"{WEB} 127.0.0.1:1 ready requests=0 connections=0 idle=0",
            f"{WEB} 127.0.0.1:{endpoint.port} draining share=0% requests=8 connections=8 idle=0",
        ]
        endpoint.release.set()
        for client in clients:
            assert (await client.take())[0] == 200
            await client.close()
        assert (await get(proxy.admin_port, "/upstreams"))[1].count("\n") == 1


async def test_an_endpoint_that_fails_is_told_as_ejected_with_when_it_is_asked_again() -> None:
    async with running(settings(workers=1)) as proxy:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # Bound and not listening: connections are refused.
            port = taken.getsockname()[1]
            async with serve_web() as endpoint:
                served = table(endpoint.port, "/")
                both = (Endpoint("127.0.0.1", endpoint.port), Endpoint("127.0.0.1", port))
                await proxy.apply(msgspec.structs.replace(served, upstreams=(Upstream(WEB, endpoints=both),)))
                async with looking(proxy.admin_port) as reader:
                    for _ in range(30):
                        await ask(port_of(proxy), "/", 1)
                    while (await reader.until("unwell"))["upstreams"] != [[WEB, 1, 0]]:
                        pass
                body = json.loads((await get(proxy.admin_port, "/upstreams?state=ejected&format=json"))[1])
                (row,) = body["endpoints"]
                assert row["address"] == f"127.0.0.1:{port}"
                assert row["retry"] > 0
                assert (row["ready"], row["share"]) == (0, 0.0)


async def test_a_layer_4_port_is_among_the_listeners() -> None:
    async with serve_web() as endpoint, running(settings(workers=1)) as proxy:
        served = msgspec.structs.replace(table(endpoint.port, "/"), listeners=())
        await proxy.apply(served)
        async with looking(proxy.admin_port) as reader:
            await reader.until("generation")
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = sock.getsockname()[1]
            await proxy.apply(msgspec.structs.replace(served, listeners=(Listener(port, WEB, ORIGIN),)))
            news = await reader.until("generation")
        assert news["listeners"] == [[f"tcp/{port}", WEB, str(ORIGIN)]]
