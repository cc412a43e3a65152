"""Checks names, hosts and ports as the API server does (pkg/apis/core/validation, networking/validation)."""

from __future__ import annotations

import re

from portway_operator.decode.fields import BadObject, integer, show, text
from portway_operator.objects import PortRef

__all__ = [
    "dns_name",
    "host",
    "label",
    "object_name",
    "port_name",
    "port_number",
    "port_or_name",
]

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_IS_LABEL = re.compile(_LABEL)
_IS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IS_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_IS_DIGITS = re.compile(r"[0-9]+")
# What getaddrinfo takes for an IPv4 address in disguise: 127.1, 0x7f.1, 2130706433.
_IS_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
_IS_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")

_LONGEST = 253


def label(value: object, field: str) -> str:
    """Return `value` if it is a DNS label: a namespace, or the name of a Service."""
    name = text(value, field)
    if not _IS_LABEL.fullmatch(name):
        raise BadObject(
            field,
            f"{show(name)} is no DNS label.",
            "Use at most 63 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
        )
    return name


def object_name(value: object, field: str) -> str:
    """Return `value` if it is a name that most objects may have: DNS labels joined by dots."""
    name = text(value, field)
    if len(name) > _LONGEST or not _IS_NAME.fullmatch(name):
        raise BadObject(
            field,
            f"{show(name)} is no object name.",
            "Use lower-case letters, digits, hyphens and dots, with a letter or digit at both ends.",
        )
    return name


def host(value: object, field: str) -> str:
    """Return a rule's or a certificate's host in lower case; empty for None and for the empty host."""
    name = text(value, field, "")
    found = name.lower() if name.isascii() else name
    if not found:
        return ""
    if _is_numeric(found):
        raise BadObject(field, f"{show(name)} is an address.", "Name the host; leave it out to match any host.")
    if len(found) > _LONGEST or not _IS_HOST.fullmatch(found):
        raise BadObject(
            field,
            f"{show(name)} is no host name.",
            "Give a DNS name without port (international names in their `xn--` form); `*` may only be the whole first "
            "label, as in `*.example.com`.",
        )
    return found


def dns_name(value: object, field: str) -> str:
    """Return an ExternalName in lower case: a DNS name, perhaps with a dot at its end, or an IPv4 address."""
    name = text(value, field)
    found = name.lower().removesuffix(".") if name.isascii() else name
    odd = _is_numeric(found) and not _IS_ADDRESS.fullmatch(found)
    if odd or len(found) > _LONGEST or not _IS_NAME.fullmatch(found):
        raise BadObject(field, f"{show(name)} is no DNS name.", "Give the name of a host, without scheme and port.")
    return name.lower()


def port_number(value: object, field: str) -> int:
    """Return `value` if it is a port number."""
    number = integer(value, field)
    if not 1 <= number <= 65535:
        raise BadObject(field, f"{show(number)} is no port number.", "Use a number from 1 to 65535.")
    return number


def port_name(value: object, field: str) -> str:
    """Return `value` if it can be the name of a port; a name has a letter at least."""
    name = text(value, field)
    if not _IS_LABEL.fullmatch(name) or _IS_DIGITS.fullmatch(name):
        raise BadObject(
            field,
            f"{show(name)} is no port name.",
            "Use lower-case letters, digits and hyphens, or give the port's `number`.",
        )
    return name


def port_or_name(value: object, field: str) -> PortRef:
    """Return a port by number or by name."""
    return port_name(value, field) if isinstance(value, str) else port_number(value, field)


def _is_numeric(name: str) -> bool:
    return _IS_NUMERIC.fullmatch(name.rpartition(".")[2]) is not None
