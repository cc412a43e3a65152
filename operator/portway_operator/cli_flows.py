"""`portway flows`: who passes through a proxy at layer 4 now, and how much."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console as Terminal
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from portway_operator.ask_admin import ADMIN, AdminToken, AdminUrl, ask
from portway_operator.console import printable
from portway_proxy.flows import MOST, FlowPage, FlowQuery, describe_page

__all__ = ["flows_command", "printable_lines", "table_of_flows"]

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))
_COLUMNS: Final = ("listener", "client", "service", "endpoint", "age", "in", "out")


def flows_command(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    admin: AdminUrl = ADMIN,
    admin_token_file: AdminToken = None,
    client: Annotated[str, typer.Option(help="Only this address, or address and port.")] = "",
    listener: Annotated[str, typer.Option(help="Only this port: 5432, or udp/53.")] = "",
    service: Annotated[str, typer.Option(help="Only this Service: namespace/name, or namespace/name:port.")] = "",
    endpoint: Annotated[str, typer.Option(help="Only this endpoint: address, or address and port.")] = "",
    limit: Annotated[int, typer.Option(min=0, max=MOST, help="The most to show, the oldest first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the connections and UDP clients that pass through a proxy now."""
    query = msgspec.structs.asdict(FlowQuery(client, listener, service, endpoint, limit))
    asked = [(name, str(value)) for name, value in query.items() if value != ""]
    page = ask(admin, "/flows", FlowPage, asked, admin_token_file)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(page)).decode())
    elif sys.stdout.isatty():
        Terminal().print(table_of_flows(page))
    else:
        typer.echo(printable_lines(page), nl=False)


def table_of_flows(page: FlowPage) -> Table:
    """Return a row for each flow, and the count of the rest below."""
    caption = f"and {page.more} more" if page.more else None
    table = Table(*_COLUMNS, title="Portway's flows", title_justify="left", caption=caption, caption_justify="left")
    for flow in page.flows:
        place = (flow.listener, flow.client, flow.upstream, flow.endpoint)
        amounts = (_age(flow.seconds), decimal(flow.bytes_in), decimal(flow.bytes_out))
        table.add_row(*(Text(printable(cell)) for cell in (*place, *amounts)))
    return table


def printable_lines(page: FlowPage) -> str:
    """Return the flows as lines that no name of theirs can break."""
    return "".join(f"{printable(line)}\n" for line in describe_page(page).split("\n")[:-1])


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.0f}s"
