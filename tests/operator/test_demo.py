"""`demo.py` and `apps.py`: the demo's parts; the whole of it is in the wire tests."""

from __future__ import annotations

import asyncio
import json
import socket
import tomllib
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import aiohttp
import pytest

import portway_operator
from portway_operator.apps import claim, start_app
from portway_operator.compile import compile_snapshot
from portway_operator.demo import APPS, LISTENER, manifests, rewrite
from portway_operator.settings import CompileSettings
from portway_operator.sources.files import FileSource
from portway_operator.store import ObjectStore
from portway_proxy.describe import describe
from portway_proxy.snapshot import Snapshot


def compiled(ports: dict[int, int]) -> Snapshot:
    store = ObjectStore()
    FileSource([manifests()], store, rewrite(ports)).load()
    return compile_snapshot(store, CompileSettings(standalone=True)).snapshot


@asynccontextmanager
async def app(kind: str) -> AsyncIterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    running = await start_app(kind, sock)
    try:
        yield port
    finally:
        await running.close()


async def get(port: int, path: str, method: str = "GET") -> tuple[str, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}") as response,
    ):
        assert response.status == 200
        return response.content_type, await response.read()


def test_the_manifests_come_to_the_routes_that_the_readme_shows_and_to_no_problem() -> None:
    lines = describe(compiled({})).splitlines()
    assert [line.partition("  <- ")[0] for line in lines] == [
        "* prefix /message => default/message:80 -> 127.0.0.1:5004",
        "* prefix /images => default/images:80 -> 127.0.0.1:5003",
        "* prefix / => default/hello:80 -> 127.0.0.1:5000 127.0.0.1:5001",
        "demo.localhost prefix /message => default/message:80 -> 127.0.0.1:5004",
        "demo.localhost prefix /images => default/images:80 -> 127.0.0.1:5003",
        "demo.localhost prefix / => default/hello:80 -> 127.0.0.1:5000 127.0.0.1:5001",
        "tcp/9000 => default/echo:9000/tcp -> 127.0.0.1:5002 (opaque)",
    ]


def test_the_manifests_of_an_installed_package_come_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "manifests" / "demo"
    inside.mkdir(parents=True)
    monkeypatch.setattr(portway_operator, "__file__", str(tmp_path / "__init__.py"))
    assert manifests() == inside


def test_the_wheel_takes_the_manifests_along() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["manifests/demo"] == "portway_operator/manifests/demo"


def test_other_ports_are_put_into_every_endpoint_and_listener() -> None:
    moved = {port: port + 10_000 for port in [LISTENER, *(port for _, port in APPS.values())]}
    snapshot = compiled(moved)
    assert [listener.port for listener in snapshot.listeners] == [19000]
    found = {endpoint.port for upstream in snapshot.upstreams for endpoint in upstream.endpoints}
    assert found == {port + 10_000 for _, port in APPS.values()}


def test_only_the_manifests_for_this_machine_name_its_addresses() -> None:
    for path in manifests().glob("*.yaml"):
        assert "127.0.0.1" not in path.read_text()
        assert "EndpointSlice" not in path.read_text()


def test_a_port_that_is_free_is_claimed_and_one_that_is_taken_is_replaced() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = int(taken.getsockname()[1])
        claimed = claim("127.0.0.1", [port])
        with closing(claimed[port]) as sock:
            assert sock.getsockname()[1] > port


def test_a_port_that_is_wanted_is_not_given_to_another() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = int(taken.getsockname()[1])
        claimed = claim("127.0.0.1", [port, port + 1])
        ports = {wanted: sock.getsockname()[1] for wanted, sock in claimed.items()}
        for sock in claimed.values():
            sock.close()
        assert ports[port] not in {port, port + 1}
        assert len(set(ports.values())) == 2


def test_without_any_free_port_nothing_is_claimed() -> None:
    with (
        pytest.raises(OSError, match="None of the ports from 65535 to 65535 is free"),
        closing(socket.create_server(("127.0.0.1", 65535))),
    ):
        claim("127.0.0.1", [65535])


@pytest.mark.parametrize("path", ["/", "/any/path?q=1"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_hello_says_its_port_for_every_path_and_method(path: str, method: str) -> None:
    async with app("hello") as port:
        assert await get(port, path, method) == ("text/plain", f"sent by {port}\n".encode())


async def test_message_is_json() -> None:
    async with app("message") as port:
        kind, body = await get(port, "/message/x")
        assert kind == "application/json"
        assert json.loads(body) == {"message": "Hello from behind Portway.", "path": "/message/x", "sent_by": port}


async def test_images_is_a_picture() -> None:
    async with app("images") as port:
        kind, body = await get(port, "/images")
        assert kind == "image/png"
        assert body.startswith(b"\x89PNG\r\n\x1a\n")
        assert body.endswith(zlib.crc32(b"IEND").to_bytes(4, "big"))


async def test_echo_sends_back_every_byte_and_ends_with_the_client() -> None:
    async with app("echo") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = bytes(range(256)) * 4096
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(10):
            assert await reader.read(-1) == sent
        writer.close()


async def test_echo_ends_while_clients_are_there() -> None:
    async with app("echo") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
