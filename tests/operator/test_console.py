"""`console.py` and `table.py`: what people are shown."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console as Terminal

from portway_operator.console import Console, line_of_problem, printable
from portway_operator.table import table_of
from portway_proxy.snapshot import (
    Certificate,
    Endpoint,
    Host,
    Listener,
    Origin,
    PathMatch,
    Policy,
    Problem,
    Protocol,
    Route,
    Snapshot,
    Upstream,
)
from portway_proxy.summary import changes

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
PROBLEM = Problem(ORIGIN, "service_missing", "There is no Service.", "It answers 503.", "Create it.")
WEB = Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 8080),))
ECHO = Upstream("shop/echo:7/tcp", protocol=Protocol.OPAQUE, endpoints=(Endpoint("10.0.0.2", 7),))
SNAPSHOT = Snapshot(
    hosts=(Host("shop.example", (Route("/", PathMatch.PREFIX, WEB.name, ORIGIN, Policy(https_redirect=True)),)),),
    default=Route("/", PathMatch.PREFIX, WEB.name, ORIGIN),
    upstreams=(ECHO, WEB),
    listeners=(Listener(9000, ECHO.name, ORIGIN),),
    certificates=(Certificate("shop/tls", ("shop.example",), b"chain", b"SECRET", 0),),
    problems=(PROBLEM,),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ünïcode", "plain ünïcode"), ("a\nb", "a\\nb"), ("\x1b[31m", "\\x1b[31m"), ("\u202e", "\\u202e")],
)
def test_nothing_that_is_shown_can_begin_a_line_or_steer_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_problem_is_one_line_with_its_place_in_front() -> None:
    assert line_of_problem(PROBLEM, "shop.yaml:3") == (
        "shop.yaml:3: Ingress shop/web spec.rules[0]: There is no Service. It answers 503. Create it."
    )


def test_changes_are_counted_by_what_they_are() -> None:
    assert changes(Snapshot(), SNAPSHOT) == ("2 routes new, 1 listener new, 1 certificate new, 1 problem new")
    assert changes(SNAPSHOT, Snapshot()) == ("2 routes gone, 1 listener gone, 1 certificate gone, 1 problem gone")
    moved = msgspec.structs.replace(WEB, endpoints=())
    assert changes(SNAPSHOT, msgspec.structs.replace(SNAPSHOT, upstreams=(ECHO, moved))) == "2 routes changed"
    assert changes(SNAPSHOT, SNAPSHOT) == "nothing that shows"


def test_a_problem_is_said_once() -> None:
    out = io.StringIO()
    console = Console(lambda _: "shop.yaml:3", out=out)
    console.applied(1, SNAPSHOT)
    console.applied(2, msgspec.structs.replace(SNAPSHOT, default=None))
    assert out.getvalue().splitlines() == [
        f"generation 1: 2 routes, 1 listener, 1 problem ({changes(Snapshot(), SNAPSHOT)})",
        f"problem {line_of_problem(PROBLEM, 'shop.yaml:3')}",
        "generation 2: 1 route, 1 listener, 1 problem (1 route gone)",
    ]


def test_lines_of_json_are_objects() -> None:
    out = io.StringIO()
    console = Console(lambda _: "shop.yaml:3", "json", out)
    console.listening(http="http://127.0.0.1:8080")
    console.applied(1, SNAPSHOT)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["listening", "applied", "problem"]
    assert events[0]["http"] == "http://127.0.0.1:8080"
    assert events[2]["code"] == "service_missing"


def test_the_table_has_a_row_for_each_route_and_listener_and_shows_no_key() -> None:
    terminal = Terminal(width=200, file=io.StringIO(), record=True)
    terminal.print(table_of(SNAPSHOT))
    text = terminal.export_text()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    origin = str(ORIGIN)
    assert rows == [
        ["shop.example", "/", "prefix", "shop/web:80", "10.0.0.1:8080", "https-redirect", origin],
        ["default", "", "", "shop/web:80", "10.0.0.1:8080", "", origin],
        ["tcp/9000", "", "", "shop/echo:7/tcp", "10.0.0.2:7 (opaque)", "", origin],
    ]
    assert "SECRET" not in text


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    route = Route("/[red]x[/red]\x1b", PathMatch.EXACT, WEB.name, ORIGIN)
    terminal = Terminal(width=200, file=io.StringIO(), record=True)
    terminal.print(table_of(msgspec.structs.replace(SNAPSHOT, hosts=(Host("", (route,)),))))
    assert "/[red]x[/red]\\x1b" in terminal.export_text()
