"""Asks an admin server, that of a proxy or the operator's, for the commands that look into what runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, NoReturn, TypeVar

import aiohttp
import msgspec
import typer
from aiohttp import hdrs

from portway_operator.console import printable

__all__ = ["ADMIN", "AdminToken", "AdminUrl", "Query", "admin_token", "ask", "fail"]

T = TypeVar("T")

ADMIN: Final = "http://127.0.0.1:9090"
"""Where a proxy's admin server is when nothing else is said."""

AdminUrl = Annotated[str, typer.Option("--admin", metavar="URL", help="The admin port.")]

AdminToken = Annotated[
    Path | None,
    typer.Option(
        "--admin-token-file",
        metavar="FILE",
        envvar="PORTWAY_ADMIN_TOKEN_FILE",
        help="The token for an admin port that asks for one; PORTWAY_ADMIN_TOKEN may hold it too.",
        show_default=False,
    ),
]

Query = Sequence[tuple[str, str]]
"""Names and values, in order; a name may be there several times."""

_TOKEN: Final = "PORTWAY_ADMIN_TOKEN"  # noqa: S105 - a name
_SECONDS: Final = 10.0
_LONGEST: Final = 300


def admin_token(file: Path | None) -> str:
    """Return the token in the file, or in the environment; empty without any. Raises `ValueError`."""
    if file is None:
        return os.environ.get(_TOKEN, "").strip()
    try:
        return file.read_text("utf-8").strip()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None


def ask(admin: str, path: str, form: type[T], query: Query = (), token_file: Path | None = None) -> T:
    """Return what the admin server at the URL `admin` answers to a GET of `path`, read from JSON as a `form`.

    When it answers anything but that, or not at all, that is printed and the command ends with status 1.
    """
    try:
        token = admin_token(token_file)
        return msgspec.json.decode(asyncio.run(_get(f"{admin.rstrip('/')}{path}", query, token)), type=form)
    except (aiohttp.ClientError, msgspec.DecodeError, OSError, TimeoutError, ValueError) as error:
        fail(f"{admin} does not say: {str(error) or 'it does not answer in time'}")


def fail(message: str) -> NoReturn:
    """Print why a command cannot do its work, and end it with status 1."""
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(1)


async def _get(url: str, query: Query, token: str) -> bytes:
    fields = {hdrs.AUTHORIZATION: f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
        session.get(url, params=[*query, ("format", "json")], headers=fields) as response,
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
