"""The settings that a ConfigMap of the operator may set for all proxies, each over the proxy's own flag of its name.

A name is ingress-nginx's where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from portway_proxy.errors import BadSnapshot
from portway_proxy.settings import ProxySettings

__all__ = ["ROWS", "Row", "Setting", "Unit", "tuned", "usual"]

_DAY: Final = 86400.0
_MOST: Final = 1 << 40
_MOST_OF_A_HEAD: Final = 1 << 24

_READ: Final = "proxy-read-timeout"
_RESPONSE: Final = "proxy-response-timeout"


class Unit(StrEnum):
    """What a value counts."""

    SECONDS = "seconds"
    BYTES = "bytes"
    NUMBER = "number"


class Setting(msgspec.Struct, frozen=True, order=True):
    """A value for all proxies, by the name of its row."""

    name: str
    value: float

    def __str__(self) -> str:
        """Return `keep-alive = 10`."""
        return f"{self.name} = {self.value:.12g}"


class Row(msgspec.Struct, frozen=True):
    """One setting: its name, its place in `ProxySettings`, what it may be and what the documentation says.

    `flag` is what the proxy's flag is called where that is not the name.
    """

    name: str
    section: str
    field: str
    unit: Unit
    doc: str
    least: float = 0
    most: float = _MOST
    flag: str = ""


def _time(name: str, field: str, doc: str, *, least: float = 0.1, flag: str = "") -> Row:
    return Row(name, "timeouts", field, Unit.SECONDS, doc, least, 30 * _DAY, flag)


def _size(name: str, field: str, doc: str, *, flag: str = "") -> Row:
    return Row(name, "limits", field, Unit.BYTES, doc, flag=flag)


def _part(name: str, field: str, doc: str) -> Row:
    return Row(name, "limits", field, Unit.BYTES, doc, 256, _MOST_OF_A_HEAD)


def _number(name: str, field: str, doc: str, *, least: float = 0) -> Row:
    return Row(name, "limits", field, Unit.NUMBER, doc, least, 1e9)


ROWS: Final = (
    _time("client-header-timeout", "head", "for a whole request head"),
    _time("client-body-timeout", "body", "between two reads of a request body"),
    _time("keep-alive", "keep_alive", "that an idle client connection is kept", least=0),
    _time("client-send-timeout", "send", "until a client that reads nothing is given up"),
    _time("proxy-connect-timeout", "connect", "to connect to an endpoint"),
    _time(_RESPONSE, "response", "until the head of a response"),
    _time(_READ, "read", f"between two reads of a response; {_RESPONSE} too where that is not set"),
    _time("proxy-send-timeout", "write", "until an endpoint that takes nothing of a request is given up"),
    _time("request-timeout", "request", "for a whole request with its response; 0 is no limit", least=0),
    _time("upstream-keepalive-timeout", "upstream_idle", "that an idle connection to an endpoint is kept"),
    _time("tunnel-timeout", "tunnel", "that a WebSocket or a relay may be silent"),
    _time("relay-lifetime", "lifetime", "that a relay may last; 0 is no end", least=0),
    _time("udp-timeout", "udp", "that a UDP client may be silent"),
    _time(
        "unacknowledged-timeout",
        "unacknowledged",
        "that a relay's peer may take nothing that waits for it, dead or alive; 0 is Linux's 900, if it is dead",
        least=0,
    ),
    _time("worker-shutdown-timeout", "drain", "for what still runs when a proxy ends", least=0, flag="drain-timeout"),
    _size("proxy-body-size", "body", "of a request body; 0 is no limit", flag="body-size"),
    _size("client-body-rate", "body_rate", "a second that a request body must come with; 0 is no limit"),
    _part("request-line-size", "request_line", "of a request line"),
    _part("field-size", "field", "of one field of a head"),
    _part("head-size", "head", "of a head"),
    _number("max-fields", "fields", "fields of a head", least=8),
    _number("upstream-keepalive-connections", "pool", "idle connections that a worker keeps to an endpoint"),
    _number("max-udp-clients", "udp_clients", "clients of a UDP port at a worker", least=1),
    _number("http2-max-concurrent-streams", "streams", "requests at once on a connection of HTTP/2", least=1),
    _number("max-worker-connections", "connections", "clients of a worker; 0 is what its descriptors allow"),
    _number(
        "max-connections-per-address",
        "connections_per_address",
        "of these from one address or /64, in each worker; 0 is any",
    ),
    _size("max-worker-memory", "memory", "of a worker; 0 is no limit but that of its control group"),
    Row("max-loop-lag", "limits", "loop_lag", Unit.SECONDS, "that a worker may be late; 0 is no limit", 0, 60),
)
"""Every setting, in the order of the documentation."""

_BY_NAME: Final = {row.name: row for row in ROWS}
_WHOLE: Final = (Unit.BYTES, Unit.NUMBER)


def usual(row: Row) -> float:
    """Return the default of a setting."""
    value: float = getattr(getattr(ProxySettings(), row.section), row.field)
    return value


def tuned(settings: ProxySettings, changes: Iterable[Setting]) -> ProxySettings:
    """Return `settings` with these values; raises `BadSnapshot` for a name that is not known here."""
    values = {one.name: one.value for one in changes}
    if not values:
        return settings
    if unknown := sorted(values.keys() - _BY_NAME.keys()):
        raise BadSnapshot(f"there is no setting called {', '.join(unknown)}")
    if _READ in values:
        values.setdefault(_RESPONSE, values[_READ])
    sections: dict[str, dict[str, float]] = {"limits": {}, "timeouts": {}}
    for name, value in values.items():
        row = _BY_NAME[name]
        sections[row.section][row.field] = int(value) if row.unit in _WHOLE else value
    return msgspec.structs.replace(
        settings,
        limits=msgspec.structs.replace(settings.limits, **sections["limits"]),
        timeouts=msgspec.structs.replace(settings.timeouts, **sections["timeouts"]),
    )
