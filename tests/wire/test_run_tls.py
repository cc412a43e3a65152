"""Secrets with certificates under `portway run`: which one is served, and where keys are not to be found."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from certs import certificate, issue
from portway_operator.certificates import CertificateReader
from portway_operator.objects import Meta, Secret
from portway_proxy.channel import Configure, Rekey
from portway_proxy.codec import digest
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import SharedKey, Snapshot
from portway_proxy.stream import SnapshotMessage
from wire.command import ANY_PORTS, Command, portway
from wire.parts import serve_web
from wire.test_run import service

HOST = "shop.example"
INGRESS = f"""\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: shop}}
spec:
  tls: [{{hosts: [{HOST}], secretName: shop-tls}}, {{hosts: [other.example], secretName: other-tls}}]
  rules:
  - host: {HOST}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
"""


def secret(chain: bytes, key: bytes, name: str = "shop-tls", kind: str = "kubernetes.io/tls") -> str:
    data = {"tls.crt": chain, "tls.key": key}
    lines = "".join(f"  {part}: {base64.b64encode(text).decode()}\n" for part, text in data.items())
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: {kind}\ndata:\n{lines}"


@asynccontextmanager
async def serving(folder: Path, *options: str) -> AsyncIterator[Command]:
    async with serve_web() as web:
        (folder / "shop.yaml").write_text(f"{service('web', web.port)}---\n{INGRESS}")
        async with portway("run", *ANY_PORTS, "--workers", "1", "-f", folder, *options) as command:
            yield await command.serving()


async def shown(command: Command, name: str = HOST) -> bytes:
    """Return the certificate (PEM) that `name` gets."""
    port = await command.port("https")
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anyone, server_hostname=name)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return ssl.DER_cert_to_PEM_cert(found).encode()


async def test_whatever_becomes_of_a_secret_its_last_good_certificate_is_served_and_its_owner_told(
    tmp_path: Path,
) -> None:
    chain, key = issue(HOST)
    other_chain, other_key = issue(HOST)
    bad = {
        "does not belong": secret(chain, other_key),
        "no PEM certificate that can be read": secret(chain[: len(chain) // 2], key),
        "no PEM private key": secret(chain, key[: len(key) // 2]),
        r"has no tls\.key": secret(chain, b""),
        "is encrypted": secret(*issue(HOST, password=b"sesame")),
        "is of type 'Opaque'": secret(chain, key, kind="Opaque"),
        "expired on": secret(*issue(HOST, days=-2)),
    }
    file = tmp_path / "secret.yaml"
    file.write_text(secret(chain, key))
    async with serving(tmp_path) as command:
        assert await shown(command) == chain
        for words, text in bad.items():
            file.write_text(text)
            line = await command.until(f"problem .*{words}")
            assert "The certificate that it had before is still served." in line
            assert await shown(command) == chain, words
        file.write_text(secret(other_chain, other_key))
        generation = command.generation()
        await command.until(f"^generation {generation + 1}: .*certificate")
        assert await shown(command) == other_chain


async def test_the_default_certificate_comes_from_a_secret_changes_with_it_and_is_self_signed_without(
    tmp_path: Path,
) -> None:
    file = tmp_path / "default.yaml"
    (tmp_path / "secret.yaml").write_text(secret(*issue(HOST)))
    async with serving(tmp_path, "--default-ssl-certificate", "default/everybody") as command:
        own = await shown(command, "nobody.example")
        for _ in range(2):
            chain, key = issue("default.example")
            generation = command.generation()
            file.write_text(secret(chain, key, "everybody"))
            await command.until(f"^generation {generation + 1}: ")
            assert await shown(command, "nobody.example") == await shown(command, "other.example") == chain
        generation = command.generation()
        file.unlink()
        await command.until(f"^generation {generation + 1}: ")
        assert await shown(command, "nobody.example") == own


async def page_of(admin: int, path: str) -> str:
    """Return a page of the admin server."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{admin}{path}") as response:
        return await response.text()


def visible(pid: int) -> bytes:
    """Return what a process shows of itself, and all that is in the files that it has open."""
    place = Path(f"/proc/{pid}")
    parts = [(place / name).read_bytes() for name in ("cmdline", "environ", "maps", "mountinfo")]
    for fd in (place / "fd").iterdir():
        with suppress(OSError):
            target = fd.readlink()
            parts.append(bytes(target))
            if str(target).startswith("/memfd:") or target.is_file():
                parts.append(fd.read_bytes())
    return b"\n".join(parts)


async def test_keys_are_neither_said_nor_shown_nor_written_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, files = tmp_path / "temporary", tmp_path / "files"
    temporary.mkdir()
    files.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    good, odd = issue(HOST), issue("other.example")
    (files / "secret.yaml").write_text(secret(*good))
    (files / "odd.yaml").write_text(secret(odd[0], odd[1].replace(b"END", b"END OF"), "other-tls"))
    async with serving(files) as command:
        assert await shown(command) == good[0]
        port, admin = await command.port("https"), await command.port("admin")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x02\x00garbage" * 100)
        writer.close()
        pages = ["/metrics", "/routes", "/routes?format=json", "/problems", "/problems?format=json", "/readyz?verbose"]
        said = [await page_of(admin, page) for page in pages]
        seen = [visible(pid) for pid in (command.process.pid, *command.children())]
        assert len(seen) == 2
        # A worker that ends by a fault, and whatever is written then.
        [worker] = command.children()
        os.kill(worker, signal.SIGABRT)
        await command.until("ended by signal 6")
        assert await command.stop() == 0
        everything = b"\n".join([*seen, *(page.encode() for page in said), command.said.encode()])
    everything += b"".join(path.read_bytes() for path in temporary.rglob("*") if path.is_file())
    assert b"other-tls" in everything
    for line in re.findall(rb"(?m)^[A-Za-z0-9+/=]{20,}$", good[1] + odd[1]):
        assert line not in everything
        assert base64.b64encode(line)[:-4] not in everything


def test_no_value_that_holds_a_key_shows_it() -> None:
    one = certificate("shop/web", HOST)
    part = one.key.splitlines()[1].decode()
    kept = Secret(Meta("shop", "web"), "kubernetes.io/tls", {"tls.crt": one.chain, "tls.key": one.key})
    snapshot = Snapshot(certificates=(one,), affinity_key=SharedKey(part.encode()))
    for value in (
        one,
        kept,
        CertificateReader().find(kept),
        CertificateReader().read(Secret(kept.meta, kept.type, {"tls.crt": one.chain[:99], "tls.key": one.key})),
        snapshot,
        SnapshotMessage(1, digest(snapshot), snapshot),
        Configure(ProxySettings(), one.chain, one.key, part.encode(), ticket_key=part.encode()),
        Rekey(part.encode()),
    ):
        assert part not in repr(value), type(value)
        assert part not in str(value), type(value)
