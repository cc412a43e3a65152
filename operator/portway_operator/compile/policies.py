"""Annotations of an Ingress to the policies of its routes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from portway_operator.annotations import IngressAnnotations, Reading, unsaid
from portway_operator.annotations.access import Satisfy
from portway_operator.compile import for_all
from portway_operator.compile.access import Access
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import (
    Blocked,
    Buffering,
    Cors,
    Edits,
    ErrorPages,
    Mirror,
    Patience,
    Policy,
    Rate,
    RateLimit,
    Redirect,
    Traced,
)

__all__ = ["Elsewhere", "Policies"]

_NONE = Policy()
_REDIRECTED = Policy(https_redirect=True)
_ANYBODY = Access()
_UNSAID = unsaid(IngressAnnotations).values
_USUAL = Patience()
_UNEDITED = Edits()
_ORIGINAL = (("X-Original-Uri", "$request_uri"),)
_FOR_ALL = (
    "add_headers",
    "block_referers",
    "block_user_agents",
    "hide_headers",
    "proxy_add_original_uri_header",
    "proxy_set_headers",
)
_UNTRACED = Traced()
_UNBUFFERED = Buffering()
_WAITING = 16 << 20  # Bytes: nobody's annotation may cost a worker more than that for each request.


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What other objects say of the requests of an Ingress.

    The upstreams of pages for errors and of copies, and the fields of a ConfigMap for answers.
    """

    errors: ErrorPages | None = None
    mirror: Mirror | None = None
    answer: tuple[tuple[str, str], ...] = ()


_NOWHERE = Elsewhere()


class Policies:
    """The policies of one Ingress's routes: those of hosts with TLS, and those of others.

    `zone` is what its limits count by. `values` are what its annotations say, `usual` what those say that say nothing.
    """

    __slots__ = ("_open_paths", "_plain", "_secure", "usual", "values")

    def __init__(
        self,
        reading: Reading[IngressAnnotations],
        settings: CompileSettings,
        access: Access = _ANYBODY,
        zone: str = "",
        elsewhere: Elsewhere = _NOWHERE,
    ) -> None:
        self.values = values = reading.values
        self.usual = for_all.usual(settings)
        self._open_paths = settings.no_auth_locations if access.asks else ()
        redirect = settings.ssl_redirect if values.ssl_redirect is None else values.ssl_redirect
        closed = reading.closed or access.closed or settings.closed
        forced = settings.force_ssl_redirect if values.force_ssl_redirect is None else values.force_ssl_redirect
        listed = settings.allow_source_range or settings.deny_source_range or settings.block_cidrs
        asked = forced or bool(listed) or elsewhere != _NOWHERE
        asked = asked or not settings.allow_backend_server_header or any(getattr(settings, name) for name in _FOR_ALL)
        if values is _UNSAID and not closed and not asked and access is _ANYBODY:
            self._plain, self._secure = _NONE, _REDIRECTED if redirect else _NONE
            return
        if closed:
            self._plain = Policy(body_size=values.body_size, closed=closed, https_redirect=forced)
        else:
            self._plain = msgspec.structs.replace(
                _policy(values, access),
                https_redirect=forced,
                errors=elsewhere.errors,
                mirror=elsewhere.mirror,
                answer=_over(settings.add_headers, elsewhere.answer, values.response_headers),
                limit=_limit(values, zone, settings),
                hidden=_hidden(settings),
                blocked=_blocked(settings),
                request=_over(
                    _ORIGINAL if settings.proxy_add_original_uri_header else (),
                    settings.proxy_set_headers,
                    values.request_headers,
                ),
                allow=values.allow_source_range or settings.allow_source_range,
                deny=_together(values.deny_source_range or settings.deny_source_range, settings.block_cidrs),
            )
        self._secure = msgspec.structs.replace(self._plain, https_redirect=redirect or forced)

    @property
    def guarded(self) -> bool:
        """Whether not everybody may come to the routes."""
        return self._plain.guards

    def of(self, path: str = "/", *, tls: bool) -> Policy | None:
        """Return the policy of a route with that path; None when it asks for nothing."""
        policy = self._secure if tls else self._plain
        if self._open_paths and path.startswith(self._open_paths):
            policy = msgspec.structs.replace(policy, basic=None, external=None)
        return None if policy == _NONE else policy


def _hidden(settings: CompileSettings) -> tuple[str, ...]:
    if settings.allow_backend_server_header:
        return settings.hide_headers
    return tuple(sorted({*settings.hide_headers, "server"}))


def _policy(values: IngressAnnotations, access: Access) -> Policy:
    return Policy(
        body_size=values.body_size,
        basic=access.basic,
        external=access.external,
        certificate=access.certificate,
        any_suffices=values.satisfy is Satisfy.ANY,
        app_root=values.app_root,
        relative=values.relative_redirects and bool(values.app_root),
        redirect=_redirect(values),
        cors=_cors(values),
        rewrite=values.rewrite_target,
        host=values.upstream_host,
        patience=_patience(values),
        edits=_edits(values),
        rate=Rate(values.limit_rate << 10, values.limit_rate_after << 10) if values.limit_rate else None,
        buffering=_buffering(values),
        tracing=_tracing(values),
        connection=values.connection_proxy_header,
        old_http=values.proxy_http_version == "1.0",
        unlogged=not values.access_log,
        # Without a rewrite there is no prefix that the endpoint does not see.
        prefix=values.forwarded_prefix if values.rewrite_target else "",
    )


def _over(*sources: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the fields of all sources; of those of one name that of the last source counts."""
    return tuple({name.lower(): (name, value) for source in sources for name, value in source}.values())


def _together(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*some, *others})) if others else some


def _patience(values: IngressAnnotations) -> Patience | None:
    asked = Patience(values.connect_timeout, values.read_timeout, values.send_timeout)
    return None if asked == _USUAL else asked


def _edits(values: IngressAnnotations) -> Edits | None:
    redirect = (values.redirect_from, values.redirect_to) if values.redirect_from and values.redirect_to else None
    asked = Edits(values.cookie_domain, values.cookie_path, redirect)
    return None if asked == _UNEDITED else asked


def _buffering(values: IngressAnnotations) -> Buffering | None:
    asked = Buffering(
        min(values.client_body_buffer_size, _WAITING) if values.proxy_request_buffering else 0,
        min(values.proxy_buffers_number * values.proxy_buffer_size, _WAITING) if values.proxy_buffering else 0,
        0 if values.proxy_buffer_size == _UNSAID.proxy_buffer_size else min(values.proxy_buffer_size, _WAITING),
    )
    return None if asked == _UNBUFFERED else asked


def _tracing(values: IngressAnnotations) -> Traced | None:
    asked = Traced(
        values.enable_opentelemetry, values.opentelemetry_trust_incoming_span, values.opentelemetry_operation_name
    )
    return None if asked == _UNTRACED else asked


def _blocked(settings: CompileSettings) -> Blocked | None:
    asked = Blocked(settings.block_user_agents, settings.block_referers)
    return asked if asked.agents or asked.referers else None


def _redirect(values: IngressAnnotations) -> Redirect | None:
    if values.temporal_redirect:
        return Redirect(values.temporal_redirect_code, values.temporal_redirect)
    if values.permanent_redirect:
        return Redirect(values.permanent_redirect_code, values.permanent_redirect)
    return None


def _cors(values: IngressAnnotations) -> Cors | None:
    if not values.enable_cors:
        return None
    return Cors(
        values.cors_allow_origin,
        values.cors_allow_methods,
        values.cors_allow_headers,
        values.cors_expose_headers,
        values.cors_allow_credentials,
        values.cors_max_age,
    )


def _limit(values: IngressAnnotations, zone: str, settings: CompileSettings) -> RateLimit | None:
    rates = [(float(values.limit_rps), values.limit_rps), (values.limit_rpm / 60, values.limit_rpm)]
    asked = tuple((rate, most * values.limit_burst_multiplier) for rate, most in rates if most)
    if not asked and not values.limit_connections:
        return None
    return RateLimit(
        zone,
        asked,
        values.limit_connections,
        values.limit_allowlist,
        settings.limit_req_status_code,
        settings.limit_conn_status_code,
    )
