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
from portway_proxy.snapshot import Endpoint

__all__ = ["PortMapping", "boolean", "endpoints", "one_of", "port_mappings", "ports", "size"]

E = TypeVar("E", bound=StrEnum)

# Go's ParseBool, which is what ingress-nginx takes.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")

_SIZE = re.compile(r"([0-9]{1,15})([bkmgBKMG]?)")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port that the proxy opens, and the Service's port behind it."""

    external: int
    port: PortRef


def boolean(value: str) -> bool:
    """Return what `true` or `false` says."""
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError("it is neither true nor false")


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


def endpoints(value: str) -> tuple[Endpoint, ...]:
    """Return addresses with ports (`127.0.0.1:5000, [::1]:5000`), sorted."""
    return tuple(sorted({_endpoint(part) for part in _parts(value)}))


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
