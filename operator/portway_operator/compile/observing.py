"""What proxies write and trace, as the ConfigMap has it: ingress-nginx's keys, for the settings of proxies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portway_operator import problems
from portway_operator.problems import Origin, Problem
from portway_operator.settings import CompileSettings
from portway_proxy.log_format import Escape, unknown
from portway_proxy.observing import Export, Observing, Sampler, Tracing
from portway_proxy.snapshot import Policy

__all__ = ["log_template", "observing_of", "observing_problems", "paths", "port", "ratio", "sampler", "server_name"]

_FORMAT = "log-format-upstream"
_HTTP_PORT = 4318
"""Where collectors take spans over HTTP; on every other port, 4317 first of all, they are sent by gRPC."""


def observing_of(settings: CompileSettings, policies: Iterable[Policy]) -> Observing | None:
    """Return what proxies are told, or None when their own settings count; `policies` are those of all routes."""
    escape = None
    if settings.log_format_escape_json is not None:
        escape = Escape.JSON if settings.log_format_escape_json else Escape.DEFAULT
    observing = Observing(
        access_log=None if settings.disable_access_log is None else not settings.disable_access_log,
        log_format=settings.log_format_upstream or None,
        log_escape=escape,
        log_skip=settings.skip_access_log_urls,
        tracing=_tracing(settings, policies),
        explain_to=settings.explain_to,
    )
    return None if observing == Observing() else observing


def observing_problems(settings: CompileSettings) -> Iterator[Problem]:
    """Yield what is wrong with it: variables that there are not, and traces that nobody would take."""
    for sentence in unknown(settings.log_format_upstream):
        yield problems.log_variable_unknown(_origin(settings, _FORMAT), sentence)
    if settings.enable_opentelemetry and not settings.otlp_collector_host:
        yield problems.collector_missing(_origin(settings, "enable-opentelemetry"))


def log_template(text: str) -> str:
    """Return `text`, the template of access lines; raises ValueError for what could be no line."""
    if "$" not in text:
        raise ValueError("it names no $variable")
    if not text.isprintable():
        raise ValueError("it has to be one line, without control characters")
    return text


def paths(text: str) -> tuple[str, ...]:
    """Return the paths that commas part; raises ValueError for anything else."""
    found = tuple(sorted({path.strip() for path in text.split(",") if path.strip()}))
    for path in found:
        if not path.startswith("/"):
            raise ValueError(f"{path} is no path: it has to begin with /, and is compared as a whole")
    return found


def server_name(text: str) -> str:
    """Return a host name or address; raises ValueError with what is wrong."""
    if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", text):
        raise ValueError("it is no host name or address")
    return text


def port(text: str) -> int:
    """Return a port number; raises ValueError with what is wrong."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65535):
        raise ValueError("it is no port from 1 to 65535")
    return int(text)


def ratio(text: str) -> float:
    """Return a share from 0 to 1; raises ValueError with what is wrong."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise ValueError("it is no share from 0 to 1")
    return found


def sampler(text: str) -> Sampler:
    """Return the sampler of that name; raises ValueError with what is wrong."""
    try:
        return Sampler(text)
    except ValueError:
        raise ValueError(f"it is none of {', '.join(Sampler)}") from None


def _tracing(settings: CompileSettings, policies: Iterable[Policy]) -> Tracing | None:
    if not settings.otlp_collector_host:
        return None
    if not settings.enable_opentelemetry and not any(one.tracing and one.tracing.enabled for one in policies):
        return None
    port_ = settings.otlp_collector_port
    return Tracing(
        endpoint=f"http://{settings.otlp_collector_host}:{port_}",
        export=Export.HTTP if port_ == _HTTP_PORT else Export.GRPC,
        service=settings.otel_service_name,
        sampler=settings.otel_sampler,
        ratio=settings.otel_sampler_ratio,
        parent_based=settings.otel_sampler_parent_based,
        trust_incoming=settings.opentelemetry_trust_incoming_span,
        everywhere=settings.enable_opentelemetry,
    )


def _origin(settings: CompileSettings, key: str) -> Origin:
    namespace, _, name = settings.config_map.partition("/")
    return Origin("ConfigMap", namespace, name, f"data[{key}]")
