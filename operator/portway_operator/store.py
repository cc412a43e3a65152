"""The cluster as last seen: every object that Portway reads, and whether a change touched anything that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from typing import Any, Generic, Self, TypeVar, overload

from portway_operator.certificates import CertificateReader
from portway_operator.objects import (
    ConfigMap,
    EndpointSlice,
    Ingress,
    IngressClass,
    Kind,
    Object,
    Secret,
    Service,
)
from portway_proxy.snapshot import Problem

__all__ = ["ObjectStore", "Shelf"]

Key = tuple[str, str]
T = TypeVar("T", bound=Object)
D = TypeVar("D")


class Shelf(Mapping[Key, T], Generic[T]):
    """The objects of one kind by namespace and name; only the store changes it."""

    __slots__ = ("_objects",)

    def __init__(self) -> None:
        self._objects: dict[Key, T] = {}

    def __getitem__(self, key: Key) -> T:
        return self._objects[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    # A compile asks 50,000 times; what `Mapping` makes of the above costs it a fifth of its time.

    @overload
    def get(self, key: Key, /) -> T | None: ...

    @overload
    def get(self, key: Key, /, default: T | D) -> T | D: ...

    def get(self, key: Key, /, default: D | None = None) -> T | D | None:
        """Return the object, or `default` when it is not there."""
        return self._objects.get(key, default)

    def values(self) -> ValuesView[T]:
        """Return all objects."""
        return self._objects.values()

    def put(self, new: T) -> bool:
        """Take in `new`; return whether it differs from the version before."""
        key = new.meta.key
        old = self._objects.get(key)
        self._objects[key] = new
        return old != new

    def remove(self, key: Key) -> bool:
        """Forget the object; return whether it was there."""
        return self._objects.pop(key, None) is not None

    def freeze(self, other: Self) -> None:
        """Hold what `other` holds now, whatever becomes of it."""
        self._objects = dict(other._objects)


class SliceShelf(Shelf[EndpointSlice]):
    """The EndpointSlices, which are also found by the Service that they belong to."""

    __slots__ = ("_by_service",)

    def __init__(self) -> None:
        super().__init__()
        self._by_service: dict[Key, tuple[EndpointSlice, ...]] = {}

    def put(self, new: EndpointSlice) -> bool:
        """Take in `new`; return whether it differs from the version before."""
        old = self._objects.get(new.meta.key)
        if old is not None:
            self._unlink(old)
        key = (new.meta.namespace, new.service)
        self._by_service[key] = (*self.of(*key), new)
        return super().put(new)

    def remove(self, key: Key) -> bool:
        """Forget the slice; return whether it was there."""
        old = self._objects.get(key)
        if old is not None:
            self._unlink(old)
        return super().remove(key)

    def freeze(self, other: Self) -> None:
        """Hold what `other` holds now, whatever becomes of it."""
        super().freeze(other)
        self._by_service = dict(other._by_service)

    def of(self, namespace: str, service: str) -> tuple[EndpointSlice, ...]:
        """Return the slices of a Service, in no particular order: the same tuple until one of them changes."""
        return self._by_service.get((namespace, service), ())

    def _unlink(self, old: EndpointSlice) -> None:
        key = (old.meta.namespace, old.service)
        siblings = tuple(one for one in self._by_service[key] if one is not old)
        if siblings:
            self._by_service[key] = siblings
        else:
            del self._by_service[key]


class ObjectStore:
    """All objects as last seen. It belongs to one thread.

    A new version always takes the old one's place; what the methods return is whether a compile could tell the
    difference. `certificates` reads the certificates in the store's Secrets, each version once.
    """

    __slots__ = (
        "_problems",
        "_refused",
        "_shelves",
        "certificates",
        "config_maps",
        "endpoint_slices",
        "ingress_classes",
        "ingresses",
        "secrets",
        "services",
    )

    def __init__(self) -> None:
        self.ingresses: Shelf[Ingress] = Shelf()
        self.ingress_classes: Shelf[IngressClass] = Shelf()
        self.services: Shelf[Service] = Shelf()
        self.endpoint_slices = SliceShelf()
        self.secrets: Shelf[Secret] = Shelf()
        self.config_maps: Shelf[ConfigMap] = Shelf()
        self.certificates = CertificateReader()
        # Any: which shelf goes with which kind is known to the reader of this table, not to the type checker.
        self._shelves: dict[Kind, Shelf[Any]] = {
            Kind.INGRESS: self.ingresses,
            Kind.INGRESS_CLASS: self.ingress_classes,
            Kind.SERVICE: self.services,
            Kind.ENDPOINT_SLICE: self.endpoint_slices,
            Kind.SECRET: self.secrets,
            Kind.CONFIG_MAP: self.config_maps,
        }
        self._problems: dict[str, tuple[Problem, ...]] = {}
        self._refused: dict[tuple[Kind, Key], tuple[Object, str]] = {}

    def frozen(self) -> ObjectStore:
        """Return a store that holds what this one holds now, and may be read in another thread; about 2 ms."""
        copy = ObjectStore()
        for kind, shelf in copy._shelves.items():
            shelf.freeze(self._shelves[kind])
        copy.certificates.learn(self.certificates, copy.secrets)
        copy._problems = dict(self._problems)
        copy._refused = dict(self._refused)
        return copy

    @property
    def reported(self) -> list[Problem]:
        """Return the problems that sources reported, in order of where they were found."""
        return sorted(problem for problems in self._problems.values() for problem in problems)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object as last seen, or None; `namespace` is empty for an IngressClass."""
        found: Object | None = self._shelves[kind].get((namespace, name))
        return found

    def put(self, new: Object) -> bool:
        """Take in `new`; return whether anything that we read changed."""
        changed = self._shelves[new.kind].put(new)
        if changed and new.kind == Kind.SECRET:
            self.certificates.outdate(*new.meta.key)
        return changed

    def remove(self, kind: Kind, namespace: str, name: str) -> bool:
        """Forget an object; return whether it was known."""
        if kind == Kind.SECRET:
            self.certificates.forget(namespace, name)
        self._refused.pop((kind, (namespace, name)), None)
        return self._shelves[kind].remove((namespace, name))

    def replace_all(self, kind: Kind, objects: Iterable[Object], namespace: str | None = None) -> bool:
        """Make `objects` all that there is of a kind (in one namespace, when given); return whether that changed any.

        Raises `ValueError` for an object of another kind or namespace.
        """
        shelf = self._shelves[kind]
        gone = {key for key in shelf if namespace is None or key[0] == namespace}
        changed = False
        for new in objects:
            if new.kind != kind or (namespace is not None and new.meta.namespace != namespace):
                raise ValueError(f"{new.kind} {new.meta.namespace}/{new.meta.name} does not belong into this list")
            gone.discard(new.meta.key)
            changed |= self.put(new)
        for key in gone:
            changed |= self.remove(kind, *key)
        return changed

    def report(self, source: str, problems: Sequence[Problem]) -> bool:
        """Make `problems` all that `source` has to say (an object or document that cannot be read at all).

        They become part of the snapshot. Returns whether that changed anything.
        """
        new = tuple(sorted(problems))
        old = self._problems.pop(source, ())
        if new:
            self._problems[source] = new
        return old != new

    def refuse(self, kind: Kind, namespace: str, name: str, reason: str) -> bool:
        """Keep an object out of what is compiled until it changes: proxies cannot apply it.

        Returns whether that changed anything.
        """
        found = self.get(kind, namespace, name)
        if found is None or self.refusal(found):
            return False
        self._refused[kind, (namespace, name)] = (found, reason)
        return True

    def refusal(self, found: Object) -> str:
        """Return why proxies cannot apply the object; empty when nothing is known against this version of it."""
        refused, reason = self._refused.get((found.kind, found.meta.key), (None, ""))
        return reason if refused == found else ""
