"""ConfigMaps whose keys are names of header fields, and what they say their values."""

from __future__ import annotations

from typing import Any, Final

from portway_operator import problems
from portway_operator.objects import ConfigMap, Ingress
from portway_operator.parse_http import field_pair, request_pair
from portway_operator.problems import Origin, Problem
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore

__all__ = ["FieldMaps", "Fields", "named_by_settings", "resolve_maps"]

Key = tuple[str, str]
Fields = tuple[tuple[str, str], ...]


def _read(found: ConfigMap) -> Fields:
    """Return the fields of a ConfigMap, by name; raises ValueError with what is wrong."""
    return tuple(field_pair(name, value.strip()) for name, value in sorted(found.data.items()))


_SETTINGS: Final = {"add_headers": field_pair, "proxy_set_headers": request_pair}


def named_by_settings(store: ObjectStore, settings: CompileSettings) -> set[Key]:
    """Return the namespaces and names of the ConfigMaps of fields that our own one names."""
    namespace, _, name = settings.config_map.partition("/")
    found = store.config_maps.get((namespace, name))
    if found is None:
        return set()
    said = (found.data.get(setting.replace("_", "-"), "").strip() for setting in _SETTINGS)
    return {_reference(found, text) for text in said if text}


def resolve_maps(store: ObjectStore, owner: ConfigMap, changes: dict[str, Any]) -> list[Problem]:
    """Put fields in the place of the ConfigMaps that settings name for them; return what is wrong with those."""
    noted = []
    for setting, parse in _SETTINGS.items():
        text = changes.pop(setting, "")
        if not text:
            continue
        namespace, name = key = _reference(owner, text)
        found = store.config_maps.get(key)
        if found is None:
            noted.append(problems.config_map_missing(Origin("ConfigMap", namespace, name)))
            continue
        for field, value in sorted(found.data.items()):
            try:
                changes[setting] = (*changes.get(setting, ()), parse(field, value.strip()))
            except ValueError as error:
                origin = Origin("ConfigMap", namespace, name, f"data[{field}]")
                noted.append(problems.config_value_invalid(origin, value, str(error), guards=False))
    return noted


def _reference(owner: ConfigMap, text: str) -> Key:
    namespace, _, name = text.rpartition("/")
    return namespace or owner.meta.namespace, name


class FieldMaps:
    """Reads the ConfigMaps of fields that Ingresses name.

    `named` are the namespaces and names of all of them so far.
    """

    __slots__ = ("_store", "named")

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.named: set[Key] = set()

    def read(self, ingress: Ingress, reference: str, origin: Origin) -> Fields | Problem:
        """Return the fields of the ConfigMap that an Ingress names at `origin`, or why there are none."""
        namespace, slash, name = reference.rpartition("/")
        own = ingress.meta.namespace
        if slash and namespace != own:
            return problems.fields_foreign(origin, reference, own)
        key = (own, name)
        self.named.add(key)
        found = self._store.config_maps.get(key)
        if found is None:
            return problems.fields_missing(origin, "/".join(key))
        try:
            return _read(found)
        except ValueError as error:
            return problems.fields_invalid(origin, name, str(error))
