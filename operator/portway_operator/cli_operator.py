"""`portway operator`: its flags, which the environment may give as well, and what they come to."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import typer
import uvloop
from typer.core import TyperCommand, TyperOption

from portway_operator import collector, nginx_flags
from portway_operator.authority_store import KeptNames
from portway_operator.console import printable
from portway_operator.flag_values import addresses, admin_access, affinity_key, named_object, namespaces, ports, several
from portway_operator.leader import Terms
from portway_operator.objects import Kind
from portway_operator.operator_settings import (
    OperatorSettings,
    OwnCertificate,
    OwnPods,
    StatusSettings,
    WebhookSettings,
)
from portway_operator.settings import CONTROLLER, Compatibility, CompileSettings
from portway_operator.sources.connection import Connection, NoCluster
from portway_operator.sources.resources import Target
from portway_operator.sources.scope import Scope
from portway_operator.stream_settings import StreamSettings, TlsFiles
from portway_proxy.logs import log_to_stderr
from portway_proxy.memory import give_back, keep_to_itself
from portway_proxy.stream import PORT

__all__ = ["CONTEXT", "OperatorCommand", "operator"]

CONTEXT: Final = {"auto_envvar_prefix": "PORTWAY"}
"""How the command is registered: `--health-port` left out is `PORTWAY_HEALTH_PORT`, and so on."""

# A Service called portway-health has Kubernetes set PORTWAY_HEALTH_PORT=tcp://10.0.0.1:80 in every pod beside it.
_SERVICE_LINKS: Final = ("tcp://", "udp://", "sctp://")


class OperatorCommand(TyperCommand):
    """The command without the environment that Kubernetes makes of Services with our names, and with Go's flags."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as click declares it
        """Return click's context."""
        for name in [name for name in os.environ if name.startswith("PORTWAY_")]:
            if os.environ[name].startswith(_SERVICE_LINKS):
                del os.environ[name]
        return super().make_context(*arguments, **more)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - as click declares it
        """Take the command line of ingress-nginx's controller too."""
        options = [one for one in self.params if isinstance(one, TyperOption)]
        names = {name.lstrip("-") for one in options for name in (*one.opts, *one.secondary_opts)}
        try:
            taken, left = nginx_flags.taken(args, _switches(options), names)
        except nginx_flags.Refused as error:
            raise typer.BadParameter(str(error), ctx) from None
        for sentence in left:
            typer.echo(f"portway: {printable(sentence)}", err=True)
        return super().parse_args(ctx, taken)


def _switches(options: Collection[TyperOption]) -> dict[str, tuple[str, str]]:
    """Return how each flag without value is set and unset, by its names."""
    found: dict[str, tuple[str, str]] = {}
    for one in options:
        if one.is_flag and one.secondary_opts:
            forms = (one.opts[0], one.secondary_opts[0])
            found |= {name.lstrip("-"): forms for name in one.opts}
            found |= {name.lstrip("-"): forms[::-1] for name in one.secondary_opts}
    return found


def operator(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    kubeconfig: Annotated[str | None, typer.Option(help="A kubeconfig; in a pod, its service account.")] = None,
    context: Annotated[str | None, typer.Option(help="A context of the kubeconfig.")] = None,
    # --- what is served
    controller_class: Annotated[str, typer.Option(help="IngressClasses with this controller are ours.")] = CONTROLLER,
    ingress_class: Annotated[str, typer.Option(help="Names of classes that the old annotation may say.")] = "portway",
    watch_ingress_without_class: Annotated[bool, typer.Option(help="Ingresses that name no class are ours.")] = False,
    ingress_class_by_name: Annotated[
        bool, typer.Option(help="IngressClasses with a name of --ingress-class are ours, whatever their controller.")
    ] = False,
    compatibility: Annotated[
        Compatibility, typer.Option(help="Whose reading of Ingresses counts, unless they or their class say it.")
    ] = Compatibility.STRICT,
    watch_namespace: Annotated[str, typer.Option(help="Namespaces to read, with commas; all without any.")] = "",
    watch_secrets_namespace: Annotated[
        str | None, typer.Option(help="Namespaces to read TLS Secrets of.", show_default="as --watch-namespace")
    ] = None,
    watch_secrets: Annotated[
        str, typer.Option(help="Single TLS Secrets to read beside these, with commas: namespace/name,...")
    ] = "",
    configmap: Annotated[
        str, typer.Option(help="namespace/name of a ConfigMap whose keys count over these flags, and may change.")
    ] = "",
    tcp_services_configmap: Annotated[
        str, typer.Option(help="namespace/name of a ConfigMap of TCP ports to open: port -> namespace/service:port.")
    ] = "",
    udp_services_configmap: Annotated[str, typer.Option(help="As --tcp-services-configmap, for UDP.")] = "",
    default_backend_service: Annotated[
        str, typer.Option(help="namespace/name[:port] of what serves requests that nothing else does.")
    ] = "",
    default_ssl_certificate: Annotated[
        str, typer.Option(help="namespace/name of the Secret for hosts without a certificate.")
    ] = "",
    ssl_redirect: Annotated[bool, typer.Option(help="Send plain requests to https where a host has TLS.")] = True,
    catch_all: Annotated[
        bool, typer.Option("--catch-all/--disable-catch-all", help="Serve Ingresses that have no rules.")
    ] = True,
    allow_external_name: Annotated[
        bool,
        typer.Option("--allow-external-name/--disable-svc-external-name", help="Serve Services of type ExternalName."),
    ] = True,
    reserved_ports: Annotated[str, typer.Option(help="The proxies' own ports, which no Service may have.")] = "",
    affinity_key_file: Annotated[
        Path | None,
        typer.Option(help="Random bytes that sign affinity cookies, so that all proxies know each other's."),
    ] = None,
    # --- what is written
    publish_service: Annotated[
        str, typer.Option(help="namespace/name of the Service that clients reach the proxies by.")
    ] = "",
    expose_service: Annotated[
        str, typer.Option(help="namespace/name of the Service whose ports are kept equal to the layer 4 listeners.")
    ] = "",
    publish_status_address: Annotated[
        str, typer.Option(help="IPs and host names, with commas, for the statuses in its place.")
    ] = "",
    report_node_internal_ip_address: Annotated[
        bool, typer.Option(help="Without both: the proxies' nodes by their internal addresses.")
    ] = False,
    update_status: Annotated[bool, typer.Option(help="Write statuses at all.")] = True,
    update_status_on_shutdown: Annotated[bool, typer.Option(help="Empty them when the last pod ends.")] = True,
    election_id: Annotated[str, typer.Option(help="The Lease by which replicas agree who writes.")] = "portway",
    election_ttl: Annotated[int, typer.Option(min=3, max=600, help="Seconds until a lost leader is replaced.")] = 15,
    # --- who we are
    pod_name: Annotated[
        str, typer.Option(help="Our pod.", envvar=["PORTWAY_POD_NAME", "POD_NAME"], show_default="the host's")
    ] = "",
    pod_namespace: Annotated[
        str,
        typer.Option(
            help="Its namespace.", envvar=["PORTWAY_POD_NAMESPACE", "POD_NAMESPACE"], show_default="the account's"
        ),
    ] = "",
    operator_selector: Annotated[str, typer.Option(help="The labels of the operator's pods.")] = "",
    proxy_selector: Annotated[str, typer.Option(help="The labels of the proxies' pods.")] = "",
    # --- how proxies follow
    stream_address: Annotated[str, typer.Option(help="Where proxies follow.")] = "0.0.0.0",  # noqa: S104 - other pods
    stream_port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes any that is free.")] = PORT,
    stream_socket: Annotated[Path | None, typer.Option(help="A Unix socket in its place, in one pod.")] = None,
    stream_hosts: Annotated[
        str, typer.Option(help="What proxies call us, for the certificate.", show_default="portway-operator.NS.svc")
    ] = "",
    proxy_auth: Annotated[Literal["token", "mtls"], typer.Option(help="How proxies prove who they are.")] = "token",
    proxy_accounts: Annotated[
        str, typer.Option(help="The proxies' service accounts, with commas.", show_default="portway-proxy")
    ] = "",
    proxy_names: Annotated[str, typer.Option(help="The names in the proxies' certificates.")] = "portway-proxy",
    authority_secret: Annotated[str, typer.Option(help="Where our own authority is kept.")] = "portway-authority",  # noqa: S107 - a name
    authority_config_map: Annotated[str, typer.Option(help="Where proxies find whom to trust.")] = "portway-ca",
    proxy_certificate_secret: Annotated[str, typer.Option(help="With mtls: where they find their own.")] = "",
    stream_certificate: Annotated[Path | None, typer.Option(help="A certificate of somebody else's (PEM).")] = None,
    stream_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    stream_client_ca: Annotated[Path | None, typer.Option(help="With mtls: the proxies' authority (PEM).")] = None,
    insecure_stream: Annotated[bool, typer.Option("--insecure-stream", help="No TLS: a mesh does that.")] = False,
    # --- the rest
    health_address: Annotated[str, typer.Option(help="Where /livez /readyz /metrics answer.")] = "127.0.0.1",
    health_port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes any that is free.")] = 8081,
    admin_token_file: Annotated[
        Path | None, typer.Option(help="Whose token lets others than this machine see the other pages there.")
    ] = None,
    admin_review: Annotated[
        bool, typer.Option(help="A token for the audience portway-admin does, of who may get /portway/admin.")
    ] = True,
    admin_hosts: Annotated[str, typer.Option(help="What this machine calls us beside localhost, with commas.")] = "",
    admin_protect_metrics: Annotated[
        bool, typer.Option("--admin-protect-metrics", help="Metrics only for whom the other pages are.")
    ] = False,
    validating_webhook: Annotated[str, typer.Option(help="ADDRESS:PORT of the admission webhook; none without.")] = "",
    validating_webhook_certificate: Annotated[
        Path | None, typer.Option(help="Its certificate (PEM); without it, one by our own authority.")
    ] = None,
    validating_webhook_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    validating_webhook_configuration: Annotated[
        str, typer.Option(help="The ValidatingWebhookConfiguration that is to trust our own authority.")
    ] = "",
    validating_webhook_hosts: Annotated[
        str, typer.Option(help="What the API server calls us.", show_default="portway-operator.NS.svc")
    ] = "",
) -> None:
    """Follow a cluster, tell proxies what to serve, and write statuses and Events."""
    log_to_stderr()
    try:
        connection = Connection.load(kubeconfig, context)
    except NoCluster as error:
        _fail(str(error), 2)
    namespace = pod_namespace or connection.namespace
    certificate = named_object(default_ssl_certificate, "--default-ssl-certificate")
    service = named_object(publish_service, "--publish-service")
    exposed = named_object(expose_service, "--expose-service")
    config_maps = {
        "--configmap": configmap,
        "--tcp-services-configmap": tcp_services_configmap,
        "--udp-services-configmap": udp_services_configmap,
    }
    watched = namespaces(watch_namespace, "--watch-namespace")
    files = _files(stream_certificate, stream_key, stream_client_ca)
    secrets = watch_secrets_namespace
    single = [named_object(each, "--watch-secrets") for each in several(watch_secrets)]
    settings = OperatorSettings(
        pods=OwnPods(pod_name or socket.gethostname(), namespace, operator_selector, proxy_selector),
        compile=CompileSettings(
            controller=controller_class,
            ingress_class=several(ingress_class),
            watch_ingress_without_class=watch_ingress_without_class,
            ingress_class_by_name=ingress_class_by_name,
            compatibility=compatibility,
            default_backend_service=default_backend_service,
            default_certificate=default_ssl_certificate,
            ssl_redirect=ssl_redirect,
            allow_external_name=allow_external_name,
            allow_catch_all=catch_all,
            reserved_ports=ports(reserved_ports),
            expose_service=expose_service,
            tcp_services=tcp_services_configmap,
            udp_services=udp_services_configmap,
            config_map=configmap,
            affinity_key=affinity_key(affinity_key_file),
        ),
        scope=_scope(
            watched,
            None if secrets is None else namespaces(secrets, "--watch-secrets-namespace"),
            [each for each in (service, exposed) if each is not None],
            frozenset(each for each in (certificate, *single) if each is not None),
            [each for flag, text in config_maps.items() if (each := named_object(text, flag)) is not None],
        ),
        status=StatusSettings(
            service,
            addresses(publish_status_address),
            internal=report_node_internal_ip_address,
            write=update_status,
            clear=update_status_on_shutdown,
        ),
        expose=exposed,
        stream=StreamSettings(
            socket=stream_socket,
            address=stream_address,
            port=stream_port,
            auth=proxy_auth,
            accounts=tuple(_account(each, namespace) for each in several(proxy_accounts) or ("portway-proxy",)),
            client_names=several(proxy_names),
            hosts=several(stream_hosts) or (f"portway-operator.{namespace}.svc", f"portway-operator.{namespace}"),
            kept=None
            if files
            else KeptNames(
                namespace,
                authority_secret,
                authority_config_map,
                proxy_certificate_secret,
                several(proxy_names),
            ),
            files=files,
            plain=insecure_stream,
        ),
        webhook=_webhook(
            validating_webhook,
            (validating_webhook_certificate, validating_webhook_key),
            OwnCertificate(
                KeptNames(namespace, authority_secret, authority_config_map, webhooks=validating_webhook_configuration),
                several(validating_webhook_hosts) or (f"portway-operator.{namespace}.svc",),
            ),
        ),
        election=election_id,
        terms=_terms(election_ttl),
        health_address=health_address,
        health_port=health_port,
        admin=admin_access(admin_token_file, admin_hosts, protect_metrics=admin_protect_metrics, review=admin_review),
    )
    give_back()
    keep_to_itself()
    try:
        uvloop.run(_run(connection, settings))
    except (OSError, ValueError) as error:
        _fail(str(error), 1)


async def _run(connection: Connection, settings: OperatorSettings) -> None:
    from portway_operator.operator_app import OperatorApp  # noqa: PLC0415 - kopf costs other commands 50 MB and 0.5 s

    collector.begin()
    app = OperatorApp(connection, settings)
    with app.heeding_signals():
        await (await app.start()).run_until_stopped()


def _scope(
    namespaces: tuple[str, ...],
    secrets: tuple[str, ...] | None,
    services: Collection[tuple[str, str]],
    certificates: Collection[tuple[str, str]],
    config_maps: Collection[tuple[str, str]],
) -> Scope:
    """Return what is read: the named objects by themselves, where nothing else covers them."""
    named = {Target(Kind.SERVICE, *each) for each in services if namespaces and each[0] not in namespaces}
    named |= {Target(Kind.CONFIG_MAP, *each) for each in config_maps}
    covered = namespaces if secrets is None else secrets
    everywhere = secrets is None and not namespaces
    named |= {Target(Kind.SECRET, *each) for each in certificates if not everywhere and each[0] not in covered}
    return Scope(namespaces, secrets, frozenset(named))


def _terms(ttl: int) -> Terms:
    """Return the election's times, in client-go's proportions."""
    return Terms(ttl, ttl * 2 / 3, ttl * 2 / 15, ttl / 5)


def _account(text: str, namespace: str) -> str:
    """Return the user name of a service account that is given as `name`, `namespace/name`, or in full."""
    if text.startswith("system:serviceaccount:"):
        return text
    return f"system:serviceaccount:{text.replace('/', ':') if '/' in text else f'{namespace}:{text}'}"


def _files(certificate: Path | None, key: Path | None, clients: Path | None) -> TlsFiles | None:
    if (certificate is None) != (key is None):
        raise typer.BadParameter("--stream-certificate and --stream-key go together.")
    return TlsFiles(certificate, key, clients) if certificate is not None and key is not None else None


def _webhook(where: str, files: tuple[Path | None, Path | None], own: OwnCertificate) -> WebhookSettings | None:
    if not where:
        return None
    address, colon, port = where.rpartition(":")
    if not (colon and port.isdecimal() and int(port) < 65536):
        raise typer.BadParameter(f"--validating-webhook: {where!r} is no address; write :8443 or 0.0.0.0:8443.")
    given = [file for file in files if file is not None]
    if len(given) != (0 if own.kept.webhooks else 2):
        raise typer.BadParameter(
            "--validating-webhook needs --validating-webhook-certificate and -key, or, for a certificate of our own, "
            "--validating-webhook-configuration."
        )
    certificate = (given[0], given[1]) if given else own
    # As in ingress-nginx, `:8443` is on all addresses.
    return WebhookSettings(address.strip("[]") or "0.0.0.0", int(port), certificate)  # noqa: S104 - `:8443` is every address


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"portway: {printable(message)}", err=True)
    raise typer.Exit(status)
