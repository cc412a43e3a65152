"""`portway explain`: what becomes of a request and why, by files, by a cluster, or by a proxy that runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import msgspec
import typer
from rich.console import Console as Terminal
from rich.text import Text

from portway_operator.ask_admin import ADMIN, AdminToken, AdminUrl, ask
from portway_operator.cli_flags import (
    ConfigMapName,
    ControllerClass,
    DefaultCertificate,
    HowRead,
    Kubeconfig,
    TcpServices,
    UdpServices,
    WatchNamespace,
    compile_settings,
    several,
)
from portway_operator.console import printable
from portway_operator.look import Cluster, Look, look_at_cluster, look_at_files
from portway_operator.settings import CONTROLLER, Compatibility
from portway_operator.sources.connection import NoCluster
from portway_operator.sources.files import Unreadable
from portway_operator.sources.survey import Unreachable
from portway_proxy.errors import BadSnapshot
from portway_proxy.explain.explanation import Explanation
from portway_proxy.explain.question import STRANGER, BadQuestion, Question
from portway_proxy.explain.text import Line, Tone, describe_explanation, lines_of
from portway_proxy.snapshot import Origin

if TYPE_CHECKING:
    from portway_operator.settings import CompileSettings

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
    kubeconfig: Kubeconfig = None,
    controller_class: ControllerClass = CONTROLLER,
    watch_namespace: WatchNamespace = "",
    configmap: ConfigMapName = "",
    tcp_services_configmap: TcpServices = "",
    udp_services_configmap: UdpServices = "",
    default_ssl_certificate: DefaultCertificate = "",
    compatibility: HowRead = Compatibility.STRICT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what becomes of a request, and why: at the proxy of --admin, or as files or a cluster say.

    The exit status is 0 when an endpoint gets it or the client is sent elsewhere, 1 when the answer is an error, and 2
    when nothing could be explained. Nothing is sent anywhere, and no secret is shown.
    """
    maps = configmap, tcp_services_configmap, udp_services_configmap
    settings = compile_settings(maps, default_ssl_certificate, compatibility, standalone=bool(file))
    method, url = _asked(request)
    fields = header or []
    try:
        question = Question.of(url, method, fields, client_ip)
        if file:
            look = look_at_files(file, settings)
            found = _explained(question, look)
            found = found if as_json else _located(found, look.place)
        elif context is not None or kubeconfig is not None:
            cluster = Cluster(kubeconfig, context, several(watch_namespace), frozenset(several(controller_class)))
            found = _explained(question, _of_cluster(cluster, settings))
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


def _explained(question: Question, look: Look) -> Explanation:
    from portway_proxy.explain.explaining import View, explain  # noqa: PLC0415 - all of layer 7, for this command alone

    return explain(question, View(look.snapshot, time.time(), problems=look.foreign))


def _located(found: Explanation, place: Callable[[Origin], str]) -> Explanation:
    """Return an explanation whose fields of objects are followed by their places in files."""
    stages = []
    for stage in found.stages:
        kind, _, rest = stage.origin.partition(" ")
        name, _, field = rest.partition(" ")
        namespace, _, own = name.partition("/")
        where = place(Origin(kind, namespace, own, field)) if field.startswith(("spec", "metadata")) else ""
        stages.append(msgspec.structs.replace(stage, origin=f"{stage.origin} ({where})") if where else stage)
    return msgspec.structs.replace(found, stages=tuple(stages))


def _of_cluster(cluster: Cluster, settings: CompileSettings) -> Look:
    """Return what a cluster comes to; what may not be read of it is said on standard error."""
    look = look_at_cluster(cluster, settings)
    for note in look.notes:
        typer.echo(f"portway: {printable(note)}", err=True)
    return look


def _print(found: Explanation, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    elif sys.stdout.isatty():
        terminal = Terminal(highlight=False, soft_wrap=True)
        for line in lines_of(found):
            terminal.print(styled(line))
    else:
        typer.echo(describe_explanation(found), nl=False)


def _fail(message: str) -> NoReturn:
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(_UNASKED)
