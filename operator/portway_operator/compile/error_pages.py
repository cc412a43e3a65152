"""Who makes the pages for errors: the Service that an Ingress names, or the default backend of the settings."""

from __future__ import annotations

import msgspec

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.compile.defaults import default_service, first_port
from portway_operator.compile.upstreams import Upstreams
from portway_operator.objects import Ingress
from portway_operator.problems import Origin, Problem, at
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import ErrorPages

__all__ = ["PageMakers"]

_PASSES = "Errors reach clients as they are."


class PageMakers:
    """Reads who makes the pages of Ingresses."""

    __slots__ = ("_settings", "_store", "_upstreams")

    def __init__(self, store: ObjectStore, upstreams: Upstreams, settings: CompileSettings) -> None:
        self._store = store
        self._upstreams = upstreams
        self._settings = settings

    def read(self, ingress: Ingress, values: IngressAnnotations) -> tuple[ErrorPages | None, list[Problem]]:
        """Return who makes the pages of an Ingress with these annotations, and what is wrong with that."""
        statuses = values.custom_http_errors
        settings = self._settings
        if not statuses and not values.disable_proxy_intercept_errors and not settings.disable_proxy_intercept_errors:
            statuses = settings.custom_http_errors
        if values.default_backend:
            wanted = first_port(self._store, ingress.meta.namespace, values.default_backend)
            found = self._upstreams.reference_problems(wanted, _origin(ingress, "default_backend"))
            if found:
                return None, [msgspec.structs.replace(problem, done=_PASSES) for problem in found]
            return ErrorPages(self._upstreams.resolve(wanted).upstream.name, statuses, stands_in=True), []
        if not statuses:
            return None, []
        # What is wrong with the settings' own is said of them once.
        route = default_service(self._store, self._upstreams, self._settings, [])
        if route is not None:
            return ErrorPages(route.upstream, statuses), []
        said = bool(values.custom_http_errors)
        return None, [problems.pages_unmade(_origin(ingress, "custom_http_errors"))] if said else []


def _origin(ingress: Ingress, field: str) -> Origin:
    return at(ingress, f"metadata.annotations[{key_of(ingress, rows(IngressAnnotations)[field])}]")
