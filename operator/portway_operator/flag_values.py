"""What the values of the operator's flags say; every reading raises `typer.BadParameter` with a sentence."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

import typer

from portway_proxy.admin_options import host_names
from portway_proxy.admin_tokens import TokenFile
from portway_proxy.settings import AdminAccess

__all__ = ["addresses", "admin_access", "affinity_key", "named_object", "namespaces", "ports", "several"]

_SHORTEST_KEY: Final = 16  # Bytes: 128 bits cannot be guessed.

_OBJECT = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)/([a-z0-9]([a-z0-9.-]*[a-z0-9])?)")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\.?", re.IGNORECASE)


def several(text: str) -> tuple[str, ...]:
    """Return the parts between commas."""
    return tuple(part for each in text.split(",") if (part := each.strip()))


def named_object(text: str, flag: str) -> tuple[str, str] | None:
    """Return the namespace and the name in `text`; None for nothing."""
    found = _OBJECT.fullmatch(text)
    if text and found is None:
        raise typer.BadParameter(f"{flag}: {text!r} is no object; write namespace/name.")
    return (found[1], found[3]) if found else None


def namespaces(text: str, flag: str) -> tuple[str, ...]:
    """Return the namespaces in `text`."""
    names = several(text)
    for name in names:
        if not _LABEL.fullmatch(name):
            raise typer.BadParameter(f"{flag}: {name!r} is no namespace.")
    return names


def addresses(text: str) -> tuple[str, ...]:
    """Return the IPs and host names in `text`."""
    found = several(text)
    for address in found:
        with suppress(ValueError):
            ipaddress.ip_address(address)
            continue
        if not _HOST.fullmatch(address) or address.replace(".", "").isdigit():
            raise typer.BadParameter(f"--publish-status-address: {address!r} is neither an IP nor a host name.")
    return found


def ports(text: str) -> frozenset[int]:
    """Return the ports in `text`."""
    found = several(text)
    if not all(port.isdecimal() and 0 < int(port) < 65536 for port in found):
        raise typer.BadParameter(f"--reserved-ports: {text!r} is no list of ports; write 8080,8443.")
    return frozenset(map(int, found))


def admin_access(
    token_file: Path | None, hosts: str = "", *, protect_metrics: bool = False, review: bool = True
) -> AdminAccess:
    """Return who may see an admin port."""
    try:
        if token_file is not None:
            TokenFile(token_file).check()
        names = host_names(hosts)
    except ValueError as error:
        raise typer.BadParameter(f"{error}") from None
    return AdminAccess("" if token_file is None else str(token_file), names, protect_metrics, review)


def affinity_key(file: Path | None) -> bytes:
    """Return the bytes of a file, none without one."""
    if file is None:
        return b""
    try:
        key = file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"--affinity-key-file: {file}: {error.strerror}.") from None
    if len(key) < _SHORTEST_KEY:
        raise typer.BadParameter(f"--affinity-key-file: {file} has less than {_SHORTEST_KEY} bytes.")
    return key
