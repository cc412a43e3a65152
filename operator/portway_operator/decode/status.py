"""Reads where an object says that it is reached: nothing is routed by it, so what is malformed is left out silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from portway_operator.decode.fields import Raw
from portway_operator.objects import PublicAddress

__all__ = ["published", "texts"]


def published(raw: Raw) -> tuple[PublicAddress, ...]:
    """Return `status.loadBalancer.ingress`, sorted."""
    status = raw.get("status")
    balancer = status.get("loadBalancer") if isinstance(status, Mapping) else None
    points = balancer.get("ingress") if isinstance(balancer, Mapping) else None
    if not points:
        return ()
    return tuple(sorted(_addresses(points)))


def texts(value: object) -> tuple[str, ...]:
    """Return the strings in a list that are not empty."""
    return tuple(one for one in value if isinstance(one, str) and one) if isinstance(value, (list, tuple)) else ()


def _addresses(points: object) -> Iterator[PublicAddress]:
    for point in points if isinstance(points, (list, tuple)) else ():
        ip, hostname = (point.get("ip"), point.get("hostname")) if isinstance(point, Mapping) else (None, None)
        if isinstance(ip, str) and ip:
            yield PublicAddress(ip=ip)
        if isinstance(hostname, str) and hostname:
            yield PublicAddress(hostname=hostname)
