"""What ingress-nginx does with paths that the specification has otherwise, for Ingresses that are to be read as there.

Five things surprise: regular expressions fit the beginning of a path in upper or lower case; one Ingress that asks for
them makes expressions of all paths of its hosts; so does one that rewrites; a path with a slash at its end redirects
who leaves the slash out; and paths are normalised before they are matched. The first and the last hold for every
Ingress here. The others are made of ordinary routes, so that they cost a request nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations
from portway_operator.compile.classes import Classes
from portway_operator.decode.meta import PREFIX
from portway_operator.objects import Ingress
from portway_operator.parse import one_of
from portway_operator.problems import Problem, at
from portway_operator.settings import Compatibility, CompileSettings
from portway_proxy.patterns import BadPattern, compile_pattern
from portway_proxy.snapshot import PathMatch, Policy, Redirect, Route

__all__ = ["Modes", "Surprises"]

Key = tuple[str, str]
PathKey = tuple[str, PathMatch]

_KEY = f"{PREFIX}compatibility"
_parse = one_of(Compatibility)

# nginx answers so by itself, before it asks who the client is; the port is not named, as in ingress-nginx.
_TO_SLASH = "$uri/$is_args$args"


class Modes:
    """Which Ingresses are read as ingress-nginx would: the Ingress says it, else its class, else the settings."""

    __slots__ = ("_by_class", "_classes", "_found", "_usual")

    def __init__(self, classes: Classes, settings: CompileSettings) -> None:
        self._classes = classes
        self._usual = settings.compatibility
        self._by_class: dict[str, Compatibility] = {}
        self._found: list[Problem] = []
        for one in classes.own():
            value = one.meta.annotations.get(_KEY)
            if value is None:
                continue
            try:
                self._by_class[one.meta.name] = _parse(value.strip(" "))
            except ValueError as error:
                origin = at(one, f"metadata.annotations[{_KEY}]")
                self._found.append(problems.annotation_invalid(origin, value, str(error), closes=False))

    def nginx(self, ingress: Ingress, values: IngressAnnotations) -> bool:
        """Return whether an Ingress with these annotations is."""
        mode = values.compatibility
        if mode is None and self._by_class:
            named = self._classes.named(ingress)
            mode = None if named is None else self._by_class.get(named.meta.name)
        return (mode or self._usual) is Compatibility.INGRESS_NGINX

    def place(self, ingress: Ingress, values: IngressAnnotations) -> str:
        """Return the annotation of the class that says how an Ingress with these annotations is read; or nothing."""
        named = self._classes.named(ingress) if values.compatibility is None and self._by_class else None
        if named is None or named.meta.name not in self._by_class:
            return ""
        return f"annotation {_KEY} of IngressClass {named.meta.name}"

    def problems(self) -> list[Problem]:
        """Return what is wrong with what the classes say."""
        return self._found


class Surprises:
    """The Ingresses that are read as ingress-nginx would, and what becomes of their paths."""

    __slots__ = ("_owners", "_patterned", "problems")

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._owners: dict[Key, Policy] = {}
        self._patterned: set[str] = set()

    def add(self, owner: Key, values: IngressAnnotations, routes: Iterable[tuple[str, Route]]) -> None:
        """Take in such an Ingress."""
        port = ":$server_port" if values.use_port_in_redirects else ""
        origin = "" if values.relative_redirects else f"$scheme://$host{port}"
        self._owners[owner] = Policy(redirect=Redirect(301, origin + _TO_SLASH))
        for host, route in routes:
            if values.use_regex or (values.rewrite_target and values.rewrite_target != route.path):
                self._patterned.add(host)

    def apply(self, host: str, routes: Mapping[PathKey, Route]) -> Mapping[PathKey, Route]:
        """Return the routes of a host as they come out there."""
        if not self._owners:
            return routes
        if host in self._patterned:
            return self._as_patterns(routes)
        return self._with_slashes(routes)

    def _ours(self, route: Route) -> bool:
        return (route.origin.namespace, route.origin.name) in self._owners

    def _as_patterns(self, routes: Mapping[PathKey, Route]) -> dict[PathKey, Route]:
        found: dict[PathKey, Route] = {}
        for (path, match), route in routes.items():
            if match is PathMatch.REGEX or not self._ours(route):
                found.setdefault((path, match), route)
                continue
            text = path
            if match is PathMatch.PREFIX and (path, PathMatch.EXACT) in routes:
                text = path.rstrip("/") + "/"  # The exact path stands for what has no slash.
            try:
                compile_pattern(text)
            except BadPattern as error:
                self.problems.append(problems.pattern_impossible(route.origin, path, str(error)))
                found.setdefault((path, match), route)
            else:
                pattern = msgspec.structs.replace(route, path=text, match=PathMatch.REGEX)
                found.setdefault((text, PathMatch.REGEX), pattern)
        return found

    def _with_slashes(self, routes: Mapping[PathKey, Route]) -> dict[PathKey, Route]:
        found = dict(routes)
        for (path, match), route in routes.items():
            if match is PathMatch.REGEX or len(path) < 2 or not path.endswith("/") or not self._ours(route):
                continue
            bare = path[:-1]
            if (bare, PathMatch.EXACT) not in routes and (bare, PathMatch.PREFIX) not in routes:
                policy = self._owners[route.origin.namespace, route.origin.name]
                found[bare, PathMatch.EXACT] = Route(bare, PathMatch.EXACT, route.upstream, route.origin, policy)
        return found
