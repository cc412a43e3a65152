"""A certificate that is replaced while it serves, from files too."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from eventually import eventually
from portway_operator.authority import Authority, Pair
from portway_operator.served_tls import CertificateFiles, ServedTls

AUTHORITY = Authority.create(datetime.now(UTC))


def pair(name: str) -> Pair:
    return AUTHORITY.issue((name, "127.0.0.1"), datetime.now(UTC))


@asynccontextmanager
async def serving(served: ServedTls) -> AsyncIterator[int]:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=served.front)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def shown(port: int, client: Pair | None = None, directory: Path | None = None) -> str:
    """Return the name on the certificate that a client gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=AUTHORITY.bundle.decode())
    if client is not None and directory is not None:
        context.load_cert_chain(*write(directory, client))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    try:
        if await reader.read() != b"hello":
            # Of a client certificate the server says only after the client believes to be done (RFC 8446, 4.6.2).
            raise ConnectionResetError
    finally:
        writer.close()
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)[0]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def write(directory: Path, found: Pair) -> tuple[Path, Path]:
    """Write a pair as cert-manager's mount does: whole files that take the old ones' places."""
    paths = directory / "tls.crt", directory / "tls.key"
    for path, data in zip(paths, (found.certificate, found.key), strict=True):
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)
    return paths


async def test_the_next_handshake_gets_the_new_certificate() -> None:
    served = ServedTls()
    served.serve(pair("first"))
    async with serving(served) as port:
        assert await shown(port) == "first"
        served.serve(pair("second"))
        assert await shown(port) == "second"


async def test_before_there_is_a_certificate_handshakes_fail_and_then_they_do_not() -> None:
    served = ServedTls()
    async with serving(served) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown(port)
        served.serve(pair("first"))
        assert await shown(port) == "first"


async def test_what_does_not_load_changes_nothing() -> None:
    served = ServedTls()
    served.serve(pair("first"))
    for bad in (Pair(b"junk", b"junk"), Pair(pair("a").certificate, pair("b").key)):
        with pytest.raises((OSError, ValueError)):
            served.serve(bad)
    with pytest.raises((OSError, ValueError)):
        served.serve(pair("second"), b"junk")
    async with serving(served) as port:
        assert await shown(port) == "first"


async def test_whom_clients_must_have_their_certificate_from_can_change(tmp_path: Path) -> None:
    other = Authority.create(datetime.now(UTC))
    mine, theirs = pair("client"), other.issue(("client",), datetime.now(UTC))
    served = ServedTls(verify_clients=True)
    served.serve(pair("first"), AUTHORITY.bundle)
    async with serving(served) as port:
        assert await shown(port, mine, tmp_path) == "first"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown(port, theirs, tmp_path)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown(port)
        served.serve(pair("first"), other.bundle)
        assert await shown(port, theirs, tmp_path) == "first"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown(port, mine, tmp_path)


async def test_no_key_leaves_a_descriptor_behind() -> None:
    served = ServedTls()
    served.serve(pair("first"))
    before = descriptors()
    for _ in range(20):
        served.serve(pair("again"))
    assert descriptors() <= before


async def test_files_are_served_when_they_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = ServedTls()
    files = CertificateFiles(served, *write(tmp_path, pair("first")))
    files.load()
    running = asyncio.get_running_loop().create_task(files.run(pause=0.01))
    async with serving(served) as port:
        assert await shown(port) == "first"
        write(tmp_path, Pair(b"junk", b"junk"))
        await eventually(lambda: "the last one stays" in caplog.text)
        assert await shown(port) == "first"
        (tmp_path / "tls.key").unlink()
        assert await shown(port) == "first"
        write(tmp_path, pair("second"))
        async with asyncio.timeout(10):
            while await shown(port) != "second":  # noqa: ASYNC110 - a file, and no event, says so
                await asyncio.sleep(0.01)
    running.cancel()
    assert caplog.text.count("the last one stays") <= 4


def test_files_that_are_missing_at_the_start_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CertificateFiles(ServedTls(), tmp_path / "tls.crt", tmp_path / "tls.key").load()
