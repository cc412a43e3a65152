"""TLS handshakes with real workers: which certificate a name gets, and what hostile clients cause."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import pytest

from certs import certificate, common_name
from eventually import eventually
from portway_proxy.channel import store
from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Certificate, ClientAuthority, Host, PathMatch, Route
from portway_proxy.supervisor import Supervisor
from wire.parts import ORIGIN, Web, pids, running, settings, snapshot

SHOP = certificate("shop/web", "shop.example")
WILD = certificate("shop/wild", "*.shop.example")
OTHER = certificate("other/web", "other.example")


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        yield supervisor


async def ask(proxy: Supervisor, name: str) -> tuple[str, bytes]:
    """Return whose certificate a client gets that asks for `name` (empty: no name), and the response to its GET."""
    async with asyncio.timeout(15):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", proxy.https_port, ssl=trusting(), server_hostname=name
        )
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
        response = await reader.read()
        writer.close()
        await writer.wait_closed()
    return common_name(shown), response


async def served(proxy: Supervisor, name: str) -> str:
    """Return whose certificate `name` gets; asked often enough for every worker to have answered."""
    answers = [await ask(proxy, name) for _ in range(8)]
    assert all(b"sent by web" in response for _, response in answers)
    names = {shown for shown, _ in answers}
    assert len(names) == 1
    return names.pop()


async def shown(proxy: Supervisor, name: str) -> bytes:
    """Return the certificate (PEM) that `name` gets at whichever worker answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.https_port, ssl=trusting(), server_hostname=name)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    with suppress(ConnectionError):
        await reader.read()
    return ssl.DER_cert_to_PEM_cert(found).encode()


async def test_each_name_gets_its_certificate_on_every_worker(proxy: Supervisor, web: Web) -> None:
    chosen = snapshot(web.port, certificates=[SHOP, WILD, OTHER], default_certificate="other/web")
    await proxy.apply(chosen)
    assert await served(proxy, "shop.example") == "shop.example"
    assert await served(proxy, "SHOP.example") == "shop.example"
    assert await served(proxy, "www.shop.example") == "*.shop.example"
    assert await served(proxy, "a.b.shop.example") == "other.example"
    assert await served(proxy, "") == "other.example"


async def test_without_a_default_all_workers_show_the_same_self_signed_certificate(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port, certificates=[SHOP]))
    assert await served(proxy, "unknown.example") == "Portway default certificate"


async def test_a_certificate_appears_changes_and_goes_while_connections_stay(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    assert await served(proxy, "shop.example") == "Portway default certificate"
    await proxy.apply(snapshot(web.port, certificates=[SHOP]))
    assert await served(proxy, "shop.example") == "shop.example"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", proxy.https_port, ssl=trusting(), server_hostname="shop.example"
    )
    await proxy.apply(snapshot(web.port))
    assert await served(proxy, "shop.example") == "Portway default certificate"
    writer.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    assert b"sent by web" in await asyncio.wait_for(reader.read(), 15)
    writer.close()
    await writer.wait_closed()


async def test_of_ten_thousand_certificates_workers_are_sent_what_is_new_and_all_if_that_is_unknown(
    proxy: Supervisor, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def noting(data: bytes) -> int:
        sent.append(data)
        return store(data)

    for module in ("crew", "supervisor"):  # What all workers are sent, and what one that begins is.
        monkeypatch.setattr(f"portway_proxy.{module}.store", noting)
    many = [Certificate(f"many/{number}", (f"h{number}.example",), SHOP.chain, SHOP.key, 0) for number in range(9999)]
    await proxy.apply(snapshot(web.port, certificates=[*many, SHOP]))
    assert sent.pop().count(SHOP.key) == 10_000
    assert await served(proxy, "h7.example") == "shop.example"
    many[8] = msgspec.structs.replace(many[8], chain=OTHER.chain, key=OTHER.key)
    await proxy.apply(snapshot(web.port, certificates=[*many, SHOP]))
    [data] = sent
    assert (data.count(SHOP.key), data.count(OTHER.key)) == (0, 1)
    names = [await served(proxy, name) for name in ("h7.example", "h8.example", "h9.example", "shop.example")]
    assert names == ["shop.example", "other.example", "shop.example", "shop.example"]
    # A worker that begins now has none of them.
    sent.clear()
    before = pids(proxy)
    os.kill(before[0], signal.SIGKILL)
    await eventually(lambda: len(pids(proxy)) == 2 and pids(proxy) != before, what="another worker serves")
    assert sent[0].count(SHOP.key) == 9999
    assert await served(proxy, "h9.example") == "shop.example"


async def test_after_a_snapshot_that_not_all_workers_can_serve_certificates_are_as_before(
    proxy: Supervisor, web: Web
) -> None:
    await proxy.apply(snapshot(web.port, certificates=[SHOP]))
    lost = Route("/", PathMatch.PREFIX, "shop/none:80", ORIGIN)
    bad = snapshot(web.port, certificates=[certificate("shop/web", "shop.example")])
    with pytest.raises(BadSnapshot):
        await proxy.apply(msgspec.structs.replace(bad, hosts=(Host("", (lost,)),)))
    assert await shown(proxy, "shop.example") == SHOP.chain
    await proxy.apply(snapshot(web.port, certificates=[SHOP, OTHER]))
    assert await shown(proxy, "shop.example") == SHOP.chain


async def test_a_certificate_that_does_not_load_costs_its_own_names_only(
    capfd: pytest.CaptureFixture[str], web: Web
) -> None:
    broken = Certificate("bad/one", ("bad.example",), SHOP.chain, OTHER.key, 0)
    async with running(settings()) as proxy:
        await proxy.apply(snapshot(web.port, certificates=[broken, SHOP]))
        assert await served(proxy, "bad.example") == "Portway default certificate"
        assert await served(proxy, "shop.example") == "shop.example"
    err = capfd.readouterr().err
    assert "error portway_proxy.tls certificate bad/one does not load" in err
    assert "Traceback" not in err
    assert "PRIVATE KEY" not in err


async def test_redirects_and_forwarded_fields_know_that_the_client_used_tls(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(snapshot(web.port))
    _, response = await ask(proxy, "shop.example")
    assert response.startswith(b"HTTP/1.1 200 ")


def client_hello(name: str) -> bytes:
    """Return the first flight of a TLS client that asks for `name`."""
    out = ssl.MemoryBIO()
    connection = trusting().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return out.read()


@pytest.mark.parametrize("asking", [False, True], ids=["", "asking some"])
@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\0" * 600,
        client_hello("aaaaaaaa.example").replace(b"aaaaaaaa", b"\xff\xfe\xc0\x80\xe2\x84\xaa\x01"),
        client_hello("aaaaaaaa.example").replace(b"aaaaaaaa", b"aaaa\0aaa"),
        client_hello("aaaaaaaa.example").replace(b"aaaaaaaa", b"xn--aaa."),
        client_hello("aaaaaaaa.example")[:40],
    ],
    ids=["plain http", "bad record", "zeros", "name of odd bytes", "name with NUL", "odd name", "half a hello"],
)
async def test_a_hostile_handshake_ends_alone_and_without_a_traceback(
    capfd: pytest.CaptureFixture[str], web: Web, first: bytes, asking: bool
) -> None:
    async with running(settings()) as proxy:
        # Where some are asked for certificates, we read names ourselves before OpenSSL does.
        authorities = (ClientAuthority("shop/ca", ("asked.example",), SHOP.chain),) if asking else ()
        chosen = snapshot(web.port, certificates=[SHOP])
        await proxy.apply(msgspec.structs.replace(chosen, authorities=authorities))
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.https_port)
            writer.write(first)
            writer.write_eof()
            with suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 15)
            writer.close()
        assert await served(proxy, "shop.example") == "shop.example"
    assert "Traceback" not in capfd.readouterr().err
