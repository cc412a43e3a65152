"""Hosts whose TLS connections pass through to their Service, told by the name that the client asks for (SNI)."""

from __future__ import annotations

from portway_operator import problems
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.objects import Backend, Ingress, IngressRule
from portway_operator.problems import Problem, at
from portway_proxy.snapshot import Passthrough, Transport

__all__ = ["PassthroughTable"]

_ROOT = "/"


class _Reader:
    """The rules of one Ingress, as they are read."""

    def __init__(self, ingress: Ingress, upstreams: Upstreams) -> None:
        self.found: list[Passthrough] = []
        self.problems: list[Problem] = []
        self._ingress = ingress
        self._upstreams = upstreams

    def opaque(self, rule: IngressRule) -> bool:
        """Return whether the root of a host leads to a port that does not speak HTTP."""
        root = self._root(rule)
        return root is not None and self._upstreams.resolve(self._wanted(root)).upstream.reason == "opaque_port"

    def read(self, rule: IngressRule) -> None:
        """Take in the host of a rule."""
        origin = at(self._ingress, rule.field)
        root = self._root(rule)
        if not rule.host:
            self.problems.append(problems.passthrough_without_host(origin))
            return
        if root is None:
            self.problems.append(problems.passthrough_without_root(origin, rule.host))
            return
        wanted = self._wanted(root, Transport.TCP)
        self.problems += self._upstreams.reference_problems(wanted, origin)
        self.found.append(Passthrough(rule.host, self._upstreams.resolve(wanted).upstream.name, origin))
        idle = [path.path for path in rule.paths or () if path.path != _ROOT]
        if idle:
            self.problems.append(problems.passthrough_paths(origin, rule.host, idle))

    def _root(self, rule: IngressRule) -> Backend | None:
        """Return where the path `/` of a rule leads."""
        if rule.paths is None:
            return self._ingress.default_backend
        return next((path.backend for path in rule.paths if path.path == _ROOT), self._ingress.default_backend)

    def _wanted(self, backend: Backend, opaque: Transport | None = None) -> Wanted:
        return Wanted(self._ingress.meta.namespace, backend.service, backend.port, opaque)


class PassthroughTable:
    """Where each host passes through to, filled by `read` from the oldest Ingress to the youngest.

    `asked` are the namespaces and names of the Ingresses that have a part in that.
    """

    __slots__ = ("_terminated", "_upstreams", "_winners", "asked", "problems")

    def __init__(self, upstreams: Upstreams) -> None:
        self.problems: list[Problem] = []
        self._upstreams = upstreams
        self._winners: dict[str, Passthrough] = {}
        self._terminated: list[tuple[Ingress, frozenset[str]]] = []
        self.asked: set[tuple[str, str]] = set()

    def read(self, ingress: Ingress, wish: bool | None, *, guarded: bool) -> frozenset[str]:  # noqa: FBT001 - three-valued
        """Take in the hosts of a younger Ingress and return them; what an older one has stays.

        `wish` is what its annotation says. Without one, hosts with TLS pass through whose port does not speak HTTP:
        nothing else could be done with them. `guarded` says that not everybody may come to its paths.
        """
        reader = _Reader(ingress, self._upstreams)
        secured = {host for entry in ingress.tls for host in entry.hosts}
        for rule in ingress.rules if wish is not False else ():
            if wish or (rule.host in secured and reader.opaque(rule)):
                reader.read(rule)
                self.asked.add(ingress.meta.key)
        if guarded and reader.found:
            self.problems.append(problems.passthrough_guarded(reader.found[0].origin))
            return frozenset()
        self.problems += reader.problems
        for each in reader.found:
            winner = self._winners.setdefault(each.host, each)
            if winner.upstream != each.upstream:
                self.problems.append(problems.passthrough_taken(each.origin, each.host, winner.origin))
        passed = frozenset(each.host for each in reader.found)
        self.terminate(ingress, passed)
        return passed

    def terminate(self, ingress: Ingress, passed: frozenset[str] = frozenset()) -> None:
        """Take in an Ingress whose hosts, but for those `passed`, do not pass through."""
        if ingress.tls:
            self._terminated.append((ingress, passed))

    def passthroughs(self) -> tuple[Passthrough, ...]:
        """Return the winners by host, and note whose routes no TLS client reaches any more."""
        for ingress, passed in self._terminated if self._winners else ():
            secured = {host for entry in ingress.tls for host in entry.hosts} - passed
            for rule in ingress.rules:
                if rule.host in secured and (winner := self._winners.get(rule.host)) is not None:
                    origin = at(ingress, rule.field)
                    self.problems.append(problems.host_passed_through(origin, rule.host, winner.origin))
        return tuple(self._winners[host] for host in sorted(self._winners))
