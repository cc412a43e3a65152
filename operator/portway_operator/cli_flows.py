"""`portway flows`: who passes through a proxy at layer 4 now, and how much."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Final, NoReturn

import aiohttp
import msgspec
import typer
from rich.console import Console as Terminal
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from portway_operator.console import printable
from portway_proxy.flows import MOST, FlowPage, FlowQuery, describe_page

__all__ = ["flows_command", "printable_lines", "table_of_flows"]

_SECONDS: Final = 5.0
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))
_COLUMNS: Final = ("listener", "client", "service", "endpoint", "age", "in", "out")


def flows_command(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    admin: Annotated[str, typer.Option(metavar="URL", help="The proxy's admin port.")] = "http://127.0.0.1:9090",
    client: Annotated[str, typer.Option(help="Only this address, or address and port.")] = "",
    listener: Annotated[str, typer.Option(help="Only this port: 5432, or udp/53.")] = "",
    service: Annotated[str, typer.Option(help="Only this Service: namespace/name, or namespace/name:port.")] = "",
    endpoint: Annotated[str, typer.Option(help="Only this endpoint: address, or address and port.")] = "",
    limit: Annotated[int, typer.Option(min=0, max=MOST, help="The most to show, the oldest first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the connections and UDP clients that pass through a proxy now."""
    query = FlowQuery(client, listener, service, endpoint, limit)
    try:
        page = asyncio.run(_ask(admin, query))
    except (aiohttp.ClientError, msgspec.DecodeError, OSError, TimeoutError, ValueError) as error:
        _fail(f"{admin} does not say: {str(error) or 'it does not answer in time'}")
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


async def _ask(admin: str, query: FlowQuery) -> FlowPage:
    asked = {name: str(value) for name, value in msgspec.structs.asdict(query).items() if value != ""}
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{admin.rstrip('/')}/flows", params=asked | {"format": "json"}) as response,
    ):
        if response.status != 200:
            raise ValueError(f"{response.status} {response.reason}")
        return msgspec.json.decode(await response.read(), type=FlowPage)


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.0f}s"


def _fail(message: str) -> NoReturn:
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(1)
