"""Tells which paths of an Ingress are regular expressions, and reads those."""

from __future__ import annotations

import re

from portway_operator.decode.fields import BadObject, show
from portway_operator.decode.meta import NGINX_PREFIX, PREFIX
from portway_operator.objects import Meta
from portway_proxy.patterns import BadPattern, compile_pattern

__all__ = ["asks_for_patterns", "is_pattern", "path_pattern"]

_USE = "use-regex"
_REWRITE = "rewrite-target"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_SIGN = re.compile(r"[*+?^$|\[\](){}\\]")
_UNSENT = re.compile(r"[ \x80-\U0010ffff]")


def asks_for_patterns(meta: Meta) -> bool:
    """Return whether the annotations of an Ingress make regular expressions of its paths; a rewrite does."""
    annotations = meta.annotations
    for prefix in (PREFIX, NGINX_PREFIX):
        if prefix + _USE in annotations:
            if annotations[prefix + _USE].strip(" ") in _TRUE:
                return True
            break
    return any(prefix + _REWRITE in annotations for prefix in (PREFIX, NGINX_PREFIX))


def is_pattern(path: str, path_type: str) -> bool:
    """Return whether a path is a regular expression, where those are asked for: by its type, or by a sign in it."""
    return bool(path) and (path_type == "ImplementationSpecific" or _SIGN.search(path) is not None)


def path_pattern(path: str, field: str) -> str:
    """Return a path that is a regular expression, in the form that requests are in: what cannot stand there escaped.

    Raises `BadObject` for one that does not begin with a slash, and for what RE2 does not know.
    """
    if not path.startswith("/"):
        raise BadObject(field, f"The path {show(path)} does not begin with `/`.", "Begin the path with `/`.")
    try:
        escaped = _UNSENT.sub(lambda found: "".join(f"%{octet:02X}" for octet in found[0].encode()), path)
        compile_pattern(escaped)
    except (BadPattern, UnicodeEncodeError) as error:
        reason = str(error) if isinstance(error, BadPattern) else "it holds half a character"
        remedy = "Use the syntax of RE2, which has neither look-around nor references to groups."
        raise BadObject(field, f"The path {show(path)} is no regular expression: {reason}.", remedy) from None
    return escaped
