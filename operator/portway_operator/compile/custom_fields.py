"""Fields of ConfigMaps that annotations name: for answers, and for the service that is asked who may come."""

from __future__ import annotations

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.compile.access import Access
from portway_operator.compile.field_maps import FieldMaps, Fields
from portway_operator.objects import Ingress
from portway_operator.problems import Origin, Problem, at
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore

__all__ = ["CustomFields"]


class CustomFields:
    """Reads them; what cannot be read closes the paths, as there."""

    __slots__ = ("_allowed", "_maps")

    def __init__(self, store: ObjectStore, settings: CompileSettings) -> None:
        self._maps = FieldMaps(store)
        self._allowed = {name.lower() for name in settings.global_allowed_response_headers}

    @property
    def named(self) -> set[tuple[str, str]]:
        """The namespaces and names of the ConfigMaps that were named so far."""
        return self._maps.named

    def read(self, ingress: Ingress, values: IngressAnnotations) -> tuple[Fields, Fields, Access]:
        """Return what answers have, what the service is told, and whether the paths are closed."""
        answer, closed = self._answer(ingress, values.custom_headers)
        told: Fields | Problem = ()
        if values.auth_proxy_set_headers and values.auth_url is not None:
            told = self._maps.read(ingress, values.auth_proxy_set_headers, _origin(ingress, "auth_proxy_set_headers"))
        if isinstance(told, Problem):
            closed = closed.beside(Access(closed=told.code, problems=(told,)))
            told = ()
        return answer, told, closed

    def _answer(self, ingress: Ingress, reference: str) -> tuple[Fields, Access]:
        if not reference:
            return (), Access()
        origin = _origin(ingress, "custom_headers")
        found = self._maps.read(ingress, reference, origin)
        if not isinstance(found, Problem):
            strange = [name for name, _ in found if name.lower() not in self._allowed]
            if not strange:
                return found, Access()
            found = problems.fields_unwelcome(origin, strange[0])
        return (), Access(closed=found.code, problems=(found,))


def _origin(ingress: Ingress, field: str) -> Origin:
    return at(ingress, f"metadata.annotations[{key_of(ingress, rows(IngressAnnotations)[field])}]")
