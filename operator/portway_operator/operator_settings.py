"""What `portway operator` is told: which part of the cluster it reads, what it writes, and where it listens."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from portway_operator.authority_store import KeptNames
from portway_operator.leader import Terms
from portway_operator.settings import CompileSettings
from portway_operator.sources.scope import Scope
from portway_operator.stream_settings import StreamSettings
from portway_proxy.settings import AdminAccess

__all__ = ["OperatorSettings", "OwnCertificate", "OwnPods", "StatusSettings", "WebhookSettings"]


@dataclass(frozen=True, slots=True)
class OwnPods:
    """How Portway's own pods are found: label selectors, empty where nobody looks for them.

    name: this replica's pod. namespace: where all of them are, and the Lease.
    """

    name: str
    namespace: str
    operators: str = ""
    proxies: str = ""


@dataclass(frozen=True, slots=True)
class StatusSettings:
    """What is written into statuses: the first that is given of these, and the proxies' nodes without any.

    service: `(namespace, name)` of the Service that clients reach the proxies by.
    addresses: IPs and host names.
    internal: of nodes, never an address that is reached from outside.
    write: whether statuses are written at all. clear: whether they are emptied when the last pod ends.
    """

    service: tuple[str, str] | None = None
    addresses: tuple[str, ...] = ()
    internal: bool = False
    write: bool = True
    clear: bool = True


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A certificate for `hosts` by the operator's own authority, which is kept as `kept` says."""

    kept: KeptNames
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where the admission webhook listens, and its certificate: files of it and its key, or one of our own."""

    address: str
    port: int
    certificate: tuple[Path, Path] | OwnCertificate


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Everything that is fixed while an operator runs.

    expose: `(namespace, name)` of the Service whose ports are kept equal to the listeners. election: the name of the
    Lease. health_address, health_port: of /livez, /readyz, /metrics and /v1/applied. admin: who may see the last, and
    what else there is to see.
    """

    pods: OwnPods
    compile: CompileSettings = field(default_factory=CompileSettings)
    scope: Scope = field(default_factory=Scope)
    stream: StreamSettings = field(default_factory=StreamSettings)
    status: StatusSettings = field(default_factory=StatusSettings)
    expose: tuple[str, str] | None = None
    webhook: WebhookSettings | None = None
    election: str = "portway"
    terms: Terms = field(default_factory=Terms)
    health_address: str = "127.0.0.1"
    health_port: int = 8081
    admin: AdminAccess = field(default_factory=AdminAccess)
