"""Parsers of annotation values that are about HTTP: text in, a typed value out, as in `parse`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from portway_operator.decode.fields import show
from portway_operator.parse import host, networks
from portway_proxy.patterns import BadPattern, compile_pattern
from portway_proxy.snapshot import Protocol
from portway_proxy.variables import unknown

__all__ = [
    "certificate_name",
    "domain_pair",
    "field_names",
    "field_pair",
    "fields",
    "hash_text",
    "hosts",
    "known",
    "location",
    "methods_list",
    "next_upstream",
    "origins",
    "path_pair",
    "pattern",
    "prefix",
    "redirect_status",
    "redirect_text",
    "redirect_to",
    "replacement",
    "request_fields",
    "request_pair",
    "some_networks",
    "span_name",
    "spoken",
    "subject_pattern",
    "template",
    "texts",
    "url",
]

_TEXT = re.compile(r"[!-~]{1,1024}")
_SPAN = re.compile(r"[ -~]{0,256}")
_MANAGED = re.compile(
    r"content-.*|expect|forwarded|host|proxy.*|x-real-ip|x-forwarded-(for|host|port|proto|scheme|prefix)|x-scheme",
    re.IGNORECASE,
)
_CASES = frozenset(
    {"error", "timeout", "invalid_header", "updating"}
    | {f"http_{status}" for status in (500, 502, 503, 504, 403, 404, 429)}
)
_DOMAIN = re.compile(r"\.?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_COOKIE_PATH = re.compile(r"/[!#-+\--:<-\[\]-~]{0,255}")
_LOCATION = re.compile(r"(?:https?://|/|\$)[!#-\[\]-~]{0,2047}")
_TEMPLATE = re.compile(r"[A-Za-z0-9$_{}.:-]{1,253}")
_PREFIX = re.compile(r"/[!#-\[\]-~]{0,255}")
_REPLACEMENT = re.compile(r"[$/][!$-~]{0,1023}")
_GROUP = re.compile(r"\$(?![0-9])")
_ORIGIN = re.compile(r"(?:\*|[a-z][a-z0-9+.-]*://(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?)")
_FIELD_LIST = re.compile(r"\*|[A-Za-z0-9_-]+(?: *, *[A-Za-z0-9_-]+)*")
_METHODS = re.compile(r"\*|[A-Za-z]+(?: *, *[A-Za-z]+)*")
_STATUS = re.compile(r"30[0-8]")
_FIELD = re.compile(r"([A-Za-z0-9-]{1,64}): *([!-~](?:[ -~]{0,2046}[!-~])?)")
# What frames an answer, or is of one connection only, is the proxy's to say.
_SPOKEN = {
    "HTTP": Protocol.HTTP,
    "HTTPS": Protocol.HTTPS,
    "GRPC": Protocol.H2C,
    "GRPCS": Protocol.H2,
    "AUTO_HTTP": None,
}
_OURS = frozenset(
    {"connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"}
    | {"server", "upgrade", "x-request-id"}
)


def some_networks(value: str) -> tuple[str, ...]:
    """Return networks (`10.0.0.0/8, 2001:db8::1`), sorted, at least one: a list of none would mean everybody."""
    found = networks(value)
    if not found:
        raise ValueError("it names no network")
    return found


def location(value: str) -> str:
    """Return where a redirect leads: a URL or a path, perhaps with variables (`https://new.example$request_uri`)."""
    if not _LOCATION.fullmatch(value):
        raise ValueError("it is neither a URL nor a path")
    return known(value)


def template(value: str) -> str:
    """Return a host name, perhaps with variables (`$http_x_tenant.internal`)."""
    if not _TEMPLATE.fullmatch(value):
        raise ValueError("it is no host name")
    return known(value)


def known(value: str) -> str:
    """Return a template whose variables are all known."""
    names = unknown(value)
    if names:
        raise ValueError(f"there is no variable ${names[0]}")
    return value


def prefix(value: str) -> str:
    """Return a path that begins with a slash."""
    if not _PREFIX.fullmatch(value):
        raise ValueError("it is no path such as /shop")
    return value


def replacement(value: str) -> str:
    """Return what takes the place of a path, perhaps with groups (`/$2`) and a query."""
    if not _REPLACEMENT.fullmatch(value) or "#" in value:
        raise ValueError("it is no path such as /$2, without blanks and `#`")
    if _GROUP.search(value):
        raise ValueError("`$` stands before the number of a group, $1 to $9")
    return value


def redirect_status(most: int) -> Callable[[str], int]:
    """Return a parser for the statuses of redirects, from 300 to `most`."""

    def parse(value: str) -> int:
        if not _STATUS.fullmatch(value) or int(value) > most:
            raise ValueError(f"it is no status from 300 to {most}")
        return int(value)

    return parse


def origins(value: str) -> tuple[str, ...]:
    """Return origins (`https://shop.example, https://*.shop.example`, or `*`), lower-case and in their order."""
    found = [part.strip(" ").lower() for part in value.split(",") if part.strip(" ")]
    for origin in found:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{show(origin)} is no origin such as https://shop.example or https://*.shop.example")
    if not found:
        raise ValueError("it names no origin")
    return tuple(dict.fromkeys(found))


def field_names(value: str) -> str:
    """Return the names of fields, as a field of CORS lists them."""
    if not _FIELD_LIST.fullmatch(value):
        raise ValueError("it is no list of header names such as X-One, X-Two")
    return value


def methods_list(value: str) -> str:
    """Return the names of methods, as a field of CORS lists them."""
    if not _METHODS.fullmatch(value):
        raise ValueError("it is no list of methods such as GET, PUT")
    return value


def fields(value: str) -> tuple[tuple[str, str], ...]:
    """Return header fields, one a line (`X-Frame-Options: DENY`), in their order."""
    found: dict[str, tuple[str, str]] = {}
    for line in value.splitlines():
        read = _FIELD.fullmatch(line.strip())
        if read is None:
            if line.strip():
                raise ValueError(f"{show(line.strip())} is no header field such as X-Frame-Options: DENY")
            continue
        name = read[1].lower()
        if name in _OURS or name in found:
            raise ValueError(f"{read[1]} is {'there twice' if name in found else 'for the proxy to say'}")
        found[name] = (read[1], read[2])
    if not found:
        raise ValueError("it has no header field")
    return tuple(found.values())


def texts(value: str) -> tuple[str, ...]:
    """Return texts that commas part, sorted: whole ones, and patterns behind `~` or `~*`; nothing for none."""
    found = sorted({part.strip() for part in value.split(",") if part.strip()})
    for text in found:
        if text.startswith("~"):
            pattern(text.removeprefix("~").removeprefix("*"))
    return tuple(found)


def span_name(value: str) -> str:
    """Return the name of a span, perhaps with variables (`HTTP $request_method $uri`)."""
    if not _SPAN.fullmatch(value):
        raise ValueError("it is no name of at most 256 printable characters")
    return known(value)


def request_fields(value: str) -> tuple[tuple[str, str], ...]:
    """Return header fields for endpoints, one a line, perhaps with variables (`X-Client: $remote_addr`)."""
    return tuple(request_pair(*pair) for pair in fields(value))


def field_pair(name: str, value: str) -> tuple[str, str]:
    """Return the name and the value of a header field of a ConfigMap."""
    found = _FIELD.fullmatch(f"{name}: {value}")
    if found is None or name.lower() in _OURS:
        raise ValueError(f"{show(name)} is no header field with a value of one line, or for the proxy to say")
    return name, value


def request_pair(name: str, value: str) -> tuple[str, str]:
    """Return the name and the value of a header field for endpoints, perhaps with variables."""
    found = field_pair(name, value)
    if _MANAGED.fullmatch(name):
        raise ValueError(f"{name} is for the proxy to say")
    return found[0], known(found[1])


def hash_text(value: str) -> str:
    """Return a text without blanks, perhaps with variables: what a hash is taken of."""
    if not _TEXT.fullmatch(value):
        raise ValueError("it is no text such as $request_uri, without blanks")
    return known(value)


def next_upstream(value: str) -> tuple[str, ...]:
    """Return when another endpoint is asked, sorted (`error timeout http_502`); nothing for `off`."""
    found = sorted(set(value.split()))
    for word in found:
        if word not in _CASES and word not in ("off", "non_idempotent"):
            raise ValueError(f"{show(word)} is none of off, non_idempotent, {', '.join(sorted(_CASES))}")
    if not found:
        raise ValueError("it says nothing; `off` asks no other endpoint")
    return () if "off" in found else tuple(found)


def domain_pair(value: str) -> tuple[str, str] | None:
    """Return a domain and what takes its place, lower-case (`old.example new.example`); None for `off`."""
    return _pair(value.lower(), _DOMAIN, "old.example new.example")


def path_pair(value: str) -> tuple[str, str] | None:
    """Return the beginning of a path and what takes its place (`/old/ /`); None for `off`."""
    return _pair(value, _COOKIE_PATH, "/old/ /")


def _pair(value: str, pattern: re.Pattern[str], example: str) -> tuple[str, str] | None:
    if value == "off":
        return None
    parts = value.split()
    if len(parts) != 2 or not all(pattern.fullmatch(part) for part in parts):
        raise ValueError(f"it is neither `off` nor a pair such as {example}")
    return parts[0], parts[1]


def redirect_text(value: str) -> str:
    """Return the beginning of a Location; nothing for `off` and `default`."""
    if value in ("off", "default"):
        return ""
    if not _TEXT.fullmatch(value) or value.startswith("~"):
        raise ValueError("it is no beginning of a URL such as http://old.example/, without blanks")
    return value


def redirect_to(value: str) -> str:
    """Return what takes the place of the beginning of a Location, perhaps with variables; nothing for `off`."""
    return known(redirect_text(value))


def hosts(value: str) -> tuple[str, ...]:
    """Return host names (`a.example, b.example`), lower-case and sorted."""
    found = sorted({part.strip(" ").lower() for part in value.split(",") if part.strip(" ")})
    for name in found:
        if ":" in host(name):
            raise ValueError(f"{show(name)} has a port")
    if not found:
        raise ValueError("it names no host")
    return tuple(found)


def certificate_name(value: str) -> str:
    """Return a name or an address that a certificate may have; the name lower-case."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        [name] = hosts(value) if "," not in value else ("",)
    if not name:
        raise ValueError("it is not one name such as web.shop.svc")
    return name


def spoken(value: str) -> Protocol | None:
    """Return what endpoints speak, or None: that is left open."""
    if value.upper() not in _SPOKEN:
        raise ValueError(f"it is none of {', '.join(_SPOKEN)}")
    return _SPOKEN[value.upper()]


def url(value: str) -> str:
    """Return a URL."""
    if not value.startswith(("http://", "https://")) or not _LOCATION.fullmatch(value) or "$" in value:
        raise ValueError("it is no URL such as https://shop.example/why")
    return value


def subject_pattern(value: str) -> str:
    """Return a regular expression for the name in a certificate."""
    if not value.startswith("CN="):
        raise ValueError("it does not begin with CN=")
    return pattern(value)


def pattern(value: str) -> str:
    """Return a regular expression of the kind that takes linear time."""
    try:
        compile_pattern(value)
    except BadPattern as error:
        raise ValueError(f"it is no regular expression that RE2 knows: {error}") from None
    return value
