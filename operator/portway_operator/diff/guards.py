"""What guards a request by one policy, and what of it is lost with another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from portway_operator.diff.access import Access, Loss
from portway_operator.diff.side import Side
from portway_proxy.snapshot import (
    Blocked,
    ClientAuthority,
    ClientCertificate,
    Policy,
    Protocol,
    RateLimit,
    Upstream,
    Verification,
)

__all__ = ["ACCESS", "Way", "losses", "without"]

ACCESS: Final = frozenset(("client_certificate", "closure", "either", "external", "networks", "password"))
"""The subjects of losses that say who may come; others say how."""


_NONE: Final = Policy()
_LAX: Final = tuple(Verification)  # From the strictest on.
_TLS: Final = (Protocol.HTTPS, Protocol.H2)
_BLOCK: Final = re.compile(rb"-----BEGIN [^-]+-----.*?-----END [^-]+-----", re.DOTALL)
_BODY: Final = "proxy-body-size"
_FIELDS: Final = {
    "block": ("blocked",),
    "body_size": ("body_size",),
    "client_certificate": ("certificate",),
    "either": ("any_suffices",),
    "external": ("external",),
    "https": ("https_redirect",),
    "limit": ("limit",),
    "networks": ("allow", "deny"),
    "password": ("basic",),
}


class Way:
    """How requests of a route go on: its policy, and the upstream, of one side."""

    __slots__ = ("policy", "side", "upstream")

    def __init__(self, side: Side, policy: Policy | None, upstream: str) -> None:
        self.side = side
        self.policy = policy or _NONE
        self.upstream = side.upstream(upstream)

    @property
    def ends(self) -> bool:
        """Whether no request reaches an endpoint: all are refused or sent elsewhere."""
        return bool(self.policy.closed or self.policy.redirect or self.policy.www)

    @property
    def body(self) -> int:
        """The most bytes of a body; 0 is no limit."""
        if self.policy.body_size is not None:
            return self.policy.body_size
        return next((int(one.value) for one in self.side.snapshot.settings if one.name == _BODY), 0)


def without(policy: Policy, subjects: Iterable[str]) -> Policy:
    """Return a policy without what losses of these subjects tell of it."""
    names = [name for subject in subjects for name in _FIELDS.get(subject, ())]
    return msgspec.structs.replace(policy, **{name: getattr(_NONE, name) for name in names})


def losses(old: Way, new: Way) -> Iterator[Loss]:
    """Yield what guarded a request that went the way `old`, and does not guard it now."""
    if new.ends:
        return
    if old.policy != new.policy:
        access = Access(new.policy, new.side)
        if access.nobody:
            return
        if old.policy.closed:
            if not new.policy.guards:
                yield Loss("closure_lost", f"is closed to everybody ({old.policy.closed})", "is open to anybody")
            return
        yield from Access(old.policy, old.side).losses(access)
        yield from _certificates(old, new)
        yield from _https(old.policy, new.policy)
        yield from _limits(old.policy.limit, new.policy.limit)
        yield from _blocked(old.policy.blocked, new.policy.blocked)
    yield from _bodies(old, new)
    yield from _endpoints(old, new)


def _certificates(old: Way, new: Way) -> Iterator[Loss]:
    was, now = old.policy.certificate, new.policy.certificate
    if was is None:
        return
    words = f"asks clients for a certificate of {_public(was.authority)}"
    if now is None:
        yield Loss("client_certificate_lost", words, "does not")
    elif not _vouches(was, now, old.side, new.side):
        yield Loss("client_certificate_other", words, f"takes those of {_public(now.authority)}")
    elif _LAX.index(now.verification) > _LAX.index(was.verification) or was.subject not in ("", now.subject):
        yield Loss("client_certificate_weakened", f"{words} ({_terms(was)})", f"asks for less ({_terms(now)})")


def _vouches(was: ClientCertificate, now: ClientCertificate, old: Side, new: Side) -> bool:
    """Return whether nobody comes by the new authority who could not come by the old one."""
    if was.authority == now.authority:
        return True
    before, after = old.authorities.get(was.authority), new.authorities.get(now.authority)
    if before is None or after is None:
        return False
    return (
        _parts(after)[0] <= _parts(before)[0] and _parts(after)[1] >= _parts(before)[1] and after.depth <= before.depth
    )


def _parts(authority: ClientAuthority) -> tuple[set[bytes], set[bytes]]:
    return set(_BLOCK.findall(authority.ca)), set(_BLOCK.findall(authority.crl))


def _public(authority: str) -> str:
    return authority.partition("@")[0]


def _terms(asked: ClientCertificate) -> str:
    return f"{asked.verification}{f', subject {asked.subject}' if asked.subject else ''}"


def _https(old: Policy, new: Policy) -> Iterator[Loss]:
    certificate = new.certificate
    asks = certificate is not None and (certificate.verification is Verification.ON or bool(certificate.subject))
    # Who has to show a certificate cannot come without TLS anyway.
    if old.https_redirect and not new.https_redirect and not asks:
        yield Loss("https_lost", "sends clients without TLS to https", "answers them without TLS")


def _limits(old: RateLimit | None, new: RateLimit | None) -> Iterator[Loss]:
    if old is None:
        return
    if new is None:
        yield Loss("limit_lost", f"limits clients to {_rates(old)}", "does not")
    elif not _as_strict(old, new):
        yield Loss("limit_loosened", f"limits clients to {_rates(old)}", f"limits them to {_rates(new)}")


def _as_strict(old: RateLimit, new: RateLimit) -> bool:
    rates = all(any(now <= rate and more <= burst for now, more in new.rates) for rate, burst in old.rates)
    connections = not old.connections or 0 < new.connections <= old.connections
    return rates and connections and set(new.exempt) <= set(old.exempt)


def _rates(limit: RateLimit) -> str:
    parts = [f"{rate:g} requests/s (burst {burst})" for rate, burst in limit.rates]
    parts += [f"{limit.connections} at once"] if limit.connections else []
    parts += [f"without limit for {len(limit.exempt)} networks"] if limit.exempt else []
    return ", ".join(parts)


def _bodies(old: Way, new: Way) -> Iterator[Loss]:
    if old.body and (new.body > old.body or not new.body):
        now = f"takes {new.body} bytes" if new.body else "takes any"
        yield Loss("body_size_grown", f"takes bodies of at most {old.body} bytes", now)


def _blocked(old: Blocked | None, new: Blocked | None) -> Iterator[Loss]:
    if old is None:
        return
    new = new or Blocked()
    gone = [*set(old.agents).difference(new.agents), *set(old.referers).difference(new.referers)]
    if gone:
        yield Loss("block_lost", f"refuses clients that say {', '.join(sorted(gone))}", "lets them in")


def _endpoints(old: Way, new: Way) -> Iterator[Loss]:
    before, after = old.upstream, new.upstream
    if before.protocol not in _TLS:
        return
    if after.protocol not in _TLS:
        yield Loss("endpoint_plain", f"speaks TLS to {_named(before)}", f"speaks to {_named(after)} without")
    elif before.tls is not None and before.tls.verify:
        asks = f"asks {_named(before)} for a certificate"
        if after.tls is None or not after.tls.verify:
            yield Loss("endpoint_unverified", asks, f"takes any from {_named(after)}")
        elif not _authorities(after, new.side) <= _authorities(before, old.side):
            yield Loss("endpoint_authority", asks, f"takes those of other authorities from {_named(after)}")


def _authorities(upstream: Upstream, side: Side) -> set[bytes]:
    """Return the certificates that vouch for endpoints; an empty one stands for the system's."""
    name = "" if upstream.tls is None else upstream.tls.keyring
    keyring = side.keyrings.get(name)
    return set(_BLOCK.findall(keyring.ca)) if keyring is not None and keyring.ca else {b""}


def _named(upstream: Upstream) -> str:
    return upstream.name.partition("#")[0]
