"""`portway proxy` as a container starts it: it follows, drains, and comes back by itself."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from certs import certificate
from eventually import eventually
from portway_operator.publish import Publisher
from portway_operator.rebuild import Update
from portway_operator.stream_auth import PeerAuth
from portway_operator.stream_server import StreamServer
from portway_proxy import codec
from portway_proxy.snapshot import Snapshot
from wire.command import ANY_PORTS, Command, portway
from wire.parts import Web, fetch, free_port, opened, serve_web, snapshot


@pytest.fixture
def pod() -> Iterator[Path]:
    """What the containers of a pod share: a directory in memory."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


class Operator:
    """An operator in the same pod."""

    def __init__(self, pod: Path) -> None:
        self.path = pod / "cfg.sock"
        self.publisher = Publisher()
        self.server = StreamServer(self.publisher, PeerAuth())

    async def publish(self, snapshot: Snapshot) -> None:
        await self.publisher.publish(Update(snapshot, codec.digest(snapshot)))


@pytest.fixture
async def operator(pod: Path) -> AsyncIterator[Operator]:
    operator = Operator(pod)
    await operator.server.listen_unix(operator.path)
    yield operator
    await operator.server.close()


def arguments(operator: Operator, pod: Path) -> list[str]:
    state = str(pod / "state")
    return ["proxy", "--operator", f"unix://{operator.path}", "--state-dir", state, "--node", "proxy-0", *ANY_PORTS]


async def port(proxy: Command) -> int:
    found = re.search(r"http on 127\.0\.0\.1 port (\d+)", await proxy.until(r" http on "))
    assert found is not None
    return int(found[1])


async def test_it_follows_and_ends_with_status_0_when_told_to(operator: Operator, pod: Path, web: Web) -> None:
    await operator.publish(snapshot(web.port))
    async with portway(*arguments(operator, pod), "--workers", "2") as proxy:
        await eventually(lambda: "proxy-0" in operator.publisher.proxies and not operator.publisher.behind(1), 30)
        assert await fetch(await port(proxy)) == "sent by web"
        async with serve_web("other") as other:
            await operator.publish(snapshot(other.port))
            await eventually(lambda: not operator.publisher.behind(2))
            assert await fetch(await port(proxy)) == "sent by other"
        assert await proxy.stop(signal.SIGTERM) == 0
        assert not operator.publisher.proxies
        assert not proxy.errors("Traceback|error")


async def test_told_to_end_before_its_workers_run_it_ends_in_order(operator: Operator, pod: Path) -> None:
    admin = free_port()
    async with portway(*arguments(operator, pod), "--admin-port", str(admin)) as proxy:
        await opened(admin)
        proxy.process.send_signal(signal.SIGTERM)
        assert await proxy.ended() == 0
        assert not proxy.errors("Traceback|error")


async def test_killed_and_started_again_without_an_operator_it_serves_what_it_served(
    operator: Operator, pod: Path, web: Web
) -> None:
    await operator.publish(snapshot(web.port, certificates=[certificate("shop/web", "shop.example")]))
    async with portway(*arguments(operator, pod), "--workers", "1") as proxy:
        await eventually((pod / "state" / "snapshot").exists, 30)
        proxy.process.kill()
        await proxy.ended()
    await operator.server.close()
    async with portway(*arguments(operator, pod), "--workers", "1") as proxy:
        await proxy.until("serving the last good snapshot")
        assert await fetch(await port(proxy)) == "sent by web"
        await proxy.until("no operator to follow")
        assert not proxy.errors("PRIVATE KEY|certificates of the last good snapshot")
        assert await proxy.stop(signal.SIGTERM) == 0


async def test_a_proxy_that_has_nothing_to_serve_yet_can_be_stopped(operator: Operator, pod: Path) -> None:
    async with portway(*arguments(operator, pod), "--workers", "1") as proxy:
        await eventually(lambda: operator.publisher.subscriptions, 30)
        assert await proxy.stop(signal.SIGINT) == 0


async def test_flags_that_make_no_sense_end_it_with_a_sentence() -> None:
    async with portway("proxy", "--operator", "operator:9444") as proxy:
        assert await proxy.ended() == 2
        assert proxy.errors("'operator:9444' is no operator; write https://HOST:PORT or unix:///PATH")


async def test_its_help_is_its_own() -> None:
    async with portway("proxy", "--help") as proxy:
        assert await proxy.ended() == 0
        assert any("--state-dir" in line for line in proxy.out)


def test_nothing_of_the_operator_is_loaded_for_it() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import portway_proxy.__main__, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    loaded = {name.partition(".")[0] for name in said.split()}
    assert not loaded & {"portway_operator", "kopf", "kubernetes", "cryptography", "typer", "rich", "yaml"}
