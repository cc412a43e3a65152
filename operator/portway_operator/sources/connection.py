"""How to reach the Kubernetes API and who we are there: a pod's service account, or a kubeconfig."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import aiohttp
from aiohttp import hdrs

__all__ = ["Connection", "Credentials", "KubeconfigCredentials", "NoCluster", "NoCredentials", "TokenFile"]

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet renews a bound token at four fifths of its life; client-go reads it again every minute too.
_TOKEN_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
# client-go asks by a ping of HTTP/2 after 30 s of silence, and gives up after 15 s more.
_KEEP_ALIVE = {
    socket.TCP_KEEPIDLE: 15,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}
_REQUEST_SECONDS = 60.0


class NoCluster(Exception):
    """No API server can be found or its kubeconfig is broken; the message says where was looked."""


class Credentials(Protocol):
    """What proves to the API server who we are."""

    def authorization(self) -> str | None:
        """Return the value of the Authorization field; None when a certificate or nothing speaks for us."""

    async def renew(self) -> None:
        """Read it anew: the API server refused the last one."""


class NoCredentials:
    """Nothing but, perhaps, a client certificate."""

    def authorization(self) -> str | None:
        """Return None."""
        return None

    async def renew(self) -> None:
        """Do nothing: there is nothing to read."""


class TokenFile:
    """A bearer token in a file that somebody else keeps fresh; read again every minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token: str | None = None
        self._until = 0.0

    def authorization(self) -> str | None:
        """Return the token as last read; a file that cannot be read for a moment leaves the last one."""
        now = time.monotonic()
        if self._token is None or now >= self._until:
            try:
                self._token = self._path.read_text().strip() or self._token
            except OSError:
                if self._token is None:
                    return None
            self._until = now + _TOKEN_SECONDS
        return f"Bearer {self._token}" if self._token else None

    async def renew(self) -> None:
        """Let the next request read the file."""
        self._until = 0.0


class KubeconfigCredentials:
    """What the user entry of a kubeconfig says: a token, a password, or a program that prints one."""

    def __init__(self, path: str | None, context: str | None) -> None:
        self._path = path
        self._context = context
        self.configuration = _load_kubeconfig(path, context)

    def authorization(self) -> str | None:
        """Return what the kubeconfig, or its program, said when it was last read."""
        return self.configuration.authorization

    async def renew(self) -> None:
        """Read the kubeconfig, and run its program, once more."""
        self.configuration = await asyncio.to_thread(_load_kubeconfig, self._path, self._context)


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server, how to trust it, and our credentials.

    `server` has no slash at its end. `namespace` is our own, or that of the kubeconfig's context.
    """

    server: str
    namespace: str = "default"
    credentials: Credentials = field(default_factory=NoCredentials)
    ca_file: Path | None = None
    certificate: tuple[Path, Path] | None = None
    insecure: bool = False
    server_name: str | None = None
    proxy: str | None = None

    @classmethod
    def load(cls, kubeconfig: str | None = None, context: str | None = None) -> Connection:
        """Return the kubeconfig's when one or a context is named, else the pod's own, else the user's kubeconfig.

        Raises `NoCluster`.
        """
        if kubeconfig is None and context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            return cls.in_cluster()
        return cls.from_kubeconfig(kubeconfig, context)

    @classmethod
    def in_cluster(cls, account: Path = _ACCOUNT) -> Connection:
        """Return what a pod finds in its environment and under `account`; raises `NoCluster`."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise NoCluster("this is no pod: KUBERNETES_SERVICE_HOST is not set")
        if not (account / "token").is_file():
            raise NoCluster(f"the pod has no service account token at {account}; is its automount off?")
        own = account / "namespace"
        return cls(
            server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            namespace=own.read_text().strip() if own.is_file() else "default",
            credentials=TokenFile(account / "token"),
            ca_file=account / "ca.crt",
        )

    @classmethod
    def from_kubeconfig(cls, path: str | None, context: str | None) -> Connection:
        """Return the (or the current) context of a kubeconfig; None means `$KUBECONFIG` or `~/.kube/config`.

        Raises `NoCluster`.
        """
        credentials = KubeconfigCredentials(path, context)
        found = credentials.configuration
        return cls(
            server=found.server,
            namespace=found.namespace,
            credentials=credentials,
            ca_file=found.ca_file,
            certificate=found.certificate,
            insecure=found.insecure,
            server_name=found.server_name,
            proxy=found.proxy,
        )

    def url(self, path: str) -> str:
        """Return the address of an absolute path of the API."""
        return self.server + path

    def ssl_context(self) -> ssl.SSLContext:
        """Return a fresh context that trusts the cluster's authority and shows our certificate."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            context.load_cert_chain(*self.certificate)
        return context

    def session(self) -> aiohttp.ClientSession:
        """Return a session of the running loop that sends our credentials; the caller closes it.

        Any number of watches may be open at once. A 401 is tried once more with credentials that were read anew.
        """
        secure = self.server.startswith("https:")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.ssl_context() if secure else True, socket_factory=_socket),
            headers={hdrs.USER_AGENT: f"portway/{version('portway')}"},
            middlewares=(self._authenticate,),
            timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS),
            proxy=self.proxy,
        )

    async def _authenticate(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self.server_name is not None:
            request.server_hostname = self.server_name
        sent = self.credentials.authorization()
        if sent is not None:
            request.headers[hdrs.AUTHORIZATION] = sent
        response = await handler(request)
        if response.status != 401:
            return response
        await self.credentials.renew()
        fresh = self.credentials.authorization()
        if fresh is None or fresh == sent:
            return response
        response.release()
        request.headers[hdrs.AUTHORIZATION] = fresh
        return await handler(request)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket that finds out within half a minute that the other end is gone, however quiet it is."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for option, value in _KEEP_ALIVE.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made


@dataclass(frozen=True, slots=True)
class _Kubeconfig:
    server: str
    namespace: str
    authorization: str | None
    ca_file: Path | None
    certificate: tuple[Path, Path] | None
    insecure: bool
    server_name: str | None
    proxy: str | None


def _load_kubeconfig(path: str | None, context: str | None) -> _Kubeconfig:
    from kubernetes.client import Configuration  # noqa: PLC0415 - 35 MB and 0.3 s, and a pod never needs it
    from kubernetes.config import (  # noqa: PLC0415 - 35 MB and 0.3 s, and a pod never needs it
        list_kube_config_contexts,
        load_kube_config,
    )

    configuration = Configuration()
    try:
        load_kube_config(  # type: ignore[no-untyped-call]  # kubernetes' loader has no types
            path, context, configuration, persist_config=False
        )
        contexts, current = list_kube_config_contexts(path)  # type: ignore[no-untyped-call]  # the same
    except Exception as error:  # its walk through a malformed file ends in any of them
        raise NoCluster(f"no API server in the kubeconfig: {type(error).__name__}: {error}") from error
    chosen = next((entry for entry in contexts if entry["name"] == context), current)
    return _Kubeconfig(
        server=configuration.host.rstrip("/"),
        namespace=chosen["context"].get("namespace") or "default",
        authorization=configuration.api_key.get("BearerToken"),
        ca_file=Path(configuration.ssl_ca_cert) if configuration.ssl_ca_cert else None,
        certificate=(
            (Path(configuration.cert_file), Path(configuration.key_file))
            if configuration.cert_file and configuration.key_file
            else None
        ),
        insecure=not configuration.verify_ssl,
        server_name=configuration.tls_server_name,
        proxy=configuration.proxy,
    )
