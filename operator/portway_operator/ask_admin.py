"""Asks an admin server, that of a proxy or the operator's, for the commands that look into what runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn, TypeVar

import aiohttp
import msgspec
import typer

from portway_operator.console import printable

__all__ = ["ADMIN", "AdminUrl", "Query", "ask", "fail"]

T = TypeVar("T")

ADMIN: Final = "http://127.0.0.1:9090"
"""Where a proxy's admin server is when nothing else is said."""

AdminUrl = Annotated[str, typer.Option("--admin", metavar="URL", help="The admin port.")]

Query = Sequence[tuple[str, str]]
"""Names and values, in order; a name may be there several times."""

_SECONDS: Final = 10.0
_LONGEST: Final = 300


def ask(admin: str, path: str, form: type[T], query: Query = ()) -> T:
    """Return what the admin server at the URL `admin` answers to a GET of `path`, read from JSON as a `form`.

    When it answers anything but that, or not at all, that is printed and the command ends with status 1.
    """
    try:
        return msgspec.json.decode(asyncio.run(_get(f"{admin.rstrip('/')}{path}", query)), type=form)
    except (aiohttp.ClientError, msgspec.DecodeError, OSError, TimeoutError, ValueError) as error:
        fail(f"{admin} does not say: {str(error) or 'it does not answer in time'}")


def fail(message: str) -> NoReturn:
    """Print why a command cannot do its work, and end it with status 1."""
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(1)


async def _get(url: str, query: Query) -> bytes:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
        session.get(url, params=[*query, ("format", "json")]) as response,
    ):
        body = await response.read()
        if response.status != 200:
            raise ValueError(_refusal(response, body))
        return body


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> str:
    """Return an answer that is no success in one line: its own words where it has some."""
    plain = response.content_type == "text/plain"
    said = body[:_LONGEST].decode(errors="replace").partition("\n")[0].strip() if plain else ""
    return said or f"{response.status} {response.reason}"
