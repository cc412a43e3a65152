"""Parsers of annotation values: text in, a typed value out.

Each raises `ValueError` with the words that complete `The value ... cannot be used: ...`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from portway_operator.decode.fields import show
from portway_operator.objects import PortRef
from portway_proxy.snapshot import Endpoint, HashOn, HashSource, ProxyVersion

__all__ = [
    "PortMapping",
    "ProxyMapping",
    "boolean",
    "cookie_domain",
    "cookie_path",
    "count",
    "endpoints",
    "field_name",
    "hash_on",
    "host",
    "http_version",
    "map_reference",
    "methods",
    "names",
    "networks",
    "one_of",
    "port_mappings",
    "ports",
    "proxy_mappings",
    "seconds",
    "service_name",
    "size",
    "statuses",
    "switch",
    "target",
    "token",
]

E = TypeVar("E", bound=StrEnum)

# Go's ParseBool, which is what ingress-nginx takes.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")

_SIZE = re.compile(r"([0-9]{1,15})([bkmgBKMG]?)")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"[0-9]{1,9}")
_STATUS = re.compile(r"[45][0-9]{2}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")  # RFC 9110, 5.6.2
# What a request line and a cookie attribute hold without a second thought: neither may end, or begin another part.
_TARGET = re.compile(r"/[!$-~]{0,1023}")
_COOKIE_PATH = re.compile(r"/[!-:<-~]{0,254}")
_HOST = re.compile(r"(?=.{1,253}(?::|$))[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_FIELD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
# Fields that frame a message, belong to one connection, or say something else about a request.
_TAKEN_FIELDS = re.compile(
    r"(accept|content|proxy|sec|transfer|x-original)(-.*)?|x-forwarded-(?!for$).*"
    r"|authorization|connection|cookie|expect|host|http2-settings|keep-alive|referer|te|traceparent|tracestate|trailer"
    r"|upgrade|user-agent|x-request-id|x-scheme",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?/)?(?=.{1,253}$)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_QUOTABLE = re.compile(r"[ !#-\[\]-~]{0,128}")  # What stands between quotes without an escape.
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port that the proxy opens, and the Service's port behind it."""

    external: int
    port: PortRef


@dataclass(frozen=True, slots=True)
class ProxyMapping:
    """The version of the PROXY protocol for a port that the proxy opens; 0 is every port."""

    external: int
    version: ProxyVersion


def boolean(value: str) -> bool:
    """Return what `true` or `false` says."""
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError("it is neither true nor false")


def switch(value: str) -> bool:
    """Return what `on` or `off` says, as nginx has it, or `true` or `false`."""
    if value.lower() in ("on", "off"):
        return value.lower() == "on"
    return boolean(value)


def http_version(value: str) -> str:
    """Return a version of HTTP that endpoints are asked by."""
    if value not in ("1.0", "1.1"):
        raise ValueError("it is neither 1.0 nor 1.1")
    return value


def size(value: str) -> int:
    """Return a size in bytes: a number, perhaps with the unit k, m or g (`8m`)."""
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError("it is no size such as 8m (a whole number, and k, m or g)")
    return int(found[1]) * _UNITS[found[2].lower()]


def one_of(choices: type[E]) -> Callable[[str], E]:
    """Return a parser for the values of an enumeration."""

    def parse(value: str) -> E:
        try:
            return choices(value)
        except ValueError:
            raise ValueError(f"it is none of {', '.join(choices)}") from None

    return parse


def ports(value: str) -> tuple[PortRef, ...]:
    """Return ports by number or name (`5432, metrics`)."""
    return tuple(_port(part) for part in _parts(value))


def port_mappings(value: str) -> tuple[PortMapping, ...]:
    """Return ports to open, each with the Service's port when that is another (`5432, 6380:6379, 9000:metrics`)."""
    found = []
    for part in _parts(value):
        external, colon, port = part.partition(":")
        if _PORT_NAME.fullmatch(external):
            raise ValueError(f"{show(part)} does not begin with a port number")
        number = _port_number(external)
        found.append(PortMapping(number, _port(port) if colon else number))
    return tuple(found)


def proxy_mappings(value: str) -> tuple[ProxyMapping, ...]:
    """Return versions of the PROXY protocol: one for all ports (`v2`), or each with its port (`25:v1, 993:v2`)."""
    version = one_of(ProxyVersion)
    if ":" not in value:
        return (ProxyMapping(0, version(value)),)
    pairs = [part.partition(":") for part in _parts(value)]
    return tuple(ProxyMapping(_port_number(port), version(name)) for port, _, name in pairs)


def endpoints(value: str) -> tuple[Endpoint, ...]:
    """Return addresses with ports (`127.0.0.1:5000, [::1]:5000`), sorted."""
    return tuple(sorted({_endpoint(part) for part in _parts(value)}))


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Return a parser for times from `least` to `most` seconds: `5`, `5s`, `500ms`, `2m`, `1h`, `1d`."""

    def parse(value: str) -> float:
        found = _TIME.fullmatch(value)
        if found is None:
            raise ValueError("it is no time such as 5s, 500ms or 2m")
        time = float(found[1]) * _SECONDS[found[2]]
        if not least <= time <= most:
            raise ValueError(f"it is not from {least:g}s to {most:g}s")
        return time

    return parse


def count(least: int, most: int) -> Callable[[str], int]:
    """Return a parser for whole numbers from `least` to `most`."""

    def parse(value: str) -> int:
        if not _NUMBER.fullmatch(value) or not least <= int(value) <= most:
            raise ValueError(f"it is no whole number from {least} to {most}")
        return int(value)

    return parse


def statuses(value: str) -> tuple[int, ...]:
    """Return error statuses (`502, 503`), sorted."""
    return tuple(sorted({_status(part) for part in _parts(value)}))


def names(value: str) -> tuple[str, ...]:
    """Return the names of header fields (`X-One, X-Two`), lower-case and sorted; nothing for none."""
    return tuple(sorted({token(part.strip()).lower() for part in value.split(",") if part.strip()}))


def methods(value: str) -> tuple[str, ...]:
    """Return the names of methods (`GET, PUT`), in capitals and sorted."""
    return tuple(sorted({token(part).upper() for part in _parts(value)}))


def token(value: str) -> str:
    """Return a name as RFC 9110 has them: of a field, a method, a cookie."""
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"{show(value)} is no name of letters, digits and hyphens")
    return value


def networks(value: str) -> tuple[str, ...]:
    """Return IP networks (`10.0.0.0/8, 2001:db8::/32, 192.0.2.7`), sorted; one address is a network too."""
    return tuple(sorted({_network(part) for part in _parts(value) if part}))


def field_name(value: str) -> str:
    """Return the name of a field that says a client's address."""
    if not _FIELD.fullmatch(value):
        raise ValueError("it is no name of letters, digits and hyphens")
    if _TAKEN_FIELDS.fullmatch(value):
        raise ValueError("that field means something else")
    return value


def target(value: str) -> str:
    """Return a path, perhaps with a query, as a request line holds it."""
    if not _TARGET.fullmatch(value):
        raise ValueError("it is no path such as /healthz, without blanks and `#`")
    return value


def host(value: str) -> str:
    """Return a host name or an IPv4 address, perhaps with a port."""
    if not _HOST.fullmatch(value):
        raise ValueError("it is no host name")
    return value


def cookie_path(value: str) -> str:
    """Return the Path of a cookie."""
    if not _COOKIE_PATH.fullmatch(value):
        raise ValueError("it is no path such as /shop, without blanks and `;`")
    return value


def cookie_domain(value: str) -> str:
    """Return the Domain of a cookie, lower-case."""
    name = value.lower().removeprefix(".")
    if not _DOMAIN.fullmatch(name):
        raise ValueError("it is no domain such as shop.example")
    return name


def map_reference(value: str) -> str:
    """Return the name of a ConfigMap, perhaps with its namespace, or nothing for none."""
    return object_reference(value) if value else ""


def object_reference(value: str) -> str:
    """Return the name of an object, perhaps with its namespace: `name` or `namespace/name`."""
    if not _REFERENCE.fullmatch(value):
        raise ValueError("it is neither name nor namespace/name")
    return value


def service_name(value: str) -> str:
    """Return the name of a Service, or nothing for none."""
    if value and not _SERVICE_NAME.fullmatch(value):
        raise ValueError("it is no name of a Service of the same namespace")
    return value


def quotable(value: str) -> str:
    """Return a text that may stand between quotes in a header field."""
    if not _QUOTABLE.fullmatch(value):
        raise ValueError('it is no plain text of at most 128 characters without `"` and backslashes')
    return value


def hash_on(value: str) -> HashOn:
    """Return what a consistent hash is taken of: `source-address`, `uri`, `header:NAME` or `cookie:NAME`."""
    source, colon, name = value.partition(":")
    named = (HashSource.HEADER, HashSource.COOKIE)
    if source not in tuple(HashSource) or (source in named) is not bool(colon):
        raise ValueError("it is none of source-address, uri, header:NAME, cookie:NAME")
    return HashOn(HashSource(source), token(name) if colon else "")


def _status(text: str) -> int:
    if not _STATUS.fullmatch(text):
        raise ValueError(f"{show(text)} is no status from 400 to 599")
    return int(text)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{show(text)} is no network such as 10.0.0.0/8") from None


def _parts(value: str) -> list[str]:
    return [part.strip(" ") for part in value.split(",")]


def _port(text: str) -> PortRef:
    return text if _PORT_NAME.fullmatch(text) else _port_number(text)


def _port_number(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError(f"{show(text)} is neither a port number nor a port name")
    return int(text)


def _endpoint(text: str) -> Endpoint:
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise ValueError(f"{show(text)} is no address with a port, such as 127.0.0.1:5000")
    try:
        return Endpoint(str(ipaddress.ip_address(found[1] or found[2])), int(found[3]))
    except ValueError:
        raise ValueError(f"{show(text)} holds no IP address") from None
