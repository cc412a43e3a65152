"""A snapshot as text, one line per thing that it says: for people, `portway routes` and golden tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from portway_proxy.describe_policies import describe_policy
from portway_proxy.discretion import discreet_url
from portway_proxy.redaction import Redaction
from portway_proxy.snapshot import (
    Affinity,
    Belief,
    Capacity,
    Check,
    CheckKind,
    Ejection,
    EndpointTls,
    HashOn,
    ListenerPolicy,
    Retries,
    Route,
    Snapshot,
    TlsTerms,
    Upstream,
    UpstreamPolicy,
)

__all__ = [
    "describe",
    "describe_json",
    "describe_listener_policy",
    "describe_tls",
    "describe_trust",
    "describe_upstream",
    "describe_upstream_policy",
    "printable",
]


def describe(snapshot: Snapshot) -> str:
    """Return one line per route, listener, certificate and problem, each ended by a newline.

    What would break a line or drive a terminal is shown escaped.
    """
    return "".join(f"{printable(line)}\n" for line in _lines(snapshot))


def describe_json(snapshot: Snapshot) -> bytes:
    """Return the snapshot as JSON; of a certificate its name, hosts and expiry, and never a key or hash."""
    # Emptied first, so that no key is ever copied into what is shown.
    emptied = msgspec.structs.replace(
        Redaction().snapshot(snapshot), certificates=(), authorities=(), affinity_key=None, credentials=(), keyrings=()
    )
    shown = msgspec.to_builtins(emptied)
    shown["credentials"] = [{"name": one.name, "users": len(one.users)} for one in snapshot.credentials]
    shown["certificates"] = [
        {"name": certificate.name, "hosts": certificate.hosts, "not_after": certificate.not_after}
        for certificate in snapshot.certificates
    ]
    return msgspec.json.encode(shown)


def describe_upstream(upstream: Upstream) -> str:
    """Return `shop/web:80 -> 10.0.0.1:8080 10.0.0.2:8080`, with what departs from the ordinary in brackets."""
    if upstream.external_name:
        where = f"{upstream.external_name}:{upstream.external_port}"
    elif upstream.endpoints:
        where = " ".join(map(str, upstream.endpoints))
    else:
        where = f"503 {upstream.reason or 'no_endpoints'}"
    unusual = ((upstream.protocol, "http"), (upstream.balance, "round-robin"))
    traits = [str(trait) for trait, usual in unusual if trait != usual]
    traits += _tls(upstream.tls) if upstream.tls is not None else []
    traits += describe_upstream_policy(upstream.policy)
    return f"{upstream.name} -> {where}" + (f" ({', '.join(traits)})" if traits else "")


def describe_upstream_policy(policy: UpstreamPolicy | None) -> list[str]:
    """Return what an upstream asks for, one text for each trait: `affinity=portway`, `slow-start=30s`."""
    if policy is None:
        return []
    traits = [] if policy.hash_on is None else [_hash_on(policy.hash_on)]
    if policy.affinity is not None:
        traits.append(_affinity(policy.affinity))
    if policy.check is not None:
        traits.append(_check(policy.check))
    if policy.ejection is not None:
        traits.append(_ejection(policy.ejection))
    plain = (
        (f"slow-start={policy.slow_start:g}s", policy.slow_start),
        ("close-on-removal", policy.close_on_removal),
        (f"announce={policy.announce}", policy.announce),
    )
    traits += [text for text, so in plain if so]
    if policy.capacity is not None:
        traits += _capacity(policy.capacity)
    return traits if policy.retries is None else traits + _retries(policy.retries)


def _tls(tls: EndpointTls) -> list[str]:
    plain = (
        (f"verified as {tls.name} to a depth of {tls.depth}", tls.verify),
        (f"told {tls.name}", tls.told),
        (f"keyring={tls.keyring}", tls.keyring),
        (f"protocols={' '.join(tls.protocols)}", tls.protocols),
        (f"ciphers={tls.ciphers}", tls.ciphers),
    )
    return [text for text, so in plain if so]


def _hash_on(on: HashOn) -> str:
    return f"hash-on={on}" + (f" by {on.subset}" if on.subset else "")


def _affinity(affinity: Affinity) -> str:
    ways = (("spreads", affinity.spreads), ("stays", affinity.stays))
    return " ".join([f"affinity={affinity.cookie}", *(word for word, so in ways if so)])


def _ejection(ejection: Ejection) -> str:
    if not ejection.failures:
        return "ejection=off"
    return f"ejection={ejection.failures} for {ejection.seconds:g}s up to {ejection.share}%"


def _check(check: Check) -> str:
    what = f"{check.kind}:{check.host}{check.path}" if check.kind is CheckKind.HTTP else f"{check.kind}"
    return f"check={discreet_url(what)} every {check.interval:g}s"


def _capacity(capacity: Capacity) -> list[str]:
    limits = (("max-connections", capacity.connections), ("max-requests", capacity.requests))
    queue = f"queue={capacity.queue} for {capacity.timeout:g}s"
    return [*(f"{name}={most}" for name, most in limits if most), queue]


def _retries(retries: Retries) -> list[str]:
    usual = Retries()
    traits = [f"tries={retries.tries}"]
    if retries.statuses:
        traits.append(f"retry-on={' '.join(map(str, retries.statuses))}")
    if retries.methods != usual.methods:
        traits.append(f"retry-methods={' '.join(retries.methods)}")
    if retries.timeout != usual.timeout:
        traits.append(f"retry-timeout={retries.timeout:g}s")
    if retries.budget != usual.budget:
        traits.append(f"retry-budget={retries.budget}%")
    return traits


def describe_listener_policy(policy: ListenerPolicy | None) -> str:
    """Return ` [announce=v2, clients=100, idle=600s]`, or nothing for a listener without policy."""
    if policy is None:
        return ""
    parts = [f"announce={policy.announce}"] if policy.announce is not None else []
    if policy.accept_proxy:
        parts.append("accept-proxy")
    if policy.clients:
        parts.append(f"clients={policy.clients}")
    times = (("connect", policy.connect), ("idle", policy.idle), ("lifetime", policy.lifetime))
    parts += [f"{name}={seconds:g}s" for name, seconds in times if seconds is not None]
    return f" [{', '.join(parts)}]" if parts else ""


def describe_tls(snapshot: Snapshot) -> list[str]:
    """Return what departs from the usual, if anything: `tls tickets=False, redirect=301`, and who asks clients."""
    asking = [f"clients of {' '.join(host or '*' for host in one.hosts)} by {one.name}" for one in snapshot.authorities]
    terms = snapshot.tls
    if terms is None:
        return asking
    usual = TlsTerms()
    chosen = [(name, getattr(terms, name)) for name in terms.__struct_fields__]
    return [f"tls {', '.join(f'{name}={value}' for name, value in chosen if value != getattr(usual, name))}", *asking]


def describe_trust(snapshot: Snapshot) -> list[str]:
    """Return `trust 10.0.0.0/8 -> request by X-Forwarded-For, PROXY protocol within 5s`, or nothing: nobody is."""
    lines = [] if snapshot.request_ids else ["no request ids"]
    lines += [] if snapshot.signed else ["no Server field"]
    trust = snapshot.trust
    if trust is None:
        return lines
    parts = [f"{trust.belief} by {trust.field}"] if trust.belief is not Belief.NOTHING else []
    if trust.append:
        parts.append("appended to")
    if trust.proxy_protocol:
        parts.append(f"PROXY protocol within {trust.patience:g}s")
    return [f"trust {' '.join(trust.networks) or 'nobody'} -> {', '.join(parts) or 'nothing'}", *lines]


def printable(line: str) -> str:
    """Return a line with everything escaped that could begin another, or steer a terminal."""
    if line.isprintable():
        return line
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)


def _lines(snapshot: Snapshot) -> Iterator[str]:
    upstreams = {upstream.name: upstream for upstream in snapshot.upstreams}

    def target(route: Route) -> str:
        return f"{describe_upstream(upstreams[route.upstream])}{describe_policy(route.policy)}  <- {route.origin}"

    for host in snapshot.hosts:
        for route in host.routes:
            yield f"{host.name or '*'} {route.match} {route.path} => {target(route)}"
    if snapshot.default is not None:
        yield f"default => {target(snapshot.default)}"
    yield from _layer_4(snapshot, upstreams)
    for certificate in snapshot.certificates:
        standard = " (default)" if certificate.name == snapshot.default_certificate else ""
        yield f"certificate {certificate.name}{standard}: {' '.join(certificate.hosts)}"
    yield from describe_tls(snapshot)
    yield from describe_trust(snapshot)
    for setting in snapshot.settings:
        yield f"setting {setting}"
    for problem in snapshot.problems:
        yield f"problem {problem.code}: {problem}"


def _layer_4(snapshot: Snapshot, upstreams: Mapping[str, Upstream]) -> Iterator[str]:
    for listener in snapshot.listeners:
        upstream = describe_upstream(upstreams[listener.upstream])
        inside = f" (proxies listen on {listener.bind})" if listener.bind else ""
        traits = describe_listener_policy(listener.policy)
        yield f"{listener.transport}/{listener.port}{inside}{traits} => {upstream}  <- {listener.origin}"
    for each in snapshot.passthroughs:
        yield f"tls {each.host} => {describe_upstream(upstreams[each.upstream])}  <- {each.origin}"
    if (fallback := snapshot.fallback) is not None:
        yield f"fallback => {describe_upstream(upstreams[fallback.upstream])}  <- {fallback.origin}"
