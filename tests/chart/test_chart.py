"""The chart as it renders: valid for each Kubernetes, strict about keys, true to the programs that it starts."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import typer.main
import yaml
from helm_python import HelmError, lint

from chart import documents
from chart.rendering import CHART, NAMESPACE, ROOT, Raw, ci_files, ci_values, find, notes, render
from portway_operator.cli import app
from portway_proxy.options import read_options

_SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
VERSIONS = sorted(
    {version for path in _SCHEMAS.glob("v1.*-strict") if (version := path.name[1:].rpartition(".0-")[0]) >= "1.27"}
)
# What others' resource definitions say is not in Kubernetes' own schema.
INFO = 1  # Of Helm's severities.
FOREIGN = {"Certificate", "Issuer", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
CLUSTERED = {"ClusterRole", "ClusterRoleBinding", "IngressClass", "ValidatingWebhookConfiguration"}

_METRIC = re.compile(r"^\| `(\w+)` \| \w+ \| (.*?) \|", re.MULTILINE)

rendered = cache(lambda file: render(ci_values(file)))


def _pods(objects: list[Raw]) -> Iterator[tuple[str, Raw]]:
    for raw in objects:
        if raw["kind"] == "Pod":
            yield raw["metadata"]["name"], raw["spec"]
        elif "template" in raw.get("spec", {}):
            yield raw["metadata"]["name"], raw["spec"]["template"]["spec"]


def _containers(objects: list[Raw], program: str) -> list[Raw]:
    """Return the containers that start `portway PROGRAM`."""
    return [each for _, pod in _pods(objects) for each in pod["containers"] if each.get("args", [""])[0] == program]


def _number(version: str) -> int:
    return int(version.removeprefix("1."))


def _since(file: str) -> int:
    """Return the minor version of Kubernetes that the values need, as their first line says."""
    found = re.match(r"# From Kubernetes 1\.(\d+) on", (CHART / "ci" / file).read_text())
    return int(found[1]) if found else 0


def test_there_is_a_schema_of_each_kubernetes_from_127_to_the_newest() -> None:
    assert VERSIONS[0] == "1.27"
    assert len(VERSIONS) == _number(VERSIONS[-1]) - 26


@pytest.mark.parametrize("version", VERSIONS)
def test_what_every_values_file_renders_is_valid_for_kubernetes(version: str) -> None:
    seen = set()
    for file in (each for each in ci_files() if _since(each) <= _number(version)):
        for raw in rendered(file):
            text = json.dumps(raw)
            if raw["kind"] in FOREIGN or text in seen:
                continue
            seen.add(text)
            try:
                kubernetes_validate.validate(raw, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(map(str, error.path))
                pytest.fail(f"{file}: {raw['kind']} {raw['metadata']['name']} {where}: {error.message[:200]}")


@pytest.mark.parametrize("file", ci_files())
def test_helm_lints_every_values_file_without_a_complaint(file: str) -> None:
    for version in (VERSIONS[0], VERSIONS[-1]):
        said = lint(CHART, ci_values(file), strict=True, namespace=NAMESPACE, kube_version=f"{version}.0")
        assert [message for message in said["messages"] if message["severity"] > INFO] == []


@pytest.mark.parametrize("file", ci_files())
def test_every_object_is_in_the_release_and_labelled(file: str) -> None:
    values = ci_values(file)
    for raw in rendered(file):
        name = raw["metadata"]["name"]
        if name.endswith("-more") or name == "as-text":
            continue
        assert raw["metadata"]["labels"]["app.kubernetes.io/instance"] == "portway", name
        assert raw["metadata"]["labels"].items() >= values.get("commonLabels", {}).items(), name
        assert ("namespace" in raw["metadata"]) == (raw["kind"] not in CLUSTERED), name


@pytest.mark.parametrize("file", ci_files())
def test_the_programs_take_the_flags_that_are_rendered(file: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct-horse-battery-staple")
    command = typer.main.get_command(app).commands["operator"]  # type: ignore[attr-defined]
    for container in _containers(rendered(file), "operator"):
        command.make_context("operator", list(container["args"][1:]))
    for container in _containers(rendered(file), "proxy"):
        read_options([each.replace("/etc/portway/admin/token", str(token)) for each in container["args"][1:]], {})


def test_flags_and_values_that_are_set_reach_the_programs() -> None:
    objects = rendered("configuration-values.yaml")
    [operator], [proxy] = (_containers(objects, program) for program in ("operator", "proxy"))
    assert {
        "--controller-class=example.com/internal",
        "--default-backend-service=shop/fallback:80",
        "--default-ssl-certificate=portway/default",
        "--watch-ingress-without-class",
        "--disable-catch-all",
    } <= set(operator["args"])
    assert {"--no-access-log", "--proxy-read-timeout=30"} <= set(proxy["args"])
    assert not [flag for flag in proxy["args"] if flag.startswith("--workers")]
    assert find(objects, "ConfigMap", "portway")["data"]["use-forwarded-headers"] == "true"
    assert find(objects, "ConfigMap", "portway-tcp")["data"] == {
        "5432": "shop/postgres:5432",
        "25": "mail/smtp:25:PROXY",
    }
    annotations = find(objects, "IngressClass", "internal")["metadata"]["annotations"]
    assert annotations["ingressclass.kubernetes.io/is-default-class"] == "true"


def test_the_admin_token_reaches_both_halves_and_prometheus() -> None:
    objects = rendered("admin-values.yaml")
    for program in ("operator", "proxy"):
        [container] = _containers(objects, program)
        assert {
            "--admin-token-file=/etc/portway/admin/token",
            "--admin-hosts=portway.test,bastion.example",
            "--admin-protect-metrics",
        } <= set(container["args"])
        assert {"name": "admin", "mountPath": "/etc/portway/admin", "readOnly": True} in container["volumeMounts"]
    shown = {"type": "Bearer", "credentials": {"name": "portway-admin", "key": "token"}}
    for kind, where in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        for half in ("proxy", "operator"):
            [endpoint] = find(objects, kind, f"portway-{half}")["spec"][where]
            assert endpoint["authorization"] == shown
    assert "--no-admin-review" in _containers(objects, "operator")[0]["args"]
    assert not [raw for raw in objects if raw["metadata"]["name"].endswith("-viewer")]


def test_metrics_are_not_protected_by_a_token_that_nobody_has() -> None:
    with pytest.raises(HelmError, match="protectMetrics needs"):
        render({"admin": {"protectMetrics": True}})


def test_of_the_viewer_nobody_is_but_its_account_until_somebody_says_so() -> None:
    objects = rendered("default-values.yaml")
    assert find(objects, "ClusterRole", "portway-viewer")["rules"] == [
        {"nonResourceURLs": ["/portway/admin"], "verbs": ["get"]}
    ]
    subjects = [{"kind": "ServiceAccount", "name": "portway-viewer", "namespace": NAMESPACE}]
    assert find(objects, "ClusterRoleBinding", "portway-viewer")["subjects"] == subjects
    bound = [raw["roleRef"]["name"] for raw in objects if raw["kind"] == "RoleBinding"]
    assert "portway-viewer" not in bound


@pytest.mark.parametrize("file", ci_files())
def test_every_mount_has_a_volume_and_every_named_port_a_container(file: str) -> None:
    objects = rendered(file)
    for name, pod in _pods(objects):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        ports = {port["name"] for each in pod["containers"] for port in each.get("ports", [])}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, name
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container.get(probe, {"httpGet": {"port": "http"}})["httpGet"]["port"] in ports | {"http"}, name
    for raw in objects:
        if raw["kind"] != "Service":
            continue
        selector = raw["spec"]["selector"]
        ports = {
            port["name"]
            for workload in objects
            if "template" in workload.get("spec", {})
            and workload["spec"]["template"]["metadata"]["labels"].items() >= selector.items()
            for container in workload["spec"]["template"]["spec"]["containers"]
            for port in container.get("ports", [])
        }
        assert {port["targetPort"] for port in raw["spec"]["ports"]} <= ports, raw["metadata"]["name"]


@pytest.mark.parametrize("file", ci_files())
def test_pods_meet_the_restricted_standard_but_for_what_was_asked(file: str) -> None:
    extra = {"before", "beside"}
    for name, pod in _pods(rendered(file)):
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 65532), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in (each for each in pod["containers"] if each["name"] not in extra):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if "host" not in file:
                assert not [port for port in container.get("ports", []) if "hostPort" in port], name
        assert "hostNetwork" not in pod or "host" in file
        assert pod["automountServiceAccountToken"] is False
        kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "projected", "secret"}, name


def test_a_proxys_pod_gets_no_token_but_one_for_the_operator() -> None:
    pod = find(rendered("default-values.yaml"), "Deployment", "portway-proxy")["spec"]["template"]["spec"]
    tokens = [
        source["serviceAccountToken"]
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    ]
    assert tokens == [{"path": "token", "audience": "portway-config", "expirationSeconds": 3600}]
    assert (
        find(rendered("default-values.yaml"), "ServiceAccount", "portway-proxy")["automountServiceAccountToken"]
        is False
    )


def test_in_one_pod_the_proxys_container_sees_no_token() -> None:
    pod = find(rendered("single-pod-values.yaml"), "Deployment", "portway-proxy")["spec"]["template"]["spec"]
    mounts = {each["name"]: {mount["name"] for mount in each["volumeMounts"]} for each in pod["containers"]}
    assert mounts["proxy"] == {"run"}
    assert {"run", "kubernetes"} <= mounts["operator"]


@pytest.mark.parametrize("file", ci_files())
def test_the_kubelet_waits_for_longer_than_a_proxy_drains(file: str) -> None:
    for _, pod in _pods(rendered(file)):
        for container in pod["containers"]:
            flags = dict(re.findall(r"--drain-(grace|timeout)=(\d+)", " ".join(container.get("args", []))))
            assert pod.get("terminationGracePeriodSeconds", 1) > sum(map(int, flags.values()))


def _unlabelled(raw: Raw) -> Raw:
    meta = {key: value for key, value in raw["metadata"].items() if key != "labels"}
    return raw | {"metadata": meta}


def test_the_rights_are_those_of_the_manifest_and_no_others() -> None:
    manifest = list(yaml.safe_load_all((ROOT / "manifests" / "rbac.yaml").read_text()))
    kinds = {raw["kind"] for raw in manifest}
    found = [_unlabelled(raw) for raw in rendered("default-values.yaml") if raw["kind"] in kinds]

    def named(raw: Raw) -> str:
        return f"{raw['kind']} {raw['metadata']['name']}"

    assert sorted(found, key=named) == sorted(manifest, key=named)


def test_with_a_scope_no_right_to_objects_holds_in_the_whole_cluster() -> None:
    objects = rendered("scope-values.yaml")
    rules = find(objects, "ClusterRole", "portway-operator")["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {
        "ingressclasses",
        "nodes",
        "subjectaccessreviews",
        "tokenreviews",
    }
    secrets = {
        (raw["metadata"]["namespace"], tuple(rule.get("resourceNames", ["*"])))
        for raw in objects
        if raw["kind"] == "Role" and raw["metadata"]["namespace"] != "portway"
        for rule in raw["rules"]
        if "secrets" in rule["resources"]
    }
    assert secrets == {("shop", ("*",)), ("blog", ("tls",)), ("certificates", ("default",))}
    [operator] = _containers(objects, "operator")
    assert {"--watch-namespace=shop,blog", "--watch-secrets-namespace=shop", "--watch-secrets=blog/tls"} <= set(
        operator["args"]
    )


REFUSED: list[tuple[Raw, str]] = [
    ({"controler": {}}, "controler"),
    ({"controller": {"replicaCoutn": 3}}, "replicaCoutn"),
    ({"controller": {"service": {"annotation": {}}}}, "annotation"),
    ({"controller": {"metrics": {"serviceMonitor": {"enable": True}}}}, "enable"),
    ({"operator": {"extraArg": {}}}, "extraArg"),
    ({"controller": {"kind": "StatefulSet"}}, "kind"),
    ({"controller": {"replicaCount": "two"}}, "replicaCount"),
    ({"controller": {"image": {"digest": "latest"}}}, "digest"),
    ({"controller": {"electionTTL": 1}}, "electionTTL"),
    ({"tcp": {"http": "shop/web:80"}}, "http"),
    ({"controller": {"service": {"annotations": {"a": 1}}}}, "annotations"),
]


@pytest.mark.parametrize(("values", "key"), REFUSED, ids=[key for _, key in REFUSED])
def test_a_value_that_the_chart_does_not_have_is_refused_by_its_name(values: Raw, key: str) -> None:
    with pytest.raises(HelmError, match=key):
        render(values)


CONTRADICTIONS: list[tuple[Raw, str]] = [
    ({"controller": {"terminationGracePeriodSeconds": 100}}, "terminationGracePeriodSeconds is 100"),
    ({"controller": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}}, "exclude each other"),
    ({"controller": {"kind": "DaemonSet", "autoscaling": {"enabled": True}}}, "need controller.kind: Deployment"),
    ({"controller": {"hostPort": {"enabled": True}}, "tcp": {"25": "a/b:25"}}, "tcp.25: "),
    ({"controller": {"service": {"enableHttp": False, "enableHttps": False}}}, "controller.service.enabled: false"),
    (
        {"controller": {"admissionWebhooks": {"enabled": True, "certificates": "existing", "caBundle": "QQ=="}}},
        "existingSecret",
    ),
    ({"controller": {"keda": {"enabled": True}}}, "controller.keda.triggers"),
]


@pytest.mark.parametrize(("values", "sentence"), CONTRADICTIONS, ids=[sentence for _, sentence in CONTRADICTIONS])
def test_values_that_cannot_be_together_are_refused_with_a_sentence(values: Raw, sentence: str) -> None:
    with pytest.raises(HelmError, match=re.escape(sentence)):
        render(values)


def test_the_versions_are_the_projects() -> None:
    for path, text in documents.numbered().items():
        assert path.read_text().splitlines() == text.splitlines(), path
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    demo = (ROOT / "manifests" / "demo" / "apps.yaml").read_text()
    assert set(re.findall(r"image: (\S+)", demo)) == {f"portway:{version}"}


def test_the_schema_and_the_readme_are_made_of_the_values_comments() -> None:
    assert (CHART / "values.schema.json").read_text().splitlines() == documents.schema().splitlines()
    assert (CHART / "README.md").read_text().splitlines() == documents.readme().splitlines()


def test_the_static_manifests_are_the_chart() -> None:
    assert documents.STATIC.read_text().splitlines() == documents.static().splitlines()
    objects = list(yaml.safe_load_all(documents.STATIC.read_text()))
    assert objects[0]["kind"] == "Namespace"
    assert {raw["kind"] for raw in objects} >= {"Deployment", "Service", "ClusterRole", "IngressClass", "ConfigMap"}
    assert [raw for raw in objects if not raw] == []


def test_the_values_for_kind_lead_the_nodes_ports_to_those_of_the_cluster() -> None:
    cluster = yaml.safe_load((ROOT / "manifests" / "kind" / "cluster.yaml").read_text())
    values = yaml.safe_load((ROOT / "manifests" / "kind" / "values.yaml").read_text())
    [proxy] = _containers(render(values), "proxy")
    inside = {mapping["containerPort"] for mapping in cluster["nodes"][0]["extraPortMappings"]}
    assert {port["hostPort"] for port in proxy["ports"] if "hostPort" in port} == inside


def _told(row: str) -> Iterator[str]:
    """Yield the values that the first cell of a row names; a short name is beside the one before it."""
    beside = ""
    for name in re.findall(r"`([\w.-]+)`", row.split("|")[1]):
        beside = name.rpartition(".")[0] if "controller." in name else beside
        yield name if "controller." in name or not beside else f"{beside}.{name.lstrip('.')}"
        yield name


def test_a_value_of_ingress_nginx_is_taken_or_the_readme_says_its_twin() -> None:
    rows = [line for line in (CHART / "README.md").read_text().partition("## Values")[0].splitlines() if "`" in line]
    told = {name for row in rows if row.startswith("|") for name in _told(row)}
    paths = documents.paths()
    taken = {path for path in paths if not [other for other in paths if other.startswith(f"{path}.")]}
    names = (Path(__file__).parent / "ingress_nginx_values.txt").read_text().split()
    missing = [
        name
        for name in names
        if not {name.rsplit(".", count)[0] for count in range(name.count(".") + 1)} & (told | taken)
    ]
    assert missing == []
    assert [name for name in told & taken if name not in _BOTH] == []


# Taken, but for what another value is better for.
_BOTH = {"controller.extraArgs", "controller.lifecycle", "tcp", "udp"}


def _set(values: Raw, path: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in values.items():
        yield ".".join((*path, key))
        if isinstance(value, dict):
            yield from _set(value, (*path, key))


def test_every_value_is_tried_by_some_values_file() -> None:
    tried = {path for file in ci_files() for path in _set(ci_values(file))}
    assert [path for path in documents.paths() if path not in tried] == []


def test_every_value_is_used_by_some_template() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    unused = [path for path in documents.paths() if path.rpartition(".")[2] not in templates]
    assert unused == []


@pytest.mark.parametrize(
    ("values", "command"),
    [
        ({}, "kubectl -n portway get service portway-proxy -o wide"),
        ({"controller": {"service": {"type": "NodePort"}}}, "nodePort"),
        ({"controller": {"service": {"type": "ClusterIP"}}}, "port-forward service/portway-proxy 8080:80"),
        ({"controller": {"service": {"enabled": False}}}, "kubectl -n portway get pods -l"),
    ],
)
def test_the_notes_say_what_to_type_next(values: Raw, command: str) -> None:
    said = notes(values)
    assert command in said
    assert "kubectl -n portway rollout status deployment/portway-proxy" in said
    assert "helm test portway -n portway" in said


def test_what_monitoring_reads_is_told_by_the_programs() -> None:
    """Every metric in the rules and the dashboard is one of docs/metrics.md, with the labels that are asked of it."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    told = {name: {"pod", "namespace", "le", *labels.split(", ")} for name, labels in _METRIC.findall(page)}
    expressions = [rule["expr"] for rule in yaml.safe_load((CHART / "files" / "rules.yaml").read_text())]
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 10
    for expression in expressions:
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bportway_\w+", expression)}
        assert names <= told.keys(), expression
        labels = {label for name in names for label in told[name]}
        asked = {each.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for each in by.split(",")}
        asked |= set(re.findall(r"(\w+)=~?\"", expression))
        assert asked <= labels, expression


def test_labels_that_the_programs_say_themselves_are_kept() -> None:
    """`namespace` and `service` are the Ingress's, where Prometheus would put its target's."""
    objects = rendered("monitoring-values.yaml")
    monitors = [raw for raw in objects if raw["kind"] in ("ServiceMonitor", "PodMonitor")]
    assert len(monitors) == 4
    for raw in monitors:
        [endpoint] = raw["spec"].get("endpoints") or raw["spec"]["podMetricsEndpoints"]
        assert endpoint["honorLabels"] is True
