"""The parts of the benchmark that decide what its tables say; none of these tests measures anything."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from bench.accounting import command_line, cpu_seconds, memory, tree
from bench.contest import Budget, Column, Contender, Outcome, Row, Values
from bench.load import Load, parse
from bench.peers import HAProxy, Nginx, Portway
from bench.processes import Fault, free_port
from bench.report import as_data, as_markdown, as_text
from bench.rows import ROWS
from bench.scene import Scene
from bench.stage import BULK

_REPORT = """Running 3s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.23ms    0.45ms  12.34ms   88.00%
    Req/Sec    45.00k     1.00k   47.00k    70.00%
  Latency Distribution
     50%    1.10ms
     75%    1.40ms
     90%    1.80ms
     99%    2.50ms
  135000 requests in 3.00s, 27.00MB read
Requests/sec:  45000.50
Transfer/sec:      9.00MB
"""


def test_report_of_wrk_gives_requests_rate_and_tail() -> None:
    assert parse(_REPORT) == Load(requests=135000, rate=45000.5, p99=0.0025)


@pytest.mark.parametrize(
    "line", ["  Non-2xx or 3xx responses: 7\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"]
)
def test_failed_requests_are_a_fault_and_no_figure(line: str) -> None:
    with pytest.raises(Fault, match=r"Non-2xx|Socket errors"):
        parse(_REPORT + line)


def test_what_fails_is_counted_where_it_is_crowded() -> None:
    lines = "  Socket errors: connect 0, read 3, write 2, timeout 0\n  Non-2xx or 3xx responses: 7\n"
    assert parse(_REPORT + lines, crowded=True) == Load(135000, 45000.5, 0.0025, refused=7, failed=5)


# Works long enough for the kernel to count it, says so, and ends with its standard input.
_CHILD = "import os, sys; sum(range(5_000_000)); print(os.getpid(), flush=True); sys.stdin.read()"
_PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_tree_holds_children_and_counts_their_cpu_and_memory() -> None:
    command = [sys.executable, "-c", _PARENT, _CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert tree(process.pid) == [process.pid, child]
        assert "sum(range(5_000_000))" in command_line(child)
        both = memory([process.pid, child])
        assert both.rss > memory([child]).rss > 0
        assert both.rss >= both.pss
        assert cpu_seconds([process.pid, child]) > cpu_seconds([process.pid])
    assert command_line(child) == ""


def _outcome(rounds: dict[str, list[Values]], budget: Budget) -> Outcome:
    contenders = tuple(Contender(peer, Scene()) for peer in (Nginx(), HAProxy(), Portway()))
    columns = (Column("cpu", "us/request", 1, compared=True), Column("rate", "requests/s", 0))
    row = Row("l7", "small", contenders, columns, lambda _running, _seconds: {}, ("nginx",), (budget,))
    return Outcome(row, rounds, {"haproxy": "not installed: apt-get install haproxy"})


def _rounds(*values: float) -> list[Values]:
    return [{"cpu": value, "rate": 1e6 / value} for value in values]


def test_table_shows_medians_ratios_spread_and_who_is_absent() -> None:
    outcome = _outcome(
        {"nginx": _rounds(10, 8, 12), "portway": _rounds(30, 14, 15)}, Budget("portway", "cpu", 1.7, "nginx")
    )
    assert as_text(outcome).splitlines() == [
        "l7: small",
        "           us/request  x nginx  spread  requests/s",
        "  nginx          10.0     1.00    40 %     100,000",
        "  portway        15.0     1.50   107 %      66,667",
        "  haproxy: not installed: apt-get install haproxy",
        "  budget portway: at most 1.7 x nginx: 1.50, kept",
    ]
    assert "| portway | 15.0 | 1.50 | 107 % | 66,667 |" in as_markdown(outcome).splitlines()
    assert json.loads(json.dumps(as_data(outcome)))["medians"]["portway"]["cpu"] == 15


def test_budget_without_its_baseline_is_not_judged() -> None:
    outcome = _outcome({"portway": _rounds(15)}, Budget("portway", "cpu", 1.7, "nginx"))
    assert "budget" not in as_text(outcome)


def test_absolute_and_least_budgets_are_judged_as_they_say() -> None:
    assert "at most 60: 61.00, MISSED" in as_text(_outcome({"portway": _rounds(61)}, Budget("portway", "cpu", 60)))
    least = Budget("portway", "rate", 0.5, "nginx", least=True)
    outcome = _outcome({"portway": _rounds(20), "nginx": _rounds(10)}, least)
    assert "at least 0.5 x nginx: 0.50, kept" in as_text(outcome)


def test_rows_have_distinct_keys_and_name_only_their_own_contenders() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    for row in ROWS:
        labels = [contender.label for contender in row.contenders]
        assert len(set(labels)) == len(labels)
        assert {*row.baselines, *(budget.label for budget in row.budgets)} <= set(labels)
        assert {budget.against for budget in row.budgets} <= {"", *labels}


def test_routes_of_a_scene_are_spread_over_hosts_of_ten_paths() -> None:
    assert list(Scene().hosts()) == [("bench.example", ["/"])]
    hosts = list(Scene(routes=10_000).hosts())
    assert len(hosts) == 1000
    assert {len(paths) for _, paths in hosts} == {10}


@pytest.mark.parametrize("size", [("--download=3000000",), ("--upload=3000000",), ("--download=7", "--upload=9")])
def test_bodies_keep_moving_in_both_directions(size: tuple[str, ...]) -> None:
    port = free_port()
    with subprocess.Popen([sys.executable, str(BULK), "serve", str(port)]) as endpoint:
        try:
            _await_port(port)
            drive = [sys.executable, str(BULK), "drive", f"--port={port}", "--streams=3", "--seconds=1", *size]
            moved = json.loads(subprocess.run(drive, check=True, capture_output=True).stdout)
        finally:
            endpoint.terminate()
    assert moved["exchanges"] > 3
    assert moved["bytes"] >= moved["exchanges"] * sum(int(part.partition("=")[2]) for part in size)


def _await_port(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            subprocess.run(["sleep", "0.05"], check=True)
        else:
            return
    pytest.fail("the endpoint does not listen")
