"""Request targets and hosts: read once, in one form, which is the form that is matched and the form that is forwarded.

A target that two readers would read differently (an encoded slash beside dots, a backslash, `%00`) is refused, because
a rule on `/admin` must hold for every spelling of it.
"""

from __future__ import annotations

import re

from portway_proxy.errors import BadHost, BadTarget

__all__ = ["canonical_path", "canonical_target", "parse_host", "split_absolute"]

# What a path may hold without being looked at twice: all that llhttp lets through but `%`, `;`, `\` and `#`.
_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b"%;\\#?")

_HASH = 0x23  # A number: to look for `b"#"` with `in` costs ten times as much.
_HOST = re.compile(rb"([A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(rb"[hH][tT][tT][pP][sS]?://([^/?]*)(.*)")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})?")
_DOTS = re.compile(rb"(/|%2F|%5C)\.{1,2}((?:;|%3B)[^/]*)?(?=(/|%2F|%5C|\Z))")
_LONGEST = 260  # The 253 characters of a DNS name, its closing dot, and a port.
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def parse_host(value: bytes) -> bytes:
    """Return the host of a Host field or authority: lower-case, without port and trailing dot.

    Raises `BadHost` for anything that is no host name or address with an optional port.
    """
    found = _HOST.fullmatch(value)
    if found is None or len(value) > _LONGEST:
        raise BadHost("the Host is malformed")
    host = found[1].lower()
    if host.endswith(b"."):
        host = host[:-1]
        if host.endswith(b"."):
            raise BadHost("the Host ends in two dots")
    if b".." in host:
        raise BadHost("the Host has an empty label")
    return host


def split_absolute(target: bytes) -> tuple[bytes, bytes]:
    """Return authority and origin-form of an absolute-form target (RFC 9112, 3.2.2).

    Raises `BadTarget` for a scheme other than http and https.
    """
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadTarget("the target is neither a path nor an http URL")
    rest: bytes = found[2]
    return found[1], rest if rest.startswith(b"/") else b"/" + rest


def canonical_target(target: bytes) -> tuple[bytes, bytes]:
    """Return the path by which `target` (it begins with `/`) is routed, and the target that goes on.

    Raises `BadTarget` as `canonical_path` does, and for a fragment.
    """
    path, mark, query = target.partition(b"?")
    if _HASH in query:
        raise BadTarget("the target holds a fragment")
    canonical = canonical_path(path)
    return canonical, target if canonical is path else canonical + mark + query


def canonical_path(path: bytes) -> bytes:
    """Return `path` (it begins with `/`, has no query) with dots resolved, slashes merged, and escapes in one form.

    An already canonical path is returned as it is, in a fraction of a microsecond. Raises `BadTarget` for what has two
    readings, for a broken escape, and for a path that climbs above the root.
    """
    # `count`, because `in` tries its left side as a number first, which costs more than the search.
    if not path.translate(None, _PLAIN) and not path.count(b"//") and not path.count(b"/."):
        return path
    if b"#" in path or b"\\" in path:
        raise BadTarget("the path holds a character that does not belong into one")
    path = _PERCENT.sub(_canonical_escape, path)
    if any(found[1] != b"/" or found[2] or found[3] not in (b"/", b"") for found in _DOTS.finditer(path)):
        raise BadTarget("the path holds dots beside an encoded slash, a backslash or a semicolon")
    return _resolve(path)


def _canonical_escape(found: re.Match[bytes]) -> bytes:
    if found[1] is None:
        raise BadTarget("the path holds a percent sign without two hexadecimal digits")
    octet = int(found[1], 16)  # Two hexadecimal digits, as the expression says.
    if octet == 0:
        raise BadTarget("the path holds an encoded NUL")
    return bytes((octet,)) if octet in _UNRESERVED else found[0].upper()


def _resolve(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if not kept:
                raise BadTarget("the path climbs above the root")
            kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    open_ended = segments[-1] in (b"", b".", b"..") and kept
    return b"/" + b"/".join(kept) + (b"/" if open_ended else b"")
