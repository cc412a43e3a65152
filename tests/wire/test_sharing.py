"""The HTTP and HTTPS ports shared: TLS that passes through by its name, and other protocols, with real workers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from certs import certificate, common_name, issue
from portway_proxy.l4.peek import GSS_REQUEST, SSL_REQUEST
from portway_proxy.proxy_protocol import Address, header_v1
from portway_proxy.snapshot import (
    Endpoint,
    Fallback,
    Origin,
    Passthrough,
    Protocol,
    Snapshot,
    Trust,
    Upstream,
)
from portway_proxy.supervisor import Supervisor
from tcp import End
from tcp import connect as connect_raw
from wire.parts import Web, connect, fetch, metrics, port_of, running, settings, snapshot

ORIGIN = Origin("Ingress", "shop", "db", "spec.rules[0]")
DB, MAIL = "shop/db:5432/tcp", "shop/mail:25/tcp"
WEB_CERTIFICATE = certificate("shop/web", "web.example")
GET = b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n"
GREETING = b"220 mail.example\r\n"


def opaque(name: str, port: int) -> Upstream:
    return Upstream(name, Protocol.OPAQUE, endpoints=(Endpoint("127.0.0.1", port),))


def sharing(web: Web, *, db: int = 0, names: tuple[str, ...] = (), mail: int = 0, wait: float = 1.0) -> Snapshot:
    """Return a snapshot that passes TLS for `names` through to `db`, and other protocols on to `mail`."""
    base = snapshot(web.port, certificates=[WEB_CERTIFICATE], default_certificate=WEB_CERTIFICATE.name)
    upstreams = [*base.upstreams, opaque(DB, db), opaque(MAIL, mail)]
    return msgspec.structs.replace(
        base,
        upstreams=tuple(sorted(upstreams, key=lambda some: some.name)),
        passthroughs=tuple(Passthrough(name, DB, ORIGIN) for name in sorted(names)),
        fallback=Fallback(MAIL, ORIGIN, wait) if mail else None,
    )


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings(head=5.0)) as supervisor:
        yield supervisor


@asynccontextmanager
async def serving(
    take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], contextlib.AbstractAsyncContextManager[None]],
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """Run a TCP endpoint, perhaps over TLS, that greets as `take` does and then echoes; yield its port."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            async with take(reader, writer):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            # In the first releases of Python 3.11 one that was closed twice cannot be aborted.
            if not writer.is_closing():
                writer.transport.abort()


@asynccontextmanager
async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def greeting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    writer.write(GREETING)
    yield


def endpoint_context(*hosts: str) -> ssl.SSLContext:
    chain, key = issue(*hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "pem")
        path.write_bytes(chain + key)
        context.load_cert_chain(path)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture
async def db() -> AsyncIterator[int]:
    async with serving(silent, endpoint_context("db.example")) as port:
        yield port


@pytest.fixture
async def mail() -> AsyncIterator[int]:
    async with serving(greeting) as port:
        yield port


@pytest.fixture
async def plain() -> AsyncIterator[int]:
    async with serving(silent) as port:
        yield port


def https_port(proxy: Supervisor) -> int:
    assert proxy.https_port is not None
    return proxy.https_port


async def shown(proxy: Supervisor, name: str | None) -> str:
    """Return whose certificate a TLS client gets that asks for `name`."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", https_port(proxy), ssl=client_context(), server_hostname=name or ""
    )
    found = common_name(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    writer.close()
    return found


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("db.example", "db.example"),
        ("DB.Example", "db.example"),
        ("a.wild.example", "db.example"),
        ("a.b.wild.example", "web.example"),
        ("wild.example", "web.example"),
        ("web.example", "web.example"),
        ("other.example", "web.example"),
        (None, "web.example"),
    ],
)
async def test_tls_passes_through_by_its_name_and_ends_here_for_all_others(
    proxy: Supervisor, web: Web, db: int, name: str | None, whose: str
) -> None:
    await proxy.apply(sharing(web, db=db, names=("db.example", "*.wild.example")))
    assert await shown(proxy, name) == whose


async def test_bytes_pass_unread_both_ways_and_are_counted_and_listed(proxy: Supervisor, web: Web, db: int) -> None:
    await proxy.apply(sharing(web, db=db, names=("db.example",)))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", https_port(proxy), ssl=client_context(), server_hostname="db.example"
    )
    data = bytes(range(256)) * 4096
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()

    async def ended() -> bool:
        return (await metrics(proxy)).get(("portway_relays_total", "https", "done"), 0) == 1

    deadline = asyncio.get_running_loop().time() + 20
    while not await ended():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    found = await metrics(proxy)
    assert found["portway_connections_total", "https"] == 1


@contextmanager
def resets_pass() -> Iterator[None]:
    with contextlib.suppress(ConnectionResetError):
        yield


class Handshake:
    """A TLS client whose bytes a test moves."""

    def __init__(self, name: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._in, self._out, server_hostname=name)

    def first(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._out.read()

    async def finish(self, end: End) -> str:
        """Go through the handshake and return whose certificate came."""
        while True:
            data = await end.receive()
            assert data, "the connection ended within the handshake"
            self._in.write(data)
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            finally:
                if out := self._out.read():
                    await end.send(out)
            return common_name(self._tls.getpeercert(binary_form=True))


def in_records(hello: bytes, size: int) -> bytes:
    """Return the ClientHello of one record in records of `size` bytes."""
    content = hello[5:]
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(hello[:3] + len(part).to_bytes(2) + part for part in parts)


@pytest.mark.parametrize("name", ["db.example", "web.example"])
@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_hello_in_many_segments_and_records_leads_to_the_same_place(
    proxy: Supervisor, web: Web, db: int, name: str, size: int
) -> None:
    await proxy.apply(sharing(web, db=db, names=("db.example",)))
    handshake = Handshake(name)
    hello = in_records(handshake.first(), max(size, 20))
    end = await connect_raw(https_port(proxy))
    with contextlib.closing(end):
        end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(hello), size):
            await end.send(hello[at : at + size])
        assert await handshake.finish(end) == name


async def test_a_hello_that_does_not_end_is_cut_off_and_costs_nobody_else_anything(web: Web, db: int) -> None:
    async with running(settings(head=0.5)) as proxy:
        await proxy.apply(sharing(web, db=db, names=("db.example",)))
        end = await connect_raw(https_port(proxy))
        with contextlib.closing(end):
            await end.send(Handshake("db.example").first()[:-1])
            assert await shown(proxy, "db.example") == "db.example"
            with resets_pass():
                assert await end.rest() == b""


@pytest.mark.parametrize("asked", [SSL_REQUEST, GSS_REQUEST + SSL_REQUEST])
async def test_a_client_of_postgresql_is_promised_tls_and_sent_where_its_name_leads(
    proxy: Supervisor, web: Web, asked: bytes
) -> None:
    requests: list[bytes] = []

    async def postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readexactly(8))
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(endpoint_context("db.example"))
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(postgres, "127.0.0.1", 0)
    await proxy.apply(sharing(web, db=server.sockets[0].getsockname()[1], names=("db.example",)))
    end = await connect_raw(https_port(proxy))
    with contextlib.closing(end):
        for at in range(0, len(asked), 8):
            await end.send(asked[at : at + 8])
            answer = b"S" if asked[at : at + 8] == SSL_REQUEST else b"N"
            assert await end.exactly(1) == answer
        handshake = Handshake("db.example")
        await end.send(handshake.first())
        assert await handshake.finish(end) == "db.example"
        assert requests == [SSL_REQUEST]
    server.close()


async def test_a_client_of_postgresql_whose_name_leads_nowhere_is_cut_off(proxy: Supervisor, web: Web, db: int) -> None:
    await proxy.apply(sharing(web, db=db, names=("db.example",)))
    end = await connect_raw(https_port(proxy))
    with contextlib.closing(end), resets_pass():
        await end.send(SSL_REQUEST)
        assert await end.exactly(1) == b"S"
        await end.send(Handshake("web.example").first())
        assert await end.rest() == b""


async def test_an_endpoint_that_refuses_tls_to_postgresql_ends_the_connection(proxy: Supervisor, web: Web) -> None:
    async def unwilling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(unwilling, "127.0.0.1", 0)
    await proxy.apply(sharing(web, db=server.sockets[0].getsockname()[1], names=("db.example",)))
    end = await connect_raw(https_port(proxy))
    with contextlib.closing(end), resets_pass():
        await end.send(SSL_REQUEST)
        assert await end.exactly(1) == b"S"
        await end.send(Handshake("db.example").first())
        assert await end.rest() == b""
    server.close()


async def test_a_proxy_header_comes_before_the_hello(proxy: Supervisor, web: Web, db: int) -> None:
    served = sharing(web, db=db, names=("db.example",))
    trust = Trust(("127.0.0.0/8",), proxy_protocol=True)
    await proxy.apply(msgspec.structs.replace(served, trust=trust))
    handshake = Handshake("db.example")
    end = await connect_raw(https_port(proxy))
    with contextlib.closing(end):
        await end.send(header_v1(Address("192.0.2.7", 4711), Address("198.51.100.1", 443)) + handshake.first())
        assert await handshake.finish(end) == "db.example"


# --- the HTTP port


@pytest.mark.parametrize("size", range(1, 7))
async def test_http_is_told_by_its_first_bytes_however_they_are_split(
    proxy: Supervisor, web: Web, mail: int, size: int
) -> None:
    await proxy.apply(sharing(web, mail=mail))
    end = await connect_raw(port_of(proxy))
    with contextlib.closing(end):
        end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await end.send(GET[:size])
        await end.delivered()
        await end.send(GET[size:])
        assert (await end.rest()).endswith(b"sent by web")


@pytest.mark.parametrize(
    "said", [b"PING\r\n", b"*1\r\n$4\r\nPING\r\n", b"SSH-2.0-x\r\n", b"\0\1\2\3", b"EHLO a\r\n", b"GETX / HTTP/1.1\r\n"]
)
@pytest.mark.parametrize("size", [1, 3, 100])
async def test_what_is_neither_http_nor_tls_goes_to_the_fallback_with_all_its_bytes(
    proxy: Supervisor, web: Web, plain: int, said: bytes, size: int
) -> None:
    await proxy.apply(sharing(web, mail=plain))
    end = await connect_raw(port_of(proxy))
    with contextlib.closing(end):
        end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(said), size):
            await end.send(said[at : at + size])
            await end.delivered()
        assert await end.exactly(len(said)) == said
        await end.send(b"more")
        end.finish()
        assert await end.rest() == b"more"


async def test_a_silent_client_is_greeted_by_the_fallback(proxy: Supervisor, web: Web, mail: int) -> None:
    await proxy.apply(sharing(web, mail=mail, wait=0.1))
    end = await connect_raw(port_of(proxy))
    with contextlib.closing(end):
        assert await end.exactly(len(GREETING)) == GREETING
        await end.send(b"QUIT")
        assert await end.exactly(4) == b"QUIT"


async def test_a_request_whose_beginning_is_slow_is_a_request_still(proxy: Supervisor, web: Web, mail: int) -> None:
    await proxy.apply(sharing(web, mail=mail, wait=0.1))
    slow, silent_one = await connect_raw(port_of(proxy)), await connect_raw(port_of(proxy))
    with contextlib.closing(slow), contextlib.closing(silent_one):
        await slow.send(GET[:2])
        assert await silent_one.exactly(len(GREETING)) == GREETING, "the time is over"
        await slow.send(GET[2:])
        assert (await slow.rest()).endswith(b"sent by web")


async def test_a_client_that_ends_before_it_said_anything_reaches_nobody(
    proxy: Supervisor, web: Web, mail: int
) -> None:
    await proxy.apply(sharing(web, mail=mail, wait=5.0))
    end = await connect_raw(port_of(proxy))
    with contextlib.closing(end):
        end.finish()
        assert await end.rest() == b""


async def test_tls_on_the_http_port_does_not_reach_the_fallback(proxy: Supervisor, web: Web, mail: int) -> None:
    await proxy.apply(sharing(web, mail=mail))
    end = await connect_raw(port_of(proxy))
    with contextlib.closing(end):
        await end.send(Handshake("web.example").first())
        end.finish()
        assert b"220" not in await end.rest()


async def test_without_a_fallback_nothing_waits(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(sharing(web))
    async with connect(port_of(proxy)) as client, asyncio.timeout(15):
        client.writer.write(b"PING\r\n\r\n")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_a_fallback_comes_and_goes_with_the_snapshot(proxy: Supervisor, web: Web, mail: int) -> None:
    for _ in range(3):
        await proxy.apply(sharing(web, mail=mail, wait=0.05))
        end = await connect_raw(port_of(proxy))
        with contextlib.closing(end):
            assert await end.exactly(len(GREETING)) == GREETING
        await proxy.apply(sharing(web))
        assert await fetch(port_of(proxy)) == "sent by web"


async def test_relays_of_shared_ports_end_with_the_drain_and_looks_too(web: Web, mail: int) -> None:
    async with running(settings(workers=1, drain=0.2, head=30.0)) as proxy:
        await proxy.apply(sharing(web, mail=mail, wait=0.05))
        relayed = await connect_raw(port_of(proxy))
        assert await relayed.exactly(len(GREETING)) == GREETING
        await proxy.apply(sharing(web, mail=mail, wait=30.0))
        looked_at = await connect_raw(port_of(proxy))
        with contextlib.closing(relayed), contextlib.closing(looked_at):
            proxy.stop()
            await proxy.run_until_stopped()
            for end in (relayed, looked_at):
                with resets_pass():
                    assert await end.rest() == b""
