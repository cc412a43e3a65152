"""What people watch, from outside: scrapes of a real proxy, and the lines that it writes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from certs import certificate
from eventually import eventually
from portway_proxy.gathering import _EVERY
from portway_proxy.ingress_nginx import INGRESS_NGINX_FAMILIES
from portway_proxy.metrics import FAMILIES
from portway_proxy.observing import Observing
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Host, Snapshot
from portway_proxy.supervisor import Supervisor
from wire.parts import Web, admin, fetch, free_port, metrics, port_of, running, settings, snapshot

PATIENCE = 30


def named(served: Snapshot, host: str = "shop.example") -> Snapshot:
    """Return the snapshot with its routes on `host` alone."""
    return msgspec.structs.replace(served, hosts=tuple(Host(host, one.routes) for one in served.hosts))


async def scrape(proxy: Supervisor) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples of a scrape by their names."""
    _, text = await admin(proxy, "/metrics")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def test_a_scrape_tells_requests_by_route_with_times_and_bytes(web: Web) -> None:
    async with running(settings(2)) as proxy:
        await proxy.apply(named(snapshot(web.port)))
        for _ in range(10):
            await fetch(port_of(proxy))
        found = await scrape(proxy)
    route = {"host": "shop.example", "namespace": "shop", "ingress": "web", "service": "web"}
    assert found["portway_requests_total"] == [({**route, "method": "GET", "status": "2xx"}, 10)]
    for name in ("portway_request_duration_seconds", "portway_upstream_duration_seconds"):
        assert found[f"{name}_count"] == [(route, 10)]
        reached = [value for _, value in found[f"{name}_bucket"]]
        assert reached == sorted(reached)
        assert (found[f"{name}_bucket"][-1][0]["le"], reached[-1]) == ("+Inf", 10)
    assert found["portway_upstream_connect_duration_seconds_count"][0][1] >= 1
    ((labels, size),) = found["portway_response_bytes_total"]
    assert labels == route
    assert size > 10 * len("sent by web")


async def test_every_family_is_told_and_none_of_ingress_nginxs_unless_asked_for(web: Web) -> None:
    async with running(settings(1)) as proxy:
        _, text = await admin(proxy, "/metrics")
    told = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert told == [family.name for family in FAMILIES]


async def test_the_same_requests_have_ingress_nginxs_names_and_labels(web: Web) -> None:
    names = {"metrics_names": "ingress-nginx", "node": "pod-0", "namespace": "ingress"}
    chain = certificate("shop/tls", "shop.example")
    async with running(msgspec.structs.replace(settings(2), **names)) as proxy:
        await proxy.apply(named(snapshot(web.port, certificates=(chain,))))
        for _ in range(7):
            await fetch(port_of(proxy))
        found = await scrape(proxy)
    controller = {
        "controller_class": "k8s.io/ingress-nginx",
        "controller_namespace": "ingress",
        "controller_pod": "pod-0",
    }
    labels = {
        **controller,
        "host": "shop.example",
        "namespace": "shop",
        "ingress": "web",
        "service": "web",
        "path": "/",
        "canary": "",
        "method": "GET",
        "status": "200",
    }
    prefix = "nginx_ingress_controller_"  # The parser gives every counter a _total.
    assert found[f"{prefix}requests_total"] == [(labels, 7)]
    for name in ("request_duration_seconds", "header_duration_seconds", "response_duration_seconds", "bytes_sent"):
        assert found[f"{prefix}{name}_count"] == [(labels, 7)], name
    for name in ("connect_duration_seconds", "request_size", "response_size"):
        assert found[f"{prefix}{name}_count"] == [(labels, 7)], name
    assert found[f"{prefix}nginx_process_requests_total"] == [(controller, 7)]
    assert found[f"{prefix}config_last_reload_successful"] == [(controller, 1)]
    assert [labels["host"] for labels, _ in found[f"{prefix}ssl_expire_time_seconds"]] == ["shop.example"]
    assert found["portway_certificate_not_after_seconds"][0][0] == {"certificate": "shop/tls", "host": "shop.example"}
    told = {name.removesuffix("_count").removesuffix("_total") for name in found}
    assert {family.name.removesuffix("_total") for family in INGRESS_NGINX_FAMILIES} <= told


async def test_a_worker_that_is_killed_takes_the_last_seconds_with_it_and_no_more(web: Web) -> None:
    async with running(settings(1)) as proxy:
        await proxy.apply(snapshot(web.port))
        for _ in range(10):
            await fetch(port_of(proxy))
        # Nobody scrapes: the supervisor asks by itself.
        totals = proxy._gathering._totals
        await eventually(
            lambda: any(sample.name == "portway_requests_total" and sample.value == 10 for sample in totals.samples()),
            _EVERY + PATIENCE,
            "a report without a scrape",
        )
        (victim,) = totals._last
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: victim not in totals._last, PATIENCE, "the end of the worker")
        found = await metrics(proxy)
    assert found["portway_requests_total", "*", "web", "GET", "shop", "web", "2xx"] == 10


async def test_a_worker_that_leaves_tells_all_that_it_counted(web: Web) -> None:
    async with running(settings(1)) as proxy:
        await proxy.apply(snapshot(web.port))
        for _ in range(10):
            await fetch(port_of(proxy))
        await proxy.renew(proxy.settings)
        found = await metrics(proxy)
    assert found["portway_requests_total", "*", "web", "GET", "shop", "web", "2xx"] == 10


# --- lines


class Proxy:
    """A `portway_proxy` process of its own, which serves one snapshot; `err` are its lines on standard error."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, admin_port: int) -> None:
        self.process = process
        self.port = port
        self.admin_port = admin_port

    async def dropped(self) -> float:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.admin_port}/metrics") as answer,
        ):
            text = await answer.text()
        return next(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "portway_access_lines_dropped_total"
        )


@asynccontextmanager
async def process(folder: Path, served: Snapshot, *flags: str, stdout: int) -> AsyncIterator[Proxy]:
    (folder / "snapshot.json").write_bytes(msgspec.json.encode(served))
    port, admin_port = free_port(), free_port()
    arguments = ["--http-port", str(port), "--https-port", "0", "--admin-port", str(admin_port), "--workers", "1"]
    with (folder / "err").open("wb") as err:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "portway_proxy", str(folder / "snapshot.json"), *arguments, *flags),
            stdout=stdout,
            stderr=err,
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await fetch(port, "/ready")
                    break
                except (OSError, EOFError, aiohttp.ClientError):
                    await asyncio.sleep(0.05)
        yield Proxy(child, port, admin_port)
    finally:
        child.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await child.wait() == 0


async def test_a_full_disk_costs_lines_which_are_counted_and_no_request(web: Web, tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with process(tmp_path, snapshot(web.port), stdout=full) as proxy:
            for _ in range(5):
                assert await fetch(proxy.port) == "sent by web"
            async with asyncio.timeout(PATIENCE):
                while await proxy.dropped() < 6:  # These, and the one that asked whether it serves.
                    pass
    finally:
        os.close(full)


async def test_a_reader_that_stopped_costs_no_request(web: Web, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"-" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        async with process(tmp_path, snapshot(web.port), stdout=writing) as proxy:
            for _ in range(50):
                assert await fetch(proxy.port) == "sent by web"
    finally:
        os.close(writing)
        os.close(reading)


async def test_the_file_is_opened_again_when_it_was_moved_away(web: Web, tmp_path: Path) -> None:
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    flags = ("--access-log-path", str(log), "--log-format", "$request_uri $status $upstream_addr")
    async with process(tmp_path, snapshot(web.port), *flags, stdout=asyncio.subprocess.DEVNULL) as proxy:
        await fetch(proxy.port, "/before")
        await eventually(lambda: "/before" in log.read_text(), PATIENCE, "the first line")
        log.rename(old)
        proxy.process.send_signal(signal.SIGUSR1)
        await eventually(log.exists, PATIENCE, "the new file")
        await fetch(proxy.port, "/after")
        await eventually(lambda: "/after" in log.read_text(), PATIENCE, "the second line")
    assert old.read_text().splitlines()[-1] == f"/before 200 127.0.0.1:{web.port}"
    assert log.read_text().splitlines() == [f"/after 200 127.0.0.1:{web.port}"]


async def test_with_json_standard_error_is_json_too(web: Web, tmp_path: Path) -> None:
    flags = ("--log-format", "json")
    async with process(tmp_path, snapshot(web.port), *flags, stdout=asyncio.subprocess.DEVNULL):
        pass
    lines = [json.loads(line) for line in (tmp_path / "err").read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("time", "level", "logger", "message")}
    assert any(line["message"].startswith("admin on ") for line in lines)


async def test_the_operator_says_how_lines_are_written_while_they_are(web: Web, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    chosen: ProxySettings = msgspec.structs.replace(settings(1), access_log=False, access_log_path=str(log))
    said = Observing(access_log=True, log_format="$uri $ingress_name", log_skip=("/quiet",))
    async with running(chosen) as proxy:
        await proxy.apply(snapshot(web.port))
        await fetch(port_of(proxy), "/unwritten")
        await proxy.apply(msgspec.structs.replace(snapshot(web.port), observing=said))
        for path in ("/quiet", "/loud"):
            await fetch(port_of(proxy), path)
        await eventually(lambda: log.exists() and bool(log.read_text()), PATIENCE, "a line")
    assert log.read_text().splitlines()[-1] == "/loud web"
    assert "/quiet" not in log.read_text()
