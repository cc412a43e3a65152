"""Which certificate a TLS client is shown, and why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from portway_proxy.explain.explanation import Rival, Stage, StageName
from portway_proxy.snapshot import Certificate, Snapshot
from portway_proxy.tls_names import TlsNames

__all__ = ["shown_certificate"]

_MOST = 8  # Certificates that are named beside the one that is chosen.


class _Read(NamedTuple):
    """What a certificate says of itself: its kind of key, and from when until when it is good."""

    certificate: Certificate
    kind: str
    not_before: datetime
    not_after: datetime

    def __str__(self) -> str:
        """Return `shop/tls (ECDSA, until 2027-01-31)`."""
        return f"{self.certificate.name} ({self.kind}, until {self.not_after.date()})"

    def fault(self, now: datetime) -> str:
        """Return why clients refuse it at `now`, or nothing."""
        if now >= self.not_after:
            return f"; it expired on {self.not_after.date()}, and clients refuse it"
        return f"; it is not good before {self.not_before}, and clients refuse it" if now < self.not_before else ""


def shown_certificate(snapshot: Snapshot, names: TlsNames, name: str, now: float) -> tuple[Stage, bool]:
    """Return what a client that asks for `name` is shown at `now`, and whether that is for this very name."""
    own = list(_readable(names.own(name)))
    served = _one_of_each_kind(own)
    moment = datetime.fromtimestamp(now, UTC)
    if served:
        exact = any(name in one.certificate.hosts for one in served)
        why = f"for {name} itself" if exact else f"for *.{name.partition('.')[2]}, and {name} has none of its own"
        if len(served) > 1:
            why += ", the one whose kind of key the client can use"
        why += "".join(one.fault(moment) for one in served)
        return _stage(served, why, _others(snapshot, names, name, served)), True
    asked = f"no certificate is for {name}" if name else "the client asks for no name"
    if names.own(name):
        asked = f"none of those for {name} can be read"
    default = list(_readable(names.default))
    others = _others(snapshot, names, name, default)
    if default:
        why = f"{asked}: this is the default one{''.join(one.fault(moment) for one in default)}"
        return _stage(default, why, others), False
    why = f"{asked}, and there is no default one: clients refuse it"
    return Stage(StageName.CERTIFICATE, "the proxy's own, signed by itself", why, "", others), False


def _stage(served: list[_Read], why: str, others: tuple[Rival, ...]) -> Stage:
    origin = ", ".join(f"Secret {one.certificate.name}" for one in served)
    return Stage(StageName.CERTIFICATE, " or ".join(map(str, served)), why, origin, others)


def _others(snapshot: Snapshot, names: TlsNames, name: str, served: Iterable[_Read]) -> tuple[Rival, ...]:
    """Return those that are for the name too, or nearly, and why each is not shown."""
    chosen = {one.certificate.name for one in served}
    own = {one.name for one in names.own(name)}
    wildcard = "*." + name.partition(".")[2]
    found = []
    for one in snapshot.certificates:
        if one.name in chosen:
            continue
        if one.name in own:
            found.append(Rival(one.name, "one with the same kind of key comes first by name, or this is unreadable"))
        elif wildcard in one.hosts:
            found.append(Rival(one.name, f"it is for {wildcard}: a certificate for the very name comes before it"))
        elif (above := _above(name, one.hosts)) is not None:
            found.append(Rival(one.name, f"it is for {above}, and a wildcard stands for one label alone"))
    return tuple(found[:_MOST])


def _above(name: str, hosts: Iterable[str]) -> str | None:
    return next((host for host in hosts if host.startswith("*.") and name.endswith(host[1:])), None)


def _one_of_each_kind(read: Iterable[_Read]) -> list[_Read]:
    # As OpenSSL keeps them: the first by name of each kind of key.
    kinds: dict[str, _Read] = {}
    for one in read:
        kinds.setdefault(one.kind, one)
    return list(kinds.values())


def _readable(certificates: Iterable[Certificate]) -> Iterable[_Read]:
    from cryptography import x509  # noqa: PLC0415 - 15 MB, for those who explain TLS
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - 15 MB, for those who explain TLS

    for one in certificates:
        try:
            leaf = x509.load_pem_x509_certificate(one.chain)
        except ValueError:
            continue
        key = leaf.public_key()
        kind = (
            "RSA"
            if isinstance(key, rsa.RSAPublicKey)
            else "ECDSA"
            if isinstance(key, ec.EllipticCurvePublicKey)
            else ""
        )
        yield _Read(one, kind or type(key).__name__, leaf.not_valid_before_utc, leaf.not_valid_after_utc)
