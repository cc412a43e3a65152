"""Annotations of a Service to the policy of its upstreams."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from portway_operator.annotations import IngressAnnotations, ServiceAnnotations
from portway_operator.annotations.balancing import AffinityMode, LoadBalance
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Capacity,
    Check,
    CheckKind,
    Ejection,
    Endpoint,
    HashOn,
    HashSource,
    Protocol,
    Retries,
    Upstream,
    UpstreamPolicy,
)

__all__ = ["as_asked_by", "as_asked_of_all", "with_policy"]

_ORDINARY = UpstreamPolicy()
_HOUR = 3600.0
_ANY_TRIES = 10
_SAFE = ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE")
_UNSAFE = ("LOCK", "PATCH", "POST")
_BALANCES = {LoadBalance.ROUND_ROBIN: Balance.ROUND_ROBIN, LoadBalance.EWMA: Balance.EWMA}


def with_policy(upstream: Upstream, values: ServiceAnnotations, port: int = 0) -> Upstream:
    """Return `upstream` balanced, and with the policy that the annotations of its Service ask for; None for nothing.

    `port` is the Service's.
    """
    opaque = upstream.protocol is Protocol.OPAQUE
    hashed = values.balance is None and values.hash_on is not None
    if opaque and values.hash_on != HashOn():
        hashed = False  # Nothing but the source address is known of a connection.
    balance = Balance.HASH if hashed else values.balance or Balance.ROUND_ROBIN
    policy = _opaque(values, balance) if opaque else _http(values, balance, port)
    return msgspec.structs.replace(upstream, balance=balance, policy=None if policy == _ORDINARY else policy)


def as_asked_by(upstream: Upstream, values: IngressAnnotations, own: Endpoint | None) -> Upstream:
    """Return `upstream` as the annotations of an Ingress want it; what they do not say stays as its Service says.

    `own` is the Service's own address, if it has one.
    """
    policy, balance = upstream.policy or _ORDINARY, upstream.balance
    if values.upstream_hash_by:
        subset = values.upstream_hash_by_subset_size if values.upstream_hash_by_subset else 0
        balance = Balance.HASH
        policy = msgspec.structs.replace(policy, hash_on=HashOn(HashSource.TEXT, values.upstream_hash_by, subset))
    elif values.load_balance is not None:
        balance = _BALANCES[values.load_balance]
        policy = msgspec.structs.replace(policy, hash_on=None)
    if values.affinity is not None:
        policy = msgspec.structs.replace(policy, affinity=_session(values))
    retries = _next(values, policy.retries or Retries())
    policy = msgspec.structs.replace(policy, retries=None if retries == Retries() else retries)
    upstream = msgspec.structs.replace(
        upstream,
        protocol=values.backend_protocol or upstream.protocol,
        balance=balance,
        policy=None if policy == _ORDINARY else policy,
    )
    return msgspec.structs.replace(upstream, endpoints=(own,)) if values.service_upstream and own else upstream


def as_asked_of_all(
    upstream: Upstream, usual: IngressAnnotations, own: ServiceAnnotations, address: Endpoint | None
) -> Upstream:
    """Return `upstream` as the settings want it; what its Service says itself, in `own`, counts over that.

    `address` is the Service's own, if it has one.
    """
    if own.balance is not None or own.hash_on is not None:
        usual = replace(usual, load_balance=None, upstream_hash_by="")
    if upstream.policy is not None and upstream.policy.retries is not None:
        usual = replace(usual, next_upstream=None, next_upstream_tries=None, next_upstream_timeout=None)
    return as_asked_by(upstream, usual, address)


def _session(values: IngressAnnotations) -> Affinity:
    return Affinity(
        cookie=values.session_cookie_name,
        path=values.session_cookie_path,
        domain=values.session_cookie_domain,
        ttl=int(values.session_cookie_max_age),
        same_site=values.session_cookie_samesite or "",
        secure=values.session_cookie_secure,
        expires=int(values.session_cookie_expires),
        lenient=values.session_cookie_conditional_samesite_none,
        partitioned=values.session_cookie_partitioned,
        spreads=values.affinity_mode is AffinityMode.BALANCED,
        stays=not values.session_cookie_change_on_failure,
    )


def _next(values: IngressAnnotations, retries: Retries) -> Retries:
    """Return when and how often another endpoint is asked."""
    if values.next_upstream_tries is not None:
        retries = msgspec.structs.replace(retries, tries=values.next_upstream_tries or _ANY_TRIES)
    if values.next_upstream_timeout is not None:
        retries = msgspec.structs.replace(retries, timeout=values.next_upstream_timeout or _HOUR)
    cases = values.next_upstream
    if cases is None:
        return retries
    if not cases:
        return msgspec.structs.replace(retries, tries=1)
    statuses = {int(case[5:]) for case in cases if case.startswith("http_")}
    statuses |= {502} if "invalid_header" in cases else set()
    statuses |= {504} if "timeout" in cases else set()
    methods = _SAFE + _UNSAFE if "non_idempotent" in cases else _SAFE
    return msgspec.structs.replace(retries, statuses=tuple(sorted(statuses)), methods=tuple(sorted(methods)))


def _opaque(values: ServiceAnnotations, balance: Balance) -> UpstreamPolicy:
    """Return what a port that is passed through can have: nothing that looks into its bytes."""
    return UpstreamPolicy(
        hash_on=HashOn() if balance is Balance.HASH else None,
        check=_check(values) if values.health_check is CheckKind.TCP else None,
        ejection=_ejection(values),
        slow_start=values.slow_start,
        close_on_removal=values.close_on_removal,
    )


def _ejection(values: ServiceAnnotations) -> Ejection | None:
    ejection = Ejection(values.ejection_failures, values.ejection_time, values.ejection_share)
    return None if ejection == Ejection() else ejection


def _http(values: ServiceAnnotations, balance: Balance, port: int) -> UpstreamPolicy:
    versions = {mapping.external: mapping.version for mapping in values.proxy_protocol}
    retries = Retries(
        values.retries + 1, values.retry_on, values.retry_methods, values.retry_timeout, values.retry_budget
    )
    return UpstreamPolicy(
        hash_on=(values.hash_on or HashOn()) if balance is Balance.HASH else None,
        affinity=_affinity(values),
        check=_check(values),
        ejection=_ejection(values),
        slow_start=values.slow_start,
        capacity=_capacity(values),
        retries=None if retries == Retries() else retries,
        # By its number alone: `v1` for every port is about those that are opened for the Service.
        announce=versions.get(port) if port else None,
    )


def _affinity(values: ServiceAnnotations) -> Affinity | None:
    if values.affinity is None:
        return None
    return Affinity(
        cookie=values.affinity_cookie_name,
        path=values.affinity_cookie_path,
        domain=values.affinity_cookie_domain,
        ttl=int(values.affinity_cookie_ttl),
        same_site=values.affinity_cookie_same_site,
        secure=values.affinity_cookie_secure,
    )


def _check(values: ServiceAnnotations) -> Check | None:
    if values.health_check is None:
        return None
    return Check(
        kind=values.health_check,
        path=values.health_check_path,
        host=values.health_check_host,
        interval=values.health_check_interval,
        timeout=values.health_check_timeout,
        failures=values.health_check_failures,
        passes=values.health_check_passes,
    )


def _capacity(values: ServiceAnnotations) -> Capacity | None:
    if not values.max_connections and not values.max_requests:
        return None
    return Capacity(values.max_connections, values.max_requests, values.queue, values.queue_timeout)
