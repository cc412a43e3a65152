"""Annotations of an Ingress to the policies of its routes."""

from __future__ import annotations

import msgspec

from portway_operator.annotations import IngressAnnotations, Reading
from portway_operator.compile.access import Access
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import Policy

__all__ = ["Policies"]

_NONE = Policy()
_ANYBODY = Access()


class Policies:
    """The policies of one Ingress's routes: those of hosts with TLS, and those of others."""

    __slots__ = ("_plain", "_secure")

    def __init__(
        self, reading: Reading[IngressAnnotations], settings: CompileSettings, access: Access = _ANYBODY
    ) -> None:
        values = reading.values
        redirect = settings.ssl_redirect if values.ssl_redirect is None else values.ssl_redirect
        closed = reading.closed or access.closed
        self._plain = Policy(body_size=values.body_size, closed=closed, basic=None if closed else access.basic)
        self._secure = msgspec.structs.replace(self._plain, https_redirect=redirect)

    @property
    def guarded(self) -> bool:
        """Whether not everybody may come to the routes."""
        return self._plain.guards

    def of(self, *, tls: bool) -> Policy | None:
        """Return the policy of a route; None when it asks for nothing."""
        policy = self._secure if tls else self._plain
        return None if policy == _NONE else policy
