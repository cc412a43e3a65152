"""What differs beside the routes of hosts: ports, TLS that passes through, and certificates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from portway_operator.diff.findings import Effect, Finding
from portway_operator.diff.side import Side, bare
from portway_proxy.describe import describe_listener_policy
from portway_proxy.snapshot import Certificate, Fallback, Listener, Origin, Passthrough, Snapshot

__all__ = ["compare_doors"]


def compare_doors(old: Side, new: Side) -> Iterator[Finding]:
    """Yield what differs of ports, hosts that pass through, the fallback and certificates."""
    yield from _listeners(_ports(old.snapshot), _ports(new.snapshot))
    yield from _passthroughs(old.snapshot, new.snapshot)
    yield from _fallbacks(old.snapshot.fallback, new.snapshot.fallback)
    yield from _certificates(old.snapshot, new.snapshot)


def _ports(snapshot: Snapshot) -> dict[str, Listener]:
    return {f"{one.transport}/{one.port}": one for one in snapshot.listeners}


def _listeners(old: Mapping[str, Listener], new: Mapping[str, Listener]) -> Iterator[Finding]:
    for port in sorted(old.keys() | new.keys()):
        before, after = old.get(port), new.get(port)
        if before is None or after is None:
            found = _door("port", f"Port {port}", before, after)
            yield from found
        elif (moved := _moved("port", f"Port {port}", before, after)) is not None:
            yield moved
        elif (before.policy, before.bind) != (after.policy, after.bind):
            words = [
                f"{describe_listener_policy(one.policy).strip() or '[usual]'}{f' at {one.bind}' if one.bind else ''}"
                for one in (before, after)
            ]
            says = f"Port {port} was served as {words[0]}, now as {words[1]}."
            yield Finding(Effect.CHANGED, "port_changed", says, "", "", words[0], words[1], before.origin, after.origin)


def _passthroughs(old: Snapshot, new: Snapshot) -> Iterator[Finding]:
    sides = {one.host: one for one in old.passthroughs}, {one.host: one for one in new.passthroughs}
    for host in sorted(sides[0].keys() | sides[1].keys()):
        before, after = sides[0].get(host), sides[1].get(host)
        if before is None or after is None:
            yield from _door("passthrough", f"TLS of {host}", before, after, host)
        elif (moved := _moved("passthrough", f"TLS of {host}", before, after)) is not None:
            yield moved


def _fallbacks(before: Fallback | None, after: Fallback | None) -> Iterator[Finding]:
    where = "What speaks neither HTTP nor TLS"
    if before is None or after is None:
        yield from _door("fallback", where, before, after)
    elif (moved := _moved("fallback", where, before, after)) is not None:
        yield moved


def _door(
    kind: str,
    where: str,
    before: Listener | Passthrough | Fallback | None,
    after: Listener | Passthrough | Fallback | None,
    host: str = "",
) -> Iterator[Finding]:
    """Yield a door that was opened, past all that guards requests, or one that was closed."""
    if after is not None:
        now = f"goes to {bare(after.upstream)} past all that guards requests"
        says = f"{where} was not passed on, now it {now}."
        yield Finding(Effect.PROTECTION_LOST, f"{kind}_opened", says, host, "", "", now, None, after.origin)
    elif before is not None:
        was = f"went to {bare(before.upstream)}"
        says = f"{where} {was}, now it is not passed on."
        yield Finding(Effect.TRAFFIC_LOST, f"{kind}_closed", says, host, "", was, "", before.origin, None)


def _moved(
    kind: str, where: str, before: Listener | Passthrough | Fallback, after: Listener | Passthrough | Fallback
) -> Finding | None:
    words = bare(before.upstream), bare(after.upstream)
    if words[0] == words[1]:
        return None
    taken = before.origin.namespace != after.origin.namespace or _space(words[0]) != _space(words[1])
    host = before.host if isinstance(before, Passthrough) else ""
    return Finding(
        Effect.HANDS if taken else Effect.CHANGED,
        f"{kind}_moved",
        f"{where} went to {words[0]}, now it goes to {words[1]}.",
        host,
        "",
        *words,
        before.origin,
        after.origin,
    )


def _space(upstream: str) -> str:
    return upstream.partition("/")[0]


def _certificates(old: Snapshot, new: Snapshot) -> Iterator[Finding]:
    sides = _by_host(old), _by_host(new)
    before_names, names = ({host.name for host in side.hosts} for side in (old, new))
    for host in sorted(sides[0].keys() | sides[1].keys() | before_names):
        before, after = (_for(host, side) for side in sides)
        if before is not None and after is None and host in names:
            was = f"had the certificate {before.name}"
            says = f"{host} {was}, now it has none of its own."
            origin = Origin("Secret", *before.name.split("/", 1)) if "/" in before.name else None
            yield Finding(Effect.PROTECTION_LOST, "certificate_lost", says, host, "", was, "has none", origin, None)
        elif before is None and after is not None and host in before_names:
            now = f"has the certificate {after.name}"
            says = f"{host} had no certificate of its own, now it {now}."
            yield Finding(Effect.PROTECTION_GAINED, "certificate_gained", says, host, "", "", now)
        elif before is not None and after is not None and before.chain != after.chain and host in sides[0]:
            says = f"{host} had the certificate {before.name}, now it has {_another(before, after)}."
            yield Finding(Effect.CHANGED, "certificate_changed", says, host, "", before.name, after.name)


def _another(before: Certificate, after: Certificate) -> str:
    words = after.name if after.name != before.name else "another of that name"
    return f"{words}, which ends sooner" if after.not_after < before.not_after else words


def _by_host(snapshot: Snapshot) -> dict[str, Certificate]:
    """Return the certificate of each name; as in the proxy, the one that lasts longest where several have it."""
    found: dict[str, Certificate] = {}
    for one in snapshot.certificates:
        for host in one.hosts:
            if host not in found or one.not_after > found[host].not_after:
                found[host] = one
    return found


def _for(host: str, certificates: Mapping[str, Certificate]) -> Certificate | None:
    return certificates.get(host) or certificates.get(f"*.{host.partition('.')[2]}")
