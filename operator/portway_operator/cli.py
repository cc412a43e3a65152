"""The `portway` command: what it prints comes from elsewhere as values."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import msgspec
import typer
import uvloop
from rich.console import Console as Terminal

from portway_operator import cli_check, cli_diff, cli_explain, cli_flows, cli_history, cli_operator, cli_proxy, cli_wait
from portway_operator.apps import run_app
from portway_operator.cli_flags import (
    ConfigMapName,
    DefaultCertificate,
    HowRead,
    TcpServices,
    UdpServices,
    compile_settings,
)
from portway_operator.compile import compile_snapshot
from portway_operator.console import line_of_problem, printable
from portway_operator.demo import Demo
from portway_operator.flag_values import admin_access
from portway_operator.parse import networks, size
from portway_operator.settings import Compatibility
from portway_operator.sources.files import FileSource, Unreadable
from portway_operator.standalone import Standalone
from portway_operator.store import ObjectStore
from portway_operator.table import table_of
from portway_proxy.describe import describe, describe_json
from portway_proxy.log_format import check
from portway_proxy.logs import log_to_stderr
from portway_proxy.memory import give_back, keep_to_itself
from portway_proxy.process import WorkerEnded
from portway_proxy.settings import Limits, ProxySettings, Timeouts

__all__ = ["app", "main"]

app = typer.Typer(
    name="portway",
    help="Routes HTTP and passes opaque TCP through, as Kubernetes objects say.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Files = Annotated[
    list[Path],
    typer.Option("-f", "--file", metavar="PATH", help="A YAML or JSON file, or a folder of them; may be repeated."),
]
HttpPort = Annotated[int, typer.Option(min=0, max=65535, help="The port for HTTP; 0 takes any that is free.")]
HttpsPort = Annotated[int, typer.Option(min=0, max=65535, help="The port for HTTPS; 0 takes any that is free.")]
AdminPort = Annotated[
    int, typer.Option(min=0, max=65535, help="The port of /healthz /readyz /metrics /routes /problems.")
]
Address = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 or :: for all.")]
AdminAddress = Annotated[str, typer.Option(help="The address of the admin port.")]
AdminTokenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Whose token lets others than this machine see the admin port.")
]
Workers = Annotated[int | None, typer.Option(min=1, max=256, show_default="one for each core")]
LogFormat = Annotated[
    str,
    typer.Option(metavar="FORMAT", help="The form of lines: text, json, ingress-nginx, or $variables."),
]
AccessLog = Annotated[bool, typer.Option("--access-log/--no-access-log", help="One line for each request.")]
BodySize = Annotated[str, typer.Option(metavar="SIZE", help="The most of a request body (1024k, 1m); 0: no limit.")]
DrainTimeout = Annotated[float, typer.Option(min=0, help="Seconds that requests in flight get after Ctrl-C.")]
ExplainTo = Annotated[
    str,
    typer.Option(metavar="CIDRS", help="Whose clients are told why we answered, and where requests went, by commas."),
]
PublicHttpsPort = Annotated[
    int | None, typer.Option(min=1, max=65535, show_default="the HTTPS port", help="What redirects to HTTPS name.")
]


_LOOPBACK = ("127.0.0.0/8", "::1")


def _bytes(text: str) -> int:
    try:
        return size(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}.", param_hint="--body-size") from None


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if asked:
        typer.echo(f"portway {importlib.metadata.version('portway')}")
        raise typer.Exit


@app.callback()
def portway(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Routes HTTP and passes opaque TCP through, as Kubernetes objects say."""


@app.command()
def run(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    file: Files,
    http_port: HttpPort = 8080,
    https_port: HttpsPort = 8443,
    admin_port: AdminPort = 9090,
    address: Address = "127.0.0.1",
    admin_address: AdminAddress = "127.0.0.1",
    admin_token_file: AdminTokenFile = None,
    workers: Workers = None,
    log_format: LogFormat = "text",
    access_log: AccessLog = True,
    body_size: BodySize = "0",
    drain_timeout: DrainTimeout = 30.0,
    public_https_port: PublicHttpsPort = None,
    configmap: ConfigMapName = "",
    tcp_services_configmap: TcpServices = "",
    udp_services_configmap: UdpServices = "",
    default_ssl_certificate: DefaultCertificate = "",
    compatibility: HowRead = Compatibility.STRICT,
    explain_to: ExplainTo = "",
) -> None:
    """Serve what YAML files say, without a cluster, and follow their changes."""
    settings = ProxySettings(
        address=address,
        http_port=http_port,
        https_port=https_port,
        admin_address=admin_address,
        admin_port=admin_port,
        admin_access=admin_access(admin_token_file),
        public_https_port=public_https_port,
        access_log=access_log,
        log_format=_format(log_format),
        explain_to=_networks(explain_to),
        limits=Limits(body=_bytes(body_size)),
        timeouts=Timeouts(drain=drain_timeout),
    )
    if workers is not None:
        settings = msgspec.structs.replace(settings, workers=workers)
    maps = configmap, tcp_services_configmap, udp_services_configmap
    compiling = compile_settings(maps, default_ssl_certificate, compatibility, standalone=True)
    _serve(_run(Standalone(file, settings, compiling=compiling)), log_format)


@app.command()
def routes(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    file: Files,
    configmap: ConfigMapName = "",
    tcp_services_configmap: TcpServices = "",
    udp_services_configmap: UdpServices = "",
    default_ssl_certificate: DefaultCertificate = "",
    compatibility: HowRead = Compatibility.STRICT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what YAML files come to: routes and listeners, and what is wrong on standard error."""
    store = ObjectStore()
    source = FileSource(file, store)
    try:
        source.load()
    except Unreadable as error:
        _fail(str(error), 2)
    maps = configmap, tcp_services_configmap, udp_services_configmap
    compiling = compile_settings(maps, default_ssl_certificate, compatibility, standalone=True)
    snapshot = compile_snapshot(store, compiling).snapshot
    if as_json:
        typer.echo(msgspec.json.format(describe_json(snapshot)).decode())
    elif sys.stdout.isatty():
        Terminal().print(table_of(snapshot))
    else:
        typer.echo(describe(msgspec.structs.replace(snapshot, problems=())), nl=False)
    for problem in snapshot.problems:
        typer.echo(f"problem {line_of_problem(problem, source.place(problem.origin))}", err=True)


@app.command()
def demo(
    *,
    http_port: HttpPort = 8080,
    https_port: HttpsPort = 8443,
    admin_port: AdminPort = 9090,
    address: Address = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, max=256)] = 1,
) -> None:
    """Start two apps, images, messages and a TCP echo behind Portway, to play with."""
    settings = ProxySettings(
        address=address,
        http_port=http_port,
        https_port=https_port,
        admin_port=admin_port,
        workers=workers,
        explain_to=_LOOPBACK,
    )
    _serve(Demo(settings, typer.echo).run())


@app.command(hidden=True)
def demo_app(
    kind: Annotated[Literal["hello", "images", "message", "echo"], typer.Argument()],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535)],
    address: Address = "127.0.0.1",
) -> None:
    """Start one application of the demo by itself, as a container does."""
    _serve(run_app(kind, address, port))


app.command(context_settings=cli_proxy.CONTEXT)(cli_proxy.proxy)
app.command(cls=cli_operator.OperatorCommand, context_settings=cli_operator.CONTEXT)(cli_operator.operator)
app.command("wait-applied")(cli_wait.wait_applied_command)
app.command("flows")(cli_flows.flows_command)
app.command("explain")(cli_explain.explain_command)
app.command("check")(cli_check.check_command)
app.command("diff")(cli_diff.diff_command)
app.add_typer(cli_history.history_app, name="history")


def main() -> None:
    """Run the command that the arguments name."""
    app()


async def _run(standalone: Standalone) -> None:
    with standalone.heeding_signals():
        await (await standalone.start()).run_until_stopped()


def _format(text: str) -> str:
    try:
        check(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--log-format") from None
    return text


def _networks(text: str) -> tuple[str, ...]:
    try:
        return networks(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--explain-to") from None


def _serve(work: Coroutine[None, None, None], log_format: str = "text") -> None:
    """Run `work` to its end; what the user can mend is said in one line."""
    log_to_stderr(log_format=log_format)
    give_back()
    keep_to_itself()
    # It counts changes of files that may mean nothing; what came of them is said in a line of ours.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    try:
        # Ctrl-C before anything is served; from then on it is a signal that the supervisor takes.
        with suppress(KeyboardInterrupt):
            uvloop.run(work)
    except Unreadable as error:
        _fail(str(error), 2)
    except (OSError, WorkerEnded) as error:
        _fail(str(error), 1)


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(status)
