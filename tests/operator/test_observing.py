"""What the ConfigMap says of access lines and traces, as proxies are told."""

from __future__ import annotations

import pytest

from portway_operator.compile.configuration import configured
from portway_operator.compile.observing import observing_of, observing_problems
from portway_operator.objects import ConfigMap, Meta
from portway_operator.problems import Problem
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.log_format import INGRESS_NGINX, Escape
from portway_proxy.observing import AccessLogSettings, Export, Observing, Sampler, Tracing
from portway_proxy.snapshot import Policy, Traced


def told(*policies: Policy, **keys: str) -> tuple[Observing | None, list[Problem]]:
    """Return what a ConfigMap with these keys, `_` for `-`, comes to, and what is wrong with it."""
    store = ObjectStore()
    data = {name.replace("_", "-"): value for name, value in keys.items()}
    store.put(ConfigMap(Meta("ingress", "portway"), data))
    settings, noted = configured(store, CompileSettings(config_map="ingress/portway"))
    return observing_of(settings, policies), [*noted, *observing_problems(settings)]


def test_a_config_map_without_any_of_it_tells_nothing() -> None:
    assert told(ssl_redirect="true") == (None, [])


def test_the_keys_of_access_lines() -> None:
    observing, noted = told(
        disable_access_log="false",
        log_format_upstream=INGRESS_NGINX,
        log_format_escape_json="true",
        skip_access_log_urls="/healthz, /ready,/healthz",
    )
    assert noted == []
    assert observing == Observing(True, INGRESS_NGINX, Escape.JSON, ("/healthz", "/ready"))


def test_the_networks_whose_clients_are_told() -> None:
    assert told(explain_to="192.0.2.7, 10.0.0.0/8") == (Observing(explain_to=("10.0.0.0/8", "192.0.2.7/32")), [])
    # Nobody, whatever the proxies' own flags say.
    assert told(explain_to="") == (Observing(explain_to=()), [])
    observing, (problem,) = told(explain_to="10.0.0.0/8, office")
    assert observing is None
    assert (problem.code, problem.origin.field) == ("config_value_invalid", "data[explain-to]")
    assert "office" in str(problem)


def test_what_is_not_said_is_each_proxys_own() -> None:
    own = AccessLogSettings(format="json", skip=("/own",), path="file")
    observing, _ = told(disable_access_log="true")
    assert observing is not None
    assert observing.access(own) == AccessLogSettings(False, "json", Escape.DEFAULT, ("/own",), "file")


def test_traces_that_an_ingress_asks_for_alone_are_of_its_requests_alone() -> None:
    collector = {"otlp_collector_host": "otel.monitoring.svc"}
    assert told(**collector) == (None, [])
    assert told(Policy(tracing=Traced(enabled=False, name="x")), **collector) == (None, [])
    observing, _ = told(Policy(tracing=Traced(enabled=True)), **collector)
    assert observing is not None
    assert observing.tracing == Tracing("http://otel.monitoring.svc:4317", Export.GRPC, everywhere=False)
    assert told(Policy(tracing=Traced(enabled=True))) == (None, [])


def test_the_keys_of_traces() -> None:
    observing, noted = told(
        enable_opentelemetry="true",
        otlp_collector_host="otel.monitoring.svc",
        otel_service_name="edge",
        otel_sampler="TraceIdRatioBased",
        otel_sampler_ratio="0.25",
        otel_sampler_parent_based="false",
        opentelemetry_trust_incoming_span="false",
    )
    assert noted == []
    assert observing is not None
    assert observing.tracing == Tracing(
        "http://otel.monitoring.svc:4317", Export.GRPC, "edge", Sampler.RATIO, 0.25, False, False
    )


def test_the_port_for_http_means_http() -> None:
    observing, _ = told(enable_opentelemetry="true", otlp_collector_host="otel", otlp_collector_port="4318")
    assert observing is not None
    assert observing.tracing == Tracing("http://otel:4318")


def test_a_collector_without_tracing_enabled_is_not_used() -> None:
    assert told(otlp_collector_host="otel") == (None, [])


def test_traces_without_a_collector_are_a_problem() -> None:
    observing, (problem,) = told(enable_opentelemetry="true")
    assert observing is None
    assert (problem.code, problem.origin.field) == ("collector_missing", "data[enable-opentelemetry]")


def test_a_variable_that_there_is_not_is_a_problem_and_the_template_counts() -> None:
    observing, (problem,) = told(log_format_upstream="$status $remote_adr")
    assert observing == Observing(log_format="$status $remote_adr")
    assert str(problem) == (
        "ConfigMap ingress/portway data[log-format-upstream]: There is no variable $remote_adr. Did you mean "
        "$remote_addr? Access lines say - in its place. The variables are listed in docs/watching.md; remove what is "
        "not among them."
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("log_format_upstream", "no variable"),
        ("log_format_upstream", "$status\nforged"),
        ("skip_access_log_urls", "~^/a"),
        ("otlp_collector_host", "http://otel"),
        ("otlp_collector_port", "0"),
        ("otlp_collector_port", "65536"),
        ("otel_sampler", "Sometimes"),
        ("otel_sampler_ratio", "1.5"),
        ("otel_sampler_ratio", "half"),
        ("enable_opentelemetry", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_used_is_a_problem_and_has_no_effect(key: str, value: str) -> None:
    observing, (problem,) = told(**{key: value})
    assert observing is None
    assert (problem.code, problem.origin.field) == ("config_value_invalid", f"data[{key.replace('_', '-')}]")


def test_the_file_of_access_lines_is_no_key_and_says_where_it_is_set() -> None:
    _, (problem,) = told(access_log_path="/var/log/access.log")
    assert problem.remedy == "It is a flag of the proxies: portway proxy --access-log-path."
