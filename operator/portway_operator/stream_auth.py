"""Who may follow the configuration: it holds private keys, so nobody but our own proxies."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from aiohttp import hdrs, web

from portway_operator.api_objects import ApiUnavailable
from portway_operator.token_review import InvalidToken, TokenReviewer

__all__ = ["Auth", "Caller", "CertificateAuth", "Denied", "PeerAuth", "TokenAuth"]

_BEARER: Final = "Bearer "
_CREDENTIALS = struct.Struct("iII")  # unix(7): struct ucred, the process, user and group.


@dataclass(frozen=True, slots=True)
class Caller:
    """A proxy that may follow: who it says it is (`node`; empty: it may call itself anything), and until when.

    `until` is in seconds since the epoch.
    """

    node: str = ""
    until: float = inf

    def remaining(self) -> float | None:
        """Return for how many seconds more it may; None when there is no end to it."""
        return None if self.until == inf else self.until - time.time()


class Denied(Exception):
    """Somebody may not follow; `status` is what HTTP calls it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Auth(Protocol):
    """Decides who may follow."""

    async def check(self, request: web.BaseRequest) -> Caller:
        """Return who sent the request; raises `Denied`."""


class TokenAuth:
    """Takes a bearer token of one of the service `accounts` (`system:serviceaccount:NAMESPACE:NAME`)."""

    def __init__(self, reviewer: TokenReviewer, accounts: Collection[str]) -> None:
        self._reviewer = reviewer
        self._accounts = frozenset(accounts)

    async def check(self, request: web.BaseRequest) -> Caller:
        """Return who sent the request; raises `Denied`."""
        field = request.headers.get(hdrs.AUTHORIZATION, "")
        if not field.startswith(_BEARER):
            raise Denied(401, "a service account token is needed")
        try:
            holder = await self._reviewer.review(field.removeprefix(_BEARER))
        except InvalidToken as error:
            raise Denied(401, str(error)) from None
        except ApiUnavailable:
            raise Denied(503, "the API server cannot be asked about the token now") from None
        if holder.account not in self._accounts:
            raise Denied(403, f"{holder.account} is no account of our proxies")
        return Caller(holder.pod, holder.expires)


class CertificateAuth:
    """Takes a client certificate, which the TLS handshake has verified already, for one of the DNS `names`."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    async def check(self, request: web.BaseRequest) -> Caller:
        """Return who sent the request; raises `Denied`."""
        shown = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if not shown:
            raise Denied(401, "a client certificate is needed")
        names = {value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"}
        if names.isdisjoint(self._names):
            raise Denied(403, f"the certificate is for none of {', '.join(sorted(self._names))}")
        return Caller()


class PeerAuth:
    """Takes processes of the users `uids` (by default our own) on the other end of a Unix socket."""

    def __init__(self, uids: Collection[int] | None = None) -> None:
        self._uids = frozenset({os.getuid()} if uids is None else uids)

    async def check(self, request: web.BaseRequest) -> Caller:
        """Return who sent the request; raises `Denied`."""
        peer = request.transport.get_extra_info("socket") if request.transport is not None else None
        if peer is None or peer.family != socket.AF_UNIX:
            raise Denied(401, "a Unix socket is needed")
        packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(packed)
        if uid not in self._uids:
            raise Denied(403, f"processes of user {uid} may not follow")
        return Caller()
