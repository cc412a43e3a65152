"""How proxies reach the operator, and how it knows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from portway_operator.authority_store import KeptNames
from portway_operator.token_review import AUDIENCE
from portway_proxy.stream import PORT

__all__ = ["StreamSettings", "TlsFiles"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate that somebody else makes and renews (cert-manager); `clients` is the authority of the proxies'."""

    certificate: Path
    key: Path
    clients: Path | None = None


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Everything about the configuration server that is fixed while it runs.

    socket: a Unix socket for proxies in the same pod, in the place of the port; then only `uids` below matter.
    address, port: where it listens; port 0 takes any that is free.
    auth: `token`: a service account token for `audience` of one of `accounts`
        (`system:serviceaccount:NAMESPACE:NAME`); `mtls`: a client certificate for one of `client_names`.
    hosts: the names and addresses by which proxies reach the operator; its certificate is for them.
    kept: where the operator's own authority is kept, unless `files` name a certificate.
    plain: no TLS, because a service mesh does that; keys leave the process unencrypted.
    uids: the users whose processes may use the socket; None means our own.
    """

    socket: Path | None = None
    address: str = "0.0.0.0"  # noqa: S104 - proxies are on other machines
    port: int = PORT
    auth: Literal["token", "mtls"] = "token"
    audience: str = AUDIENCE
    accounts: tuple[str, ...] = ()
    client_names: tuple[str, ...] = ("portway-proxy",)
    hosts: tuple[str, ...] = ()
    kept: KeptNames | None = None
    files: TlsFiles | None = None
    plain: bool = False
    uids: tuple[int, ...] | None = None

    def fault(self) -> str:
        """Return what keeps these settings from working, as a sentence for the user; empty when nothing does."""
        if self.socket is not None:
            return ""
        if self.auth == "token" and not self.accounts:
            return "Name the service account of the proxies, or nobody may follow."
        if self.auth == "mtls" and self.plain:
            return "Client certificates need TLS."
        if self.auth == "mtls" and self.files is not None and self.files.clients is None:
            return "Name the authority of the proxies' certificates."
        if self.auth == "mtls" and self.kept is not None and not self.kept.client_secret:
            return "Name the Secret for the proxies' certificate."
        if not self.plain and self.files is None and (self.kept is None or not self.hosts):
            return "Name a certificate, or where an authority is kept and the names that proxies call the operator."
        return ""
