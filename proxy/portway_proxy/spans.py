"""Spans of finished requests as OpenTelemetry's library knows them, and its exporters.

Needs the extra `portway[otel]`: only `span_export` may load this, when the first span is due.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from portway_proxy.observing import Export, Tracing

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from portway_proxy.l7.exchange import Exchange

__all__ = ["Delivery"]

_log = logging.getLogger(__name__)

_TIMEOUT: Final = 5.0  # Seconds for one delivery, attempts included.
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"))
_EXPORTERS: Final = {
    Export.HTTP: "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    Export.GRPC: "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
_NANO: Final = 1_000_000_000


class Delivery:
    """The exporter to the collector of `settings`; `node` is this proxy's name."""

    def __init__(self, settings: Tracing, node: str) -> None:
        # It tells of each attempt; whoever uses this tells when something changes.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _exporter(settings)
        self._resource = Resource.create({"service.name": settings.service, "service.instance.id": node})

    def deliver(self, exchanges: Iterable[Exchange], offset: float) -> bool:
        """Return whether the collector took the spans; `offset` leads from the loop's clock to the epoch's."""
        spans = [_span(exchange, offset, self._resource) for exchange in exchanges]
        try:
            return self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001 - the thread must survive whatever the exporter meets
            _log.exception("spans could not be delivered")
            return False

    def close(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()


def _exporter(settings: Tracing) -> SpanExporter:
    url = settings.endpoint
    options: dict[str, object] = {"timeout": _TIMEOUT}
    if settings.export is Export.GRPC:
        options["insecure"] = not url.startswith("https:")
    elif urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + "/v1/traces"
    # Only the one that is used: the other's library is large.
    module = importlib.import_module(_EXPORTERS[settings.export])
    return cast("SpanExporter", module.OTLPSpanExporter(endpoint=url, **options))


def _span(exchange: Exchange, offset: float, resource: Resource) -> ReadableSpan:
    assert exchange.trail is not None  # noqa: S101 - it was taken for its span
    own = exchange.trail.span
    assert own is not None  # noqa: S101 - it was taken for its span
    attributes = _attributes(exchange)
    method = attributes["http.request.method"]
    name = "HTTP" if method == "_OTHER" else str(method)
    return ReadableSpan(
        name=own.name.decode("utf-8", "replace") or _name(exchange, name),
        context=_context(own.trace, own.id, remote=False),
        parent=_context(own.trace, own.parent, remote=True) if own.parent else None,
        resource=resource,
        attributes=attributes,
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if exchange.status >= 500 else StatusCode.UNSET),
        start_time=int((exchange.started + offset) * _NANO),
        end_time=int((exchange.ended + offset) * _NANO),
    )


def _name(exchange: Exchange, method: str) -> str:
    return f"{method} {exchange.route.path}" if exchange.route is not None else method


def _context(trace: bytes, span: bytes, *, remote: bool) -> SpanContext:
    return SpanContext(int(trace, 16), int(span, 16), remote, TraceFlags(TraceFlags.SAMPLED))


def _attributes(exchange: Exchange) -> dict[str, AttributeValue]:
    """Return what OpenTelemetry's conventions for HTTP servers ask for, and what we know beside it."""
    head, trail = exchange.head, exchange.trail
    method = head.method.decode()
    path, _, query = head.target.decode("latin-1").partition("?")
    found: dict[str, AttributeValue] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.response.status_code": exchange.status,
        "http.request.body.size": exchange.request_size,
        "http.response.body.size": exchange.response_size,
        "url.scheme": "https" if exchange.secure else "http",
        "url.path": path,
        "client.address": exchange.peer.decode(),
        "network.protocol.version": f"1.{head.minor}",
        "portway.request_id": head.request_id.decode(),
    }
    optional: dict[str, AttributeValue] = {
        "http.request.method_original": method if method not in _METHODS else "",
        "url.query": query,
        "server.address": head.host.decode(),
        "user_agent.original": head.agent.decode("utf-8", "replace"),
        "http.route": exchange.route.path if exchange.route is not None else "",
        "http.request.resend_count": len(trail.attempts) if trail is not None else 0,
        "error.type": exchange.reason or str(exchange.status) if exchange.status >= 500 else "",
        "portway.reason": exchange.reason,
        "portway.origin": str(exchange.route.origin) if exchange.route is not None else "",
        "portway.upstream": exchange.upstream.upstream.name if exchange.upstream is not None else "",
        "portway.endpoint": exchange.pool.label.decode() if exchange.pool is not None else "",
    }
    return found | {name: value for name, value in optional.items() if value}
