"""Clients that show certificates: openssl and curl against real workers."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs import certificate
from portway_proxy.snapshot import (
    ClientAuthority,
    ClientCertificate,
    Host,
    PathMatch,
    Policy,
    Route,
    Snapshot,
    Verification,
)
from portway_proxy.supervisor import Supervisor
from wire.parts import ORIGIN, WEB, running, settings, snapshot

BASE = datetime.datetime.now(datetime.UTC)


@dataclass
class Issuer:
    """A certificate that may issue others."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    pem: bytes

    def issue(self, folder: Path, name: str, *, days: int = 30, serial: int = 0, ca: bool = False) -> Issuer:
        """Write a certificate and its key to `name.pem`."""
        return made(folder, name, self, days=days, serial=serial, ca=ca)

    def revoked(self, *serials: int) -> bytes:
        """Return the list of these revoked certificates."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(BASE - datetime.timedelta(days=1))
        builder = builder.next_update(BASE + datetime.timedelta(days=30))
        for serial in serials:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(BASE).build()
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def made(
    folder: Path, name: str, issuer: Issuer | None = None, *, days: int = 30, serial: int = 0, ca: bool = True
) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [(x509.NameOID.ORGANIZATION_NAME, "Shop, Inc"), (x509.NameOID.COMMON_NAME, name)]
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
    done = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.name)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(BASE - datetime.timedelta(days=10))
        .not_valid_after(BASE + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key if issuer is None else issuer.key, hashes.SHA256())
    )
    pem = done.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(pem + (b"" if issuer is None else issuer.pem) + secret)
    return Issuer(subject, key, pem)


class Echo:
    """An endpoint that answers with the fields about certificates that it got."""

    def __init__(self) -> None:
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        told = b"\n".join(line for line in head.split(b"\r\n") if line.lower().startswith(b"ssl-client"))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
        await writer.drain()
        writer.close()


@pytest.fixture
async def web() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.answer, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    async with server:
        yield echo


@pytest.fixture
async def proxy() -> AsyncIterator[Supervisor]:
    async with running(settings()) as supervisor:
        yield supervisor


@pytest.fixture
def ca(tmp_path: Path) -> Issuer:
    return made(tmp_path, "authority")


def asking(
    web: Echo, ca: Issuer, asked: ClientCertificate | None = None, crl: bytes = b"", redirect: bool = False
) -> Snapshot:
    """Return a snapshot in which `shop.example` asks for certificates, and `open.example` does not."""
    asked = asked or ClientCertificate("shop/ca")
    authority = ClientAuthority(asked.authority, ("shop.example",), ca.pem, crl)
    one = Route("/", PathMatch.PREFIX, WEB, ORIGIN, Policy(certificate=asked, https_redirect=redirect))
    hosts = (Host("open.example", (Route("/", PathMatch.PREFIX, WEB, ORIGIN),)), Host("shop.example", (one,)))
    base = snapshot(web.port, certificates=[certificate("shop/web", "*.example", "shop.example", "open.example")])
    return msgspec.structs.replace(base, hosts=hosts, authorities=(authority,))


async def curl(proxy: Supervisor, url: str, *options: str, as_client: Path | None = None) -> tuple[int, str]:
    """Return the status and the body of the answer; status 0 is none."""
    real = proxy.https_port if url.startswith("https") else proxy.http_port
    command = ["curl", "-sk", "--max-time", "20", "--connect-to", f"::127.0.0.1:{real}", "-w", "\n%{http_code}"]
    command += [*options, *(() if as_client is None else ("--cert", str(as_client))), url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said = (await asyncio.wait_for(process.communicate(), 30))[0].decode()
    body, _, status = said.rpartition("\n")
    return int(status), body


SHOP = "https://shop.example/"


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_a_good_certificate_is_let_in_and_told_to_the_endpoint(
    proxy: Supervisor, web: Echo, ca: Issuer, tmp_path: Path, version: str
) -> None:
    alice = ca.issue(tmp_path, "alice")
    await proxy.apply(asking(web, ca))
    status, told = await curl(proxy, SHOP, version, "-H", "ssl-client-verify: forged", as_client=tmp_path / "alice.pem")
    assert (status, told.splitlines()) == (
        200,
        [
            "ssl-client-verify: SUCCESS",
            "ssl-client-subject-dn: CN=alice,O=Shop\\, Inc",
            "ssl-client-issuer-dn: CN=authority,O=Shop\\, Inc",
        ],
    )
    await proxy.apply(asking(web, ca, ClientCertificate("shop/ca", forwarded=True)))
    status, told = await curl(proxy, SHOP, as_client=tmp_path / "alice.pem")
    assert told.splitlines()[3] == f"ssl-client-cert: {quote(alice.pem.decode(), safe='')}"


@pytest.mark.parametrize(
    ("verification", "statuses"),
    [
        (Verification.ON, (400, 400, 400)),
        (Verification.OPTIONAL, (200, 400, 400)),
        (Verification.OPTIONAL_NO_CA, (200, 200, 400)),
    ],
)
async def test_who_is_let_in_with_nothing_a_strangers_and_an_expired_certificate(
    web: Echo, ca: Issuer, tmp_path: Path, verification: Verification, statuses: tuple[int, int, int]
) -> None:
    nothing, stranger, expired = statuses
    made(tmp_path, "evil").issue(tmp_path, "mallory")
    ca.issue(tmp_path, "old", days=-1)
    async with running(settings()) as proxy:
        await proxy.apply(asking(web, ca, ClientCertificate("shop/ca", verification)))
        status, told = await curl(proxy, SHOP)
        assert status == nothing
        if nothing == 200:
            assert told == "ssl-client-verify: NONE"
        status, told = await curl(proxy, SHOP, as_client=tmp_path / "mallory.pem")
        assert status == stranger
        if stranger == 200:
            assert told.startswith("ssl-client-verify: FAILED:self-signed certificate in certificate chain\n")
        assert (await curl(proxy, SHOP, as_client=tmp_path / "old.pem"))[0] == expired


async def test_what_a_client_says_of_its_certificate_itself_is_nowhere_believed(
    proxy: Supervisor, web: Echo, ca: Issuer
) -> None:
    await proxy.apply(asking(web, ca, ClientCertificate("shop/ca", Verification.OPTIONAL)))
    names = ("verify: SUCCESS", "subject-dn: CN=alice", "issuer-dn: CN=authority", "cert: forged")
    marks = ("ssl-client-", "SSL_CLIENT_", "Ssl.Client.")
    forged = [word for mark in marks for name in names for word in ("-H", mark + name)]
    assert await curl(proxy, "https://open.example/", *forged) == (200, "")
    assert await curl(proxy, "http://open.example/", *forged) == (200, "")
    assert await curl(proxy, SHOP, *forged) == (200, "ssl-client-verify: NONE")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_a_connection_for_another_host_is_misdirected(
    proxy: Supervisor, web: Echo, ca: Issuer, tmp_path: Path, version: str
) -> None:
    ca.issue(tmp_path, "alice")
    await proxy.apply(asking(web, ca))
    for pem in (None, tmp_path / "alice.pem"):
        said = await curl(proxy, "https://open.example/", version, "-H", "Host: shop.example", as_client=pem)
        assert said[0] == 421
    assert (await curl(proxy, "https://open.example/", version))[0] == 200
    assert (await curl(proxy, SHOP, version, "-H", "Host: open.example", as_client=tmp_path / "alice.pem"))[0] == 200


def usable(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options of s_client; those of a session that it got, if it got one."""
    return () if options[0] == "-sess_in" and not Path(options[1]).exists() else options


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_a_session_of_another_host_or_of_somebody_else_leads_nobody_in(
    proxy: Supervisor, web: Echo, ca: Issuer, tmp_path: Path, version: str
) -> None:
    ca.issue(tmp_path, "alice")
    await proxy.apply(asking(web, ca))
    session, other = str(tmp_path / "session"), str(tmp_path / "other")
    as_alice = ("-cert", str(tmp_path / "alice.pem"), "-key", str(tmp_path / "alice.pem"))
    for name, host, options, expected in (
        ("open.example", "open.example", ("-sess_out", session), b" 200 "),
        ("shop.example", "shop.example", ("-sess_in", session), b" 400 "),
        ("open.example", "shop.example", ("-sess_in", session), b" 421 "),
        ("shop.example", "shop.example", ("-sess_out", other, *as_alice), b" 200 "),
        ("open.example", "shop.example", ("-sess_in", other), b" 421 "),
    ):
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.https_port}", "-servername", name, "-ign_eof"),
            *(version, *usable(options)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        said = (await asyncio.wait_for(process.communicate(request), 30))[0]
        assert b"HTTP/1.1" + expected in said, (name, host)


async def test_revoked_certificates_and_long_chains_are_not_let_in(
    proxy: Supervisor, web: Echo, ca: Issuer, tmp_path: Path
) -> None:
    ca.issue(tmp_path, "alice", serial=1001)
    ca.issue(tmp_path, "revoked", serial=1002)
    middle = ca.issue(tmp_path, "middle", ca=True)
    middle.issue(tmp_path, "near")
    middle.issue(tmp_path, "lower", ca=True).issue(tmp_path, "far")
    pem = (tmp_path / "far.pem").read_bytes()
    (tmp_path / "far.pem").write_bytes(pem + middle.pem)
    await proxy.apply(asking(web, ca))
    for name, expected in (("alice", 200), ("revoked", 200), ("near", 200), ("far", 400)):
        assert (await curl(proxy, SHOP, as_client=tmp_path / f"{name}.pem"))[0] == expected, name
    await proxy.apply(asking(web, ca, ClientCertificate("shop/ca@2"), ca.revoked(1002)))
    assert (await curl(proxy, SHOP, as_client=tmp_path / "alice.pem"))[0] == 200
    assert (await curl(proxy, SHOP, as_client=tmp_path / "revoked.pem"))[0] == 400


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_a_name_that_does_not_fit_is_forbidden_and_an_error_page_takes_the_place_of_the_400(
    proxy: Supervisor, web: Echo, ca: Issuer, tmp_path: Path, version: str
) -> None:
    ca.issue(tmp_path, "alice")
    ca.issue(tmp_path, "bob")
    asked = ClientCertificate("shop/ca", subject="CN=ali.e", error_page="https://help.example/tls")
    await proxy.apply(asking(web, ca, asked))
    assert (await curl(proxy, SHOP, as_client=tmp_path / "alice.pem"))[0] == 200
    assert (await curl(proxy, SHOP, version, as_client=tmp_path / "bob.pem"))[0] == 403
    status, said = await curl(proxy, SHOP, version, "-i")
    assert status == 302
    assert "\r\nlocation: https://help.example/tls\r\n" in said.lower()


@pytest.mark.parametrize("redirect", [False, True])
async def test_nobody_gets_around_it_without_tls_but_an_authority_with_its_challenge(
    proxy: Supervisor, web: Echo, ca: Issuer, redirect: bool
) -> None:
    await proxy.apply(asking(web, ca, redirect=redirect))
    assert (await curl(proxy, "http://shop.example/"))[0] == (308 if redirect else 400)
    assert (await curl(proxy, "http://shop.example/.well-known/acme-challenge/x"))[0] == 200


async def test_an_authority_that_does_not_load_lets_nobody_in(proxy: Supervisor, web: Echo, ca: Issuer) -> None:
    ca.pem = b"garbage"
    await proxy.apply(asking(web, ca))
    assert (await curl(proxy, SHOP))[0] == 421
    assert (await curl(proxy, "https://open.example/"))[0] == 200
