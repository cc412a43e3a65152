"""`portway history`: the last generations of what runs, who caused them, and what each one changed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import typer
from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from portway_operator.ask_admin import ADMIN, AdminToken, AdminUrl, ask, fail
from portway_operator.cli_diff import Form, Threshold, diff_command
from portway_operator.console import printable
from portway_operator.diff_places import Place, PlaceKind
from portway_proxy.history import Generation, not_kept
from portway_proxy.history_pages import describe_generation, describe_history
from portway_proxy.snapshot import Snapshot

__all__ = ["history_app", "table_of_history"]

_COLUMNS: Final = ("generation", "at (UTC)", "what changed", "who caused it")

_SHOWN: Final = 3

history_app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Number = Annotated[int, typer.Argument(metavar="GENERATION", min=1, help="A number of `portway history`.")]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The admin server to ask, as it is named before a subcommand or behind it."""

    admin: str
    token_file: Path | None

    @classmethod
    def of(cls, context: typer.Context, admin: str, token_file: Path | None) -> _Asked:
        before = context.obj if isinstance(context.obj, cls) else cls(ADMIN, None)
        return cls(admin if admin != ADMIN else before.admin, token_file or before.token_file)

    def rows(self) -> list[Generation]:
        return ask(self.admin, "/history", list[Generation], token_file=self.token_file)

    def snapshot(self, generation: int) -> Snapshot:
        return ask(self.admin, f"/history/{generation}", Snapshot, token_file=self.token_file)

    def compare(self, old: int, new: int, form: Form) -> NoReturn:
        """Print the difference of two generations and end the command."""
        places = (Place(PlaceKind.GENERATION, str(number)) for number in (old, new))
        never = Threshold.NEVER
        diff_command(*places, form=form, fail_on=never, admin=self.admin, admin_token_file=self.token_file)
        raise typer.Exit


@history_app.callback(invoke_without_command=True)
def history(
    context: typer.Context, *, admin: AdminUrl = ADMIN, admin_token_file: AdminToken = None, as_json: AsJson = False
) -> None:
    """Show the last 50 generations of a proxy, of `portway run` or of the operator, and who caused each.

    Changes of endpoints alone do not count: those between two others are one row.
    """
    context.obj = asked = _Asked(admin, admin_token_file)
    if context.invoked_subcommand is not None:
        return
    rows = asked.rows()
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    elif sys.stdout.isatty():
        Terminal().print(table_of_history(rows))
    else:
        typer.echo(describe_history(rows), nl=False)


@history_app.command("show")
def show(
    context: typer.Context,
    generation: Number,
    *,
    admin: AdminUrl = ADMIN,
    admin_token_file: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Show who caused a generation and what requests noticed of it; with --json, all that it served."""
    asked = _Asked.of(context, admin, admin_token_file)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(asked.snapshot(generation))).decode())
        return
    rows = asked.rows()
    place = next((place for place, row in enumerate(rows) if row.generation == generation), None)
    if place is None:
        fail(f"{asked.admin} does not say: {not_kept(rows[::-1], generation)}")
    typer.echo(describe_generation(rows[place]), nl=False)
    if rows[place].kept and place + 1 < len(rows) and rows[place + 1].kept:
        typer.echo()
        asked.compare(rows[place + 1].generation, generation, Form.TEXT)


@history_app.command("diff")
def diff(
    context: typer.Context,
    old: Number,
    new: Number,
    *,
    form: Annotated[Form, typer.Option("--format", help="The form of the difference.")] = Form.TEXT,
    admin: AdminUrl = ADMIN,
    admin_token_file: AdminToken = None,
) -> None:
    """Say what requests noticed between two generations, as `portway diff` does; the exit status is always 0."""
    asked = _Asked.of(context, admin, admin_token_file)
    asked.compare(old, new, form)


def table_of_history(rows: list[Generation]) -> Table:
    """Return a row for each generation, the newest first, with the first of those who caused it."""
    table = Table(*_COLUMNS, title="Portway's history", title_justify="left")
    for row in rows:
        causes = [str(cause).replace(" UTC", "") for cause in row.causes[:_SHOWN]]
        more = len(row.causes) - len(causes) + row.more
        who = "\n".join(map(printable, [*causes, *([f"and {more} more"] if more else [])]))
        style = "dim" if row.endpoints else ""
        cells = (row.number, f"{row.at:%Y-%m-%d %H:%M:%S}", printable(row.summary), who)
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table
