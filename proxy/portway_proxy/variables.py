"""The variables that may stand in values of annotations (`https://new.example$request_uri`): a closed set.

The names are nginx's. What is in no list here is refused when the annotation is read, and never comes to a request.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["NAMES", "PREFIXES", "Parts", "split", "unknown"]

NAMES: Final = frozenset(
    {
        "args",
        "best_http_host",
        "content_length",
        "content_type",
        "document_uri",
        "escaped_request_uri",
        "host",
        "hostname",
        "is_args",
        "proxy_add_x_forwarded_for",
        "query_string",
        "remote_addr",
        "request_method",
        "request_uri",
        "scheme",
        "server_name",
        "server_port",
        "uri",
    }
)
"""The variables."""

PREFIXES: Final = ("arg_", "cookie_", "http_")
"""The beginnings of variables that go on with the name of a parameter, a cookie or a field (lower-case, with `_`)."""

Parts = list[tuple[str, str]]
"""A template: texts and the names of variables in turn, one of each pair empty."""

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]*)\}|([A-Za-z0-9_]*))")


def split(template: str) -> Parts:
    """Return the parts of a template, in order."""
    parts: Parts = []
    end = 0
    for found in _VARIABLE.finditer(template):
        parts += [(template[end : found.start()], ""), ("", found[1] or found[2] or "")]
        end = found.end()
    return [part for part in [*parts, (template[end:], "")] if part != ("", "") or template[end:] == template]


def unknown(template: str) -> list[str]:
    """Return the variables of a template that there are not."""
    named = [found[1] or found[2] or "" for found in _VARIABLE.finditer(template)]
    return [name for name in named if name not in NAMES and not (name.startswith(PREFIXES) and name[-1] != "_")]
