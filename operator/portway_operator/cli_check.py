"""`portway check`: reads files or a cluster, and prints what the judgement came to."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from portway_operator.check import Report, Unchecked, adopt, judge
from portway_operator.check.forms import as_html, as_json, as_markdown, print_text
from portway_operator.console import printable
from portway_operator.objects import Kind
from portway_operator.settings import CONTROLLER, NGINX_CONTROLLER, Compatibility, CompileSettings
from portway_operator.sources.connection import Connection, NoCluster
from portway_operator.sources.files import FileSource, Unreadable
from portway_operator.sources.survey import Seen, Survey, Unreachable
from portway_operator.store import ObjectStore

__all__ = ["check_command"]

_CLASSES: Final = "nginx,portway"
_USUAL: Final = (("ingress-nginx", "ingress-nginx-controller"), ("kube-system", "ingress-nginx-controller"))
_NAMES: Final = ("ingress-nginx-controller", "nginx-configuration")
_WIDTH: Final = 120
_FROM_FILES: Final = "The files hold none: what depends on it is not judged."


class Form(StrEnum):
    """The forms that the command prints."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


def check_command(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    file: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", metavar="PATH", help="YAML or JSON files, or folders, in place of a cluster."),
    ] = None,
    kubeconfig: Annotated[str | None, typer.Option(help="A kubeconfig; in a pod, its service account.")] = None,
    context: Annotated[str | None, typer.Option(help="A context of the kubeconfig.")] = None,
    controller_class: Annotated[
        str, typer.Option(help="Judge Ingresses whose IngressClass has one of these controllers, with commas.")
    ] = f"{NGINX_CONTROLLER},{CONTROLLER}",
    ingress_class: Annotated[str, typer.Option(help="Names that the old annotation may say, with commas.")] = _CLASSES,
    watch_ingress_without_class: Annotated[bool, typer.Option(help="Judge Ingresses that name no class.")] = False,
    watch_namespace: Annotated[str, typer.Option(help="Namespaces to read, with commas; all without any.")] = "",
    configmap: Annotated[
        str,
        typer.Option(
            metavar="NAMESPACE/NAME", help="The ConfigMap of ingress-nginx or Portway.", show_default="ingress-nginx's"
        ),
    ] = "",
    tcp_services_configmap: Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="That of TCP ports.")] = "",
    udp_services_configmap: Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="That of UDP ports.")] = "",
    compatibility: Annotated[Compatibility, typer.Option(help="How paths are to be matched.")] = Compatibility.STRICT,
    form: Annotated[Form, typer.Option("--format", help="The form of the report.")] = Form.TEXT,
) -> None:
    """Say what Portway would make of the Ingresses of a cluster or of files, and what differs from ingress-nginx.

    The exit status is 0 when there is nothing to know, 1 with findings, 2 when nothing could be judged.
    """
    maps = {"--configmap": configmap, "--tcp-services-configmap": tcp_services_configmap}
    maps["--udp-services-configmap"] = udp_services_configmap
    named = [_key(flag, text) for flag, text in maps.items() if text]
    settings = CompileSettings(
        ingress_class=_several(ingress_class),
        watch_ingress_without_class=watch_ingress_without_class,
        standalone=bool(file),
        config_map=configmap,
        tcp_services=tcp_services_configmap,
        udp_services=udp_services_configmap,
        compatibility=compatibility,
    )
    controllers = frozenset(_several(controller_class))
    with _without_collector():
        try:
            if file:
                report = _of_files(file, settings, controllers)
            else:
                report = asyncio.run(
                    _of_cluster(
                        Connection.load(kubeconfig, context), settings, controllers, _several(watch_namespace), named
                    )
                )
        except (NoCluster, Unreadable, Unreachable) as error:
            _fail(str(error))
        _print(report, form)
    raise typer.Exit(0 if report.clean else 1)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector still: a report is no garbage, and looking for some takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _of_files(paths: list[Path], settings: CompileSettings, controllers: frozenset[str]) -> Report:
    store = ObjectStore()
    source = FileSource(paths, store)
    source.load()
    adopt(store, controllers, CONTROLLER)
    lacking = {
        Kind.SERVICE: not store.services,
        Kind.ENDPOINT_SLICE: not len(store.endpoint_slices),
        Kind.SECRET: not store.secrets,
    }
    unchecked = tuple(Unchecked(str(kind), _FROM_FILES) for kind, lacks in lacking.items() if lacks)
    return judge(store, _with_config_map(store, settings), unchecked, source.place)


async def _of_cluster(
    connection: Connection,
    settings: CompileSettings,
    controllers: frozenset[str],
    namespaces: tuple[str, ...],
    named: list[tuple[str, str]],
) -> Report:
    store = ObjectStore()
    with _progress() as seen:
        survey = Survey(connection, store, seen)
        await survey.read(namespaces, [*named, *(() if settings.config_map else _USUAL)])
        adopt(store, controllers, CONTROLLER)
        settings = _with_config_map(store, settings)
        await survey.read_named(settings)
    unchecked = tuple(Unchecked(str(kind), reason) for kind, reason in sorted(survey.refused.items()))
    return judge(store, settings, unchecked)


def _with_config_map(store: ObjectStore, settings: CompileSettings) -> CompileSettings:
    """Return the settings with ingress-nginx's ConfigMap, where none is named and just one looks like it."""
    if settings.config_map:
        return settings
    found = [key for key in store.config_maps if key[1].endswith(_NAMES)]
    return replace(settings, config_map="/".join(found[0])) if len(found) == 1 else settings


@contextmanager
def _progress() -> Iterator[Seen]:
    """Show how far the reading is, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    tasks: dict[Kind, TaskID] = {}
    with Progress(*columns, console=Terminal(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:

        def seen(kind: Kind, read: int, of: int) -> None:
            if kind not in tasks:
                tasks[kind] = progress.add_task(str(kind))
            progress.update(tasks[kind], completed=read, total=max(of, read))

        yield seen


def _print(report: Report, form: Form) -> None:
    match form:
        case Form.TEXT:
            terminal = Terminal(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
            print_text(report, terminal)
        case Form.JSON:
            typer.echo(as_json(report), nl=False)
        case Form.MARKDOWN:
            typer.echo(as_markdown(report), nl=False)
        case Form.HTML:
            typer.echo(as_html(report), nl=False)


def _several(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))


def _key(flag: str, text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        raise typer.BadParameter(f"{flag}: {text!r} is no object; write namespace/name.")
    return namespace, name


def _fail(message: str) -> NoReturn:
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(2)
