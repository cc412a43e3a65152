"""A Lease of the Kubernetes API (coordination.k8s.io/v1): one object that replicas agree by who of them writes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

import msgspec

from portway_operator.api_objects import ApiObjects, ApiUnavailable, Conflict, Missing, Raw

__all__ = ["Lease", "LeaseApi", "LeaseTaken"]

_GROUP = "coordination.k8s.io/v1"


class LeaseTaken(Exception):
    """Somebody else created, changed or removed the Lease first."""


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds it (nobody: empty), for how many seconds after `renewed`, and how often it went to another.

    `acquired` and `renewed` are times as the API writes them, by the holder's clock: only to be compared for equality.
    `version` is the API's; `raw` is all of the object, so that replacing it loses nothing of others.
    """

    holder: str = ""
    seconds: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    version: str = ""
    raw: Raw = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, raw: Raw) -> Self:
        """Return the Lease in an object of the API; raises `msgspec.ValidationError` for what is none."""
        found = msgspec.convert(raw, _Lease)
        spec = found.spec
        return cls(
            spec.holder_identity or "",
            spec.lease_duration_seconds or 0,
            spec.acquire_time or "",
            spec.renew_time or "",
            spec.lease_transitions or 0,
            found.metadata.resource_version,
            raw,
        )

    def held(self, holder: str, seconds: int) -> Self:
        """Return it held from now on by `holder`, newly or still."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if holder == self.holder:
            return replace(self, seconds=seconds, renewed=now)
        moved = self.transitions + (1 if self.version else 0)
        return replace(self, holder=holder, seconds=seconds, acquired=now, renewed=now, transitions=moved)

    def released(self) -> Self:
        """Return it held by nobody, as client-go leaves it."""
        return replace(self.held(self.holder, 1), holder="")

    def spec(self) -> Raw:
        """Return the object's spec, what others put into it included."""
        before = self.raw.get("spec")
        return {
            **(before if isinstance(before, dict) else {}),
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.seconds,
            "acquireTime": self.acquired,
            "renewTime": self.renewed,
            "leaseTransitions": self.transitions,
        }


class LeaseApi:
    """The Lease of one name. Every method raises `ApiUnavailable` when the API server fails."""

    def __init__(self, api: ApiObjects, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._collection = f"/apis/{_GROUP}/namespaces/{namespace}/leases"

    async def get(self) -> Lease | None:
        """Return the Lease as it is now, or None."""
        raw = await self._api.get(f"{self._collection}/{self._name}")
        return None if raw is None else _read(raw)

    async def create(self, lease: Lease) -> Lease:
        """Create the Lease; return it as it is now. Raises `LeaseTaken`."""
        metadata = {"name": self._name, "namespace": self._namespace}
        body: Raw = {"apiVersion": _GROUP, "kind": "Lease", "metadata": metadata, "spec": lease.spec()}
        try:
            return _read(await self._api.create(self._collection, body))
        except Conflict as conflict:
            raise LeaseTaken(str(conflict)) from None

    async def replace(self, lease: Lease) -> Lease:
        """Replace the version that `lease` was made of; return it as it is now. Raises `LeaseTaken`."""
        body: Raw = {**lease.raw, "spec": lease.spec()}
        try:
            return _read(await self._api.replace(f"{self._collection}/{self._name}", body))
        except (Conflict, Missing) as conflict:
            raise LeaseTaken(str(conflict)) from None


def _read(raw: Raw) -> Lease:
    try:
        return Lease.read(raw)
    except msgspec.ValidationError as error:
        raise ApiUnavailable(f"what came is no Lease: {error}") from None
