"""manifests/examples: each does what its first line says, through `portway run`, with endpoints of the tests."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import websockets
import yaml
from aiohttp import web

from certs import Authority, issue
from layer4 import greeter
from wire.command import ANY_PORTS, portway
from wire.grpc_peers import Greeter, asking, channel, serving, talk
from wire.parts import free_port
from wire.test_endpoints_over_tls import secured
from wire.test_layer4 import ask, serve_udp, udp_client

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"


@dataclass
class Running:
    """What an example is served by; `opened` are the real ports in the place of the example's own."""

    client: aiohttp.ClientSession
    http: int
    https: int
    opened: dict[int, int]

    async def ask(self, host: str, path: str = "/", **fields: str) -> tuple[int, str]:
        """Return the status, and the body or where it redirects to."""
        url = f"http://127.0.0.1:{self.http}{path}"
        more = {"Host": host} | {name.replace("_", "-"): value for name, value in fields.items()}
        async with self.client.get(url, headers=more, allow_redirects=False) as response:
            return response.status, response.headers.get("Location", "") or await response.text()


async def _say(name: str, stack: AsyncExitStack) -> int:
    """Serve HTTP that answers with `name`, the path and what was said; return the port."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "") == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(f"{name} heard {message.data}")
            return socket
        return web.Response(text=f"{name} {request.path}")

    return await _served_by(answer, stack)


async def _served_by(answer: Callable[[web.Request], Awaitable[web.StreamResponse]], stack: AsyncExitStack) -> int:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    return port


def _slice(service: str, port: dict[str, Any], real: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"]}],
        "ports": [{"name": port["name"], "port": real, "protocol": port.get("protocol", "TCP")}],
    }


@asynccontextmanager
async def served(
    file: str, directory: Path, endpoints: dict[str, int] | None = None, more: tuple[dict[str, Any], ...] = ()
) -> AsyncIterator[Running]:
    """Serve an example; each of its Services has one endpoint, which says the Service's name unless given."""
    text = (EXAMPLES / file).read_text()
    opened = {port: free_port() for port in (15353, 15432, 16379, 17000) if str(port) in text}
    for port, real in opened.items():
        text = text.replace(str(port), str(real))
    documents = list(yaml.safe_load_all(text))
    async with AsyncExitStack() as stack:
        for raw in [each for each in documents if each["kind"] == "Service"]:
            name, [port] = raw["metadata"]["name"], raw["spec"]["ports"]
            real = (endpoints or {}).get(name) or await _say(name, stack)
            documents.append(_slice(name, port, real))
        path = directory / "example.yaml"
        path.write_text(yaml.safe_dump_all([*documents, *more]))
        maps = ("--tcp-services-configmap", "default/portway-tcp") if "17000" in (EXAMPLES / file).read_text() else ()
        command = await stack.enter_async_context(portway("run", *ANY_PORTS, "--workers", "1", *maps, "-f", path))
        await command.serving()
        assert command.errors(r"^problem ") == []
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Running(client, await command.port("http"), await command.port("https"), opened)


async def _tls(directory: Path) -> None:
    chain, key = issue("shop.example")
    async with served(
        "tls.yaml", directory, more=(_secret("shop-tls", "kubernetes.io/tls", tls_crt=chain, tls_key=key),)
    ) as site:
        status, location = await site.ask("shop.example", "/cart")
        assert (status, location) == (308, f"https://shop.example:{site.https}/cart")
        assert await _shown(site.https, "shop.example") == ssl.PEM_cert_to_DER_cert(chain.decode())


def _secret(name: str, kind: str, **data: bytes) -> dict[str, Any]:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": encoded}


async def _https_endpoints(directory: Path) -> None:
    authority = Authority()
    context = secured(*authority.issue("vault.default.svc")).context
    server = await asyncio.start_server(_answer_once, "127.0.0.1", 0, ssl=context)
    secret = _secret("endpoints", "Opaque", ca_crt=authority.pem)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        async with served("https-endpoints.yaml", directory, {"vault": port}, (secret,)) as site:
            assert await site.ask("vault.example") == (200, "sealed")


async def _answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nsealed")
    writer.close()


async def _canary(directory: Path) -> None:
    async with served("canary.yaml", directory) as site:
        assert {await site.ask("web.example", X_Canary="always") for _ in range(5)} == {(200, "web-next /")}
        assert {await site.ask("web.example", X_Canary="never") for _ in range(5)} == {(200, "web /")}
        # Of 200, 40 are to be expected: none, or all, is not what happens by chance.
        assert {await site.ask("web.example") for _ in range(200)} == {(200, "web /"), (200, "web-next /")}


async def _websocket(directory: Path) -> None:
    async with served("websocket.yaml", directory) as site:
        url = "ws://chat.example/chat"
        async with websockets.connect(url, host="127.0.0.1", port=site.http, proxy=None) as socket:
            await socket.send("hello")
            assert await socket.recv() == "chat heard hello"


async def _layer4(directory: Path) -> None:
    async with greeter(b"postgres") as postgres, greeter(b"redis") as redis, greeter(b"queue") as queue:
        endpoints = {"postgres": postgres, "redis": redis, "queue": queue}
        async with served("layer4.yaml", directory, endpoints) as site:
            for port, name in ((15432, b"postgres"), (16379, b"redis"), (17000, b"queue")):
                reader, writer = await asyncio.open_connection("127.0.0.1", site.opened[port])
                assert await reader.readexactly(len(name)) == name
                writer.write(b"opaque")
                assert await reader.readexactly(6) == b"opaque"
                writer.transport.abort()


async def _grpc(directory: Path) -> None:
    chain, key = issue("greeter.example")
    secret = _secret("greeter-tls", "kubernetes.io/tls", tls_crt=chain, tls_key=key)
    async with (
        serving(Greeter("hello")) as server,
        served("grpc.yaml", directory, {"greeter": server.port}, (secret,)) as site,
        channel(site.https, grpc.ssl_channel_credentials(chain), "greeter.example") as client,
    ):
        assert await asking(client)(b"world") == b"hello world"
        both = talk(client)
        for word in (b"one", b"two"):
            await both.write(word)
            assert await both.read() == b"hello " + word
        await both.done_writing()
        assert await both.code() is grpc.StatusCode.OK
        other: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = client.unary_unary("/example.Other/Hello")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await other(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def _passthrough(directory: Path) -> None:
    chain, key = issue("vault.example")
    (directory / "own.crt").write_bytes(chain)
    (directory / "own.key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "own.crt", directory / "own.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server, served("passthrough.yaml", directory, {"vault": server.sockets[0].getsockname()[1]}) as site:
        own = ssl.PEM_cert_to_DER_cert(chain.decode())
        assert await _shown(site.https, "vault.example") == own
        assert await _shown(site.https, "other.example") != own


async def _rate_limit(directory: Path) -> None:
    async with served("rate-limit.yaml", directory) as site:
        seen = [(await site.ask("api.example"))[0] for _ in range(20)]
        assert seen[:3] == [200, 200, 200]
        assert 503 in seen


async def _auth(directory: Path) -> None:
    async with served("auth.yaml", directory) as site:
        assert (await site.ask("admin.example"))[0] == 401
        right = "Basic " + base64.b64encode(b"ada:lovelace").decode()
        assert await site.ask("admin.example", Authorization=right) == (200, "admin /")


async def _external_auth(directory: Path) -> None:
    async def verify(request: web.Request) -> web.Response:
        known = request.path == "/verify" and request.headers.get("Authorization") == "Bearer ada"
        return web.Response(status=200 if known else 401, headers={"X-User": "ada"} if known else {})

    async def board(request: web.Request) -> web.Response:
        return web.Response(text=f"board for {request.headers.get('X-User')}")

    async with AsyncExitStack() as stack:
        endpoints = {"sso": await _served_by(verify, stack), "board": await _served_by(board, stack)}
        async with served("external-auth.yaml", directory, endpoints) as site:
            assert (await site.ask("board.example", X_User="ada"))[0] == 401
            assert await site.ask("board.example", Authorization="Bearer ada") == (200, "board for ada")


async def _udp(directory: Path) -> None:
    async with serve_udp() as (port, _), served("udp.yaml", directory, {"dns": port}) as site:
        with udp_client(site.opened[15353]) as client:
            assert await ask(client, b"a question")


async def _from_ingress_nginx(directory: Path) -> None:
    async with served("from-ingress-nginx.yaml", directory) as site:
        assert await site.ask("api.example", "/v1/users") == (200, "api /users")
        assert (await site.ask("api.example", "/v2/users"))[0] == 404
        url = f"http://127.0.0.1:{site.http}/v1/users"
        fields = {"Host": "api.example", "Origin": "https://shop.example"}
        async with site.client.post(url, headers=fields, data=b"x" * 2000) as response:
            assert response.status == 413
        async with site.client.get(url, headers=fields) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"


CHECKS: dict[str, Callable[[Path], Awaitable[None]]] = {
    "auth.yaml": _auth,
    "canary.yaml": _canary,
    "external-auth.yaml": _external_auth,
    "from-ingress-nginx.yaml": _from_ingress_nginx,
    "grpc.yaml": _grpc,
    "https-endpoints.yaml": _https_endpoints,
    "layer4.yaml": _layer4,
    "passthrough.yaml": _passthrough,
    "rate-limit.yaml": _rate_limit,
    "tls.yaml": _tls,
    "udp.yaml": _udp,
    "websocket.yaml": _websocket,
}


@pytest.mark.parametrize("file", CHECKS)
async def test_an_example_does_what_it_says(file: str, tmp_path: Path) -> None:
    await CHECKS[file](tmp_path)


def test_every_example_is_tried() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == set(CHECKS)


async def _shown(port: int, host: str) -> bytes:
    """Return the certificate (DER) that is shown for `host`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return shown
