"""Brings a rule's path into the form that request paths are normalised to, so that both compare byte for byte.

That form (RFC 3986, 6.2.2): unreserved characters are not escaped, escapes have upper-case digits, what cannot stand
in a URL (spaces, anything beyond ASCII) is escaped as UTF-8. What a normalised request never holds is refused.
"""

from __future__ import annotations

import re

from portway_operator.decode.fields import BadObject, show
from portway_proxy.snapshot import PathMatch

__all__ = ["PATH_TYPES", "canonical_path"]

PATH_TYPES = {
    "Exact": PathMatch.EXACT,
    "Prefix": PathMatch.PREFIX,
    "ImplementationSpecific": PathMatch.PREFIX,
}
"""Path types of the Ingress API, and how we match each."""

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?|[?# \x80-\xff]")
_CANONICAL = re.compile(r"/|(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
# The proxy refuses requests with dots beside an encoded slash or a semicolon, too.
_DOTS = re.compile(rb"(?:/|%2F|%5C)\.{1,2}(?:;[^/]*)?(?=/|%2F|%5C|\Z)")


def canonical_path(path: str, path_type: str, field: str) -> str:
    """Return `path` in the form that request paths are normalised to; an empty ImplementationSpecific one is `/`.

    Raises `BadObject` for what no request path can equal, and for what the API server refuses.
    """
    specific = path_type == "ImplementationSpecific"
    if not path and specific:
        return "/"
    if _CANONICAL.fullmatch(path):
        return path
    if not path.startswith("/"):
        raise _bad(field, path, "does not begin with `/`", "Begin the path with `/`.")
    if _CONTROL.search(path):
        raise _bad(field, path, "holds a control character", "Remove it.")
    if "\\" in path:
        raise _bad(field, path, "holds a backslash, which no request path can", "Use `/`.")
    try:
        octets = path.encode()
    except UnicodeEncodeError:
        raise _bad(field, path, "holds half a character", "Save it as UTF-8.") from None
    octets = _ESCAPE.sub(lambda found: _escape(found, field, path), octets)
    _check(octets, field, path)
    if not specific and (b"%2F" in octets or b"%5C" in octets):
        raise _bad(field, path, "holds an encoded slash", "Write `/`, or use pathType ImplementationSpecific.")
    return octets.decode("ascii")


def _escape(found: re.Match[bytes], field: str, path: str) -> bytes:
    if found[0] == b"%":
        raise _bad(field, path, "holds `%` without two hexadecimal digits", "Write `%25` for a percent sign.")
    if found[1] is None:
        return b"%%%02X" % found[0][0]
    octet = int(found[1], 16)
    if octet == 0:
        raise _bad(field, path, "holds an encoded NUL", "Remove it.")
    return bytes((octet,)) if octet in _UNRESERVED else found[0].upper()


def _check(octets: bytes, field: str, path: str) -> None:
    if b"//" in octets:
        raise _bad(field, path, "holds `//`; slashes of a request are merged before it is matched", "Write one slash.")
    if _DOTS.search(octets):
        raise _bad(
            field, path, "holds `.` or `..` as a segment; a request's are resolved before it is matched", "Resolve it."
        )


def _bad(field: str, path: str, fault: str, remedy: str) -> BadObject:
    return BadObject(field, f"The path {show(path)} {fault}.", remedy)
