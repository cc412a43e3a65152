"""Whom proxies believe what they say about clients, as the settings have it."""

from __future__ import annotations

from collections.abc import Iterator

from portway_operator import problems
from portway_operator.problems import Origin, Problem
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import Belief, Trust

__all__ = ["trust_of", "trust_problems"]

_NETWORKS = "proxy-real-ip-cidr"
_EVERYBODY = ("0.0.0.0/0", "::/0")


def trust_of(settings: CompileSettings) -> Trust | None:
    """Return what proxies are told, or None when they are to believe nobody."""
    belief = Belief.NOTHING
    if settings.use_forwarded_headers:
        belief = Belief.REQUEST
    elif settings.enable_real_ip:
        belief = Belief.ADDRESS
    trust = Trust(
        networks=settings.proxy_real_ip_cidr,
        belief=belief,
        field=settings.forwarded_for_header,
        append=settings.compute_full_forwarded_for and settings.use_forwarded_headers,
        proxy_protocol=settings.use_proxy_protocol,
        patience=settings.proxy_protocol_header_timeout,
    )
    return None if trust == Trust() else trust


def trust_problems(settings: CompileSettings) -> Iterator[Problem]:
    """Yield what cannot be meant: that a word counts and nobody's does, or everybody's."""
    asked = {
        "enable-real-ip": settings.enable_real_ip,
        "use-forwarded-headers": settings.use_forwarded_headers,
        "use-proxy-protocol": settings.use_proxy_protocol,
    }
    if not settings.proxy_real_ip_cidr:
        # ingress-nginx would believe everybody.
        yield from (problems.nobody_trusted(_origin(settings, key), _NETWORKS) for key, on in asked.items() if on)
    elif any(asked.values()):
        everybody = [network for network in _EVERYBODY if network in settings.proxy_real_ip_cidr]
        yield from (problems.everybody_trusted(_origin(settings, _NETWORKS), network) for network in everybody)


def _origin(settings: CompileSettings, key: str) -> Origin:
    namespace, _, name = settings.config_map.partition("/")
    return Origin("ConfigMap", namespace, name, f"data[{key}]") if name else Origin("Setting", "", key)
