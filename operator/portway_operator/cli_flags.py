"""Flags that several commands have, and what those about a compile come to."""

from __future__ import annotations

from typing import Annotated

import typer

from portway_operator.settings import Compatibility, CompileSettings

__all__ = [
    "ConfigMapName",
    "ControllerClass",
    "DefaultCertificate",
    "HowRead",
    "Kubeconfig",
    "TcpServices",
    "UdpServices",
    "WatchNamespace",
    "compile_settings",
    "several",
]

_OBJECT = "NAMESPACE/NAME"

ConfigMapName = Annotated[str, typer.Option("--configmap", metavar=_OBJECT, help="The ConfigMap that holds settings.")]
TcpServices = Annotated[
    str, typer.Option("--tcp-services-configmap", metavar=_OBJECT, help="The ConfigMap that opens TCP ports.")
]
UdpServices = Annotated[
    str, typer.Option("--udp-services-configmap", metavar=_OBJECT, help="The ConfigMap that opens UDP ports.")
]
DefaultCertificate = Annotated[
    str, typer.Option("--default-ssl-certificate", metavar=_OBJECT, help="The Secret for hosts without one.")
]
HowRead = Annotated[
    Compatibility, typer.Option("--compatibility", help="Whose reading of Ingresses counts, where they do not say it.")
]
Kubeconfig = Annotated[str | None, typer.Option(help="A kubeconfig; in a pod, its service account.")]
ControllerClass = Annotated[
    str, typer.Option(help="Of a cluster: Ingresses whose IngressClass has one of these controllers, with commas.")
]
WatchNamespace = Annotated[str, typer.Option(help="Namespaces of a cluster to read, with commas; all without any.")]


def compile_settings(
    maps: tuple[str, str, str], certificate: str, compatibility: Compatibility, *, standalone: bool
) -> CompileSettings:
    """Return what a compile is told; `maps` are the ConfigMaps with settings, TCP ports and UDP ports."""
    config_map, tcp_services, udp_services = maps
    return CompileSettings(
        standalone=standalone,
        config_map=config_map,
        tcp_services=tcp_services,
        udp_services=udp_services,
        default_certificate=certificate,
        compatibility=compatibility,
    )


def several(text: str) -> tuple[str, ...]:
    """Return what is parted by commas."""
    return tuple(part for each in text.split(",") if (part := each.strip()))
