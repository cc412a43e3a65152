"""Translates the frequent idioms of nginx's configuration in snippets to annotations that exist; it executes nothing.

What it cannot translate it says line by line. A value is in the result only if the table's own parser takes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from portway_operator.annotations import IngressAnnotations, row_of, rows
from portway_operator.check.directives import BadText, Directive, read_directives
from portway_operator.check.report import Left, PathRule, Translation
from portway_operator.decode.meta import NGINX_PREFIX, PREFIX
from portway_operator.parse_http import request_fields
from portway_operator.settings import Compatibility
from portway_proxy.patterns import BadPattern, compile_pattern

__all__ = ["NOBODY", "SNIPPETS", "translate"]

SNIPPETS: Final = tuple(NGINX_PREFIX + name for name in ("configuration-snippet", "server-snippet"))
"""The annotations that are translated."""

NOBODY: Final = "0.0.0.0/0, ::/0"
"""The networks that leave nobody in, as a list of those that are kept out."""

_SIZES: Final = {
    "client_max_body_size": "body-size",
    "proxy_connect_timeout": "connect-timeout",
    "proxy_read_timeout": "read-timeout",
    "proxy_send_timeout": "send-timeout",
}
# Strict, so that no other path of the host becomes an expression by it.
_AS_PATTERN: Final = {f"{PREFIX}use-regex": "true", f"{PREFIX}compatibility": str(Compatibility.STRICT)}
_PERMANENT: Final = ("301", "308")
_TEMPORARY: Final = ("302", "303", "307")

# What Portway does, or leaves alone, without being asked.
_NEEDLESS: Final[Mapping[str, tuple[str, ...]]] = {
    "gzip": ("off",),
    "proxy_buffering": ("off",),
    "proxy_http_version": ("1.1",),
    "proxy_request_buffering": ("off",),
    "proxy_intercept_errors": ("off",),
}
_TOLD: Final = frozenset(
    {"connection", "upgrade", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"}
    | {"x-forwarded-scheme", "x-real-ip", "x-request-id", "x-scheme"}
)
_WHOLE: Final = re.compile(r"\^?(?:/|/\(\.\*\)|\(\.\*\)|/\.\*|\.\*)?\$?")
_HTTP: Final = re.compile(r"\(?\$(?:scheme|http_x_forwarded_proto|https) *(?:=|!=)? *['\"]?(?:http|https|on)?['\"]?\)?")

_REASONS: Final[Mapping[str, str]] = {
    "if": "Conditions are not translated; a condition on the host is an Ingress of its own, one on a path too.",
    "gzip": "Portway does not compress; let the application or a cache before Portway do that.",
    "gzip_types": "Portway does not compress.",
    "more_clear_headers": "No annotation takes a field out of answers; let the application leave it out.",
    "proxy_hide_header": "No annotation takes a field out of answers; let the application leave it out.",
    "set": "Portway has no variables of users.",
    "proxy_pass": "Where requests go is the rule's backend; make a Service of it.",
    "auth_request": "Use the annotations auth-url and auth-signin.",
    "limit_req": "Use the annotations limit-rps and limit-rpm.",
    "limit_conn": "Use the annotation limit-connections.",
    "sub_filter": "Portway does not change bodies.",
    "proxy_set_header": "A field that endpoints get has one name and one value.",
}
_UNKNOWN: Final = "There is no annotation for it."


def translate(key: str, text: str) -> Translation:
    """Return what a snippet comes to; never raises."""
    try:
        directives = read_directives(text)
    except BadText as error:
        lines = text.splitlines() or [""]
        line = lines[min(error.line, len(lines)) - 1].strip()
        return Translation(key, left=(Left(error.line, line, f"It cannot be read: {error}."),))
    working = _Translator()
    working.take(directives)
    return working.result(key)


class _Translator:
    """The annotations of one place, a path or a whole Ingress, as its directives are read."""

    def __init__(self, *, inside: bool = False) -> None:
        self._inside = inside
        self._values: dict[str, str] = {}
        self._fields: dict[str, tuple[str, Directive]] = {}
        self._access: list[Directive] = []
        self._sends: list[str] = []
        self._left: list[Left] = []
        self._needless: list[str] = []
        self._paths: list[PathRule] = []
        self._takers: Mapping[str, Callable[[Directive], bool]] = {
            "more_set_headers": self._more_set_headers,
            "add_header": self._add_header,
            "proxy_set_header": self._proxy_set_header,
            "return": self._return,
            "rewrite": self._rewrite,
            "allow": self._note_access,
            "deny": self._note_access,
            "location": self._location,
            "if": self._if,
        }

    def take(self, directives: Sequence[Directive]) -> None:
        """Translate what can be."""
        for one in directives:
            taker = self._takers.get(one.name, self._plain)
            if not taker(one):
                self._leave(one)
        self._settle_access()
        self._settle_fields()

    def result(self, key: str) -> Translation:
        """Return what came of it."""
        left = tuple(sorted(self._left))
        return Translation(key, self._values, tuple(self._paths), tuple(self._needless), left)

    def _leave(self, one: Directive, reason: str = "") -> None:
        self._left.append(Left(one.line, str(one), reason or _REASONS.get(one.name, _UNKNOWN)))
        for inner in one.block or ():
            self._leave(inner, "It stands inside of what is not translated.")

    def _set(self, one: Directive, name: str, value: str) -> bool:
        """Take an annotation if its parser takes the value, and nothing else said it otherwise."""
        key = name if "/" in name else PREFIX + name
        entry = row_of(IngressAnnotations, key)
        if entry is None or self._values.get(key, value) != value:
            return False
        try:
            entry.parse(value)
        except ValueError as error:
            self._leave(one, f"{key}: {value}: {error}.")
            return True
        self._values[key] = value
        return True

    def _plain(self, one: Directive) -> bool:
        """Take a directive that has an annotation of its own, or nothing to do."""
        value = " ".join(one.arguments)
        if one.block is not None:
            return False
        if value in _NEEDLESS.get(one.name, ()):
            self._needless.append(str(one))
            return True
        if one.name in _SIZES:
            return self._set(one, _SIZES[one.name], value)
        key = NGINX_PREFIX + one.name.replace("_", "-")
        entry = row_of(IngressAnnotations, key)
        built = entry is not None and entry in rows(IngressAnnotations).values()
        return built and self._set(one, key, value)

    # --- fields

    def _more_set_headers(self, one: Directive) -> bool:
        if not one.arguments or any(word.startswith("-") for word in one.arguments):
            return False
        for word in one.arguments:
            name, _, value = word.partition(":")
            self._field(one, name.strip(), value.strip())
        return True

    def _add_header(self, one: Directive) -> bool:
        if len(one.arguments) not in {2, 3}:
            return False
        self._field(one, one.arguments[0], one.arguments[1])
        return True

    def _field(self, one: Directive, name: str, value: str) -> None:
        if "$" in value:
            self._leave(one, "Fields of answers have no variables in Portway.")
        elif not value:
            self._leave(one, _REASONS["more_clear_headers"])
        elif name.lower() in self._fields:
            self._leave(one, f"{name} is set twice, and an answer has one.")
        else:
            self._fields[name.lower()] = (f"{name}: {value}", one)

    def _settle_fields(self) -> None:
        entry = row_of(IngressAnnotations, f"{PREFIX}response-headers")
        lines = []
        for line, one in self._fields.values():
            try:
                if entry is not None:
                    entry.parse(line)
            except ValueError as error:
                self._leave(one, f"{error}.")
            else:
                lines.append(line)
        if lines:
            self._values[f"{PREFIX}response-headers"] = "\n".join(lines) + ("\n" if len(lines) > 1 else "")

    def _proxy_set_header(self, one: Directive) -> bool:
        if len(one.arguments) != 2:
            return False
        name, value = one.arguments[0].lower(), one.arguments[1]
        if name in _TOLD or (name, value) == ("host", "$host"):
            self._needless.append(str(one))
            return True
        if name == "host":
            return self._set(one, "upstream-host", value)
        return self._sent(one, one.arguments[0], value)

    def _sent(self, one: Directive, name: str, value: str) -> bool:
        """Take a field that the endpoint gets, unless it is there already or cannot be."""
        line = f"{name}: {value}"
        try:
            request_fields("\n".join([*self._sends, line]))
        except ValueError as error:
            self._leave(one, f"{error}.")
        else:
            self._sends.append(line)
            ends = "\n" if len(self._sends) > 1 else ""
            self._values[f"{PREFIX}request-headers"] = "\n".join(self._sends) + ends
        return True

    # --- redirects

    def _return(self, one: Directive) -> bool:
        match one.arguments:
            case ("403",):
                return self._set(one, "deny-source-range", NOBODY)
            case (url,) if url.startswith(("http", "$scheme")):
                return self._redirect(one, "302", url)
            case (status, url) if status in _PERMANENT or status in _TEMPORARY:
                return self._redirect(one, status, url)
        return False

    def _redirect(self, one: Directive, status: str, url: str) -> bool:
        kind = "permanent" if status in _PERMANENT else "temporal"
        if not self._set(one, f"{kind}-redirect", url):
            return False
        usual = "301" if kind == "permanent" else "302"
        return status == usual or self._set(one, f"{kind}-redirect-code", status)

    def _rewrite(self, one: Directive) -> bool:
        """Take a rewrite of every path, or of one path, that ends in a redirect."""
        if len(one.arguments) != 3 or one.arguments[2] not in {"permanent", "redirect"}:
            return False
        pattern, target, flag = one.arguments
        status = "301" if flag == "permanent" else "302"
        if _WHOLE.fullmatch(pattern):
            return self._redirect(one, status, _with_path(pattern, target))
        path = _literal(pattern)
        if not path or "$" in target.removesuffix("?") or self._inside:
            return False
        return self._path(path, "Exact", [Directive(one.line, ("return", status, target.removesuffix("?")))])

    def _if(self, one: Directive) -> bool:
        """Take the one condition that has an annotation: that a request came without TLS, and goes to https."""
        match one.block:
            case (Directive(words=("return", "301" | "308", url)),) if url.startswith("https://$"):
                condition = " ".join(one.arguments).replace(" )", ")")
                plain = not condition.endswith(("https)", "https')", 'https")', "on)")) or "!=" in condition
                return bool(_HTTP.fullmatch(condition)) and plain and self._set(one, "force-ssl-redirect", "true")
        return False

    # --- who may come

    def _note_access(self, one: Directive) -> bool:
        self._access.append(one)
        return len(one.arguments) == 1

    def _settle_access(self) -> None:
        """Take the lists, where the order in which nginx looks at them is the one in which Portway does."""
        networks = [(one.name, one.arguments[0]) for one in self._access if len(one.arguments) == 1]
        if not networks:
            return
        last = networks[-1]
        closed = last == ("deny", "all")
        rest = networks[:-1] if last[1] == "all" else networks
        names = [name for name, _ in rest]
        denied, allowed = ([network for name, network in rest if name == kind] for kind in ("deny", "allow"))
        ordered = names == sorted(names, reverse=True)  # Portway looks at what is denied first.
        if "all" in denied + allowed or not ordered or (allowed and not closed and denied):
            for one in self._access:
                self._leave(one, "Portway looks at deny-source-range first, and the order here means something else.")
            return
        lists = {"deny-source-range": ", ".join(denied), "allow-source-range": ", ".join(allowed) if closed else ""}
        if closed and not allowed:
            lists["deny-source-range"] = NOBODY
        for name, value in lists.items():
            if value and not self._set(self._access[0], name, value):
                self._leave(self._access[0], f"Something else in the snippet sets {PREFIX}{name} already.")
        if not any(lists.values()):
            self._needless += map(str, self._access)

    # --- paths

    def _location(self, one: Directive) -> bool:
        """Take a path, exact or prefix, whose block can be translated whole, as an Ingress of its own."""
        if self._inside or one.block is None:
            return False
        match one.arguments:
            case ("=", path):
                return self._path(path, "Exact", one.block)
            case ("^~", path) | (path,) if path.startswith("/"):
                return self._path(path, "Prefix", one.block)
            case ("~" | "~*", pattern):
                return self._path(_expression(pattern), "ImplementationSpecific", one.block)
        return False

    def _path(self, path: str, path_type: str, block: Sequence[Directive]) -> bool:
        inner = _Translator(inside=True)
        inner.take(block)
        made = inner.result("")
        if not made.annotations or not path:
            return False
        as_pattern = _AS_PATTERN if path_type == "ImplementationSpecific" else {}
        self._paths.append(PathRule(path, path_type, {**as_pattern, **made.annotations}))
        self._left += made.left
        self._needless += made.needless
        return True


def _with_path(pattern: str, target: str) -> str:
    """Return where a rewrite of every path leads; nginx appends the query unless there is a `?` at the end."""
    bare = target.removesuffix("?")
    query = "" if bare != target else "$is_args$args"
    if "$1" in bare:
        path = "$uri" if query or target.endswith("?") else ""
        before = "/" if pattern.lstrip("^").startswith("/(") else ""
        bare = bare.replace(f"{before}$1", path) if before else bare.replace("$1", path)
    elif "$request_uri" in bare:
        query = ""
    return (bare + query).replace("$uri$is_args$args", "$request_uri")


def _expression(pattern: str) -> str:
    """Return an expression as the path of a rule, which begins at the path's beginning; nothing for what is none."""
    text = pattern.removeprefix("^")
    path = text if text.startswith("/") and text != pattern else f"/.*{text}"
    try:
        compile_pattern(path)
    except BadPattern:
        return ""
    return path


def _literal(pattern: str) -> str:
    """Return the path that an expression stands for, if it is one path."""
    text = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".").replace("\\/", "/")
    escaped = re.search(r"[*+?|(\[{^$\\]", text)
    return text if text.startswith("/") and escaped is None and "." not in pattern.replace("\\.", "") else ""
