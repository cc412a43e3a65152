from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from eventually import eventually
from fake_api import FakeApi, service, serving
from portway_operator.objects import Kind
from portway_operator.sources.connection import Connection, NoCluster, TokenFile
from portway_operator.sources.kube import KubeSource
from portway_operator.store import ObjectStore


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving() as api:
        api.apply(service())
        yield api


async def status(connection: Connection) -> int:
    async with connection.session() as session, session.get(connection.url("/api/v1/services")) as response:
        return response.status


def kubeconfig(path: Path, server: str, **user: object) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "mine"}},
            {"name": "there", "context": {"cluster": "c", "user": "u"}},
        ],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


async def test_a_pod_finds_its_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"token": "secret\n", "namespace": "portway", "ca.crt": ""}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    connection = Connection.in_cluster(tmp_path)
    assert connection.server == "https://[fd00::1]:6443"
    assert connection.namespace == "portway"
    assert connection.credentials.authorization() == "Bearer secret"


def test_a_pod_without_a_token_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(NoCluster, match="automount"):
        Connection.in_cluster(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "clusters: 5", None])
def test_a_kubeconfig_that_is_none_says_so(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config").write_text(text)
    with pytest.raises(NoCluster, match="no API server"):
        Connection.from_kubeconfig(str(tmp_path / "config"), None)


def test_an_unknown_context_says_so(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", "https://127.0.0.1:1")
    with pytest.raises(NoCluster, match="nowhere"):
        Connection.from_kubeconfig(path, "nowhere")


async def test_a_dead_connection_is_found_within_half_a_minute(api: FakeApi) -> None:
    async with Connection(api.url).session() as session, session.get(f"{api.url}/api/v1/services?watch=true") as answer:
        assert answer.connection is not None
        assert answer.connection.transport is not None
        sock = answer.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, count = (sock.getsockopt(socket.IPPROTO_TCP, option) for option in options)
        assert idle + interval * count <= 30


async def test_a_kubeconfig_gives_server_namespace_and_token(api: FakeApi, tmp_path: Path) -> None:
    api.tokens = {"secret"}
    path = kubeconfig(tmp_path / "config", api.url, token="secret")
    connection = Connection.load(path)
    assert connection.namespace == "mine"
    assert Connection.load(path, "there").namespace == "default"
    assert await status(connection) == 200


async def test_a_program_of_the_kubeconfig_is_run_again_when_its_token_is_refused(api: FakeApi, tmp_path: Path) -> None:
    script = (
        "import json, pathlib; token = pathlib.Path('token').read_text(); "
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', "
        "'status': {'token': token}}))"
    ).replace("'token').read_text", f"{str(tmp_path / 'token')!r}).read_text")
    run = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", script],
        "interactiveMode": "Never",
    }
    (tmp_path / "token").write_text("one")
    api.tokens = {"one"}
    connection = Connection.load(kubeconfig(tmp_path / "config", api.url, exec=run))
    assert await status(connection) == 200
    (tmp_path / "token").write_text("two")
    api.tokens = {"two"}
    assert await status(connection) == 200
    (tmp_path / "token").write_text("three")
    api.tokens = {"four"}
    assert await status(connection) == 401


async def test_a_token_file_that_is_unreadable_for_a_moment_keeps_the_last_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    tokens = TokenFile(path)
    assert tokens.authorization() is None
    path.write_text("one")
    assert tokens.authorization() == "Bearer one"
    path.unlink()
    await tokens.renew()
    assert tokens.authorization() == "Bearer one"
    path.write_text("")
    await tokens.renew()
    assert tokens.authorization() == "Bearer one"
    path.write_text("two")
    assert tokens.authorization() == "Bearer one", "read again once a minute, or when refused"
    await tokens.renew()
    assert tokens.authorization() == "Bearer two"


async def test_a_rotated_token_ends_nothing(api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    api.tokens = {"one"}
    store = ObjectStore()
    source = KubeSource(Connection(api.url, credentials=TokenFile(path)), store, lambda _: None)
    source.start()
    try:
        await eventually(source.listed.is_set)
        await eventually(lambda: api.watching(Kind.SERVICE, Kind.SECRET))
        api.tokens = {"two"}
        api.hang_up()
        await eventually(lambda: source.counters.refusals[Kind.SERVICE, "401"] > 4, 20)
        assert not api.watches
        path.write_text("two")
        await eventually(lambda: api.watching(Kind.SERVICE, Kind.SECRET))
        api.apply(service("late"))
        await eventually(lambda: ("shop", "late") in store.services)
        assert source.counters.restarts == 0
    finally:
        await source.stop()
