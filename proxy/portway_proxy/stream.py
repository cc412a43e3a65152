"""The configuration stream, `cfg/v1`: what operator and proxies say to each other, as values and as lines of JSON.

The operator answers `GET /v1/stream?node=NAME&schema=2&deltas=all` with one message a line, for as long as both live: a
`Hello`, then snapshots, deltas and pings. The proxy answers each change with an `Ack` by `POST /v1/ack`. One that does
not ask for all deltas gets those of upstreams alone, and a snapshot when anything else changed.

While somebody looks at the dashboard of an operator, it wants the figures of the whole fleet: it says so by a `Watch`,
and to proxies that follow another operator in the answers to their acknowledgements (`Portway-Watch: SECONDS`). They
send a `Report` every two seconds, by `POST /v1/report`, until the answer does not ask for more. With it goes how the
endpoints fare that were asked for (`Portway-Watch: SECONDS; endpoints=NAMES`), and then the first report comes at once.
What does not know this goes on without.

A snapshot travels as JSON, its byte strings as base64: measured on 5,000 Ingresses with 10,000 Services that is 6 ms to
encode and 36 ms to decode, half of what an envelope of `codec.encode` in base64 takes, and people can read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, Self, TypeAlias

import msgspec

from portway_proxy.dashboard.figures import Gathered
from portway_proxy.deltas import Changes, Delta
from portway_proxy.endpoint_states import EndpointPage
from portway_proxy.errors import ProxyError
from portway_proxy.snapshot import Snapshot, Upstream

__all__ = [
    "ACK_PATH",
    "ALL_DELTAS",
    "LONGEST_WATCH",
    "NOWHERE",
    "PORT",
    "REPORT_PATH",
    "REVIEW_PATH",
    "STREAM_PATH",
    "UNTOLD",
    "WATCH_FIELD",
    "Ack",
    "BadMessage",
    "DeltaMessage",
    "Hello",
    "Lines",
    "Message",
    "Ping",
    "Position",
    "Refusal",
    "Report",
    "Review",
    "ShownToken",
    "SnapshotMessage",
    "Verdict",
    "Watch",
    "decode",
    "decode_ack",
    "decode_report",
    "decode_token",
    "encode",
    "valid_node",
]

PORT: Final = 9444
"""Where the operator listens unless it is told otherwise."""

STREAM_PATH: Final = "/v1/stream"
ACK_PATH: Final = "/v1/ack"
REPORT_PATH: Final = "/v1/report"

WATCH_FIELD: Final = "Portway-Watch"
"""In answers of an operator: for how many seconds it wants reports."""

LONGEST_WATCH: Final = 60.0
"""Seconds; an operator that wants reports for longer says so again."""

REVIEW_PATH: Final = "/v1/review"

ALL_DELTAS: Final = "all"
"""What a proxy that takes wide deltas too says of `deltas` when it asks for the stream."""

UNTOLD: Final = "none"
"""What a proxy that has no `Snapshot.sources` says of `sources`: it gets a snapshot, though it may serve the same."""

_LONGEST: Final = 256 << 20  # 100,000 Ingresses are about 150 MB; a peer that sends more is not our operator.
_TYPES: Final = ("hello", "snapshot", "delta", "ping", "refusal", "watch")

_POSITION = re.compile(r'"?([0-9a-f]{1,32}):([0-9]{1,18}):([0-9a-f]{32})"?')
_WATCH = re.compile(r"([0-9]{1,4})(?:; endpoints=([!-~]{1,4096}))?")
_NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


class BadMessage(ProxyError):
    """A line of the stream that is no message of it."""

    reason = "bad_message"


class Position(msgspec.Struct, frozen=True):
    """Where somebody is in an operator's history.

    `epoch` names one run of one operator, `version` counts its changes; `digest` names the content, and means the same
    in every epoch.
    """

    epoch: str
    version: int
    digest: str

    def __str__(self) -> str:
        """Return it as it stands in `If-None-Match`."""
        return f'"{self.epoch}:{self.version}:{self.digest}"'

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Return what `If-None-Match` says, or None when that is no position."""
        found = _POSITION.fullmatch(text.strip())
        return cls(found[1], int(found[2]), found[3]) if found else None


NOWHERE: Final = Position("0", 0, "0" * 32)
"""Where a proxy is that serves nothing yet."""


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """Who speaks, and where its history is: at `v`, whose content has the digest `hash`.

    `same`: that is what the proxy said it serves; there is nothing to send. `server` is `portway/VERSION`.
    """

    epoch: str
    schema: int
    server: str
    v: int
    hash: str
    same: bool = False


class SnapshotMessage(msgspec.Struct, frozen=True, tag_field="type", tag="snapshot"):
    """Everything that is to be served from version `v` on."""

    v: int
    hash: str
    snapshot: Snapshot


class DeltaMessage(msgspec.Struct, frozen=True, tag_field="type", tag="delta", omit_defaults=True):
    """What makes the snapshot with the digest `base` one with digest `hash`; the rest is as in `Delta`."""

    base: str
    v: int
    hash: str
    upstreams: tuple[Upstream, ...]
    changes: Changes | None = None

    @classmethod
    def of(cls, delta: Delta, version: int) -> Self:
        """Return the message that leads to `version` by a delta."""
        return cls(delta.base, version, delta.digest, delta.upstreams, delta.changes)

    def delta(self) -> Delta:
        """Return it as a proxy's supervisor takes it."""
        return Delta(self.base, self.hash, self.upstreams, self.changes)


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    """A sign of life; `v` is the newest version, 0 before the first."""

    v: int


class Refusal(msgspec.Struct, frozen=True, tag_field="type", tag="refusal"):
    """Why there will be no stream: a sentence for the log."""

    error: str


class Watch(msgspec.Struct, frozen=True, tag_field="type", tag="watch", omit_defaults=True):
    """The operator wants reports for so many seconds, with how the `endpoints` fare of these upstreams.

    Those are names as in `EndpointQuery`.
    """

    seconds: float
    endpoints: str = ""

    @property
    def field(self) -> str:
        """The value of `Portway-Watch`."""
        return f"{self.seconds:.0f}" + (f"; endpoints={self.endpoints}" if self.endpoints else "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a `Portway-Watch` says; nothing where it cannot be read."""
        found = _WATCH.fullmatch(text)
        return cls(float(found[1]), found[2] or "") if found else cls(0.0)


Message: TypeAlias = Hello | SnapshotMessage | DeltaMessage | Ping | Refusal | Watch


class Verdict(StrEnum):
    """What became of a change; `LEAVING`: the proxy says goodbye, nobody need wait for it."""

    APPLIED = "applied"
    REJECTED = "rejected"
    LEAVING = "leaving"


class Ack(msgspec.Struct, frozen=True):
    """What a proxy says of a version: that every worker serves it, or why none does.

    It stands for all versions before. `hash` lets an operator understand what was applied in another's epoch.
    `resource` is the object that the reason names (`Ingress shop/web`). `took_ms` is in milliseconds.
    """

    node: str
    epoch: str
    v: int
    hash: str
    status: Verdict
    error: str = ""
    resource: str = ""
    took_ms: float = 0.0


class Report(msgspec.Struct, frozen=True):
    """What a proxy has counted of late; `place` is the name of its node, as far as it knows, `version` its own.

    `endpoints` are those of the upstreams that were `asked` for.
    """

    node: str
    place: str
    version: str
    gathered: Gathered
    asked: str = ""
    endpoints: EndpointPage = EndpointPage()

    def encode(self) -> bytes:
        """Return it as the body of a request: msgpack, for it may have figures of thousands of routes."""
        return msgspec.msgpack.encode(self)


_encoder = msgspec.json.Encoder()
_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class ShownToken(msgspec.Struct, frozen=True):
    """What somebody showed to the proxy `node`, which asks its operator whether that counts."""

    node: str
    token: str

    def __repr__(self) -> str:
        """Return what it is; never the token."""
        return f"ShownToken({self.node!r}, ...)"


class Review(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether a token counts: 200, or 401, 403 and 503 with the reason."""

    status: int = 200
    reason: str = ""


_acks = msgspec.json.Decoder(Ack)
_reports = msgspec.msgpack.Decoder(Report)
_tokens = msgspec.json.Decoder(ShownToken)


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)


def encode(message: Message) -> bytes:
    """Return the message as a line, with its end."""
    return _encoder.encode(message) + b"\n"


def decode(line: bytes) -> Message | None:
    """Return the message in a line; None for one of a type that only newer proxies know.

    Raises `BadMessage`.
    """
    try:
        return _messages.decode(line)
    except msgspec.DecodeError as error:
        if _unknown(line):
            return None
        raise BadMessage(f"the operator sent what is no message: {error}") from None


def decode_ack(body: bytes) -> Ack:
    """Return the acknowledgement in a request's body; raises `BadMessage`."""
    try:
        ack = _acks.decode(body)
    except msgspec.DecodeError as error:
        raise BadMessage(f"the proxy sent what is no acknowledgement: {error}") from None
    if not valid_node(ack.node):
        raise BadMessage("the proxy has no valid name")
    return ack


def decode_report(body: bytes) -> Report:
    """Return the report in a request's body; raises `BadMessage`."""
    try:
        return _reports.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"the proxy sent what is no report: {error}") from None


def decode_token(body: bytes) -> ShownToken:
    """Return the token in a request's body; raises `BadMessage`, which quotes nothing of it."""
    try:
        return _tokens.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadMessage("the proxy sent what is no token") from None


def valid_node(name: str) -> bool:
    """Return whether a proxy may call itself that; the name of every pod may be one."""
    return _NODE.fullmatch(name) is not None


def _unknown(line: bytes) -> bool:
    try:
        return _typed.decode(line).type not in _TYPES
    except msgspec.DecodeError:
        return False


class Lines:
    """Cuts what arrives into lines, at whatever places it was cut before."""

    __slots__ = ("_longest", "_parts", "_size")

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes, without their ends and without empty ones.

        Raises `BadMessage` for a line that is too long.
        """
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._keep(end)
            line, self._parts, self._size = b"".join(self._parts), [], 0
            if line:
                yield line
        self._keep(rest)

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._longest:
            raise BadMessage(f"the operator sent a line of more than {self._longest} bytes")
        if part:
            self._parts.append(part)
