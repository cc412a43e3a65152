"""Finds the Ingresses that claim a path of a host, and those that claim all that is left (sans-io)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TypeAlias

from portway_operator.objects import Ingress, IngressRule
from portway_proxy.snapshot import PathMatch

__all__ = ["Claim", "Claims", "Key", "claims_of", "only"]

Key: TypeAlias = tuple[str, str]
"""The namespace and the name of an Ingress."""

Claim: TypeAlias = tuple[str, str, PathMatch]
"""A host, a path and how it is compared."""

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
        self._by_claim: dict[Claim, set[Key]] = {}
        self._by_default: set[Key] = set()
        for ingress in ingresses:
            self.change(None, ingress)

    def change(self, before: Ingress | None, after: Ingress | None) -> None:
        """Take in that an Ingress is now `after` (None: gone), and was `before` (None: not there)."""
        if before is not None:
            self._forget(before)
        if after is not None:
            for claim in claims_of(after):
                self._by_claim.setdefault(claim, set()).add(after.meta.key)
            if after.default_backend is not None and not after.has_rules:
                self._by_default.add(after.meta.key)

    def claimants(self, claim: Claim) -> Collection[Key]:
        """Return the Ingresses that claim this."""
        return self._by_claim.get(claim, ())

    def defaults(self) -> Collection[Key]:
        """Return the Ingresses that have nothing but a default backend."""
        return self._by_default

    def _forget(self, ingress: Ingress) -> None:
        for claim in set(claims_of(ingress)):
            claimants = self._by_claim.get(claim, set())
            claimants.discard(ingress.meta.key)
            if not claimants:
                self._by_claim.pop(claim, None)
        self._by_default.discard(ingress.meta.key)


def _touches(rule: IngressRule, wanted: AbstractSet[Claim]) -> bool:
    if rule.paths is None:
        return (rule.host, *_ANY_PATH) in wanted
    return any((rule.host, path.path, path.match) in wanted for path in rule.paths)


def _only(rule: IngressRule, wanted: AbstractSet[Claim]) -> IngressRule:
    if rule.paths is None:
        return rule
    return replace(rule, paths=tuple(path for path in rule.paths if (rule.host, path.path, path.match) in wanted))
