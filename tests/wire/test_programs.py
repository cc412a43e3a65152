"""Programs that people run, through layer 4 ports of a whole proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import smtplib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from certs import certificate
from portway_proxy.proxy_protocol import read_header
from portway_proxy.snapshot import (
    Endpoint,
    Listener,
    ListenerPolicy,
    Origin,
    Passthrough,
    Protocol,
    ProxyVersion,
    Snapshot,
    Transport,
    Upstream,
)
from portway_proxy.supervisor import Supervisor
from wire.parts import free_port, running, settings
from wire.programs import needed, output, postgres, running_program, tcp_answers

ORIGIN = Origin("Service", "shop", "app")


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        yield supervisor


async def opened(proxy: Supervisor, target: int, *transports: Transport, policy: ListenerPolicy | None = None) -> int:
    """Have the proxy pass a port through to `target`, and return it."""
    port = free_port()
    transports = transports or (Transport.TCP,)
    endpoints = (Endpoint("127.0.0.1", target),)
    await proxy.apply(
        Snapshot(
            upstreams=tuple(Upstream(f"shop/app:1/{one}", Protocol.OPAQUE, endpoints=endpoints) for one in transports),
            listeners=tuple(Listener(port, f"shop/app:1/{one}", ORIGIN, one, policy=policy) for one in transports),
        )
    )
    return port


@pytest.mark.parametrize("mode", ["disable", "require"])
async def test_psql_speaks_to_postgresql_plain_and_by_tls(proxy: Supervisor, tmp_path: Path, mode: str) -> None:
    [psql] = needed("psql")
    pair = certificate("shop/db", "db.example")
    async with postgres(tmp_path, (pair.chain, pair.key)) as target:
        port = await opened(proxy, target)
        place = f"host=127.0.0.1 port={port} user=portway dbname=postgres sslmode={mode}"
        ask = (psql, "-X", "-A", "-t", place, "-c")
        printed = await output(*ask, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert printed.strip() == ("t" if mode == "require" else "f")
        many = "select repeat('x', 1000) from generate_series(1, 20000)"
        assert len((await output(*ask, many)).splitlines()) == 20000
        rows = "".join(f"{number}\t{'y' * 500}\n" for number in range(20000)).encode()
        await output(*ask, "create table t (n int, s text)")
        assert "COPY 20000" in await output(psql, "-X", place, "-c", "copy t from stdin", given=rows)
        assert (await output(*ask, "select count(*) from t")).strip() == "20000"


async def test_psql_finds_its_database_by_name_on_the_https_port(proxy: Supervisor, tmp_path: Path) -> None:
    [psql] = needed("psql")
    pair = certificate("shop/db", "db.example")
    async with postgres(tmp_path, (pair.chain, pair.key)) as target:
        upstream = Upstream("shop/db:5432/tcp", Protocol.OPAQUE, endpoints=(Endpoint("127.0.0.1", target),))
        await proxy.apply(
            Snapshot(upstreams=(upstream,), passthroughs=(Passthrough("db.example", upstream.name, ORIGIN),))
        )
        authority = tmp_path / "authority.crt"
        authority.write_bytes(pair.chain)
        where = f"host=db.example hostaddr=127.0.0.1 port={proxy.https_port} user=portway dbname=postgres"
        ask = (psql, "-X", "-A", "-t", f"{where} sslmode=verify-full sslrootcert={authority}", "-c")
        # Its certificate is the database's own: verified to the end of the way.
        assert (await output(*ask, "select ssl from pg_stat_ssl where pid = pg_backend_pid()")).strip() == "t"
        many = "select repeat('x', 1000) from generate_series(1, 20000)"
        assert len((await output(*ask, many)).splitlines()) == 20000


async def test_redis_cli_pipes_a_hundred_thousand_commands(proxy: Supervisor, tmp_path: Path) -> None:
    server, cli = needed("redis-server", "redis-cli")
    target = free_port()
    options = ("--port", str(target), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp")
    async with running_program(server, *options):
        await tcp_answers(target)
        port = str(await opened(proxy, target))
        commands = b"".join(b"SET key:%d value:%d\r\n" % (number, number) for number in range(100_000))
        printed = await output(cli, "-p", port, "--pipe", given=commands)
        assert "errors: 0, replies: 100000" in printed
        assert (await output(cli, "-p", port, "GET", "key:99999")).strip() == "value:99999"
        assert (await output(cli, "-p", port, "DBSIZE")).strip().endswith("100000")


async def test_iperf3_moves_what_it_says_both_ways_and_over_udp(proxy: Supervisor) -> None:
    [iperf3] = needed("iperf3")
    target = free_port()
    async with running_program(iperf3, "-s", "-p", str(target), "-B", "127.0.0.1"):
        await tcp_answers(target)
        port = await opened(proxy, target, Transport.TCP, Transport.UDP)
        for direction in ((), ("-R",)):
            command = (iperf3, "-J", "-c", "127.0.0.1", "-p", str(port), "-n", "256M", "-P", "4", *direction)
            report = await _until_free(command)
            # Who receives hears of the end before the last bytes, with or without a proxy.
            assert report["end"]["sum_received"]["bytes"] >= 128 << 20
        command = (iperf3, "-J", "-u", "-b", "20M", "-l", "1200", "-c", "127.0.0.1", "-p", str(port), "-t", "1")
        found = (await _until_free(command))["end"]["sum"]
        assert found["packets"] > 1000
        # Machines that are busy lose datagrams; a proxy that mixes them up loses most.
        assert found["lost_percent"] < 50


async def _until_free(command: tuple[str, ...]) -> dict[str, dict[str, dict[str, float]]]:
    """Return iperf3's report; a server that has not heard of the end of another test says that it is busy."""
    for _ in range(20):
        with contextlib.suppress(AssertionError):
            found: dict[str, dict[str, dict[str, float]]] = json.loads(await output(*command))
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(await output(*command))


async def test_dig_asks_dnsmasq_over_udp_and_over_tcp(proxy: Supervisor) -> None:
    dnsmasq, dig = needed("dnsmasq", "dig")
    target = free_port()
    long = [f"--txt-record=long.shop.example,{'x' * 250}" for _ in range(8)]
    options = ("--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1", "--conf-file=/dev/null")
    names = ("--address=/shop.example/192.0.2.7", *long)
    async with running_program(dnsmasq, "--keep-in-foreground", f"--port={target}", *options, *names):
        await tcp_answers(target)
        port = await opened(proxy, target, Transport.TCP, Transport.UDP)
        place = (dig, "@127.0.0.1", "-p", str(port), "+tries=5", "+time=2")
        for way in ("+notcp", "+tcp"):
            for name in ("shop.example", "www.shop.example"):
                assert (await output(*place, way, "+short", name)).strip() == "192.0.2.7"
        # Cut over UDP, so that dig asks again over TCP: both ports lead to one server.
        printed = await output(*place, "+bufsize=512", "long.shop.example", "TXT")
        assert "Truncated, retrying in TCP" in printed
        assert printed.count("x" * 250) == 8
        asked = [output(*place, "+notcp", "+short", f"{number}.shop.example") for number in range(20)]
        assert {answer.strip() for answer in await asyncio.gather(*asked)} == {"192.0.2.7"}


class Mail(asyncio.Protocol):
    """An SMTP server: it speaks first. With a PROXY header it greets whom that names."""

    def __init__(self, *, told: bool) -> None:
        self._told = told
        self._data = b""
        self._body = False
        self.mail: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if not self._told:
            self._say("220 mail.example ESMTP")

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._told:
            header = read_header(self._data)
            if header is None:
                return
            self._told = False
            self._data = self._data[header.size :]
            assert header.source is not None
            self._say(f"220 mail.example greets {header.source.host}")
        while b"\r\n" in self._data:
            line, _, self._data = self._data.partition(b"\r\n")
            self._take(line)

    def _take(self, line: bytes) -> None:
        if self._body:
            self._body = line != b"."
            if not self._body:
                self._say("250 taken")
            return
        verb = line[:4].upper()
        self._body = verb == b"DATA"
        answers = {b"DATA": "354 go on", b"QUIT": "221 bye"}
        self._say(answers.get(verb, "250 mail.example"))
        if verb == b"QUIT":
            self.transport.close()

    def _say(self, line: str) -> None:
        self.transport.write(f"{line}\r\n".encode())


@pytest.mark.parametrize("version", [None, *ProxyVersion])
async def test_a_mail_server_that_speaks_first_is_heard_and_told_who_comes(
    proxy: Supervisor, version: ProxyVersion | None
) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Mail(told=version is not None), "127.0.0.1", 0)
    policy = None if version is None else ListenerPolicy(announce=version)
    port = await opened(proxy, server.sockets[0].getsockname()[1], policy=policy)

    def send() -> bytes:
        with smtplib.SMTP(timeout=15) as client:
            _, greeting = client.connect("127.0.0.1", port)
            client.sendmail("a@example.com", ["b@example.com"], "Subject: x\r\n\r\n" + "y" * 100_000)
        return greeting

    greeting = await asyncio.to_thread(send)
    assert greeting == (b"mail.example ESMTP" if version is None else b"mail.example greets 127.0.0.1")
    server.close()
    await server.wait_closed()
