"""`portway history`: its table, and where its options may stand; what it says of real files is in tests/wire."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from rich.console import Console
from typer.testing import CliRunner, Result

from portway_operator.cli import app
from portway_operator.cli_history import table_of_history
from portway_proxy.history import Action, Cause, Generation, Step
from portway_proxy.history_pages import Chronicle, add_history
from portway_proxy.snapshot import Snapshot
from snapshots import FULL

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
CAUSES = tuple(Cause("Ingress", "shop", name, Action.CHANGED, "alice", NOON) for name in ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def admin() -> Iterator[str]:
    loop = asyncio.new_event_loop()

    async def start() -> tuple[web.AppRunner, Chronicle]:
        chronicle = Chronicle()
        chronicle.note(Step(1, FULL, "abc"))
        chronicle.note(Step(2, Snapshot(), "def", causes=CAUSES[:1]), 0.25)
        site = web.Application()
        add_history(site, chronicle)
        runner = web.AppRunner(site)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, chronicle

    runner, chronicle = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    for work in (runner.cleanup(), chronicle.close()):
        asyncio.run_coroutine_threadsafe(work, loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def history(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["history", *arguments])


def test_the_admin_port_may_stand_before_and_behind_the_subcommand(admin: str) -> None:
    before, behind = history("--admin", admin, "show", "1"), history("show", "1", "--admin", admin)
    assert (before.exit_code, before.stdout) == (behind.exit_code, behind.stdout)
    assert before.exit_code == 0
    assert "the first: " in before.stdout


def test_a_list_has_the_newest_first_and_json_says_all(admin: str) -> None:
    lines = history("--admin", admin).stdout.splitlines()
    assert lines[0].startswith("generation 2 at ")
    assert lines[1] == "  Ingress shop/a changed by alice at 2026-01-31 12:00:00 UTC"
    rows = json.loads(history("--admin", admin, "--json").stdout)
    assert [(row["generation"], row["took"], row["kept"]) for row in rows] == [(2, 0.25, True), (1, 0.0, True)]


def test_one_is_shown_with_what_requests_noticed(admin: str) -> None:
    shown = history("show", "2", "--admin", admin)
    assert shown.exit_code == 0
    assert "Traffic lost" in shown.stdout
    assert shown.stdout.endswith(history("diff", "1", "2", "--admin", admin).stdout)


def test_two_are_compared_in_every_form_of_portway_diff(admin: str) -> None:
    compared = history("diff", "1", "2", "--admin", admin, "--format", "json")
    assert compared.exit_code == 0
    assert {finding["effect"] for finding in json.loads(compared.stdout)["findings"]} >= {"traffic-lost"}


def test_the_snapshot_of_one_is_json_without_secrets(admin: str) -> None:
    said = history("show", "1", "--json", "--admin", admin).stdout
    assert len(json.loads(said)["hosts"]) == len(FULL.hosts)
    assert "secretsecret" not in said


def test_a_table_shows_the_first_causes_and_counts_the_others() -> None:
    rows = [
        Generation(42, 42, NOON, "abc", CAUSES, 6, "1 route changed"),
        Generation(41, 12, NOON, "def", (), 0, "endpoints of shop/\x1bweb:80", endpoints=True),
    ]
    terminal = Console(width=160, record=True, file=None, force_terminal=False)
    with terminal.capture() as captured:
        terminal.print(table_of_history(rows))
    text = captured.get()
    assert "Ingress shop/c changed by alice at 2026-01-31 12:00:00" in text
    assert "shop/d" not in text
    assert "and 7 more" in text
    assert "12-41" in text
    assert "\x1b" not in text
