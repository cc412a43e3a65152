"""How a proxy reaches the operator: its addresses, what it trusts there and what proves who it is."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import hdrs

from portway_proxy.codec import SCHEMA
from portway_proxy.errors import ProxyError
from portway_proxy.stream import (
    ACK_PATH,
    ALL_DELTAS,
    PORT,
    REPORT_PATH,
    REVIEW_PATH,
    STREAM_PATH,
    UNTOLD,
    WATCH_FIELD,
    Ack,
    BadMessage,
    Position,
    Refusal,
    Review,
    ShownToken,
    Watch,
    decode,
)

__all__ = ["Address", "Credentials", "OperatorRefused", "Operators", "Target", "Unreachable"]

_CONNECT: Final = 5.0  # Seconds for TCP and TLS.
_SILENCE: Final = 25.0  # The operator pings every ten seconds: two were lost.
_POST: Final = 5.0
_LONGEST_REASON: Final = 2048
_LONGEST_ANSWER: Final = 4096
_BUFFER: Final = 1 << 20


class Unreachable(ProxyError):
    """No operator answers there, or it broke off."""

    reason = "operator_unreachable"


class OperatorRefused(ProxyError):
    """The operator answered, and will not speak with us; the message is its reason."""

    reason = "operator_refused"


@dataclass(frozen=True, slots=True)
class Address:
    """Where operators are: `https://HOST[:PORT]`, `http://...` where that is allowed, or `unix:///PATH`.

    A name may stand for many operators: all its addresses are tried.
    """

    scheme: str
    host: str = ""
    port: int = PORT
    path: str = ""

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> Address:
        """Return what `text` names; `insecure` allows http. Raises `ValueError` with a sentence for the user."""
        parts = urlsplit(text)
        if parts.scheme == "unix":
            if parts.netloc or not parts.path.startswith("/"):
                raise ValueError(f"{text!r} is no socket; write unix:///run/portway/cfg.sock")
            return cls("unix", path=parts.path)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError(f"{text!r} is no operator; write https://HOST:PORT or unix:///PATH")
        if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{text!r} has more than a host and a port; write https://HOST:PORT")
        if parts.scheme == "http" and not insecure:
            raise ValueError(f"{text!r} would send tokens and private keys unencrypted; --insecure allows it")
        return cls(parts.scheme, parts.hostname, parts.port or PORT)

    @property
    def authority(self) -> str:
        """Return `host:port`."""
        return f"{_bracketed(self.host)}:{self.port}"

    def __str__(self) -> str:
        """Return it as it was written."""
        return f"unix://{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Target:
    """One operator: an address, and the IP that its host stands for (empty for a socket)."""

    address: Address
    ip: str = ""

    def __str__(self) -> str:
        """Return the address, and the IP where that says more."""
        return f"{self.address} ({self.ip})" if self.ip != self.address.host else str(self.address)

    def url(self, path: str) -> str:
        """Return the URL of a path there."""
        address = self.address
        if address.scheme == "unix":
            return f"http://operator{path}"
        return f"{address.scheme}://{_bracketed(self.ip)}:{address.port}{path}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files that say who the operator is (`ca_file`: nobody else is trusted) and who we are.

    All are read again for each connection, because somebody else renews them.
    """

    ca_file: Path | None = None
    token_file: Path | None = None
    certificate: tuple[Path, Path] | None = None

    def authorization(self) -> str | None:
        """Return the value of the Authorization field, if there is a token. Raises `Unreachable`."""
        if self.token_file is None:
            return None
        try:
            return f"Bearer {self.token_file.read_text('ascii').strip()}"
        except (OSError, UnicodeDecodeError) as error:
            raise Unreachable(f"the token cannot be read: {_reason(error)}") from None

    def context(self) -> ssl.SSLContext:
        """Return a context that trusts the operator's authority alone. Raises `Unreachable`."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
            if self.certificate is not None:
                context.load_cert_chain(*self.certificate, password="")
        except (OSError, ValueError) as error:
            raise Unreachable(f"the certificates cannot be read: {_reason(error)}") from None
        return context


class _Answer(NamedTuple):
    """What an operator says of what it was sent: for how long it wants reports, and a body."""

    watch: Watch
    body: bytes


class Operators:
    """The operators that a proxy may follow; made inside the running loop."""

    def __init__(self, addresses: tuple[Address, ...], credentials: Credentials) -> None:
        self._addresses = addresses
        self._credentials = credentials
        self._secure: ssl.SSLContext | None = None
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def resolve(self) -> list[Target]:
        """Return all operators, in a random order, so that many proxies spread over them. Raises `Unreachable`."""
        found: dict[Target, None] = {}
        trouble = ""
        for address in self._addresses:
            try:
                found |= dict.fromkeys(await _targets(address))
            except (OSError, TimeoutError) as error:
                trouble = f"{address} cannot be resolved: {_reason(error)}"
        if not found:
            raise Unreachable(trouble)
        return random.sample(list(found), len(found))

    @asynccontextmanager
    async def stream(
        self, target: Target, node: str, position: Position, *, untold: bool = False
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Lend the stream of an operator for a proxy that is at `position`, or `untold` where its values came from.

        Raises `OperatorRefused`, and `Unreachable` whenever the connection fails, also while it is lent.
        """
        self._secure = self._credentials.context() if target.address.scheme == "https" else None
        query = {"node": node, "schema": str(SCHEMA), "deltas": ALL_DELTAS}
        query |= {"sources": UNTOLD} if untold else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        try:
            async with self._session(target).get(
                target.url(STREAM_PATH),
                params=query,
                headers=self._fields(target) | {hdrs.IF_NONE_MATCH: str(position)},
                allow_redirects=False,
                ssl=self._secure or True,
                server_hostname=target.address.host if self._secure else None,
                timeout=timeout,
                read_bufsize=_BUFFER,
            ) as response:
                await _expect(response, 200)
                yield response.content
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(_reason(error)) from None

    async def send(self, target: Target, ack: Ack) -> Watch:
        """Send an acknowledgement; return for how long the operator wants reports. Raises as `stream`."""
        return (await self._post(target, ACK_PATH, "application/json", msgspec.json.encode(ack))).watch

    async def report(self, target: Target, report: bytes) -> Watch:
        """Send a report; return for how long more are wanted. Raises as `stream`."""
        return (await self._post(target, REPORT_PATH, "application/msgpack", report)).watch

    async def review(self, target: Target, shown: ShownToken) -> Review:
        """Return whether an operator says that a token counts. Raises as `stream`."""
        answer = await self._post(target, REVIEW_PATH, "application/json", msgspec.json.encode(shown))
        try:
            return msgspec.json.decode(answer.body, type=Review)
        except msgspec.DecodeError as error:
            raise OperatorRefused(f"its answer is no review: {error}") from None

    async def _post(self, target: Target, path: str, kind: str, body: bytes) -> _Answer:
        secure = target.address.scheme == "https"
        if secure and self._secure is None:
            self._secure = self._credentials.context()
        try:
            async with self._session(target).post(
                target.url(path),
                data=io.BytesIO(body),  # Of bytes that are many aiohttp complains.
                headers=self._fields(target) | {hdrs.CONTENT_TYPE: kind},
                allow_redirects=False,
                ssl=(self._secure if secure else None) or True,
                server_hostname=target.address.host if secure else None,
                timeout=aiohttp.ClientTimeout(total=_POST),
            ) as response:
                await _expect(response, 200, 204)
                watch = Watch.parse(response.headers.get(WATCH_FIELD, ""))
                return _Answer(watch, await response.content.read(_LONGEST_ANSWER))
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(_reason(error)) from None

    async def close(self) -> None:
        """End all connections."""
        for session in self._sessions.values():
            await session.close()

    def _session(self, target: Target) -> aiohttp.ClientSession:
        path = target.address.path
        if path not in self._sessions:
            connector = aiohttp.UnixConnector(path) if path else aiohttp.TCPConnector()
            self._sessions[path] = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._sessions[path]

    def _fields(self, target: Target) -> dict[str, str]:
        fields: dict[str, str] = {hdrs.USER_AGENT: "portway-proxy"}
        if target.address.scheme != "unix":
            fields[hdrs.HOST] = target.address.authority
            if (authorization := self._credentials.authorization()) is not None:
                fields[hdrs.AUTHORIZATION] = authorization
        return fields


async def _targets(address: Address) -> list[Target]:
    """Return an operator for each IP that the address's host has now."""
    if address.scheme == "unix":
        return [Target(address)]
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_CONNECT):
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [Target(address, str(entry[4][0])) for entry in found]


async def _expect(response: aiohttp.ClientResponse, *statuses: int) -> None:
    """Raise `OperatorRefused`, with the operator's own words, for another status."""
    if response.status in statuses:
        return
    text = await response.content.read(_LONGEST_REASON)
    try:
        message = decode(text)
    except BadMessage:
        message = None
    words = message.error if isinstance(message, Refusal) else text.decode("utf-8", "replace").strip()
    raise OperatorRefused(f"{response.status} {words or response.reason}")


def _reason(error: BaseException) -> str:
    """Return why something failed; never empty."""
    if isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error) or type(error).__name__


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
