"""TLS as real clients meet it: openssl and curl against real workers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from certs import certificate, issue, staple
from portway_proxy.snapshot import Certificate, Host, PathMatch, Policy, Route, Snapshot, TlsTerms
from portway_proxy.supervisor import Supervisor
from wire.parts import ORIGIN, WEB, Web, running, settings, snapshot

SHOP = certificate("shop/web", "shop.example")


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        yield supervisor


async def run(*command: str, stdin: bytes = b"") -> tuple[int, str]:
    """Return how a command ended, and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(errors="replace")


async def s_client(proxy: Supervisor, *options: str, name: str = "shop.example") -> str:
    """Return what `openssl s_client` says that asks for `name`, sends a request, and reads the answer."""
    request = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"
    where = ("-connect", f"127.0.0.1:{proxy.https_port}", *(("-servername", name) if name else ("-noservername",)))
    return (await run("openssl", "s_client", *where, "-ign_eof", *options, stdin=request))[1]


async def curl(proxy: Supervisor, url: str, *options: str) -> str:
    """Return the answer to a GET, with its head; the host of `url` leads to the proxy."""
    ports = [f"*:{port}:127.0.0.1:{real}" for port, real in ((80, proxy.http_port), (443, proxy.https_port))]
    connects = [word for port in ports for word in ("--connect-to", f"::127.0.0.1:{port.rpartition(':')[2]}")]
    where = connects[2:] if url.startswith("https") else connects[:2]
    _, said = await run("curl", "-sSik", "--max-time", "20", *where, *options, url)
    return said


def secured(
    web: Web, terms: TlsTerms | None = None, *certificates: Certificate, policy: Policy | None = None
) -> Snapshot:
    """Return a snapshot in which `shop.example` leads to `web`."""
    routes = (Route("/", PathMatch.PREFIX, WEB, ORIGIN, policy),)
    made = snapshot(web.port, certificates=certificates or [SHOP])
    return msgspec.structs.replace(made, hosts=(*made.hosts, Host("shop.example", routes)), tls=terms)


def fields(answer: str, name: str) -> list[str]:
    head = answer.replace("\r\n", "\n").partition("\n\n")[0]
    return re.findall(rf"(?im)^{name}: (.*)$", head)


async def test_one_host_shows_rsa_and_ecdsa_by_what_the_client_can_use(proxy: Supervisor, web: Web) -> None:
    chain, key = issue("shop.example", rsa=True)
    await proxy.apply(secured(web, None, SHOP, Certificate("shop/rsa", ("shop.example",), chain, key, 0)))
    assert "Peer signature type: ECDSA" in await s_client(proxy, "-sigalgs", "ECDSA+SHA256")
    assert "Peer signature type: RSA-PSS" in await s_client(proxy, "-sigalgs", "rsa_pss_rsae_sha256")
    assert "Peer signature type: RSA" in await s_client(proxy, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")


async def test_a_host_has_ciphers_of_its_own(proxy: Supervisor, web: Web) -> None:
    strong, weaker = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"
    await proxy.apply(secured(web, TlsTerms(host_ciphers=(("shop.example", strong),))))
    assert f"Cipher is {strong}" in await s_client(proxy, "-tls1_2")
    assert "sent by web" not in await s_client(proxy, "-tls1_2", "-cipher", weaker)
    assert f"Cipher is {weaker}" in await s_client(proxy, "-tls1_2", "-cipher", weaker, name="other.example")
    await proxy.apply(secured(web, TlsTerms(ciphers=strong)))
    assert "sent by web" not in await s_client(proxy, "-tls1_2", "-cipher", weaker)
    assert "sent by web" in await s_client(proxy, "-tls1_2")


def stapled(one: Certificate, seconds: float = 3600.0) -> Certificate:
    until = int(time.time() + seconds)
    return msgspec.structs.replace(one, staple=staple(one.chain, one.key), staple_until=until)


def serial_of(one: Certificate) -> str:
    number = x509.load_pem_x509_certificate(one.chain).serial_number
    return f"Serial Number: {number.to_bytes((number.bit_length() + 7) // 8).hex().upper()}"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_the_response_of_an_authority_is_stapled_to_the_certificate_that_it_is_about(
    proxy: Supervisor, web: Web, version: str
) -> None:
    chain, key = issue("shop.example", rsa=True)
    rsa = Certificate("shop/rsa", ("shop.example",), chain, key, 0)
    await proxy.apply(secured(web, None, stapled(SHOP), stapled(rsa)))
    for one, algorithm in ((SHOP, "ECDSA+SHA256"), (rsa, "RSA+SHA256:rsa_pss_rsae_sha256")):
        for _ in range(3):
            said = await s_client(proxy, version, "-status", "-sigalgs", algorithm)
            assert "OCSP Response Status: successful" in said
            assert serial_of(one) in said
            assert "sent by web" in said
    # Nobody is told who does not ask, and for other certificates there is nothing to tell.
    assert "OCSP Response" not in await s_client(proxy, version)
    assert "OCSP response: no response sent" in await s_client(proxy, version, "-status", name="nobody.example")
    await proxy.apply(secured(web, None, SHOP, stapled(rsa, -1)))
    for algorithm in ("ECDSA+SHA256", "RSA+SHA256:rsa_pss_rsae_sha256"):
        said = await s_client(proxy, version, "-status", "-sigalgs", algorithm)
        assert "OCSP response: no response sent" in said
        assert "sent by web" in said
    await proxy.apply(secured(web, None, stapled(SHOP)))
    assert serial_of(SHOP) in await s_client(proxy, version, "-status")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_session_goes_on_at_every_worker_until_the_ticket_key_changes(
    proxy: Supervisor, web: Web, tmp_path: Path, version: str
) -> None:
    await proxy.apply(secured(web))
    session = str(tmp_path / "session")
    assert "New, TLSv1" in await s_client(proxy, version, "-sess_out", session)
    for _ in range(8):
        said = await s_client(proxy, version, "-sess_in", session)
        assert "Reused, TLSv1" in said
        assert "sent by web" in said
    proxy._configure = msgspec.structs.replace(proxy._configure, ticket_key=b"n" * 80)
    proxy._crew.rekey(proxy._configure)
    for _ in range(4):
        said = await s_client(proxy, version, "-sess_in", session)
        assert "New, TLSv1" in said
        assert "sent by web" in said


async def test_ticket_keys_change_by_themselves(web: Web, tmp_path: Path) -> None:
    proxy = Supervisor(settings())
    proxy._ticket_age = 0.2
    session = str(tmp_path / "session")
    try:
        await proxy.start()
        await proxy.apply(secured(web))
        await s_client(proxy, "-sess_out", session)
        async with asyncio.timeout(20):
            while "Reused" in await s_client(proxy, "-sess_in", session):
                pass
    finally:
        await proxy.close()


async def test_without_tickets_no_session_goes_on(proxy: Supervisor, web: Web, tmp_path: Path) -> None:
    await proxy.apply(secured(web, TlsTerms(tickets=False)))
    said = await s_client(proxy, "-tls1_3", "-sess_out", str(tmp_path / "session"))
    assert "sent by web" in said
    assert not (tmp_path / "session").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop.example", "shop.example"),
        ("sHoP.eXaMpLe.", "shop.example"),
        ("a.shop.example.", "*.shop.example"),
        ("A.SHOP.EXAMPLE", "*.shop.example"),
        ("a.b.shop.example", "default.example"),
        ("example", "default.example"),
        ("192.0.2.1", "default.example"),
        ("xn--bcher-kva.shop.example", "*.shop.example"),
        ("", "default.example"),
    ],
)
async def test_a_name_gets_its_certificate_however_it_is_written(
    proxy: Supervisor, web: Web, name: str, expected: str
) -> None:
    wild, default = certificate("shop/wild", "*.shop.example"), certificate("a/default", "default.example")
    chosen = secured(web, None, default, SHOP, wild)
    await proxy.apply(msgspec.structs.replace(chosen, default_certificate="a/default"))
    assert f"subject=CN = {expected}\n" in await s_client(proxy, name=name)


async def test_a_name_of_nobody_is_refused_with_the_right_alert_on_request(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(secured(web, TlsTerms(reject_unknown=True)))
    assert "unrecognized name" in await s_client(proxy, name="nobody.example")
    assert "unrecognized name" in await s_client(proxy, name="")
    assert "sent by web" in await s_client(proxy)
    await proxy.apply(secured(web))
    assert "sent by web" in await s_client(proxy, name="nobody.example")


async def test_old_versions_and_renegotiation_are_refused(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(secured(web))
    for old in ("-tls1", "-tls1_1"):
        assert "alert protocol version" in await s_client(proxy, old, "-cipher", "DEFAULT:@SECLEVEL=0")
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.https_port}", "-tls1_2"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdin is not None
    process.stdin.write(b"R\n")  # To s_client: renegotiate.
    await process.stdin.drain()
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.read(), 20)
    await process.wait()
    assert b"no renegotiation" in said


async def test_a_host_with_a_certificate_tells_browsers_to_stay_with_tls(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(secured(web))
    usual = ["max-age=31536000; includeSubDomains"]
    assert fields(await curl(proxy, "https://shop.example/"), "strict-transport-security") == usual
    assert fields(await curl(proxy, "https://shop.example/%00"), "strict-transport-security") == usual
    assert fields(await curl(proxy, "http://shop.example/"), "strict-transport-security") == []
    assert fields(await curl(proxy, "https://other.example/"), "strict-transport-security") == []
    await proxy.apply(secured(web, TlsTerms(hsts="max-age=5; preload")))
    assert fields(await curl(proxy, "https://shop.example/"), "strict-transport-security") == ["max-age=5; preload"]
    await proxy.apply(secured(web, TlsTerms(hsts="")))
    assert fields(await curl(proxy, "https://shop.example/"), "strict-transport-security") == []


async def test_requests_without_tls_are_sent_to_https_but_for_those_of_an_authority(
    proxy: Supervisor, web: Web
) -> None:
    policy = Policy(https_redirect=True)
    await proxy.apply(secured(web, policy=policy))
    said = await curl(proxy, "http://shop.example/a?b=c")
    assert said.startswith("HTTP/1.1 308 ")
    assert fields(said, "location") == [f"https://shop.example:{proxy.https_port}/a?b=c"]
    for path, passes in (
        ("/.well-known/acme-challenge/token", True),
        ("/.well-known/acme-challenge", True),
        ("/.well-known/acme-challenges", False),
        ("/a/../.well-known/acme-challenge/token", True),
        ("/.well-known/acme-challenge/../secret", False),
    ):
        said = await curl(proxy, f"http://shop.example{path}", "--path-as-is")
        assert said.startswith("HTTP/1.1 200 " if passes else "HTTP/1.1 308 "), path
    await proxy.apply(secured(web, TlsTerms(redirect=301, plain_paths=("/open",)), policy=policy))
    assert (await curl(proxy, "http://shop.example/.well-known/acme-challenge/x")).startswith("HTTP/1.1 301 ")
    assert (await curl(proxy, "http://shop.example/open/x")).startswith("HTTP/1.1 200 ")


async def counted(proxy: Supervisor, name: str, reason: str) -> float:
    """Return what was counted for this reason."""
    samples = await proxy.collect()
    return sum(sample.value for sample in samples if sample.name == name and sample.labels == (reason,))


async def talk(port: int | None, data: bytes) -> bytes:
    """Return what comes back for `data`, until the other side hangs up; ours stays open meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    said = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return said


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "CONNECT"])
async def test_a_plain_request_to_the_tls_port_gets_a_readable_400(proxy: Supervisor, web: Web, method: str) -> None:
    await proxy.apply(secured(web))
    said = await talk(proxy.https_port, f"{method} / HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert said.endswith(b"\r\n\r\n400 The plain HTTP request was sent to HTTPS port\n")
    assert await counted(proxy, "portway_connections_refused_total", "plain_http") == 1
    curled = (await run("curl", "-sS", f"http://127.0.0.1:{proxy.https_port}/"))[1]
    assert curled == "400 The plain HTTP request was sent to HTTPS port\n"


async def test_tls_to_the_plain_port_is_refused_at_once_and_says_so(proxy: Supervisor, web: Web) -> None:
    await proxy.apply(secured(web))
    for hello in (b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)):
        assert (await talk(proxy.http_port, hello)).startswith(b"HTTP/1.1 400 ")
    said = (await run("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.http_port}"))[1]
    assert "wrong version number" in said
    assert await counted(proxy, "portway_replies_total", "tls_to_plain_port") == 3


async def test_a_handshake_that_does_not_go_on_ends_in_time(web: Web) -> None:
    async with running(settings(head=1.0)) as proxy:
        await proxy.apply(secured(web))
        assert await talk(proxy.https_port, b"\x16\x03\x01") == b""
        assert await talk(proxy.https_port, b"") == b""
        assert "sent by web" in await s_client(proxy)


async def test_a_handshake_that_comes_drop_by_drop_is_cut_off(web: Web) -> None:
    async with running(settings(head=1.0)) as proxy:
        await proxy.apply(secured(web))
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.https_port)
        hello = hello_with(300)
        for sent in range(len(hello)):
            writer.write(hello[sent : sent + 1])
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    assert await reader.read() == b""
                    break
        else:
            raise AssertionError("all of it was read")
        writer.close()


def hello_with(size: int) -> bytes:
    """Return a ClientHello of TLS 1.2 with a padding extension that makes it as long as asked for."""
    padding = b"\x00\x15" + (size & 0xFFFF).to_bytes(2) + bytes(size & 0xFFFF)
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\xc0\x2b" + b"\x01\x00" + len(padding).to_bytes(2) + padding
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2) + part
        for part in (message[at : at + 16384] for at in range(0, len(message), 16384))
    )


@pytest.mark.parametrize(
    "first",
    [
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(200_000),
        hello_with(60_000),
        b"\x80\x2e\x01\x03\x01" + bytes(64),
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x10" + bytes(16),
        bytes(range(256)) * 300,
    ],
    ids=["a long record", "a long handshake", "a long hello", "SSL 2", "an alert", "data", "noise"],
)
async def test_bad_handshakes_end_at_once_and_others_do_not_notice(
    proxy: Supervisor, web: Web, first: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    await proxy.apply(secured(web))
    for _ in range(3):
        with suppress(ConnectionResetError):
            await talk(proxy.https_port, first)
    assert "sent by web" in await s_client(proxy)
    assert "Traceback" not in capfd.readouterr().err
