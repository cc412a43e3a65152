"""`portway explain`: what becomes of a request and why, by files, by a cluster, or by a proxy that runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import msgspec
import typer
from rich.console import Console as Terminal
from rich.text import Text

from portway_operator.ask_admin import ADMIN, AdminToken, AdminUrl, ask
from portway_operator.compile import compile_snapshot
from portway_operator.console import printable
from portway_operator.diff_places import Place, PlaceKind, Reader
from portway_operator.settings import CONTROLLER, Compatibility, CompileSettings
from portway_operator.sources.connection import NoCluster
from portway_operator.sources.files import FileSource, Unreadable
from portway_operator.sources.survey import Unreachable
from portway_operator.store import ObjectStore
from portway_proxy.errors import BadSnapshot
from portway_proxy.explain.explanation import Explanation
from portway_proxy.explain.question import STRANGER, BadQuestion, Question
from portway_proxy.explain.text import Line, Tone, describe_explanation, lines_of

if TYPE_CHECKING:
    from portway_proxy.snapshot import Snapshot

__all__ = ["explain_command", "styled"]

_FAILS: Final = 1
_UNASKED: Final = 2
_STYLES: Final = {
    Tone.TITLE: "bold",
    Tone.CHOSEN: "bold",
    Tone.WHY: "",
    Tone.PASSED: "dim",
    Tone.HEAD: "cyan",
    Tone.GOOD: "bold green",
    Tone.BAD: "bold red",
    Tone.MEND: "yellow",
}


def explain_command(  # noqa: PLR0913 - the options of a command are its arguments
    request: Annotated[
        list[str],
        typer.Argument(metavar="[METHOD] URL", help="What is asked for: http, https, tcp://HOST:PORT or udp://."),
    ],
    *,
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="'NAME: VALUE'", help="A field; may be repeated.")
    ] = None,
    client_ip: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Who connects to the proxy.", show_default=STRANGER)
    ] = "",
    file: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", metavar="PATH", help="What YAML or JSON files come to; may be repeated."),
    ] = None,
    admin: AdminUrl = ADMIN,
    admin_token_file: AdminToken = None,
    context: Annotated[str | None, typer.Option(help="What the cluster of this context comes to.")] = None,
    kubeconfig: Annotated[str | None, typer.Option(help="A kubeconfig; in a pod, its service account.")] = None,
    controller_class: Annotated[
        str, typer.Option(help="Of a cluster: Ingresses whose IngressClass has one of these controllers, with commas.")
    ] = CONTROLLER,
    watch_namespace: Annotated[str, typer.Option(help="Namespaces of the cluster, with commas; all without any.")] = "",
    configmap: Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="The ConfigMap with settings.")] = "",
    tcp_services_configmap: Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="That of TCP ports.")] = "",
    udp_services_configmap: Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="That of UDP ports.")] = "",
    default_ssl_certificate: Annotated[
        str, typer.Option(metavar="NAMESPACE/NAME", help="The Secret for hosts without one.")
    ] = "",
    compatibility: Annotated[Compatibility, typer.Option(help="Whose reading of Ingresses counts.")] = (
        Compatibility.STRICT
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what becomes of a request, and why: at the proxy of --admin, or as files or a cluster say.

    The exit status is 0 when an endpoint gets it or the client is sent elsewhere, 1 when the answer is an error, and 2
    when nothing could be explained. Nothing is sent anywhere, and no secret is shown.
    """
    settings = CompileSettings(
        standalone=bool(file),
        config_map=configmap,
        tcp_services=tcp_services_configmap,
        udp_services=udp_services_configmap,
        default_certificate=default_ssl_certificate,
        compatibility=compatibility,
    )
    method, url = _asked(request)
    fields = header or []
    try:
        question = Question.of(url, method, fields, client_ip)
        if file:
            found = _explained(question, _of_files(file, settings))
        elif context is not None or kubeconfig is not None:
            reader = Reader(
                settings, frozenset(_several(controller_class)), _several(watch_namespace), kubeconfig, admin, None
            )
            found = _explained(question, _of_cluster(reader, context))
        else:
            asked = [("method", method), ("url", url), ("client_ip", client_ip), *(("header", one) for one in fields)]
            found = ask(admin, "/explain", Explanation, asked, admin_token_file)
    except (BadQuestion, BadSnapshot, NoCluster, Unreadable, Unreachable) as error:
        _fail(str(error))
    except typer.Exit:
        # The admin port does not say: that was printed.
        raise typer.Exit(_UNASKED) from None
    _print(found, as_json=as_json)
    raise typer.Exit(_FAILS if found.outcome.fails else 0)


def styled(line: Line) -> Text:
    """Return a line with its colours."""
    text = Text(str(line), style=_STYLES[line.tone])
    if line.label:
        text.stylize("not bold blue", 0, len(line.label))
    return text


def _asked(request: list[str]) -> tuple[str, str]:
    """Return the method and the URL."""
    if len(request) == 1:
        return "GET", request[0]
    if len(request) == 2:
        return request[0], request[1]
    raise typer.BadParameter("write [METHOD] URL", param_hint="request")


def _explained(question: Question, snapshot: Snapshot) -> Explanation:
    # All of layer 7, which no other command needs.
    from portway_proxy.explain.explaining import View, explain  # noqa: PLC0415

    return explain(question, View(snapshot, time.time()))


def _of_files(paths: list[Path], settings: CompileSettings) -> Snapshot:
    store = ObjectStore()
    FileSource(paths, store).load()
    return compile_snapshot(store, settings).snapshot


def _of_cluster(reader: Reader, context: str | None) -> Snapshot:
    """Return what a cluster comes to; what may not be read of it is said on standard error."""
    read = reader.read(Place(PlaceKind.CLUSTER, context or ""))
    for note in read.notes:
        typer.echo(f"portway: {printable(note)}", err=True)
    return read.snapshot


def _print(found: Explanation, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    elif sys.stdout.isatty():
        terminal = Terminal(highlight=False, soft_wrap=True)
        for line in lines_of(found):
            terminal.print(styled(line))
    else:
        typer.echo(describe_explanation(found), nl=False)


def _several(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))


def _fail(message: str) -> NoReturn:
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(_UNASKED)
