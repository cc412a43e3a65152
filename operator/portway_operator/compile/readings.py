"""What each Ingress comes to by itself, kept from one compile to the next: of 5,000 hardly one changed."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from portway_operator.annotations import IngressAnnotations, unsaid
from portway_operator.compile.routes import IngressRoutes
from portway_operator.compile.upstreams import Made, Upstreams, Wanted
from portway_operator.objects import Ingress
from portway_operator.problems import Problem
from portway_operator.settings import CompileSettings

__all__ = ["Kept", "Readings", "refers"]

Key = tuple[str, str]

_UNSAID: Final = unsaid(IngressAnnotations).values

# Who reads these takes note, for the whole compile, of Secrets and of services outside of the cluster.
_REFERRING: Final = ("auth_tls_secret", "auth_type", "auth_url", "custom_headers", "mirror_target", "proxy_ssl_secret")


@dataclass(frozen=True, slots=True)
class Kept:
    """What an Ingress came to, and what that depended on beside itself, the settings and the IngressClasses.

    That are the references that were resolved, and which of its hosts have TLS.
    """

    found: IngressRoutes
    problems: tuple[Problem, ...]
    upstreams: tuple[tuple[Wanted, Made], ...]
    secured: frozenset[str]


_NOTHING: Final[Mapping[Key, Kept]] = MappingProxyType({})


class Readings:
    """The Ingresses that need not be read again; `made` are those of this compile, for the next.

    `before` are those of a compile with equal settings and IngressClasses. `secured` are all hosts that have TLS.
    """

    __slots__ = ("_before", "_secured", "_upstreams", "made")

    def __init__(self, upstreams: Upstreams, secured: AbstractSet[str], before: Mapping[Key, Kept] = _NOTHING) -> None:
        self.made: dict[Key, Kept] = {}
        self._upstreams = upstreams
        self._secured = secured
        self._before = before

    def find(self, ingress: Ingress) -> Kept | None:
        """Return what an Ingress came to before, if reading it would come to the same."""
        key = ingress.meta.key
        kept = self._before.get(key)
        if kept is None or kept.found.ingress is not ingress or kept.secured != self._with_tls(ingress):
            return None
        take = self._upstreams.take
        for wanted, made in kept.upstreams:
            if not take(wanted, made):
                return None
        self.made[key] = kept
        return kept

    def keep(self, found: IngressRoutes, problems: tuple[Problem, ...], wanted: tuple[Wanted, ...]) -> None:
        """Keep what an Ingress came to that `refers` to nothing beside the Services that it `wanted`."""
        made = tuple((one, self._upstreams.made[one]) for one in dict.fromkeys(wanted))
        kept = Kept(found, problems, made, self._with_tls(found.ingress))
        self.made[found.ingress.meta.key] = kept

    def _with_tls(self, ingress: Ingress) -> frozenset[str]:
        return frozenset(rule.host for rule in ingress.rules if rule.host in self._secured)


def refers(values: IngressAnnotations, settings: CompileSettings) -> bool:
    """Return whether annotations, or settings for all Ingresses, refer to what is no Service of the cluster."""
    said = (getattr(values, name) != getattr(_UNSAID, name) for name in _REFERRING)
    return bool(settings.global_auth) or any(said)
