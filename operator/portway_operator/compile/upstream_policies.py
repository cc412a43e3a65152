"""Annotations of a Service to the policy of its upstreams."""

from __future__ import annotations

import msgspec

from portway_operator.annotations import ServiceAnnotations
from portway_proxy.snapshot import (
    Affinity,
    Balance,
    Capacity,
    Check,
    CheckKind,
    Ejection,
    HashOn,
    Protocol,
    Retries,
    Upstream,
    UpstreamPolicy,
)

__all__ = ["with_policy"]

_ORDINARY = UpstreamPolicy()


def with_policy(upstream: Upstream, values: ServiceAnnotations) -> Upstream:
    """Return `upstream` balanced, and with the policy that the annotations of its Service ask for; None for nothing."""
    opaque = upstream.protocol is Protocol.OPAQUE
    hashed = values.balance is None and values.hash_on is not None
    if opaque and values.hash_on != HashOn():
        hashed = False  # Nothing but the source address is known of a connection.
    balance = Balance.HASH if hashed else values.balance or Balance.ROUND_ROBIN
    policy = _opaque(values, balance) if opaque else _http(values, balance)
    return msgspec.structs.replace(upstream, balance=balance, policy=None if policy == _ORDINARY else policy)


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


def _http(values: ServiceAnnotations, balance: Balance) -> UpstreamPolicy:
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
