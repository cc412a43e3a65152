"""Hosts that Ingresses ask for beside those of their rules: aliases, and `www.` with or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portway_operator import problems
from portway_operator.problems import Origin, Problem
from portway_proxy.snapshot import Host, PathMatch, Policy, Route

__all__ = ["MoreHosts"]

_WWW = "www."


@dataclass(frozen=True, slots=True)
class _Wish:
    """A host that is to be served beside `host`, and where that was said."""

    name: str
    host: str
    origin: Origin


class MoreHosts:
    """The further hosts, asked for from the oldest Ingress to the youngest."""

    __slots__ = ("_aliases", "_www", "problems")

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._aliases: dict[str, _Wish] = {}
        self._www: dict[str, _Wish] = {}

    def alias(self, name: str, host: str, origin: Origin) -> None:
        """Serve `name` as `host`."""
        self._take(self._aliases, _Wish(name, host, origin))

    def from_to_www(self, host: str, origin: Origin) -> None:
        """Send `www.` before `host`, or `host` without it, to `host`."""
        if host and not host.startswith("*"):
            other = host.removeprefix(_WWW) if host.startswith(_WWW) else _WWW + host
            self._take(self._www, _Wish(other, host, origin))

    def hosts(self, declared: Mapping[str, Host]) -> list[Host]:
        """Return the further hosts; what a rule declares is none of them."""
        found = {}
        for wish in self._aliases.values():
            if self._free(wish, declared):
                found[wish.name] = Host(wish.name, declared[wish.host].routes)
        for wish in self._www.values():
            routes = declared[wish.host].routes
            if wish.name not in found and wish.name not in declared and routes:
                policy = Policy(www=wish.host)
                route = Route("/", PathMatch.PREFIX, routes[0].upstream, wish.origin, policy)
                found[wish.name] = Host(wish.name, (route,))
        return list(found.values())

    def _take(self, wishes: dict[str, _Wish], wish: _Wish) -> None:
        winner = wishes.setdefault(wish.name, wish)
        if winner.host != wish.host:
            self.problems.append(problems.alias_taken(wish.origin, wish.name, winner.host))

    def _free(self, wish: _Wish, declared: Mapping[str, Host]) -> bool:
        if wish.name in declared:
            self.problems.append(problems.alias_taken(wish.origin, wish.name, wish.name))
        return wish.name not in declared and wish.host in declared
