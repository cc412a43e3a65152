"""What differs for all requests: upstreams, users, whom the proxy believes, how TLS is spoken, settings, problems."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from portway_operator.check.report import Topic
from portway_operator.check.topics import finding_of
from portway_operator.diff.findings import Effect, Finding
from portway_operator.diff.ranges import NOBODY, admitted, within
from portway_operator.diff.side import Side, bare
from portway_proxy.describe import describe_tls, describe_trust, describe_upstream
from portway_proxy.snapshot import Belief, Problem, Severity, Snapshot, TlsTerms, Trust, Upstream
from portway_proxy.summary import count

__all__ = ["compare_common"]

_FILE = "File"
_LINE = re.compile(r":\d+|document \d+")
_ENDLESS = "no_endpoints"
_SHADOWING = (Topic.CONFLICT, Topic.SHADOWED)


def compare_common(old: Side, new: Side) -> Iterator[Finding]:
    """Yield what differs for everybody."""
    yield from _upstreams(old, new)
    yield from _users(old, new)
    yield from _trust(old.snapshot, new.snapshot)
    yield from _tls(old.snapshot.tls or TlsTerms(), new.snapshot.tls or TlsTerms())
    yield from _settings(old.snapshot, new.snapshot)
    yield from _problems(old, new)


# --- upstreams


def _upstreams(old: Side, new: Side) -> Iterator[Finding]:
    sides = _by_name(old.snapshot), _by_name(new.snapshot)
    known = not (old.blind or new.blind)
    for name in sorted(sides[0].keys() & sides[1].keys()):
        before, after = sides[0][name], sides[1][name]
        if known and _answers(before[0]) != _answers(after[0]):
            yield _answering(before[0], after[0])
        terms = [{_terms(one) for one in some} for some in (before, after)]
        # Each Ingress may have terms of its own, and come or go with them.
        if not (terms[0] <= terms[1] or terms[1] <= terms[0]):
            words = [" or ".join(sorted(some)) for some in (terms[0] - terms[1], terms[1] - terms[0])]
            says = f"{name} was asked with {words[0]}, now with {words[1]}."
            yield Finding(Effect.CHANGED, "upstream_terms", says, "", "", words[0], words[1])


def _by_name(snapshot: Snapshot) -> dict[str, list[Upstream]]:
    found: dict[str, list[Upstream]] = {}
    for one in snapshot.upstreams:
        found.setdefault(bare(one.name), []).append(one)
    return found


def _terms(upstream: Upstream) -> str:
    """Return what an upstream asks for, whatever its endpoints are."""
    text = describe_upstream(msgspec.structs.replace(upstream, endpoints=(), reason="", external_name=""))
    return text.partition(" (")[2].removesuffix(")") or "usual terms"


def _answers(upstream: Upstream) -> bool:
    return bool(upstream.endpoints or upstream.external_name)


def _answering(before: Upstream, after: Upstream) -> Finding:
    name, reason = bare(before.name), after.reason or before.reason or "no_endpoints"
    if _answers(before):
        says = f"{name} had endpoints, now its requests get 503 ({reason})."
        return Finding(Effect.TRAFFIC_LOST, "endpoints_gone", says, was="has endpoints", now=f"503 {reason}")
    says = f"Requests of {name} got 503 ({reason}), now it has endpoints."
    return Finding(Effect.MENDED, "endpoints_found", says, was=f"503 {reason}", now="has endpoints")


# --- users


def _users(old: Side, new: Side) -> Iterator[Finding]:
    for name in sorted(old.credentials.keys() & new.credentials.keys()):
        before, after = old.credentials[name].users, new.credentials[name].users
        if before != after:
            was, now = count(len(before), "user"), count(len(after), "user")
            says = f"Secret {name} holds other users or passwords: {was} before, {now} now."
            yield Finding(Effect.CHANGED, "users_changed", says, was=was, now=now)


# --- trust and TLS


def _trust(old: Snapshot, new: Snapshot) -> Iterator[Finding]:
    if _believed(new.trust) is not None and not _as_wary(old.trust, new.trust):
        words = "; ".join(describe_trust(old)) or "nobody", "; ".join(describe_trust(new))
        says = f"Clients could say who they are as this allows: {words[0]}. Now: {words[1]}."
        yield Finding(Effect.PROTECTION_LOST, "trust_widened", says, was=words[0], now=words[1])
    else:
        yield from _lines("trust_changed", describe_trust(old), describe_trust(new))


def _believed(trust: Trust | None) -> Trust | None:
    return trust if trust is not None and (trust.belief is not Belief.NOTHING or trust.proxy_protocol) else None


def _as_wary(old: Trust | None, new: Trust | None) -> bool:
    """Return whether nobody is believed more than before."""
    before, after = _believed(old), _believed(new)
    if before is None or after is None:
        return after is None
    more = list(Belief).index(after.belief) > list(Belief).index(before.belief)
    ranges = [admitted(one.networks, ()) if one.networks else NOBODY for one in (after, before)]
    return not more and after.proxy_protocol <= before.proxy_protocol and within(*ranges)


def _tls(old: TlsTerms, new: TlsTerms) -> Iterator[Finding]:
    lost = {
        "tls_protocols": (" ".join(old.protocols), " ".join(new.protocols), set(new.protocols) > set(old.protocols)),
        "tls_hsts": (old.hsts, new.hsts or "none", bool(old.hsts) and not new.hsts),
        "tls_strangers": ("refused", "served", old.reject_unknown and not new.reject_unknown),
        "tls_plain_paths": (
            " ".join(old.plain_paths) or "none",
            " ".join(new.plain_paths),
            not set(new.plain_paths) <= set(old.plain_paths),
        ),
    }
    for kind, (was, now, so) in lost.items():
        if so:
            says = f"{_TOLD[kind]}: {was} before, {now} now."
            yield Finding(Effect.PROTECTION_LOST, kind, says, was=was, now=now)
    if not any(so for _, _, so in lost.values()):
        words = [describe_tls(Snapshot(tls=one)) for one in (old, new)]
        yield from _lines("tls_changed", *words)


_TOLD = {
    "tls_protocols": "Versions of TLS that clients may speak",
    "tls_hsts": "Strict-Transport-Security",
    "tls_strangers": "TLS clients that ask for a name of no host",
    "tls_plain_paths": "Paths that are served without TLS where others are sent to https",
}


# --- settings and problems


def _settings(old: Snapshot, new: Snapshot) -> Iterator[Finding]:
    yield from _lines("setting_changed", map(str, old.settings), map(str, new.settings))
    if old.observing != new.observing:
        says = "What access lines and traces say has changed."
        yield Finding(Effect.CHANGED, "observing_changed", says)


def _lines(kind: str, old: Iterable[str], new: Iterable[str]) -> Iterator[Finding]:
    before, after = list(old), list(new)
    was = "; ".join(line for line in before if line not in after)
    now = "; ".join(line for line in after if line not in before)
    if was or now:
        says = f"For all requests: {was or 'the usual'} before, {now or 'the usual'} now."
        yield Finding(Effect.CHANGED, kind, says, was=was, now=now)


def _problems(old: Side, new: Side) -> Iterator[Finding]:
    untold = _ENDLESS if old.blind or new.blind else ""
    sides = [{_key(one): one for one in side.snapshot.problems if one.code != untold} for side in (old, new)]
    before, after = sides
    for key, one in after.items():
        if key not in before:
            effect = Effect.SHADOWED if finding_of(one, "").topic in _SHADOWING else Effect.ADDED
            kind = "shadowed" if effect is Effect.SHADOWED else _kind(one)
            yield Finding(effect, kind, str(one), now=one.code, after=one.origin)
    for key, one in before.items():
        if key not in after:
            says = f"{one.origin}: this is no problem any more: {one.found}"
            yield Finding(Effect.MENDED, "problem_mended", says, was=one.code, before=one.origin)


def _kind(problem: Problem) -> str:
    return "problem_added" if problem.severity is Severity.ERROR else "notice_added"


def _key(problem: Problem) -> tuple[str, ...]:
    """Return what makes it the same problem on both sides, wherever it stands in an object or a file."""
    origin = problem.origin
    key = problem.code, origin.kind, origin.namespace, origin.name, problem.found
    return tuple(_LINE.sub("", part) for part in key) if origin.kind == _FILE else key
