"""Findings about what a path asks of its clients: passwords, and where they come from. No text quotes a hash."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from portway_operator.decode.fields import show
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = [
    "auth_secret_empty",
    "auth_secret_foreign",
    "auth_secret_lines",
    "auth_secret_missing",
    "auth_secret_unnamed",
    "auth_url_refused",
    "client_authority_expires",
    "client_authority_unusable",
    "client_rules_taken",
]

_CLOSED = "The paths of the Ingress answer 503."
_SHOWN = 5


def auth_secret_unnamed(origin: Origin, wanted: str) -> Problem:
    """Say that passwords are asked for, and no Secret is named that has them."""
    return Problem(
        origin, "auth_secret_unnamed", "It asks for passwords, and no Secret has them.", _CLOSED, f"Set {wanted}."
    )


def auth_secret_foreign(origin: Origin, name: str, namespace: str) -> Problem:
    """Say that the Secret with the passwords is in another namespace, whose owner may be somebody else."""
    return Problem(
        origin,
        "auth_secret_foreign",
        f"{show(name)} is not in the Ingress's own namespace {namespace}.",
        _CLOSED,
        f"Put a copy of the Secret into the namespace {namespace}.",
    )


def auth_secret_missing(origin: Origin, namespace: str, secret: str) -> Problem:
    """Say that there is no Secret with the passwords."""
    return Problem(
        origin,
        "auth_secret_missing",
        f"There is no Secret {namespace}/{secret}, or Portway may not read it.",
        _CLOSED,
        "Create it, correct the name, or grant the operator list and watch of it.",
    )


def client_authority_unusable(origin: Origin, secret: str, found: str) -> Problem:
    """Say that the Secret has no authority by which clients can be asked who they are; `found` is a sentence."""
    return Problem(
        origin,
        "client_authority_unusable",
        f"Secret {secret}: {found}",
        _CLOSED,
        "Give it the authorities' certificates (PEM) as ca.crt, and lists of revoked ones as ca.crl, if any.",
    )


def client_authority_expires(origin: Origin, secret: str, part: str, day: int, *, expired: bool) -> Problem:
    """Say that an authority's certificate, or its list of revoked ones, is about to expire on a `day`, or has.

    The day is one since the epoch. The code of the latter is `client_authority_expired`.
    """
    date = datetime.datetime.fromtimestamp(day * 86_400, datetime.UTC).date()
    return Problem(
        origin,
        "client_authority_expired" if expired else "client_authority_expires",
        f"{part} in Secret {secret} {'expired' if expired else 'expires'} on {date}.",
        "No certificate of a client is good any more." if expired else "It is used.",
        "Renew it.",
        Severity.ERROR if expired else Severity.NOTICE,
    )


def client_rules_taken(origin: Origin, host: str, owner: Origin) -> Problem:
    """Say that an older Ingress asks clients of the same host for other certificates."""
    return Problem(
        origin,
        "client_rules_taken",
        f"{owner} asks clients of {host or 'any host'} for other certificates, and they are asked once for all paths.",
        _CLOSED,
        "Say the same in both, or use another host.",
    )


def auth_secret_empty(origin: Origin, secret: str, wanted: str) -> Problem:
    """Say that the Secret holds nobody's password."""
    return Problem(
        origin,
        "auth_secret_empty",
        f"Secret {secret} has no user with a password hash that can be used.",
        _CLOSED,
        wanted,
    )


def auth_secret_lines(origin: Origin, secret: str, places: Sequence[str]) -> Problem:
    """Say that some users of the Secret cannot pass."""
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return Problem(
        origin,
        "auth_secret_lines",
        f"Secret {secret}: {', '.join(places[:_SHOWN])}{more} hold no user and hash that can be used.",
        "Those users cannot pass; the others can.",
        "Write user:hash, with a hash of htpasswd: bcrypt with a cost of at most 13, apr1, SHA or crypt.",
        Severity.NOTICE,
    )


def auth_url_refused(origin: Origin, host: str, kind: str) -> Problem:
    """Say that a service is asked at an address that no tenant may have the proxy connect to."""
    return Problem(
        origin,
        "auth_url_refused",
        f"{show(host)} is a {kind} address, which serves no tenant.",
        _CLOSED,
        "Name the service by its Service: http://NAME.NAMESPACE.svc.",
    )
