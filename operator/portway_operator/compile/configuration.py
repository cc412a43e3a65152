"""Portway's own ConfigMap: settings that change while the operator runs, each over the flag of its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from portway_operator import problems
from portway_operator.objects import ConfigMap
from portway_operator.parse import boolean, field_name, networks, seconds
from portway_operator.problems import Origin, Problem
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore

__all__ = ["KEYS", "configured"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the ConfigMap: the setting that it sets, and the parser of its value."""

    setting: str
    parse: Callable[[str], object]


def _service(text: str) -> str:
    """Return what names a Service, or nothing for none; raises ValueError with what is wrong."""
    if not re.fullmatch(r"([a-z0-9-]+/[a-z0-9-]+(:[a-z0-9-]+)?)?", text):
        raise ValueError("it is not namespace/name or namespace/name:port")
    return text


KEYS: Final = {
    "allow-external-name": Key("allow_external_name", boolean),
    "catch-all": Key("allow_catch_all", boolean),
    "compute-full-forwarded-for": Key("compute_full_forwarded_for", boolean),
    "default-backend-service": Key("default_backend_service", _service),
    "enable-real-ip": Key("enable_real_ip", boolean),
    "forwarded-for-header": Key("forwarded_for_header", field_name),
    "generate-request-id": Key("generate_request_id", boolean),
    "ingress-class-by-name": Key("ingress_class_by_name", boolean),
    "proxy-protocol-header-timeout": Key("proxy_protocol_header_timeout", seconds(0.1, 300)),
    "proxy-real-ip-cidr": Key("proxy_real_ip_cidr", networks),
    "proxy-stream-timeout": Key("stream_timeout", seconds(1, 30 * 86400)),
    "ssl-redirect": Key("ssl_redirect", boolean),
    "use-forwarded-headers": Key("use_forwarded_headers", boolean),
    "use-proxy-protocol": Key("use_proxy_protocol", boolean),
    "watch-ingress-without-class": Key("watch_ingress_without_class", boolean),
}
"""Every key, by its name."""


def configured(store: ObjectStore, settings: CompileSettings) -> tuple[CompileSettings, list[Problem]]:
    """Return `settings` with what their ConfigMap says instead, and what is wrong with it.

    A ConfigMap that is missing, and each key that cannot be used, leaves what the flags say.
    """
    if not settings.config_map:
        return settings, []
    namespace, _, name = settings.config_map.partition("/")
    found = store.config_maps.get((namespace, name))
    if found is None:
        return settings, [problems.config_map_missing(Origin("ConfigMap", namespace, name))]
    return _read(found, settings)


def _read(found: ConfigMap, settings: CompileSettings) -> tuple[CompileSettings, list[Problem]]:
    changes: dict[str, Any] = {}
    noted = []
    for name, value in sorted(found.data.items()):
        origin = Origin("ConfigMap", found.meta.namespace, found.meta.name, f"data[{name}]")
        key = KEYS.get(name)
        if key is None:
            close = difflib.get_close_matches(name, KEYS, n=1)
            remedy = f"Did you mean {close[0]}?" if close else f"The keys are {', '.join(KEYS)}."
            noted.append(problems.config_key_unknown(origin, remedy))
            continue
        try:
            changes[key.setting] = key.parse(value)
        except ValueError as error:
            noted.append(problems.config_value_invalid(origin, value, str(error)))
    return replace(settings, **changes), noted
