"""Snapshots whose secrets are fingerprints, as a history keeps them, beside others.

A fingerprint is made with a key of its own process: it tells the secrets of one history apart, and nothing else.
"""

from __future__ import annotations

from typing import Final

import msgspec

from portway_proxy.snapshot import Credentials, ExternalAuth, Host, Policy, Route, Snapshot

__all__ = ["NOTE", "redacted", "veiled"]

NOTE: Final = (
    "Of passwords and of the values of fields for endpoints the two sides have fingerprints that cannot be compared: "
    "their names and numbers are."
)

_MARK: Final = "fingerprint:"


def redacted(snapshot: Snapshot) -> bool:
    """Return whether secrets of the snapshot are fingerprints."""
    users = (part for one in snapshot.credentials for user in one.users for part in user)
    keys = [one.key.decode("latin-1") for one in snapshot.certificates]
    keys += [one.key.decode("latin-1") for one in snapshot.keyrings]
    fields = (value for route in _routes(snapshot) for value in _values(route.policy))
    return any(text.startswith(_MARK) for texts in (users, keys, fields) for text in texts)


def veiled(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with nothing in the place of each secret that a fingerprint could stand for."""
    return msgspec.structs.replace(
        snapshot,
        hosts=tuple(Host(host.name, tuple(map(_veiled_route, host.routes))) for host in snapshot.hosts),
        default=None if snapshot.default is None else _veiled_route(snapshot.default),
        # By the Secret's name: users of another one are others.
        credentials=tuple(
            Credentials(one.name, tuple((f"{one.name} {number}", "") for number in range(len(one.users))))
            for one in snapshot.credentials
        ),
    )


def _routes(snapshot: Snapshot) -> list[Route]:
    routes = [route for host in snapshot.hosts for route in host.routes]
    return [*routes, *(() if snapshot.default is None else (snapshot.default,))]


def _values(policy: Policy | None) -> list[str]:
    if policy is None:
        return []
    fields = (*policy.request, *(() if policy.external is None else policy.external.fields))
    return [value for _, value in fields]


def _veiled_route(route: Route) -> Route:
    policy = route.policy
    if policy is None or not _values(policy):
        return route
    external = policy.external
    return msgspec.structs.replace(
        route,
        policy=msgspec.structs.replace(policy, request=_names(policy.request), external=external and _asking(external)),
    )


def _asking(external: ExternalAuth) -> ExternalAuth:
    return msgspec.structs.replace(external, fields=_names(external.fields))


def _names(fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, "") for name, _ in fields)
