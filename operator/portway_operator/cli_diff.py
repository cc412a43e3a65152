"""`portway diff`: its flags, its exit status, and which form is printed."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Final, NoReturn

import msgspec
import typer
from rich.console import Console as Terminal

from portway_operator.ask_admin import ADMIN, AdminToken, AdminUrl
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
from portway_operator.diff import Difference, Effect, compare
from portway_operator.diff.forms import as_json, as_markdown, print_text
from portway_operator.diff_places import Place, Reader
from portway_operator.look import Cluster
from portway_operator.settings import CONTROLLER, Compatibility
from portway_operator.sources.connection import NoCluster
from portway_operator.sources.files import Unreadable
from portway_operator.sources.survey import Unreachable
from portway_proxy.errors import BadSnapshot

__all__ = ["Form", "Threshold", "diff_command", "print_difference", "status_of"]

_WIDTH: Final = 120
_UNREADABLE: Final = 2
_STATUS: Final = {Effect.PROTECTION_LOST: 4, Effect.TRAFFIC_LOST: 3}


class Form(StrEnum):
    """The forms that the command prints."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


class Threshold(StrEnum):
    """From which effect on the exit status is not 0."""

    PROTECTION_LOST = "protection-lost"
    TRAFFIC_LOST = "traffic-lost"
    ANY = "any"
    NEVER = "never"


def _place(text: str) -> Place:
    try:
        return Place.parse(text)
    except ValueError as error:
        raise typer.BadParameter(printable(str(error))) from None


def diff_command(  # noqa: PLR0913 - the options of a command are its arguments
    old: Annotated[
        Place,
        typer.Argument(
            parser=_place, metavar="OLD", help="Files, cluster:[CONTEXT][+FILES], http://ADMIN or a generation."
        ),
    ],
    new: Annotated[Place, typer.Argument(parser=_place, metavar="NEW", help="As OLD.")],
    *,
    form: Annotated[Form, typer.Option("--format", help="The form of the difference.")] = Form.TEXT,
    fail_on: Annotated[
        Threshold, typer.Option(help="From which finding on the exit status is not 0.")
    ] = Threshold.TRAFFIC_LOST,
    admin: AdminUrl = ADMIN,
    admin_token_file: AdminToken = None,
    kubeconfig: Kubeconfig = None,
    controller_class: ControllerClass = CONTROLLER,
    watch_namespace: WatchNamespace = "",
    configmap: ConfigMapName = "",
    tcp_services_configmap: TcpServices = "",
    udp_services_configmap: UdpServices = "",
    default_ssl_certificate: DefaultCertificate = "",
    compatibility: HowRead = Compatibility.STRICT,
) -> None:
    """Say what requests would notice between OLD and NEW: what is less protected first, then what is not served.

    The exit status is 4 when protection is lost, 3 when traffic is, 1 with `--fail-on any` and another finding, 2 when
    nothing could be compared, and else 0.
    """
    maps = configmap, tcp_services_configmap, udp_services_configmap
    settings = compile_settings(maps, default_ssl_certificate, compatibility, standalone=False)
    cluster = Cluster(kubeconfig, None, several(watch_namespace), frozenset(several(controller_class)))
    reader = Reader(settings, cluster, admin, admin_token_file)
    difference = _compared(reader, old, new)
    print_difference(difference, form)
    raise typer.Exit(status_of(difference, fail_on))


def print_difference(difference: Difference, form: Form) -> None:
    """Print a difference, in colours on a terminal."""
    match form:
        case Form.TEXT:
            print_text(difference, Terminal(highlight=False, width=None if sys.stdout.isatty() else _WIDTH))
        case Form.JSON:
            typer.echo(as_json(difference), nl=False)
        case Form.MARKDOWN:
            typer.echo(as_markdown(difference), nl=False)


def status_of(difference: Difference, threshold: Threshold) -> int:
    """Return the exit status for what was found."""
    gravest = difference.gravest
    if gravest is None or threshold is Threshold.NEVER:
        return 0
    counted = {Threshold.PROTECTION_LOST: (4,), Threshold.TRAFFIC_LOST: (4, 3), Threshold.ANY: (4, 3, 1)}
    status = _STATUS.get(gravest, 1)
    return status if status in counted[threshold] else 0


def _compared(reader: Reader, old: Place, new: Place) -> Difference:
    """Return the difference; ends the command where a side cannot be had."""
    try:
        before, after = reader.read(old), reader.read(new)
        histories = {reader.history_of(old), reader.history_of(new)}
        found = compare(before.snapshot, after.snapshot, one_history=len(histories) == 1 and "" not in histories)
    except (NoCluster, Unreadable, Unreachable, BadSnapshot) as error:
        _fail(str(error))
    except typer.Exit:
        # An admin port that does not say: that was printed.
        raise typer.Exit(_UNREADABLE) from None
    return msgspec.structs.replace(
        found,
        old=msgspec.structs.replace(found.old, name=str(old)),
        new=msgspec.structs.replace(found.new, name=str(new)),
        notes=(*before.notes, *after.notes, *found.notes),
    )


def _fail(message: str) -> NoReturn:
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(_UNREADABLE)
