"""Findings about certificates."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from portway_operator.certificates import KeyPair
from portway_operator.decode.fields import show
from portway_operator.objects import Fault
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = [
    "certificate_expires",
    "certificate_mismatch",
    "certificate_taken",
    "ciphers_taken",
    "secret_missing",
    "secret_unusable",
    "staple_unusable",
]

_DEFAULT_CERTIFICATE = "The default certificate is served where no other Ingress has one for the host."
_LAST_GOOD = "The certificate that it had before is still served."


def secret_missing(origin: Origin, namespace: str, secret: str) -> Problem:
    """Say that a TLS Secret does not exist."""
    return Problem(
        origin,
        "secret_missing",
        f"There is no Secret {namespace}/{secret} of type kubernetes.io/tls.",
        _DEFAULT_CERTIFICATE,
        "Create it, or correct the name.",
    )


def secret_unusable(origin: Origin, secret: str, found: Fault, last_good: KeyPair | None) -> Problem:
    """Say that a TLS Secret has no usable certificate and key; the code is the fault's."""
    done = _DEFAULT_CERTIFICATE if last_good is None else _LAST_GOOD
    return Problem(origin, found.code, f"Secret {secret}: {found.found}", done, found.remedy)


def certificate_expires(origin: Origin, secret: str, not_after: int, *, expired: bool, before: bool = False) -> Problem:
    """Say that a certificate is about to expire, or has; the code of the latter is `certificate_expired`.

    Where the one `before` it is still good, that is served.
    """
    served = _LAST_GOOD if before else "It is served, and clients refuse it." if expired else "It is served."
    day = datetime.datetime.fromtimestamp(not_after, datetime.UTC).date()
    return Problem(
        origin,
        "certificate_expired" if expired else "certificate_expires",
        f"The certificate in Secret {secret} {'expired' if expired else 'expires'} on {day}.",
        served,
        "Renew it, or see why that fails.",
        Severity.ERROR if expired else Severity.NOTICE,
    )


def certificate_mismatch(origin: Origin, secret: str, host: str, names: Sequence[str]) -> Problem:
    """Say that a certificate is not good for the host that it is meant for."""
    good = ", ".join(names) or "no host at all"
    return Problem(
        origin,
        "certificate_mismatch",
        f"The certificate in Secret {secret} is not for {host}; it is for {good}.",
        _DEFAULT_CERTIFICATE,
        "Use a certificate with that name, or correct the host.",
    )


def certificate_taken(origin: Origin, host: str, winner: str, owner: Origin) -> Problem:
    """Say that an older Ingress has another certificate for the same host."""
    return Problem(
        origin,
        "certificate_taken",
        f"{host} already has the certificate of Secret {winner}, by {owner}.",
        "The older Ingress's certificate is served.",
        "Use the same Secret for both.",
    )


def staple_unusable(origin: Origin, secret: str, found: str) -> Problem:
    """Say that the OCSP response in a TLS Secret is of no use."""
    return Problem(
        origin,
        "staple_unusable",
        f"tls.ocsp-staple in Secret {secret}: {found}",
        "The certificate is served without it.",
        "Put a new response of the certificate's authority there (DER), or leave it out.",
        Severity.NOTICE,
    )


def ciphers_taken(origin: Origin, host: str) -> Problem:
    """Say that an older Ingress has other ciphers for a host."""
    return Problem(
        origin,
        "ciphers_taken",
        f"An older Ingress has other ciphers for {show(host)}.",
        "Those count.",
        "Have all Ingresses of a host say the same, or only one of them.",
        Severity.NOTICE,
    )
