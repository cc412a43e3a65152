"""Portway's own pods, found by their labels: the proxies, the operators, and the nodes that they are on."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from portway_operator.api_objects import ApiObjects, ApiUnavailable
from portway_operator.objects import PublicAddress

__all__ = ["Node", "Pod", "Pods"]

_GONE = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that is not ended; `leaving`: it was told to end."""

    name: str
    node: str = ""
    ready: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """The addresses of a machine."""

    internal: tuple[str, ...] = ()
    external: tuple[str, ...] = ()

    def public(self, *, internal: bool) -> tuple[PublicAddress, ...]:
        """Return where it is reached: from outside where that is possible and `internal` does not forbid it."""
        chosen = self.internal if internal else self.external or self.internal
        return tuple(PublicAddress(ip=address) for address in chosen)


class _Condition(msgspec.Struct):
    type: str
    status: str


class _PodMeta(msgspec.Struct, rename="camel"):
    name: str
    deletion_timestamp: str | None = None


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""
    conditions: list[_Condition] | None = None


class _Pod(msgspec.Struct):
    metadata: _PodMeta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    def read(self) -> Pod:
        ready = any(each.type == "Ready" and each.status == "True" for each in self.status.conditions or ())
        leaving = self.metadata.deletion_timestamp is not None
        return Pod(self.metadata.name, self.spec.node_name, ready and not leaving, leaving)


class _Pods(msgspec.Struct):
    items: list[_Pod]


class _Address(msgspec.Struct):
    type: str
    address: str


class _NodeStatus(msgspec.Struct, frozen=True):
    addresses: list[_Address] | None = None


class _Node(msgspec.Struct):
    status: _NodeStatus = _NodeStatus()


class Pods:
    """The pods of one namespace."""

    def __init__(self, api: ApiObjects, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"

    async def find(self, selector: str) -> list[Pod]:
        """Return the pods that a label selector chooses, by name, without those that ended; raises `ApiUnavailable`."""
        raw = await self._api.get(self._path, {"labelSelector": selector})
        try:
            found = msgspec.convert(raw, _Pods).items
        except msgspec.ValidationError as error:
            raise ApiUnavailable(f"what came is no list of pods: {error}") from None
        return sorted((pod.read() for pod in found if pod.status.phase not in _GONE), key=lambda pod: pod.name)

    async def node(self, name: str) -> Node:
        """Return the addresses of a node; none for one that is gone. Raises `ApiUnavailable`."""
        raw = await self._api.get(f"/api/v1/nodes/{name}")
        if raw is None:
            return Node()
        try:
            addresses = msgspec.convert(raw, _Node).status.addresses or []
        except msgspec.ValidationError as error:
            raise ApiUnavailable(f"what came is no node: {error}") from None
        return Node(
            tuple(each.address for each in addresses if each.type == "InternalIP"),
            tuple(each.address for each in addresses if each.type == "ExternalIP"),
        )
