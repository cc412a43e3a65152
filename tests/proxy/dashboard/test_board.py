from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventually import eventually
from portway_proxy.dashboard import board as board_module
from portway_proxy.dashboard.board import Board, Crowded, Reader
from portway_proxy.dashboard.feed import Proxies, ProxyRow, Role, UnwellRow
from portway_proxy.dashboard.figures import Depth, Gathered, Moved
from portway_proxy.snapshot import Host, Origin, PathMatch, Problem, Route, Snapshot, Upstream
from portway_proxy.traffic import Labels

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
LABELS = Labels("shop.example", "shop", "web", "web", "/")
PROBLEM = Problem(ORIGIN, "service_missing", "There is no Service.", "Requests get 503.", "Create it.")


def snapshot(*paths: str, problems: tuple[Problem, ...] = ()) -> Snapshot:
    routes = tuple(Route(path, PathMatch.PREFIX, "shop/web:80", ORIGIN) for path in paths)
    return Snapshot((Host("shop.example", routes),), upstreams=(Upstream("shop/web:80"),), problems=problems)


class Fleet:
    """A source whose content the test sets; it counts how often it was asked for figures."""

    role = Role.OPERATOR
    node = "node-0"
    digest = "digest"
    served_since = 1.0

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = snapshot("/")
        self.generation = 1
        self.problems: tuple[Problem, ...] = ()
        self.proxies: list[ProxyRow] = []
        self.moved: list[Moved] = []
        self.unwell: list[UnwellRow] = []
        self.cost = 0.0
        self.asked: list[Depth] = []

    def serve(self, new: Snapshot) -> None:
        self.snapshot, self.generation = new, self.generation + 1

    def fleet(self) -> Proxies:
        return Proxies(list(self.proxies))

    async def figures(self, depth: Depth) -> Gathered:
        self.asked.append(depth)
        if len(self.asked) == 1 or depth is Depth.LAST:
            return Gathered()
        rows = depth is Depth.ROWS
        over, moved = (2.0, self.moved) if rows else (0.0, [])
        return Gathered(1.0, Moved.sum(self.moved), over, moved, unwell=self.unwell if rows else [], cost=self.cost)


def events(told: bytes) -> list[tuple[str, Any]]:
    """Return the events in a piece of the stream, by name."""
    found = []
    for block in told.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for name, seconds in (("_GLANCE", 0.01), ("_EVERY", 0.02), ("_LINGER", 0.05)):
        monkeypatch.setattr(board_module, name, seconds)
    return Fleet()


@pytest.fixture
async def board(fleet: Fleet) -> AsyncIterator[Board]:
    board = Board(fleet)
    yield board
    await board.close()


async def until(board: Board, reader: Reader, name: str, *, but: str = "") -> Any:  # noqa: ANN401 - JSON
    """Return the next event of that name; fail when one that is not to come does before."""
    async with asyncio.timeout(10):
        while True:
            for found, data in events(await board.next(reader)):
                assert found != but
                if found == name:
                    return data


async def test_a_reader_hears_who_speaks_what_is_served_and_what_is_wrong_first(board: Board, fleet: Fleet) -> None:
    fleet.problems = (PROBLEM,)
    with board.reading() as reader:
        (hello, said), (generation, served), (problems, wrong), (proxies, _) = events(await board.begin(reader, ""))
    assert (hello, said["role"], said["node"]) == ("hello", "operator", "node-0")
    assert (generation, served["number"], served["digest"], served["at"]) == ("generation", 1, "digest", 1.0)
    assert (served["whole"], served["counts"]["routes"], served["counts"]["problems"]) == (True, 1, 1)
    assert (problems, wrong["problems"][0]["code"], proxies) == ("problems", "service_missing", "proxies")


async def test_a_reader_who_has_the_table_hears_only_what_is_new(board: Board, fleet: Fleet) -> None:
    table = await board.table()
    fleet.serve(snapshot("/", "/cart"))
    with board.reading() as reader:
        told = dict(events(await board.begin(reader, table.mark)))
        assert [row[2] for row in told["generation"]["routes"]] == ["/cart"]
        assert "whole" not in told["generation"]
        fleet.serve(snapshot("/cart"))
        news = await until(board, reader, "generation")
    assert news["routes_gone"] == [table.routes[0].id]


async def test_problems_are_told_before_the_next_figures_are_due(
    board: Board, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "_EVERY", 3600.0)
    with board.reading() as reader:
        await board.begin(reader, "")
        fleet.problems = (PROBLEM,)
        assert (await until(board, reader, "problems", but="traffic"))["problems"][0]["remedy"] == "Create it."
        fleet.problems = ()
        assert (await until(board, reader, "problems", but="traffic"))["problems"] == []


async def test_more_problems_than_anybody_reads_are_counted(
    board: Board, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "_PROBLEMS", 2)
    fleet.problems = (PROBLEM,) * 5
    with board.reading() as reader:
        told = dict(events(await board.begin(reader, "")))
    assert (len(told["problems"]["problems"]), told["problems"]["more"]) == (2, 3)


async def test_figures_that_moved_are_told_and_put_to_zero_once(board: Board, fleet: Fleet) -> None:
    fleet.moved = [Moved(LABELS, 4, 1, 0, {0: 4})]
    with board.reading() as reader:
        await board.begin(reader, "")
        traffic = await until(board, reader, "traffic")
        while not traffic["over"]:
            traffic = await until(board, reader, "traffic")
        figure = [2.0, 0.25, 0, 0.5, 0.95, 0.99]
        assert traffic["total"] == [4.0, *figure[1:]]
        assert traffic["routes"] == {"1": figure}
        assert traffic["hosts"] == {"shop.example": figure}
        assert traffic["upstreams"] == {"shop/web:80": figure}
        fleet.moved = []
        seen: list[dict[str, object]] = []
        while len(seen) < 3:
            traffic = await until(board, reader, "traffic")
            if traffic["over"]:
                seen.append(traffic["routes"])
        zeros = [routes for routes in seen if routes.get("1") == [0.0, 0.0, 0.0, None, None, None]]
        assert (len(zeros), seen[-1]) == (1, {})


async def test_a_slow_reader_gets_the_newest_state_and_nothing_twice(board: Board, fleet: Fleet) -> None:
    with board.reading() as reader, board.reading() as slow:
        await board.begin(reader, "")
        await board.begin(slow, "")
        for number in range(5):
            fleet.serve(snapshot("/", f"/{number}"))
            fleet.moved = [Moved(LABELS, number + 1, 0, 0, {0: number + 1})]
            await until(board, reader, "generation")
        traffic = await until(board, reader, "traffic")
        while not traffic["over"]:
            traffic = await until(board, reader, "traffic")
        told = events(await board.next(slow))
    names = [name for name, _ in told]
    assert len(names) == len(set(names))
    (generation,) = [data for name, data in told if name == "generation"]
    assert [row[2] for row in generation["routes"]] == ["/4"]
    assert 1 not in generation["routes_gone"]  # What came and went meanwhile is among them, and harmless.


async def test_nothing_is_asked_for_before_anybody_reads_and_after_the_last(board: Board, fleet: Fleet) -> None:
    assert fleet.asked == []
    with board.reading() as reader:
        await board.begin(reader, "")
        await until(board, reader, "traffic")
    await eventually(lambda: fleet.asked[-1] is Depth.LAST, what="the last look")
    await eventually(lambda: not board._tasks, what="nobody keeps up")
    assert fleet.asked.count(Depth.LAST) == 1


async def test_who_comes_while_the_last_look_is_taken_is_served(board: Board, fleet: Fleet) -> None:
    for _ in range(3):
        with board.reading() as reader:
            await board.begin(reader, "")
            await until(board, reader, "traffic")
        await eventually(lambda: fleet.asked[-1] is Depth.LAST, what="the last look")


async def test_routes_are_looked_at_less_often_the_more_it_costs(board: Board, fleet: Fleet) -> None:
    fleet.cost = 60.0
    with board.reading() as reader:
        await board.begin(reader, "")
        for _ in range(5):
            await until(board, reader, "traffic")
    assert fleet.asked.count(Depth.ROWS) <= 2
    assert fleet.asked.count(Depth.TOTALS) >= 4


async def test_upstreams_that_are_not_well_are_told_when_that_changes(board: Board, fleet: Fleet) -> None:
    fleet.unwell = [UnwellRow("shop/web:80", 1, 0)]
    with board.reading() as reader:
        await board.begin(reader, "")
        while (unwell := await until(board, reader, "unwell"))["upstreams"] == []:
            pass
        assert unwell["upstreams"] == [["shop/web:80", 1, 0]]
        fleet.unwell = []
        assert (await until(board, reader, "unwell"))["upstreams"] == []


async def test_the_fleet_is_told_when_it_changes(board: Board, fleet: Fleet) -> None:
    with board.reading() as reader:
        await board.begin(reader, "")
        fleet.proxies = [ProxyRow("proxy-0", "node-0", "1.0", "current", 1, "digest", 1.0, 5.0)]
        told = await until(board, reader, "proxies")
    assert told["proxies"] == [["proxy-0", "node-0", "1.0", "current", 1, "digest", 1.0, 5.0]]


async def test_there_are_only_so_many_readers(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "_MOST", 1)
    with board.reading(), pytest.raises(Crowded, match="1 pages are open already"), board.reading():
        pass
    with board.reading():
        pass


async def test_readers_are_told_the_end(board: Board) -> None:
    with board.reading() as reader:
        await board.begin(reader, "")
        await board.close()
        async with asyncio.timeout(10):
            while await board.next(reader):
                pass


async def test_nothing_is_served_yet_is_an_empty_table(board: Board, fleet: Fleet) -> None:
    fleet.snapshot, fleet.generation = None, 0
    table = await board.table()
    assert (table.generation, table.routes) == (0, [])


async def test_what_is_served_is_looked_through_the_less_often_the_longer_it_takes(
    board: Board, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "_LATEST", 3600.0)
    monkeypatch.setattr(board_module, "_CHURN", 1e9)
    with board.reading() as reader:
        await board.begin(reader, "")
        fleet.serve(snapshot("/", "/cart", problems=(PROBLEM,)))
        assert await until(board, reader, "problems", but="generation")
        assert (await board.table()).generation == 2  # Who comes gets what is served now.
