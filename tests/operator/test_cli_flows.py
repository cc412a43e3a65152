"""`portway flows`: asks a real admin server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console
from typer.testing import CliRunner

from portway_operator.cli import app
from portway_operator.cli_flows import table_of_flows
from portway_proxy.admin import Admin
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery
from portway_proxy.flows import Flow, FlowPage, FlowQuery
from portway_proxy.history_pages import Chronicle
from portway_proxy.metrics import Sample
from portway_proxy.settings import ProxySettings

DB = Flow("tcp/5432", "192.0.2.1:4711", "shop/db:5432/tcp", "10.0.0.1:5432", 5400.0, 7, 9_000_000)
DNS = Flow("udp/53", "192.0.2.1:53000", "net/dns:53/udp", "", 3.0, 0, 0)

runner = CliRunner()


class Proxy:
    """A proxy through which two flows pass."""

    settings = ProxySettings()
    http_port: int | None = 80
    https_port: int | None = 443
    generation = 1
    affinity_key = b""
    snapshot = None
    problems = ()
    history = Chronicle()

    def unready(self) -> str:
        return ""

    async def collect(self) -> list[Sample]:
        return []

    async def flows(self, query: FlowQuery) -> FlowPage:
        return FlowPage.of((DB, DNS), query)

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:
        return EndpointPage.of((), query)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    loop = asyncio.new_event_loop()
    admin = Admin(Proxy())
    port = loop.run_until_complete(admin.start("127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(admin.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_flows_are_lines_for_whoever_is_no_terminal(url: str) -> None:
    result = runner.invoke(app, ["flows", "--admin", url])
    assert result.output.splitlines() == [
        "tcp/5432 192.0.2.1:4711 -> shop/db:5432/tcp 10.0.0.1:5432 5400s in=7 out=9000000",
        "udp/53 192.0.2.1:53000 -> net/dns:53/udp - 3s in=0 out=0",
    ]


def test_flows_are_filtered_and_bounded(url: str) -> None:
    result = runner.invoke(app, ["flows", "--admin", url, "--client", "192.0.2.1", "--limit", "1"])
    assert result.output.splitlines()[1:] == ["and 1 more"]
    result = runner.invoke(app, ["flows", "--admin", url, "--listener", "53", "--service", "net/dns"])
    assert len(result.output.splitlines()) == 1
    assert runner.invoke(app, ["flows", "--admin", url, "--endpoint", "10.0.0.2"]).output == ""


def test_flows_come_as_json(url: str) -> None:
    found = json.loads(runner.invoke(app, ["flows", "--admin", f"{url}/", "--json", "--limit", "1"]).output)
    assert (found["more"], len(found["flows"]), found["flows"][0]["bytes_out"]) == (1, 1, 9_000_000)


def test_a_terminal_gets_a_table() -> None:
    console = Console(width=140, record=True, quiet=False)
    with console.capture() as captured:
        console.print(table_of_flows(FlowPage((DB,), 6)))
    lines = captured.get().splitlines()
    assert lines[0].rstrip() == "Portway's flows"
    assert lines[4].split("│")[5:8] == [" 1.5h ", " 7 bytes ", " 9.0 MB "]
    assert lines[-1].rstrip() == "and 6 more"


def test_a_proxy_that_is_not_there_is_said_in_one_line() -> None:
    result = runner.invoke(app, ["flows", "--admin", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.output.startswith("portway: http://127.0.0.1:1 does not say: ")
    assert len(result.output.splitlines()) == 1
