"""The command line of a proxy, and the environment in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from portway_proxy.dial import Address, Credentials
from portway_proxy.options import Options, read_options, size
from portway_proxy.settings import AdminAccess, Limits, ProxySettings, Timeouts

OPERATOR = ["--operator", "https://operator:9444", "--ca-file", "/ca.crt"]


def read(*arguments: str, **environment: str) -> Options:
    return read_options(arguments, environment)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, **environment: str) -> str:
    with pytest.raises(SystemExit) as ended:
        read_options(arguments, environment)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("portway proxy: error: ")


def test_every_flag_of_a_proxy_reaches_its_settings() -> None:
    options = read(
        *OPERATOR,
        *("--http-port", "80", "--https-port", "443", "--admin-port", "0", "--workers", "3", "--node", "proxy-0"),
        *("--address", "0.0.0.0", "--admin-address", "::", "--public-http-port", "81", "--public-https-port", "444"),
        *("--body-size", "2m", "--drain-timeout", "5", "--drain-grace", "1.5", "--log-format", "json"),
        *("--no-access-log", "--explain-to", "192.0.2.7, 10.0.0.0/8"),
    )
    assert options.settings == ProxySettings(
        address="0.0.0.0",
        http_port=80,
        https_port=443,
        admin_address="::",
        admin_port=0,
        public_http_port=81,
        public_https_port=444,
        workers=3,
        access_log=False,
        log_format="json",
        explain_to=("10.0.0.0/8", "192.0.2.7"),
        node="proxy-0",
        limits=Limits(body=2 << 20),
        timeouts=Timeouts(drain=5.0, grace=1.5),
    )


def test_every_flag_of_the_operator_reaches_its_credentials() -> None:
    files = ("--token-file", "/token", "--client-cert", "/tls.crt", "--client-key", "/tls.key", "--state-dir", "/state")
    options = read(*OPERATOR, *files)
    assert options.operators == (Address("https", "operator", 9444),)
    assert options.credentials == Credentials(Path("/ca.crt"), Path("/token"), (Path("/tls.crt"), Path("/tls.key")))
    assert options.state_dir == Path("/state")


def test_without_flags_the_settings_are_the_usual_and_the_node_is_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host-1")
    assert read(*OPERATOR).settings == ProxySettings(node="host-1")


def test_what_no_flag_says_the_environment_may() -> None:
    options = read(
        PORTWAY_OPERATOR="https://a, unix:///cfg.sock",
        PORTWAY_CA_FILE="/ca.crt",
        PORTWAY_HTTP_PORT="80",
        PORTWAY_ACCESS_LOG="no",
        PORTWAY_BODY_SIZE="1k",
        PORTWAY_NODE="pod-1",
        PORTWAY_LOG_FORMAT="json",
        PORTWAY_SETTINGS='{"timeouts": {"head": 9}}',
    )
    assert options.operators == (Address("https", "a", 9444), Address("unix", path="/cfg.sock"))
    settings = options.settings
    assert (settings.http_port, settings.access_log, settings.node) == (80, False, "pod-1")
    assert (settings.limits.body, settings.log_format, settings.timeouts.head) == (1024, "json", 9.0)


def test_a_flag_goes_before_the_environment_and_that_before_the_settings() -> None:
    assert read(*OPERATOR, "--http-port", "1", PORTWAY_HTTP_PORT="2").settings.http_port == 1
    assert read(*OPERATOR, "--settings", '{"http_port": 3}', PORTWAY_HTTP_PORT="2").settings.http_port == 2
    assert read(*OPERATOR, "--settings", '{"http_port": null}').settings.http_port is None


def test_what_kubernetes_says_of_a_service_that_happens_to_be_called_so_is_no_setting() -> None:
    """https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables."""
    assert read(*OPERATOR, PORTWAY_HTTP_PORT="tcp://10.0.0.1:80").settings.http_port == 8080


def test_operators_may_be_many() -> None:
    named = ["--operator", "https://a", "--operator", "https://b:1,https://c", "--ca-file", "/ca.crt"]
    assert [address.host for address in read(*named).operators] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name either an operator or a snapshot"),
        ([*OPERATOR, "snapshot.json"], "name either an operator or a snapshot"),
        (["--operator", "https://operator"], "needs --ca-file"),
        (["--operator", "http://operator"], "--insecure allows it"),
        ([*OPERATOR, "--client-cert", "/a"], "go together"),
        ([*OPERATOR, "--node", "a/b"], "no name of a proxy"),
        ([*OPERATOR, "--http-port", "65536"], "no number from 0 to 65535"),
        ([*OPERATOR, "--http-port", "+1"], "no number from 0 to 65535"),
        ([*OPERATOR, "--workers", "0"], "no number from 1 to 256"),
        ([*OPERATOR, "--body-size", "1g5"], "is no size"),
        ([*OPERATOR, "--drain-timeout", "nan"], "is no time in seconds"),
        ([*OPERATOR, "--drain-timeout=-1"], "is no time in seconds"),
        ([*OPERATOR, "--explain-to", "10.0.0.0/8,office"], "'office' is no network; write 10.0.0.0/8, 2001:db8::/32"),
        ([*OPERATOR, "--settings", '{"explain_to": ["office"]}'], "'office' is no network"),
        ([*OPERATOR, "--settings", "{"], "truncated"),
        ([*OPERATOR, "--settings", '{"workers": "two"}'], "$.workers"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [("HTTP_PORT", "x"), ("ACCESS_LOG", "perhaps"), ("LOG_FORMAT", "xml"), ("BODY_SIZE", "1 m"), ("WORKERS", "0")],
)
def test_the_environment_is_read_as_strictly_and_named(
    name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"PORTWAY_{name}: " in refused(capsys, *OPERATOR, **{f"PORTWAY_{name}": text})


def test_http_may_be_allowed() -> None:
    assert read("--operator", "http://operator:80", "--insecure").operators == (Address("http", "operator", 80),)
    assert read("--operator", "http://operator:80", PORTWAY_INSECURE="true").operators


def test_a_snapshot_needs_no_operator() -> None:
    options = read("snapshot.json")
    assert (options.snapshot, options.operators) == (Path("snapshot.json"), ())


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("1024", 1024), ("2k", 2048), ("3M", 3 << 20), ("1g", 1 << 30)])
def test_sizes_are_bytes(text: str, count: int) -> None:
    assert size(text) == count


def test_who_may_see_the_admin_port_is_said_by_flags_or_settings(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct-horse-battery-staple")
    flags = ("--admin-token-file", str(token), "--admin-hosts", "edge.test, localhost.test", "--admin-protect-metrics")
    access = AdminAccess(str(token), ("edge.test", "localhost.test"), protect_metrics=True)
    assert read(*OPERATOR, *flags).settings.admin_access == access
    assert read(*OPERATOR, PORTWAY_ADMIN_TOKEN_FILE=str(token)).settings.admin_access == AdminAccess(str(token))
    chosen = read(*OPERATOR, "--no-admin-review", "--settings", '{"admin_access": {"hosts": ["a.test"]}}')
    assert chosen.settings.admin_access == AdminAccess(hosts=("a.test",), review=False)


def test_a_file_that_holds_no_token_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token"
    said = refused(capsys, *OPERATOR, "--admin-token-file", str(token))
    assert said == "The admin token's file cannot be read: No such file or directory."
    token.write_text("short\n")
    said = refused(capsys, *OPERATOR, "--admin-token-file", str(token))
    assert said == "The admin token's file has fewer than 16 signs: write a longer token."


@pytest.mark.parametrize("text", ["a b", "http://a", "-", "a:9090"])
def test_what_is_no_host_is_said_to_be(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert f"{text!r} is no name of a host" in refused(capsys, *OPERATOR, f"--admin-hosts={text}")
