"""Annotations of a Service to the policy of the ports that are opened for it."""

from __future__ import annotations

from portway_operator.annotations import ServiceAnnotations
from portway_operator.ports import PortWish
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import ListenerPolicy, ProxyVersion, Transport

__all__ = ["listener_policy"]

_ORDINARY = ListenerPolicy()


def listener_policy(values: ServiceAnnotations, wish: PortWish, settings: CompileSettings) -> ListenerPolicy | None:
    """Return what the annotations ask for on one port; None for nothing beyond the ordinary."""
    tcp = wish.transport is Transport.TCP
    policy = ListenerPolicy(
        announce=wish.announce or _announced(values, wish.external) if tcp else None,
        accept_proxy=(wish.accept or values.accept_proxy_protocol) and tcp,
        clients=values.max_clients,
        connect=values.connect_timeout if tcp else None,
        idle=values.idle_timeout or settings.stream_timeout or None,
        lifetime=values.max_lifetime if tcp else None,
    )
    return None if policy == _ORDINARY else policy


def _announced(values: ServiceAnnotations, port: int) -> ProxyVersion | None:
    versions = {mapping.external: mapping.version for mapping in values.proxy_protocol}
    return versions.get(port) or versions.get(0)
