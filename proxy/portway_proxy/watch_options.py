"""The flags of `portway proxy` for what people watch: access lines, metrics and traces."""

from __future__ import annotations

import argparse
from typing import Final
from urllib.parse import urlsplit

import msgspec

from portway_proxy import log_format
from portway_proxy.ingress_nginx import INGRESS_NGINX
from portway_proxy.log_format import Escape
from portway_proxy.networks import Networks
from portway_proxy.observing import Export, Sampler, Tracing
from portway_proxy.settings import ProxySettings
from portway_proxy.span_export import missing

__all__ = ["add_watching", "collector", "watching"]

_NAMES: Final = ("portway", INGRESS_NGINX)


def add_watching(group: argparse._ArgumentGroup) -> None:
    """Add the flags to a parser."""
    usual, tracing, add = ProxySettings(), Tracing(""), group.add_argument
    flag = argparse.BooleanOptionalAction
    add("--access-log", action=flag, help="one line for each request (yes)")
    add("--access-log-path", metavar="FILE", help="the file of access lines, reopened on SIGUSR1 (standard output)")
    add(
        "--log-format",
        type=_format,
        metavar="FORMAT",
        help=f"text, json, ingress-nginx or $variables ({usual.log_format})",
    )
    add("--log-format-escape", type=Escape, metavar="HOW", help="default, json or none, for $variables (default)")
    add("--skip-access-log-urls", type=_paths, metavar="PATHS", help="paths without access lines, by commas (none)")
    add("--explain-to", type=_networks, metavar="CIDRS", help="whose clients are told why, by commas (none)")
    add("--metrics-names", choices=_NAMES, help="ingress-nginx: requests under those names too (portway)")
    add("--metrics-per-host", action=flag, help="tell hosts apart in metrics (yes)")
    add("--metrics-series", type=_series, metavar="NUMBER", help=f"of requests, at most ({usual.metrics_series})")
    add("--namespace", help="the namespace of this proxy's pod, for ingress-nginx's metrics (none)")
    add("--otlp-endpoint", type=collector, metavar="URL", help="the collector of traces; http://host:4318 (none)")
    add("--otlp-protocol", type=Export, metavar="HOW", help=f"http/protobuf or grpc ({tracing.export})")
    add("--otel-service-name", metavar="NAME", help=f"the service of our spans ({tracing.service})")
    add("--otel-sampler", type=Sampler, metavar="NAME", help=f"{', '.join(Sampler)} ({tracing.sampler})")
    add("--otel-sampler-ratio", type=_ratio, metavar="SHARE", help=f"for the last of these ({tracing.ratio})")
    add("--otel-sampler-parent-based", action=flag, help="trace when the client does (yes)")
    add("--opentelemetry-trust-incoming-span", action=flag, help="continue the traces of clients (yes)")


def watching(chosen: argparse.Namespace, usual: ProxySettings) -> dict[str, object]:
    """Return the settings that the flags come to; None leaves the usual.

    Raises ValueError for what was chosen as JSON and is wrong, and when what tracing needs is not installed.
    """
    log_format.check(usual.log_format)
    _check_networks(usual.explain_to)
    if usual.metrics_names not in _NAMES:
        raise ValueError(f"metrics_names {usual.metrics_names!r} is none of {', '.join(_NAMES)}")
    tracing = _tracing(chosen, usual.tracing)
    if tracing is not None and missing():
        raise ValueError(missing())
    return {
        "access_log": chosen.access_log,
        "access_log_path": chosen.access_log_path,
        "log_format": chosen.log_format,
        "log_escape": chosen.log_format_escape,
        "log_skip": chosen.skip_access_log_urls,
        "explain_to": chosen.explain_to,
        "metrics_names": chosen.metrics_names,
        "metrics_per_host": chosen.metrics_per_host,
        "metrics_series": chosen.metrics_series,
        "namespace": chosen.namespace,
        "tracing": tracing,
    }


def collector(text: str) -> str:
    """Return `text`, the URL of a collector. Raises `ArgumentTypeError`."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of a collector such as http://host:4318")
    return text


def _tracing(chosen: argparse.Namespace, usual: Tracing | None) -> Tracing | None:
    said = {
        "endpoint": chosen.otlp_endpoint,
        "export": chosen.otlp_protocol,
        "service": chosen.otel_service_name,
        "sampler": chosen.otel_sampler,
        "ratio": chosen.otel_sampler_ratio,
        "parent_based": chosen.otel_sampler_parent_based,
        "trust_incoming": chosen.opentelemetry_trust_incoming_span,
    }
    given = {name: value for name, value in said.items() if value is not None}
    if usual is None and given and "endpoint" not in given:
        raise ValueError("traces need --otlp-endpoint, the collector that they go to")
    return msgspec.structs.replace(usual or Tracing(""), **given) if given else usual


def _format(text: str) -> str:
    try:
        log_format.check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _paths(text: str) -> tuple[str, ...]:
    paths = tuple(sorted({path.strip() for path in text.split(",") if path.strip()}))
    for path in paths:
        if not path.startswith("/"):
            raise argparse.ArgumentTypeError(f"{path!r} is no path; it has to begin with /")
    return paths


def _networks(text: str) -> tuple[str, ...]:
    found = tuple(sorted({part.strip() for part in text.split(",") if part.strip()}))
    try:
        _check_networks(found)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return found


def _check_networks(networks: tuple[str, ...]) -> None:
    for one in networks:
        try:
            Networks((one,))
        except ValueError:
            raise ValueError(f"{one!r} is no network; write 10.0.0.0/8, 2001:db8::/32 or one address") from None


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return ratio


def _series(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000000")
    return int(text)
