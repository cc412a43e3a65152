"""The PROXY protocol before HTTP and before TLS, with real workers and real senders: sockets, curl and HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from certs import certificate
from eventually import eventually
from portway_proxy.proxy_protocol import LONGEST, Address, header_v1, header_v2
from portway_proxy.settings import Limits
from portway_proxy.snapshot import (
    Belief,
    Host,
    Listener,
    ListenerPolicy,
    PathMatch,
    Policy,
    ProxyVersion,
    Route,
    Snapshot,
    Trust,
)
from portway_proxy.supervisor import Supervisor
from wire.command import ANY_PORTS, portway
from wire.parts import (
    ECHO,
    ORIGIN,
    WEB,
    Client,
    connect,
    free_port,
    metrics,
    port_of,
    running,
    serve_echo,
    settings,
    snapshot,
)

SHOP = certificate("shop/web", "shop.example")
LOCAL = "127.0.0.0/8"
SOURCE, DESTINATION = Address("192.0.2.7", 4711), Address("198.51.100.1", 8000)
SOURCE6, DESTINATION6 = Address("2001:db8::7", 4711), Address("2001:db8::1", 8000)
GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HEADERS = [header_v1(SOURCE, DESTINATION), header_v2(SOURCE, DESTINATION)]


class Mirror:
    """An HTTP endpoint that answers with the fields that it got."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        return web.json_response(dict(request.headers.items()))


@pytest.fixture
async def mirror() -> AsyncIterator[Mirror]:
    app = web.Application()
    endpoint = Mirror(0)
    app.router.add_route("*", "/{path:.*}", endpoint.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint.port = runner.addresses[0][1]
    yield endpoint
    await runner.cleanup()


def trusting(mirror: Mirror, trust: Trust | None) -> Snapshot:
    served = snapshot(mirror.port, certificates=[SHOP], default_certificate=SHOP.name)
    return msgspec.structs.replace(served, trust=trust)


def announced(*networks: str, patience: float = 5.0, belief: Belief = Belief.NOTHING) -> Trust:
    return Trust(networks or (LOCAL,), belief, proxy_protocol=True, patience=patience)


@pytest.fixture
async def proxy(mirror: Mirror) -> AsyncIterator[Supervisor]:
    """A proxy that expects a PROXY header of everybody on this machine."""
    async with running(settings(1)) as supervisor:
        await supervisor.apply(trusting(mirror, announced()))
        yield supervisor


async def exchange(port: int, *pieces: bytes, source: str = "127.0.0.1") -> bytes:
    """Return all that comes back for `pieces`, sent one by one; nothing when the connection is reset before that."""
    async with asyncio.timeout(15):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            answer = await reader.read()
        writer.close()
    return answer


async def told(port: int, *pieces: bytes, source: str = "127.0.0.1") -> dict[str, str]:
    """Return the fields that the endpoint got, by lower-case names."""
    answer = await exchange(port, *pieces, source=source)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer
    if b"chunked" in head:
        body = b"".join(body.split(b"\r\n")[1::2])
    return {name.lower(): value for name, value in json.loads(body).items()}


async def over_tls(port: int, first: bytes, *, split: int = 0) -> dict[str, str]:
    """Return the fields that the endpoint got for a GET over TLS; `first` and the ClientHello go in one piece.

    With `split`, the first `split` bytes of that go by themselves.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="shop.example")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    async with asyncio.timeout(15):
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = first + outgoing.read()
        if split:
            writer.write(hello[:split])
            await asyncio.sleep(0.01)
        writer.write(hello[split:])
        shaken = False
        while not answer.endswith(b"}"):
            incoming.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                if not shaken:
                    tls.do_handshake()
                    shaken = True
                    tls.write(GET)
                while data := tls.read(65536):
                    answer += data
            writer.write(outgoing.read())
    writer.close()
    fields = json.loads(answer.partition(b"\r\n\r\n")[2])
    return {name.lower(): value for name, value in fields.items()}


def port_for_tls(proxy: Supervisor) -> int:
    assert proxy.https_port is not None
    return proxy.https_port


async def refusals(proxy: Supervisor, reason: str) -> float:
    return (await metrics(proxy)).get(("portway_connections_refused_total", reason), 0.0)


# --- who is told


@pytest.mark.parametrize("header", HEADERS)
async def test_an_endpoint_is_told_whom_the_header_names(proxy: Supervisor, header: bytes) -> None:
    fields = await told(port_of(proxy), header + GET)
    assert fields["x-forwarded-for"] == fields["x-real-ip"] == "192.0.2.7"
    assert fields["x-forwarded-port"] == "8000"
    assert fields["x-forwarded-proto"] == "http"


@pytest.mark.parametrize("header", [header_v1(SOURCE6, DESTINATION6), header_v2(SOURCE6, DESTINATION6)])
async def test_addresses_of_ipv6_are_told_as_well(proxy: Supervisor, header: bytes) -> None:
    assert (await told(port_of(proxy), header + GET))["x-forwarded-for"] == "2001:db8::7"


async def test_every_request_of_the_connection_is_of_the_same_client(proxy: Supervisor) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(proxy))
    client = Client(reader, writer)
    writer.write(HEADERS[0])
    for _ in range(3):
        assert json.loads(await client.get())["X-Forwarded-For"] == "192.0.2.7"
    await client.close()


async def test_what_a_request_says_of_its_client_is_not_believed_beside_the_header(proxy: Supervisor) -> None:
    spoofed = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n")
    fields = await told(port_of(proxy), HEADERS[1] + spoofed)
    assert fields["x-forwarded-for"] == "192.0.2.7"
    assert fields["x-forwarded-proto"] == "http"


async def test_a_trusted_proxy_behind_the_one_that_sends_the_header_speaks_for_its_client(
    proxy: Supervisor, mirror: Mirror
) -> None:
    await proxy.apply(trusting(mirror, announced(LOCAL, "192.0.2.0/24", belief=Belief.REQUEST)))
    said = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n\r\n")
    assert (await told(port_of(proxy), HEADERS[1] + said))["x-forwarded-for"] == "203.0.113.9"


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 1 2\r\n",
        header_v2(None, None),
        SIGNATURE + b"\x20\x11\0\x0c" + bytes(12),
        SIGNATURE + b"\x21\0\0\0",
        SIGNATURE + b"\x21\x31\0\xd8" + b"/run/sock".ljust(108, b"\0") * 2,
    ],
)
async def test_a_header_that_names_nobody_leaves_the_connections_own_address(proxy: Supervisor, header: bytes) -> None:
    fields = await told(port_of(proxy), header + GET)
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-port"] == str(port_of(proxy))


@pytest.mark.parametrize("header", HEADERS)
async def test_a_header_split_at_any_byte_is_the_same(proxy: Supervisor, header: bytes) -> None:
    whole = header + GET
    for split in range(1, len(header) + 1):
        assert (await told(port_of(proxy), whole[:split], whole[split:]))["x-forwarded-for"] == "192.0.2.7"
    bytewise = [whole[place : place + 1] for place in range(len(whole))]
    assert (await told(port_of(proxy), *bytewise))["x-forwarded-for"] == "192.0.2.7"


# --- before TLS


@pytest.mark.parametrize("header", HEADERS)
async def test_the_header_comes_before_tls(proxy: Supervisor, header: bytes) -> None:
    for split in (0, 1, len(header) - 1, len(header), len(header) + 1):
        fields = await over_tls(port_for_tls(proxy), header, split=split)
        assert fields["x-forwarded-for"] == "192.0.2.7"
        assert fields["x-forwarded-proto"] == "https"
        assert fields["x-forwarded-port"] == "8000"


async def test_a_header_before_tls_of_a_peer_that_is_not_trusted_is_no_hello(proxy: Supervisor, mirror: Mirror) -> None:
    await proxy.apply(trusting(mirror, announced("192.0.2.0/24")))
    assert (await over_tls(port_for_tls(proxy), b""))["x-forwarded-for"] == "127.0.0.1"
    for header in HEADERS:
        assert (await exchange(port_for_tls(proxy), header + GET)).startswith(b"HTTP/1.1 400 ")
    assert mirror.requests == 1


@pytest.mark.parametrize(
    "header",
    [
        header_v2(SOURCE, Address(DESTINATION.host, 443)),
        SIGNATURE + b"\x21\x11\0\x14" + header_v2(SOURCE, DESTINATION)[16:] + b"\x20\0\x05\x01\0\0\0\0",
    ],
)
async def test_who_came_by_tls_to_the_proxy_before_is_not_sent_there_again(
    proxy: Supervisor, mirror: Mirror, header: bytes
) -> None:
    served = trusting(mirror, announced())
    route = Route("/", PathMatch.PREFIX, WEB, ORIGIN, Policy(https_redirect=True))
    await proxy.apply(msgspec.structs.replace(served, hosts=(Host("", (route,)),)))
    assert (await told(port_of(proxy), header + GET))["x-forwarded-proto"] == "https"
    assert (await exchange(port_of(proxy), HEADERS[1] + GET)).startswith(b"HTTP/1.1 308 ")


# --- what is refused


@pytest.mark.parametrize(
    "sent",
    [
        GET,
        b"\r\n" + GET,
        b"\x16\x03\x01\0\x05hello",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n" + GET,
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n" + GET,
        b"PROXY UNKNOWN ".ljust(107, b"x"),
        SIGNATURE + b"\x31\x11\0\x0c" + bytes(12) + GET,
        SIGNATURE + b"\x21\x11\0\x0b" + bytes(11) + GET,
        SIGNATURE + b"\x21\x11" + struct.pack("!H", LONGEST - 15),
        SIGNATURE + b"\x21\x11\xff\xff",
        # An addition that says to be longer than the header: what follows would be taken for a part of it.
        SIGNATURE + b"\x21\x11\0\x0f" + bytes(12) + b"\x04\0\x40" + GET,
    ],
)
async def test_who_has_to_send_a_header_and_sends_none_that_is_sound_is_not_let_in(
    proxy: Supervisor, mirror: Mirror, sent: bytes
) -> None:
    assert await exchange(port_of(proxy), sent) == b""
    assert mirror.requests == 0
    assert await refusals(proxy, "bad_proxy_header") == 1


@pytest.mark.parametrize("header", HEADERS)
async def test_a_header_of_a_peer_that_is_not_trusted_is_a_bad_request(
    proxy: Supervisor, mirror: Mirror, header: bytes
) -> None:
    await proxy.apply(trusting(mirror, announced("127.0.0.2/32")))
    assert (await exchange(port_of(proxy), header + GET)).startswith(b"HTTP/1.1 400 ")
    assert mirror.requests == 0
    # Without a header it is served as itself, and the one that is trusted still needs one.
    assert (await told(port_of(proxy), GET))["x-forwarded-for"] == "127.0.0.1"
    assert (await told(port_of(proxy), header + GET, source="127.0.0.2"))["x-forwarded-for"] == "192.0.2.7"
    assert await exchange(port_of(proxy), GET, source="127.0.0.2") == b""


@pytest.mark.parametrize("trust", [None, Trust((LOCAL,)), Trust((), proxy_protocol=True)])
@pytest.mark.parametrize("header", HEADERS)
async def test_a_header_is_a_bad_request_where_nobody_asked_for_it(
    proxy: Supervisor, mirror: Mirror, trust: Trust | None, header: bytes
) -> None:
    await proxy.apply(trusting(mirror, trust))
    assert (await exchange(port_of(proxy), header + GET)).startswith(b"HTTP/1.1 400 ")
    assert (await told(port_of(proxy), GET))["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 192", SIGNATURE])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(
    proxy: Supervisor, mirror: Mirror, sent: bytes
) -> None:
    await proxy.apply(trusting(mirror, announced(patience=0.1)))
    assert await exchange(port_of(proxy), sent) == b""
    assert await refusals(proxy, "request_timeout") == 1
    assert (await told(port_of(proxy), HEADERS[0] + GET))["x-forwarded-for"] == "192.0.2.7"


async def test_health_checks_that_only_connect_are_no_refusals(proxy: Supervisor) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(proxy))
        writer.close()
        await writer.wait_closed()
    assert (await told(port_of(proxy), HEADERS[0] + GET))["x-forwarded-for"] == "192.0.2.7"
    assert await refusals(proxy, "bad_proxy_header") == 0


async def test_a_limit_for_each_address_counts_the_clients_and_not_the_proxy_before_us(mirror: Mirror) -> None:
    limited = msgspec.structs.replace(settings(1), limits=Limits(connections_per_address=1))
    async with running(limited) as proxy:
        await proxy.apply(trusting(mirror, announced()))
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(proxy))
        first = Client(reader, writer)
        writer.write(HEADERS[0])
        assert json.loads(await first.get())["X-Forwarded-For"] == "192.0.2.7"
        assert (await exchange(port_of(proxy), HEADERS[0] + GET)).startswith(b"HTTP/1.1 503 ")
        other = header_v1(Address("192.0.2.8", 1), DESTINATION)
        assert (await told(port_of(proxy), other + GET))["x-forwarded-for"] == "192.0.2.8"
        await first.close()

        async def again() -> bool:
            return (await exchange(port_of(proxy), HEADERS[0] + GET)).startswith(b"HTTP/1.1 200 ")

        async with asyncio.timeout(15):
            while not await again():  # noqa: ASYNC110 - a worker notes it
                await asyncio.sleep(0.01)


async def test_a_limit_for_each_address_is_not_for_a_proxy_that_brings_many(mirror: Mirror) -> None:
    limited = msgspec.structs.replace(settings(1), limits=Limits(connections_per_address=1))
    async with running(limited) as proxy:
        for trust, status in ((Trust((LOCAL,), Belief.ADDRESS), 200), (Trust((LOCAL,)), 503)):
            await proxy.apply(trusting(mirror, trust))
            async with connect(port_of(proxy)) as first:
                await first.get()
                assert (await exchange(port_of(proxy), GET)).startswith(b"HTTP/1.1 %d " % status)


# --- other listeners


async def test_a_port_for_both_families_tells_ipv4_clients_as_what_they_are(mirror: Mirror) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    async with running(msgspec.structs.replace(settings(1), address="::")) as proxy:
        await proxy.apply(trusting(mirror, None))
        assert (await told(port_of(proxy), GET))["x-forwarded-for"] == "127.0.0.1"
        await proxy.apply(trusting(mirror, announced("127.0.0.1/32")))
        assert (await told(port_of(proxy), HEADERS[0] + GET))["x-forwarded-for"] == "192.0.2.7"


async def test_ports_of_layer_4_believe_the_same_networks(proxy: Supervisor, mirror: Mirror) -> None:
    port = free_port()
    async with serve_echo() as echo:
        served = snapshot(mirror.port, echo_port=echo)
        policy = ListenerPolicy(announce=ProxyVersion.V1, accept_proxy=True)
        listener = Listener(port, ECHO, ORIGIN, policy=policy)
        for network, source in (("127.0.0.1/32", "192.0.2.7"), ("127.0.0.2/32", "127.0.0.1")):
            trust = Trust((network,))
            await proxy.apply(msgspec.structs.replace(served, listeners=(listener,), trust=trust))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEADERS[1] + b"hello")
            async with asyncio.timeout(15):
                first = await reader.readline()
            assert first.startswith(b"PROXY TCP4 %b " % source.encode())
            writer.close()


# --- live


async def test_it_is_switched_on_and_off_live_and_costs_no_connection(proxy: Supervisor, mirror: Mirror) -> None:
    await proxy.apply(trusting(mirror, None))
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(proxy))
    kept = Client(reader, writer)
    for _ in range(10):
        await proxy.apply(trusting(mirror, announced()))
        assert json.loads(await kept.get())["X-Forwarded-For"] == "127.0.0.1"
        assert (await told(port_of(proxy), HEADERS[1] + GET))["x-forwarded-for"] == "192.0.2.7"
        await proxy.apply(trusting(mirror, None))
        assert json.loads(await kept.get())["X-Forwarded-For"] == "127.0.0.1"
        assert (await told(port_of(proxy), GET))["x-forwarded-for"] == "127.0.0.1"
    await kept.close()


async def test_nothing_is_left_of_those_who_never_said_who_they_are(proxy: Supervisor, mirror: Mirror) -> None:
    await proxy.apply(trusting(mirror, announced(patience=0.1)))
    open_ones = [await asyncio.open_connection("127.0.0.1", port_of(proxy)) for _ in range(50)]
    for reader, writer in open_ones:
        async with asyncio.timeout(15):
            assert await reader.read() == b""
        writer.close()
    [pid] = [worker.pid for worker in proxy._serving.values()]

    def sockets() -> int:
        links = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()]
        return sum("socket:" in str(link) for link in links)

    before = sockets()
    for sent in (b"", b"PROXY ", GET, HEADERS[0]) * 10:
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(proxy))
        writer.write(sent)
        writer.close()
    await eventually(lambda: sockets() <= before, what="all sockets are closed")


# --- settings

FILES = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web}}
spec:
  rules:
  - http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {{portway.dev/endpoints: "127.0.0.1:{port}"}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: portway, namespace: default}}
data: {data}
"""


async def test_the_keys_of_ingress_nginx_say_whom_to_believe_and_are_followed(mirror: Mirror, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"

    def write(**data: str) -> None:
        text = json.dumps({name.replace("_", "-"): value for name, value in data.items()})
        (tmp_path / "new").write_text(FILES.format(port=mirror.port, data=text))
        (tmp_path / "new").rename(file)

    said = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
    write()
    quiet = ("--no-access-log", "--workers", "1", "--configmap", "default/portway", "-f", file)
    async with portway("run", *ANY_PORTS, *quiet) as command:
        await command.serving()
        port = await command.port("http")
        assert (await told(port, said))["x-forwarded-for"] == "127.0.0.1"
        write(use_forwarded_headers="true", proxy_real_ip_cidr=LOCAL)
        await command.until("^generation 2: ")
        assert (await told(port, said))["x-forwarded-for"] == "203.0.113.9"
        write(use_forwarded_headers="true", proxy_real_ip_cidr=f"{LOCAL},192.0.2.0/24", use_proxy_protocol="true")
        await command.until("^generation 3: ")
        assert (await told(port, HEADERS[0] + said))["x-forwarded-for"] == "203.0.113.9"
        assert await exchange(port, said) == b""
        write(use_proxy_protocol="true", generate_request_id="false")
        await command.until(r"ConfigMap default/portway data\[use-proxy-protocol\]: It does not say whose word counts")
        fields = await told(port, said)
        assert fields["x-forwarded-for"] == "127.0.0.1"
        assert "x-request-id" not in fields


# --- real senders


async def run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(15):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_says_who_it_is_over_http_and_https(proxy: Supervisor, mirror: Mirror) -> None:
    quiet = ("curl", "-sk", "--max-time", "10")
    for url in (f"http://127.0.0.1:{port_of(proxy)}/", f"https://127.0.0.1:{port_for_tls(proxy)}/"):
        status, body = await run(*quiet, "--haproxy-protocol", "--interface", "127.0.0.9", url)
        assert status == 0
        assert json.loads(body)["X-Forwarded-For"] == "127.0.0.9"
        status, _ = await run(*quiet, url)
        assert status != 0
    assert mirror.requests == 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_says_whom_it_is_told_to_name(proxy: Supervisor) -> None:
    _, options = await run("curl", "--help", "all")
    if "--haproxy-clientip" not in options:
        pytest.skip("this curl has no --haproxy-clientip (8.2 has)")
    for address in ("192.0.2.9", "2001:db8::9"):
        _, body = await run("curl", "-s", "--haproxy-clientip", address, f"http://127.0.0.1:{port_of(proxy)}/")
        assert json.loads(body)["X-Forwarded-For"] == address


@asynccontextmanager
async def haproxy(folder: Path, port: int, *send: str, bind: Sequence[str] = ()) -> AsyncIterator[int]:
    """Run HAProxy as a relay to `port` that says so by `send`, and yield its port."""
    own = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(
        "global\n  maxconn 100\n  stats timeout 5s\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n"
        f"  timeout server 10s\nfrontend clients\n  bind 127.0.0.1:{own} {' '.join(bind)}\n  default_backend portway\n"
        f"backend portway\n  server portway 127.0.0.1:{port} {' '.join(send)}\n"
    )
    process = await asyncio.create_subprocess_exec("haproxy", "-q", "-db", "-f", str(file))
    try:
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    _, writer = await asyncio.open_connection("127.0.0.1", own)
                    writer.close()
                    break
                assert process.returncode is None, "haproxy ended"
                await asyncio.sleep(0.02)
        yield own
    finally:
        process.kill()
        await process.wait()


needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")


@needs_haproxy
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
async def test_haproxy_says_who_its_client_is(proxy: Supervisor, tmp_path: Path, send: str) -> None:
    async with haproxy(tmp_path, port_of(proxy), *send.split()) as port:
        fields = await told(port, GET, source="127.0.0.11")
        assert fields["x-forwarded-for"] == "127.0.0.11"
        assert fields["x-forwarded-port"] == str(port)
    async with haproxy(tmp_path, port_for_tls(proxy), *send.split()) as port:
        assert (await over_tls(port, b""))["x-forwarded-port"] == str(port)


@needs_haproxy
async def test_haproxy_that_ends_tls_says_so(proxy: Supervisor, tmp_path: Path) -> None:
    file = tmp_path / "shop.pem"
    file.write_bytes(SHOP.chain + SHOP.key)
    send = ("send-proxy-v2-ssl-cn",)
    async with haproxy(tmp_path, port_of(proxy), *send, bind=("ssl", "crt", str(file))) as port:
        fields = await over_tls(port, b"")
    assert fields["x-forwarded-proto"] == "https"
    assert fields["x-forwarded-for"] == "127.0.0.1"


@needs_haproxy
async def test_health_checks_of_haproxy_are_its_own(proxy: Supervisor, mirror: Mirror, tmp_path: Path) -> None:
    check = ("send-proxy-v2", "check-send-proxy", "check", "inter", "50ms")
    async with haproxy(tmp_path, port_of(proxy), *check) as port:
        for _ in range(20):
            assert (await told(port, GET, source="127.0.0.12"))["x-forwarded-for"] == "127.0.0.12"
    assert await refusals(proxy, "bad_proxy_header") == 0
    assert mirror.requests == 20
