"""What each value comes to in the objects that it is about."""

from __future__ import annotations

from functools import reduce
from importlib.metadata import version
from typing import Any, NamedTuple

import pytest

from chart.rendering import Raw, find, render


class Row(NamedTuple):
    """A value, the object that it changes, where in it, and what is found there."""

    value: str
    set_to: Any
    kind: str
    name: str
    place: str
    found: Any


POD = "spec.template.spec"
CLASS = "controller.ingressClassResource"
PROXY = ("Deployment", "portway-proxy")
OPERATOR = ("Deployment", "portway-operator")
SERVICE = ("Service", "portway-proxy")
TOLERATION = [{"key": "edge", "operator": "Exists"}]
SPREAD = [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
ENV = [{"name": "A", "value": "b"}]
VERSION = version("portway")
DIGEST = "sha256:" + "0" * 64

ROWS = [
    Row("controller.image.registry", "r.example", *PROXY, f"{POD}.containers.0.image", f"r.example/portway:{VERSION}"),
    Row("controller.image.digest", DIGEST, *OPERATOR, f"{POD}.containers.0.image", f"portway@{DIGEST}"),
    Row("controller.image.tag", "next", *PROXY, f"{POD}.containers.0.image", "portway:next"),
    Row("global.image.registry", "m.example", *PROXY, f"{POD}.containers.0.image", f"m.example/portway:{VERSION}"),
    Row("imagePullSecrets", [{"name": "s"}], *PROXY, f"{POD}.imagePullSecrets", [{"name": "s"}]),
    Row("controller.service.type", "NodePort", *SERVICE, "spec.type", "NodePort"),
    Row("controller.service.annotations", {"a": "b"}, *SERVICE, "metadata.annotations", {"a": "b"}),
    Row("controller.service.externalTrafficPolicy", "Local", *SERVICE, "spec.externalTrafficPolicy", "Local"),
    Row("controller.service.ports", {"http": 8000}, *SERVICE, "spec.ports.0.port", 8000),
    Row("controller.service.nodePorts", {"https": 30443}, *SERVICE, "spec.ports.1.nodePort", 30443),
    Row("controller.service.loadBalancerClass", "x/y", *SERVICE, "spec.loadBalancerClass", "x/y"),
    Row("controller.service.loadBalancerSourceRanges", ["::/0"], *SERVICE, "spec.loadBalancerSourceRanges", ["::/0"]),
    Row("controller.hostNetwork", True, *PROXY, f"{POD}.hostNetwork", True),
    Row("controller.hostNetwork", True, *PROXY, f"{POD}.dnsPolicy", "ClusterFirstWithHostNet"),
    Row("controller.hostPort.enabled", True, *PROXY, f"{POD}.containers.0.ports.1.hostPort", 443),
    Row("controller.kind", "DaemonSet", "DaemonSet", "portway-proxy", f"{POD}.enableServiceLinks", False),
    Row("controller.replicaCount", 5, *PROXY, "spec.replicas", 5),
    Row("operator.replicaCount", 3, *OPERATOR, "spec.replicas", 3),
    Row("controller.minAvailable", "75%", "PodDisruptionBudget", "portway-proxy", "spec.minAvailable", "75%"),
    Row("controller.affinity", {"nodeAffinity": {}}, *PROXY, f"{POD}.affinity", {"nodeAffinity": {}}),
    Row("operator.tolerations", TOLERATION, *OPERATOR, f"{POD}.tolerations", TOLERATION),
    Row("controller.tolerations", TOLERATION, *PROXY, f"{POD}.tolerations", TOLERATION),
    Row("controller.topologySpreadConstraints", SPREAD, *PROXY, f"{POD}.topologySpreadConstraints.0.maxSkew", 2),
    Row("controller.priorityClassName", "high", *PROXY, f"{POD}.priorityClassName", "high"),
    Row("controller.lifecycle", {"preStop": {}}, *PROXY, f"{POD}.containers.0.lifecycle", {"preStop": {}}),
    Row("controller.drain", {"grace": 1, "timeout": 9}, *PROXY, f"{POD}.terminationGracePeriodSeconds", 25),
    Row("controller.resources", {"limits": {"cpu": 2}}, *PROXY, f"{POD}.containers.0.resources.limits.cpu", 2),
    Row("controller.livenessProbe", {"periodSeconds": 7}, *PROXY, f"{POD}.containers.0.livenessProbe.periodSeconds", 7),
    Row("controller.sysctls", {"a.b": "0"}, *PROXY, f"{POD}.securityContext.sysctls", [{"name": "a.b", "value": "0"}]),
    Row("controller.config", {"keep-alive": 5}, "ConfigMap", "portway", "data", {"keep-alive": "5"}),
    Row("tcp", {"25": "a/b:25"}, "ConfigMap", "portway-tcp", "data", {"25": "a/b:25"}),
    Row("udp", {"53": "a/b:53"}, "ConfigMap", "portway-udp", "data", {"53": "a/b:53"}),
    Row("controller.extraEnvs", ENV, *PROXY, f"{POD}.containers.0.env.-1", ENV[0]),
    Row("operator.extraEnvs", ENV, *OPERATOR, f"{POD}.containers.0.env.-1", ENV[0]),
    Row("controller.extraArgs", {"zone": "a"}, *PROXY, f"{POD}.containers.0.args.-1", "--zone=a"),
    Row("operator.extraArgs", {"no-ssl-redirect": None}, *OPERATOR, f"{POD}.containers.0.args.-1", "--no-ssl-redirect"),
    Row("controller.extraVolumes", [{"name": "v"}], *PROXY, f"{POD}.volumes.-1", {"name": "v"}),
    Row("controller.extraInitContainers", [{"name": "i"}], *PROXY, f"{POD}.initContainers", [{"name": "i"}]),
    Row("serviceAccount.name", "watcher", *OPERATOR, f"{POD}.serviceAccountName", "watcher"),
    Row("proxyServiceAccount.name", "door", *PROXY, f"{POD}.serviceAccountName", "door"),
    Row("commonLabels", {"team": "edge"}, *SERVICE, "metadata.labels.team", "edge"),
    Row(f"{CLASS}.name", "edge", "IngressClass", "edge", "spec.controller", "portway.dev/ingress-controller"),
    Row(f"{CLASS}.parameters", {"kind": "P"}, "IngressClass", "portway", "spec.parameters", {"kind": "P"}),
    Row("controller.autoscaling.enabled", True, "HorizontalPodAutoscaler", "portway-proxy", "spec.maxReplicas", 11),
    Row("controller.metrics.enabled", True, "Service", "portway-metrics", "spec.ports.0.port", 9090),
    Row("controller.networkPolicy.enabled", True, "NetworkPolicy", "portway-proxy", "spec.policyTypes", ["Ingress"]),
]  # fmt: skip
FLAGS = [
    ("controller.defaultTLSSecret", "a/b", "--default-ssl-certificate=a/b"),
    ("controller.defaultBackendService", "a/b:80", "--default-backend-service=a/b:80"),
    ("controller.ingressClassResource.controllerValue", "x/y", "--controller-class=x/y"),
    ("controller.ingressClass", "old", "--ingress-class=old"),
    ("controller.watchIngressWithoutClass", True, "--watch-ingress-without-class"),
    ("controller.statusAddresses", ["a.example"], "--publish-status-address=a.example"),
    ("controller.publishService.pathOverride", "a/b", "--publish-service=a/b"),
    ("controller.electionID", "e", "--election-id=e"),
    ("controller.scope", {"enabled": True}, "--watch-namespace=portway"),
    ("rbac.secretNamespaces", ["a"], "--watch-secrets-namespace=a"),
    ("rbac.secrets", ["a/b"], "--watch-secrets=a/b"),
]


def _values(path: str, value: object) -> Raw:
    head, _, rest = path.partition(".")
    return {head: _values(rest, value) if rest else value}


def _at(found: Any, step: str) -> Any:  # noqa: ANN401 - whatever YAML has
    return found[int(step)] if isinstance(found, list) else found[step]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.value} in {row.place.rpartition('.')[2]}")
def test_a_value_is_found_in_its_object(row: Row) -> None:
    raw = find(render(_values(row.value, row.set_to)), row.kind, row.name)
    assert reduce(_at, row.place.split("."), raw) == row.found


@pytest.mark.parametrize(("value", "set_to", "flag"), FLAGS, ids=[value for value, _, _ in FLAGS])
def test_a_value_is_a_flag_of_the_operator(value: str, set_to: object, flag: str) -> None:
    raw = find(render(_values(value, set_to)), *OPERATOR)
    assert flag in raw["spec"]["template"]["spec"]["containers"][0]["args"]


def test_a_default_class_says_so() -> None:
    raw = find(render({"controller": {"ingressClassResource": {"default": True}}}), "IngressClass", "portway")
    assert raw["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"] == "true"


def test_an_object_of_ones_own_is_a_template_that_knows_the_release() -> None:
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-own"}}
    assert find(render({"extraObjects": [own]}, name="edge"), "ConfigMap", "edge-own")


@pytest.mark.parametrize("off", [{"replicaCount": 1}, {"minAvailable": None, "maxUnavailable": 1}])
def test_no_budget_keeps_the_last_pod_from_being_moved(off: Raw) -> None:
    budgets = [raw["spec"] for raw in render({"controller": off}) if raw["kind"] == "PodDisruptionBudget"]
    assert [each for each in budgets if "proxy" in str(each) and "minAvailable" in each] == []


@pytest.mark.parametrize(
    ("values", "urls"),
    [
        ({}, ["http://portway-proxy.portway.svc:80/", "http://portway-operator.portway.svc:8081/readyz"]),
        (
            {"singlePod": True, "controller": {"service": {"enableHttp": False}}},
            ["https://portway-proxy.portway.svc:443/"],
        ),
        ({"controller": {"service": {"enabled": False}}}, ["http://portway-operator.portway.svc:8081/readyz"]),
    ],
)
def test_helms_own_test_asks_what_there_is(values: Raw, urls: list[str]) -> None:
    pod = find(render(values), "Pod", "portway-test")
    assert pod["spec"]["containers"][0]["env"][0]["value"].split() == urls


def test_there_is_no_test_where_there_is_nothing_to_ask() -> None:
    values: Raw = {"singlePod": True, "controller": {"service": {"enabled": False}}}
    assert [raw for raw in render(values) if raw["kind"] == "Pod"] == []


@pytest.mark.parametrize(("values", "closed"), [({}, {9090}), ({"singlePod": True}, {8081, 9090})], ids=["two", "one"])
def test_the_network_policy_leaves_every_port_open_but_those_that_tell_of_the_inside(
    values: Raw, closed: set[int]
) -> None:
    peers: list[Raw] = [{"podSelector": {}}]
    policy = {"controller": {"networkPolicy": {"enabled": True, "metricsFrom": peers}}}
    anybody, watchers = find(render(values | policy), "NetworkPolicy", "portway-proxy")["spec"]["ingress"]
    opened = [
        port
        for rule in anybody["ports"]
        if rule["protocol"] == "TCP"
        for port in range(rule["port"], rule["endPort"] + 1)
    ]
    assert set(range(1, 65536)) - set(opened) == closed
    assert "from" not in anybody
    assert {rule["port"] for rule in watchers["ports"]} == closed
    assert watchers["from"] == peers
