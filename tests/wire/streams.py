"""Operators and proxies for wire tests: real servers, real certificates and tokens, real workers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from eventually import eventually
from own_api import ACCOUNT, OwnApi
from portway_operator.api_objects import ApiObjects
from portway_operator.authority import Authority
from portway_operator.publish import Publisher
from portway_operator.rebuild import Update
from portway_operator.served_tls import ServedTls
from portway_operator.stream_auth import Auth, TokenAuth
from portway_operator.stream_server import StreamServer
from portway_operator.token_review import TokenReviews
from portway_proxy import codec, deltas
from portway_proxy.admin_tokens import Verifier
from portway_proxy.dial import Address, Credentials, Operators
from portway_proxy.feed import Feed
from portway_proxy.last_good import LastGood
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Snapshot, Upstream
from portway_proxy.stream import DeltaMessage, Lines, Message, SnapshotMessage, decode
from portway_proxy.supervisor import Supervisor
from wire.parts import Client
from wire.parts import settings as quiet


@dataclass
class Cluster:
    """What operators share: an API server and an authority; and the files that a pod of the proxy finds."""

    api: OwnApi
    authority: Authority
    ca_file: Path
    token_file: Path
    _exits: AsyncExitStack
    sessions: list[ApiObjects] = field(default_factory=list)

    def credentials(self) -> Credentials:
        return Credentials(self.ca_file, self.token_file)

    def mounted(self, path: str, directory: Path) -> dict[str, Path]:
        """Return the files of a Secret, as a pod has them."""
        data: dict[str, str] = self.api.objects[path]["data"]
        for name, value in data.items():
            (directory / name).write_bytes(base64.b64decode(value))
        return {name: directory / name for name in data}

    def objects(self) -> ApiObjects:
        if not self.sessions:
            session = self.api.connection.session()
            self._exits.push_async_callback(session.close)
            self.sessions.append(ApiObjects(session, self.api.connection))
        return self.sessions[0]


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[Cluster]:
    """Run an API server that knows one token, and make an authority."""
    authority = Authority.create(datetime.now(UTC))
    ca_file, token_file = directory / "ca.crt", directory / "token"
    ca_file.write_bytes(authority.bundle)
    async with AsyncExitStack() as exits:
        api = OwnApi()
        await api.start()
        exits.push_async_callback(api.stop)
        token_file.write_text(api.issue())
        yield Cluster(api, authority, ca_file, token_file, exits)


class Operator:
    """A configuration server, which can go away and come back on its port as another process would."""

    def __init__(self, cluster: Cluster, auth: Auth | None = None, verifier: Verifier | None = None) -> None:
        self.port = 0
        self._verifier = verifier
        self.publisher = Publisher()
        self._cluster = cluster
        self._auth = auth or TokenAuth(TokenReviews(cluster.objects()), [ACCOUNT])
        self._server: StreamServer | None = None
        self.tls = ServedTls()
        self.tls.serve(cluster.authority.issue(["127.0.0.1", "localhost"], datetime.now(UTC)))

    @property
    def address(self) -> Address:
        return Address("https", "127.0.0.1", self.port)

    async def start(self) -> None:
        self._server = StreamServer(self.publisher, self._auth, self._verifier)
        self.port = await self._server.listen("127.0.0.1", self.port, self.tls.front)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.close()
            self._server = None

    async def hang_up(self) -> None:
        """Stop listening, and keep what was published: the network failed, the process did not."""
        await self.stop()

    async def restart(self) -> None:
        """Become another process: with a new epoch, and nothing published."""
        await self.stop()
        self.publisher = Publisher()
        await self.start()

    @property
    def digest(self) -> str:
        """Return the digest of what is published."""
        assert self.publisher.published is not None
        return self.publisher.published.digest

    @asynccontextmanager
    async def raw(self, node: str, position: str = "", schema: str = str(codec.SCHEMA)) -> AsyncIterator[Client]:
        """Ask for the stream, and read of the answer what the test reads."""
        context = self._cluster.credentials().context()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, limit=1 << 16)
        token = self._cluster.token_file.read_text()
        writer.write(
            f"GET /v1/stream?node={node}&schema={schema} HTTP/1.1\r\nHost: operator\r\n"
            f"Authorization: Bearer {token}\r\nIf-None-Match: {position}\r\n\r\n".encode()
        )
        try:
            await reader.readuntil(b"\r\n\r\n")
            yield Client(reader, writer)
        finally:
            writer.transport.abort()

    async def publish(self, snapshot: Snapshot) -> int:
        """Publish a whole snapshot and return its version."""
        await self.publisher.publish(Update(snapshot, codec.digest(snapshot)))
        return self.publisher.version

    async def patch(self, *upstreams: Upstream) -> int:
        """Publish new content for some upstreams and return the version."""
        before = self.publisher.published
        assert before is not None
        snapshot = deltas.patch(before.snapshot, upstreams)
        digest = codec.digest(snapshot)
        await self.publisher.publish(Update(snapshot, digest, deltas.Delta(before.digest, digest, upstreams)))
        return self.publisher.version

    async def change(self, snapshot: Snapshot) -> int:
        """Publish a snapshot as a delta of whatever differs, and return its version."""
        before = self.publisher.published
        assert before is not None
        digest = codec.digest(snapshot)
        delta = deltas.diff(before.snapshot, snapshot, before.digest, digest)
        await self.publisher.publish(Update(snapshot, digest, delta))
        return self.publisher.version

    async def applied(self, version: int = 0) -> None:
        """Wait until a proxy is there and all serve the version."""
        async with asyncio.timeout(15):
            await eventually(lambda: self.publisher.proxies, what="a proxy follows")
            await self.publisher.applied(version or self.publisher.version)


@asynccontextmanager
async def operator(cluster: Cluster, auth: Auth | None = None) -> AsyncIterator[Operator]:
    """Run a configuration server."""
    operator = Operator(cluster, auth)
    await operator.start()
    try:
        yield operator
    finally:
        await operator.stop()


@asynccontextmanager
async def following(
    credentials: Credentials,
    *addresses: Address,
    node: str = "proxy-0",
    state_dir: Path | None = None,
    settings: ProxySettings | None = None,
) -> AsyncIterator[Supervisor]:
    """Run a proxy with workers that follows the operators at `addresses`."""
    supervisor = Supervisor(settings or quiet())
    await supervisor.start()
    last_good = LastGood(state_dir) if state_dir is not None else None
    feed = Feed(supervisor, Operators(addresses, credentials), node, last_good)
    try:
        await feed.start()
        try:
            yield supervisor
        finally:
            await feed.close()
    finally:
        await supervisor.close()


async def messages(reader: asyncio.StreamReader, last: int = 0) -> AsyncIterator[Message]:
    """Yield the messages of a stream that is read raw, up to the one with the version `last`."""
    lines = Lines()
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        data = await reader.readexactly(size)
        await reader.readexactly(2)
        for line in lines.feed(data):
            message = decode(line)
            assert message is not None
            yield message
            if isinstance(message, DeltaMessage | SnapshotMessage) and message.v == last:
                return


async def until_served(proxy: Supervisor) -> None:
    """Wait until the proxy serves what an operator vouches for."""
    await eventually(lambda: proxy.snapshot is not None and not proxy.stale, 15, "the proxy follows")
