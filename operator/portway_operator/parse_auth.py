"""Parsers of annotation values that are about external authentication: text in, a typed value out, as in `parse`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from portway_operator.decode.fields import show
from portway_operator.parse import token
from portway_operator.parse_http import known

__all__ = ["ServiceUrl", "auth_url", "copied_fields", "durations", "remembered_by", "returned_to", "service_url"]

_URL = re.compile(
    r"(https?)://(\$\{?(?:host|http_host|best_http_host|server_name)\}?|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9.])?"
    r"|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?((?:(?:[/?]|\$\{?(?:request_)?uri\b)[!$-~]{0,2047})?)"
)
_TEXT = re.compile(r"[!-~]{1,1024}")
_TIME = re.compile(r"([0-9]{1,7})(ms|s|m|h|d|w)?")
_STATUS = re.compile(r"[1-5][0-9]{2}")
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LONGEST = 30 * 86400.0
_MOST = 32
# What frames a request, is of one connection only, or says who the client is.
_TAKEN = re.compile(
    r"connection|content-.*|expect|forwarded|host|keep-alive|proxy.*|te|trailer|transfer-encoding|upgrade|x-real-ip"
    r"|x-forwarded-(for|host|port|proto|scheme|prefix)|x-request-id|x-scheme",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """Where a service is.

    `host` is empty for the host of the request, `port` is the scheme's where none is named, `target` is a template.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Return what the service gets as Host."""
        usual = self.port == (443 if self.scheme == "https" else 80)
        return self.host if usual else f"{self.host}:{self.port}"


def auth_url(value: str) -> ServiceUrl:
    """Return the URL of a service, perhaps with variables in its path and query."""
    found = _URL.fullmatch(value)
    if found is None:
        raise ValueError("it is no URL such as http://auth.sso.svc.cluster.local/verify, or https://$host/oauth2/auth")
    scheme, host, port, target = found.groups()
    own = host.startswith("$")
    if own and port:
        raise ValueError("behind the host of the request no port may stand")
    number = int(port) if port else 443 if scheme == "https" else 80
    if not 0 < number < 65536:
        raise ValueError(f"{port} is no port")
    target = target if target.startswith(("/", "$")) else "/" + target
    return ServiceUrl(scheme, "" if own else host.lower().rstrip("."), number, known(target))


def service_url(value: str) -> ServiceUrl | None:
    """Return the URL of a service, without variables in the place of its host, or None for nothing."""
    if not value:
        return None
    found = auth_url(value)
    if not found.host:
        raise ValueError("its host is a variable")
    return found


def copied_fields(value: str) -> tuple[str, ...]:
    """Return the names of fields, lower-case and sorted."""
    found = sorted({token(part.strip(" ")).lower() for part in value.split(",") if part.strip(" ")})
    for name in found:
        if _TAKEN.fullmatch(name):
            raise ValueError(f"{show(name)} is for the proxy to say")
    if not found:
        raise ValueError("it names no field")
    if len(found) > _MOST:
        raise ValueError(f"it names more than {_MOST} fields")
    return tuple(found)


def returned_to(value: str) -> str:
    """Return a text without blanks, perhaps with variables."""
    if not _TEXT.fullmatch(value):
        raise ValueError("it is no URL, and no path, without blanks")
    return known(value)


def remembered_by(value: str) -> str:
    """Return a text without blanks, with variables: what has none would be one key for everybody."""
    if not _TEXT.fullmatch(value) or "$" not in value:
        raise ValueError("it is no text of variables such as $cookie_session")
    return known(value)


def durations(value: str) -> tuple[tuple[int, float], ...]:
    """Return seconds by status, sorted; 0 is any status."""
    found: dict[int, float] = {}
    for part in value.split(","):
        *statuses, time = part.split()[-_MOST:] or [""]
        seconds = _seconds(time)
        found |= dict.fromkeys([_status(text) for text in statuses] or [200], seconds)
    return tuple(sorted(found.items()))


def _status(text: str) -> int:
    if text == "any":
        return 0
    if not _STATUS.fullmatch(text):
        raise ValueError(f"{show(text)} is no status")
    return int(text)


def _seconds(text: str) -> float:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{show(text)} is no time such as 5m")
    seconds = int(found[1]) * _SECONDS[found[2] or ""]
    if seconds > _LONGEST:
        raise ValueError(f"{show(text)} is longer than 30d")
    return seconds
