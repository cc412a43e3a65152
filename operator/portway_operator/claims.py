"""Finds the Ingresses that claim a path of a host, and those that claim all that is left (sans-io)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TypeAlias

from portway_operator.decode.meta import CLASS_ANNOTATION
from portway_operator.objects import Ingress, IngressRule
from portway_proxy.snapshot import PathMatch

__all__ = ["Claim", "Claims", "Key", "claims_of", "only"]

Key: TypeAlias = tuple[str, str]
"""The namespace and the name of an Ingress."""

Claim: TypeAlias = tuple[str, str, PathMatch]
"""A host, a path and how it is compared."""

# Thousands may claim the same, and the oldest must be known at once: by the class that they name, each sorted by age.
_Class: TypeAlias = tuple[str | None, str | None]
_Queues: TypeAlias = dict[_Class, list[tuple[float, str, str]]]

_ANY_PATH = ("/", PathMatch.PREFIX)


def claims_of(ingress: Ingress) -> Iterator[Claim]:
    """Yield what an Ingress claims; a rule without paths claims all of its host for the default backend."""
    for rule in ingress.rules:
        if rule.paths is not None:
            yield from ((rule.host, path.path, path.match) for path in rule.paths)
        elif ingress.default_backend is not None:
            yield (rule.host, *_ANY_PATH)


def only(ingress: Ingress, wanted: AbstractSet[Claim]) -> Ingress:
    """Return the Ingress without all that it claims beside `wanted`."""
    return replace(ingress, rules=tuple(_only(rule, wanted) for rule in ingress.rules if _touches(rule, wanted)))


class Claims:
    """The Ingresses by what they claim, of whatever class; costs one entry a path."""

    __slots__ = ("_by_claim", "_by_default")

    def __init__(self, ingresses: Iterable[Ingress] = ()) -> None:
        self._by_claim: dict[Claim, _Queues] = {}
        self._by_default: _Queues = {}
        for ingress in ingresses:
            self.change(None, ingress)

    def change(self, before: Ingress | None, after: Ingress | None) -> None:
        """Take in that an Ingress is now `after` (None: gone), and was `before` (None: not there)."""
        if before is not None:
            self._forget(before)
        if after is not None:
            for claim in set(claims_of(after)):
                _join(self._by_claim.setdefault(claim, {}), after)
            if after.default_backend is not None and not after.has_rules:
                _join(self._by_default, after)

    def claimants(self, claim: Claim) -> Iterator[Iterator[Key]]:
        """Yield the Ingresses that claim this, those that name one class together and the oldest of them first."""
        return _keys(self._by_claim.get(claim, {}))

    def defaults(self) -> Iterator[Iterator[Key]]:
        """Yield the Ingresses that have nothing but a default backend, in the same way."""
        return _keys(self._by_default)

    def _forget(self, ingress: Ingress) -> None:
        for claim in set(claims_of(ingress)):
            claimants = self._by_claim.get(claim, {})
            _leave(claimants, ingress)
            if not claimants:
                self._by_claim.pop(claim, None)
        _leave(self._by_default, ingress)


def _class(ingress: Ingress) -> _Class:
    return ingress.class_name, ingress.meta.annotations.get(CLASS_ANNOTATION)


def _join(queues: _Queues, ingress: Ingress) -> None:
    insort(queues.setdefault(_class(ingress), []), ingress.meta.precedence)


def _leave(queues: _Queues, ingress: Ingress) -> None:
    queue, age = queues.get(_class(ingress), []), ingress.meta.precedence
    place = bisect_left(queue, age)
    if place < len(queue) and queue[place] == age:
        del queue[place]
        if not queue:
            del queues[_class(ingress)]


def _keys(queues: _Queues) -> Iterator[Iterator[Key]]:
    return (((namespace, name) for _, namespace, name in queue) for queue in queues.values())


def _touches(rule: IngressRule, wanted: AbstractSet[Claim]) -> bool:
    if rule.paths is None:
        return (rule.host, *_ANY_PATH) in wanted
    return any((rule.host, path.path, path.match) in wanted for path in rule.paths)


def _only(rule: IngressRule, wanted: AbstractSet[Claim]) -> IngressRule:
    if rule.paths is None:
        return rule
    return replace(rule, paths=tuple(path for path in rule.paths if (rule.host, path.path, path.match) in wanted))
