"""`cli_operator.py` and `cli_wait.py`: what flags and the environment come to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kubeconfigs import write_kubeconfig
from portway_operator import cli_operator
from portway_operator.cli import app
from portway_operator.leader import Terms
from portway_operator.objects import Kind
from portway_operator.operator_settings import (
    OperatorSettings,
    OwnCertificate,
    OwnPods,
    StatusSettings,
    WebhookSettings,
)
from portway_operator.sources.connection import Connection
from portway_operator.sources.resources import Target
from portway_operator.stream_settings import TlsFiles
from portway_proxy.settings import AdminAccess

Start = Callable[..., OperatorSettings]
Refuse = Callable[..., str]


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    return str(write_kubeconfig(tmp_path, "http://127.0.0.1:1", "ours"))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PORTWAY_", "POD_", "KUBE"))]:
        monkeypatch.delenv(name)
    # Narrow terminals break messages into lines.
    monkeypatch.setenv("COLUMNS", "200")


def run(*flags: str) -> Result:
    return CliRunner().invoke(app, ["operator", *flags])


@pytest.fixture
def start(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Run the command up to where it would begin, and return its settings."""

    def start(*flags: str) -> OperatorSettings:
        seen: list[OperatorSettings] = []

        async def begin(_connection: Connection, settings: OperatorSettings) -> None:
            seen.append(settings)

        monkeypatch.setattr(cli_operator, "_run", begin)
        result = run("--kubeconfig", kubeconfig, *flags)
        assert result.exit_code == 0, result.output
        return seen[0]

    return start


@pytest.fixture
def refuse(kubeconfig: str) -> Refuse:
    """Run the command and return what it says about flags that make no sense."""

    def refuse(*flags: str) -> str:
        result = run("--kubeconfig", kubeconfig, *flags)
        assert result.exit_code == 2, result.output
        return " ".join(result.output.replace("│", " ").split())

    return refuse


def test_without_flags_everything_is_read_and_its_own_authority_serves_the_proxies(start: Start) -> None:
    settings = start("--pod-name", "operator-1")
    assert settings.pods == OwnPods("operator-1", "ours")
    assert settings.scope.namespaces == ()
    assert settings.scope.secret_namespaces is None
    assert settings.scope.named == frozenset()
    assert settings.stream.accounts == ("system:serviceaccount:ours:portway-proxy",)
    assert settings.stream.hosts == ("portway-operator.ours.svc", "portway-operator.ours")
    assert settings.stream.kept is not None
    assert settings.stream.fault() == ""
    assert settings.status == StatusSettings()
    assert settings.terms == Terms()
    assert (settings.health_address, settings.health_port) == ("127.0.0.1", 8081)
    assert settings.webhook is None


def test_flags_are_named_and_mean_the_same_as_in_ingress_nginx(start: Start) -> None:
    settings = start(
        *("--controller-class", "example.com/ours", "--ingress-class", "a, b", "--ingress-class-by-name"),
        *("--watch-ingress-without-class", "--default-backend-service", "web/errors:80", "--disable-catch-all"),
        *("--default-ssl-certificate", "web/default", "--disable-svc-external-name", "--no-ssl-redirect"),
        *("--publish-service", "ingress/front", "--report-node-internal-ip-address", "--no-update-status-on-shutdown"),
        *("--election-id", "mine", "--election-ttl", "30", "--reserved-ports", "8080,8443"),
    )
    compile_ = settings.compile
    assert compile_.controller == "example.com/ours"
    assert compile_.ingress_class == ("a", "b")
    assert compile_.ingress_class_by_name
    assert compile_.watch_ingress_without_class
    assert compile_.default_backend_service == "web/errors:80"
    assert compile_.default_certificate == "web/default"
    assert not compile_.allow_catch_all
    assert not compile_.allow_external_name
    assert not compile_.ssl_redirect
    assert compile_.reserved_ports == {8080, 8443}
    assert settings.status == StatusSettings(("ingress", "front"), internal=True, clear=False)
    assert (settings.election, settings.terms) == ("mine", Terms(30, 20.0, 4.0, 6.0))


def test_what_lies_outside_of_the_namespaces_that_are_read_is_read_by_name(start: Start) -> None:
    flags = ("--publish-service", "ingress/front", "--default-ssl-certificate", "certs/default")
    front, default = Target(Kind.SERVICE, "ingress", "front"), Target(Kind.SECRET, "certs", "default")
    assert start(*flags).scope.named == frozenset()
    assert start(*flags, "--watch-namespace", "shop,web").scope.named == {front, default}
    assert start(*flags, "--watch-namespace", "ingress,certs").scope.named == frozenset()
    secrets = start(*flags, "--watch-secrets-namespace", "shop").scope
    assert secrets.secret_namespaces == ("shop",)
    assert secrets.named == {default}
    single = start("--watch-secrets-namespace", "", "--watch-secrets", "shop/a,web/b").scope
    assert single.secret_namespaces == ()
    assert single.named == {Target(Kind.SECRET, "shop", "a"), Target(Kind.SECRET, "web", "b")}


def test_the_config_map_that_is_named_is_read_wherever_it_is(start: Start) -> None:
    settings = start("--configmap", "portway/settings", "--watch-namespace", "shop")
    assert settings.scope.named == {Target(Kind.CONFIG_MAP, "portway", "settings")}
    assert settings.compile.config_map == "portway/settings"


def test_the_key_of_affinity_cookies_comes_from_a_file(start: Start, refuse: Refuse, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    assert start("--affinity-key-file", str(key)).compile.affinity_key == b"k" * 32
    assert start().compile.affinity_key == b""
    key.write_bytes(b"short")
    assert "has less than 16 bytes" in refuse("--affinity-key-file", str(key))
    assert "No such file" in refuse("--affinity-key-file", str(tmp_path / "none"))


def test_every_flag_may_come_from_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PORTWAY_PUBLISH_STATUS_ADDRESS": "192.0.2.1,LB.example",
        "PORTWAY_UPDATE_STATUS": "false",
        "PORTWAY_HEALTH_PORT": "9000",
        "PORTWAY_PROXY_SELECTOR": "app=proxy",
        "POD_NAME": "operator-7",
        "POD_NAMESPACE": "there",
    }.items():
        monkeypatch.setenv(name, value)
    settings = start()
    assert settings.status == StatusSettings(addresses=("192.0.2.1", "LB.example"), write=False)
    assert settings.health_port == 9000
    assert settings.pods == OwnPods("operator-7", "there", proxies="app=proxy")
    assert start("--health-port", "0").health_port == 0


def test_what_kubernetes_makes_of_a_service_called_portway_health_is_no_flag(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTWAY_HEALTH_PORT", "tcp://10.0.0.1:8081")
    monkeypatch.setenv("PORTWAY_STREAM_PORT", "tcp://10.0.0.2:9444")
    settings = start()
    assert (settings.health_port, settings.stream.port) == (8081, 9444)


def test_proxies_may_be_known_by_accounts_certificates_or_a_socket(start: Start) -> None:
    accounts = start("--proxy-accounts", "edge,other/edge,system:serviceaccount:a:b").stream.accounts
    assert accounts == (
        "system:serviceaccount:ours:edge",
        "system:serviceaccount:other:edge",
        "system:serviceaccount:a:b",
    )
    mtls = start("--proxy-auth", "mtls", "--proxy-certificate-secret", "proxy-cert").stream
    assert mtls.fault() == ""
    assert mtls.kept is not None
    assert mtls.kept.client_secret == "proxy-cert"
    files = start("--stream-certificate", "a.crt", "--stream-key", "a.key", "--stream-client-ca", "ca.crt").stream
    assert files.kept is None
    assert files.files == TlsFiles(Path("a.crt"), Path("a.key"), Path("ca.crt"))
    assert start("--stream-socket", "cfg.sock").stream.socket == Path("cfg.sock")
    assert start("--insecure-stream").stream.plain


def test_a_webhook_listens_where_it_is_told_to(start: Start) -> None:
    files = ("--validating-webhook-certificate", "a.crt", "--validating-webhook-key", "a.key")
    expected = WebhookSettings("0.0.0.0", 8443, (Path("a.crt"), Path("a.key")))
    assert start("--validating-webhook", ":8443", *files).webhook == expected
    found = start("--validating-webhook", "[::1]:0", *files).webhook
    assert found is not None
    assert (found.address, found.port) == ("::1", 0)
    own = start("--validating-webhook", ":8443", "--validating-webhook-configuration", "edge").webhook
    assert own is not None
    assert isinstance(own.certificate, OwnCertificate)
    assert own.certificate.kept.webhooks == "edge"
    assert own.certificate.hosts == (f"portway-operator.{own.certificate.kept.namespace}.svc",)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--publish-service", "front"], "write namespace/name"),
        (["--publish-service", "a/b/c"], "write namespace/name"),
        (["--default-ssl-certificate", "A/b"], "write namespace/name"),
        (["--watch-namespace", "a,B_"], "'B_' is no namespace"),
        (["--publish-status-address", "192.0.2.1,300.1.1.1"], "neither an IP nor a host name"),
        (["--publish-status-address", "http://a"], "neither an IP nor a host name"),
        (["--reserved-ports", "80,http"], "no list of ports"),
        (["--reserved-ports", "70000"], "no list of ports"),
        (["--validating-webhook", "8443"], "no address"),
        (["--validating-webhook", ":8443"], "needs --validating-webhook-certificate"),
        (["--validating-webhook", ":8443", "--validating-webhook-key", "a.key"], "needs --validating-webhook-cert"),
        (["--stream-certificate", "a.crt"], "go together"),
        (["--election-ttl", "1"], "--election-ttl"),
        (["--health-port", "70000"], "--health-port"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(refuse: Refuse, flags: list[str], sentence: str) -> None:
    assert sentence in refuse(*flags)


def test_no_cluster_is_said_in_one_line(tmp_path: Path) -> None:
    result = run("--kubeconfig", str(tmp_path / "nothing"))
    assert result.exit_code == 2
    assert result.output.startswith("portway: no API server in the kubeconfig: ")
    assert result.output.count("\n") == 1


def test_settings_that_cannot_work_are_said_in_one_line(kubeconfig: str) -> None:
    result = run("--kubeconfig", kubeconfig, "--proxy-auth", "mtls")
    assert result.exit_code == 1
    assert result.output == "portway: Name the Secret for the proxies' certificate.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["web"], "write ingress/NAME"),
        (["ingress/web", "--timeout", "soon"], "no time"),
        (["ingress/web", "--operator", "here"], "no operator"),
    ],
)
def test_waiting_for_nonsense_is_refused_in_a_sentence(kubeconfig: str, arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["wait-applied", *arguments, "--kubeconfig", kubeconfig])
    assert result.exit_code == 2
    assert sentence in result.output


def test_waiting_without_an_api_server_is_said_in_one_line(kubeconfig: str) -> None:
    result = CliRunner().invoke(app, ["wait-applied", "ingress/web", "--kubeconfig", kubeconfig])
    assert result.exit_code == 2
    assert result.output.startswith("portway: Ingress ours/web cannot be read: ")


def test_the_command_line_of_ingress_nginx_is_taken_as_it_is(start: Start) -> None:
    settings = start(
        "--publish-service=ingress-nginx/ingress-nginx-controller",
        "--election-id=ingress-nginx-leader",
        "--controller-class=k8s.io/ingress-nginx",
        "--ingress-class=nginx",
        "--configmap=ingress-nginx/ingress-nginx-controller",
        "--watch-ingress-without-class=true",
        "--disable-catch-all=true",
        "--update-status=false",
        "--enable-metrics=false",
        "--validating-webhook=",
        "--v=2",
    )
    compiling = settings.compile
    assert (compiling.controller, compiling.ingress_class) == ("k8s.io/ingress-nginx", ("nginx",))
    assert (compiling.watch_ingress_without_class, compiling.allow_catch_all) == (True, False)
    assert (settings.status.write, settings.election) == (False, "ingress-nginx-leader")


def test_a_flag_of_ingress_nginx_that_is_not_built_says_so(refuse: Refuse) -> None:
    assert "name the namespaces by --watch-namespace" in refuse("--watch-namespace-selector=team=a")


# With values that are not the defaults; those of the webhook are above.
@pytest.mark.parametrize(
    "flag",
    [
        "ingress-class=nginx",
        "controller-class=k8s.io/ingress-nginx",
        "watch-ingress-without-class=true",
        "ingress-class-by-name=true",
        "configmap=web/settings",
        "tcp-services-configmap=web/tcp",
        "udp-services-configmap=web/udp",
        "default-backend-service=web/errors",
        "default-ssl-certificate=web/default",
        "publish-service=web/front",
        "publish-status-address=192.0.2.1",
        "report-node-internal-ip-address=true",
        "update-status=false",
        "update-status-on-shutdown=false",
        "watch-namespace=web",
        "disable-catch-all=true",
        "disable-svc-external-name=true",
        "election-id=mine",
    ],
)
def test_a_flag_of_ingress_nginx_sets_what_it_sets_there(start: Start, flag: str) -> None:
    assert start(f"--{flag}") != start()


@pytest.mark.parametrize(
    "flag",
    [
        "enable-ssl-passthrough=true",
        "enable-topology-aware-routing=true",
        "shutdown-grace-period=5",
        "metrics-per-host=false",
        "metrics-per-undefined-host=true",
        "health-check-path=/healthz",
    ],
)
def test_a_flag_of_ingress_nginx_that_sets_nothing_here_says_why(kubeconfig: str, start: Start, flag: str) -> None:
    assert start(f"--{flag}") == start()
    said = run("--kubeconfig", kubeconfig, f"--{flag}").output
    assert re.search(rf"^portway: --{flag.partition('=')[0]} has no effect. [A-Z].+[.]$", said, re.MULTILINE)


@pytest.mark.parametrize("flag", ["watch-namespace-selector=team=a", "annotations-prefix=shop.example"])
def test_a_flag_of_ingress_nginx_whose_lack_would_change_what_is_served_does_not_start(
    refuse: Refuse, flag: str
) -> None:
    assert f"--{flag.partition('=')[0]}: " in refuse(f"--{flag}")


def test_who_may_see_its_pages_is_said_by_flags(start: Start, tmp_path: Path) -> None:
    assert start().admin == AdminAccess()
    token = tmp_path / "admin-token"
    token.write_text("correct-horse-battery-staple")
    flags = ("--admin-token-file", str(token), "--admin-hosts", "edge.test", "--admin-protect-metrics")
    assert start(*flags, "--no-admin-review").admin == AdminAccess(
        str(token), ("edge.test",), protect_metrics=True, review=False
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--admin-token-file", "/nowhere/token"), "The admin token's file cannot be read: No such file or directory."),
        (("--admin-hosts", "a b"), "'a b' is no name of a host"),
    ],
)
def test_what_cannot_say_who_may_see_its_pages_is_refused(refuse: Refuse, flags: tuple[str, ...], said: str) -> None:
    assert said in refuse(*flags)
