"""The command `portway wait-applied`: its flags, and how the answer is printed."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Annotated, Final

import aiohttp
import typer

from portway_operator.ask_admin import AdminToken, admin_token
from portway_operator.console import printable
from portway_operator.serving import Answer
from portway_operator.sources.connection import Connection, NoCluster
from portway_operator.viewer_token import ViewerTokens
from portway_operator.wait_applied import (
    Asked,
    CannotAsk,
    OperatorPlace,
    RemoteOperator,
    current_version,
    parse_asked,
    wait_applied,
)

__all__ = ["wait_applied_command"]

_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def wait_applied_command(  # noqa: PLR0913 - the options of a command are its arguments
    what: Annotated[str, typer.Argument(metavar="ingress/NAME", help="An Ingress, or service/NAME at layer 4.")],
    *,
    namespace: Annotated[str, typer.Option("-n", "--namespace", show_default="the context's")] = "",
    timeout: Annotated[str, typer.Option(help="How long to wait: 60s, 2m.")] = "60s",
    operator: Annotated[
        str, typer.Option(help="Where the operator is: namespace/service[:port] in the cluster, or http://HOST:PORT.")
    ] = "portway/portway-operator",
    admin_token_file: AdminToken = None,
    kubeconfig: Annotated[str | None, typer.Option(help="A kubeconfig.")] = None,
    context: Annotated[str | None, typer.Option(help="A context of the kubeconfig.")] = None,
) -> None:
    """Wait until every ready proxy serves an object as it is now; say which one does not."""
    try:
        place = OperatorPlace.parse(operator)
        seconds = _seconds(timeout)
        asked = parse_asked(what, namespace or "default")
        connection = _connection(kubeconfig, context, place)
        if connection is not None and not namespace:
            asked = replace(asked, namespace=connection.namespace)
        token = admin_token(admin_token_file)
        answer, asked = asyncio.run(_wait(connection, place, token, asked, seconds))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except (CannotAsk, NoCluster) as error:
        typer.echo(f"portway: {printable(str(error))}", err=True)
        raise typer.Exit(2) from None
    _show(answer, asked)


def _connection(kubeconfig: str | None, context: str | None, place: OperatorPlace) -> Connection | None:
    """Return the way to the API server; None where an operator at a URL has to know the version by itself."""
    try:
        return Connection.load(kubeconfig, context)
    except NoCluster:
        if not place.url or kubeconfig is not None or context is not None:
            raise
        typer.echo("portway: no API server is known; waiting for the version that the operator knows", err=True)
        return None


async def _wait(
    connection: Connection | None, place: OperatorPlace, token: str, asked: Asked, seconds: float
) -> tuple[Answer, Asked]:
    if connection is None:
        async with aiohttp.ClientSession() as plain:
            return await wait_applied(RemoteOperator(plain, place.url, token), asked, seconds), asked
    async with connection.session() as session, aiohttp.ClientSession() as plain:
        asked = await current_version(session, connection, asked)
        # Our credentials are for the API server alone.
        if place.url:
            operator = RemoteOperator(plain, place.url, token)
        else:
            tokens = ViewerTokens(session, connection, *place.viewer)
            operator = RemoteOperator(session, place.on(connection), token, tokens)
        return await wait_applied(operator, asked, seconds), asked


def _show(answer: Answer, asked: Asked) -> None:
    """Print the answer; raises `Exit` with 1 when not every proxy serves the object."""
    count = len(answer.proxies)
    if answer.applied:
        typer.echo(f"{asked} is served by {count} {'proxy' if count == 1 else 'proxies'}")
        return
    typer.echo(printable(f"{asked} is not served by every proxy. {answer.reason}".rstrip()), err=True)
    for proxy in answer.proxies:
        if not proxy.applied:
            typer.echo(printable(f"{proxy.name}: {proxy.reason}"), err=True)
    raise typer.Exit(1)


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time; write 60s or 2m.")
    return float(found[1]) * _UNITS[found[2] or "s"]
