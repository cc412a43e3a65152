"""`portway wait-applied`: asks an operator until every ready proxy serves an object as it is now."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import hdrs

from portway_operator.health import APPLIED_PATH
from portway_operator.objects import Kind
from portway_operator.serving import Answer
from portway_operator.sources.connection import Connection
from portway_operator.sources.listing import ApiRefused, refusal
from portway_operator.sources.resources import RESOURCES
from portway_operator.viewer_token import NoViewerToken, ViewerTokens
from portway_proxy.admin_access import TOKEN_FIELD

__all__ = [
    "Asked",
    "CannotAsk",
    "Operator",
    "OperatorPlace",
    "RemoteOperator",
    "current_version",
    "parse_asked",
    "wait_applied",
]

_PAUSE: Final = 0.2
_SECONDS: Final = 5.0
_KINDS: Final = {
    **dict.fromkeys(("ingress", "ingresses", "ing"), Kind.INGRESS),
    **dict.fromkeys(("service", "services", "svc"), Kind.SERVICE),
}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_SERVICE = re.compile(r"([a-z0-9-]+)/([a-z0-9-]+)(?::([a-z0-9-]+))?")
_PORT: Final = "8081"
# What will be no different a moment later.
_FINAL: Final = frozenset({400, 401, 403, 404})


class CannotAsk(Exception):
    """Nobody can be asked, or there is nothing to ask about; the message is for the user."""


class _TokenWanted(Exception):
    """The operator shows nothing without another token; the message is its own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An object, and the version of it that is to be served; empty for the one that the operator knows."""

    kind: Kind
    namespace: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        """Return `Ingress shop/web`."""
        return f"{self.kind} {self.namespace}/{self.name}"

    def query(self) -> dict[str, str]:
        """Return the question for an operator."""
        names = {"kind": self.kind.lower(), "namespace": self.namespace, "name": self.name}
        return {**names, "resource_version": self.version} if self.version else names


@dataclass(frozen=True, slots=True)
class OperatorPlace:
    """Where an operator is asked: a URL, or a port of a Service that the API server passes the question on to."""

    url: str = ""
    service: tuple[str, str, str] = ("portway", "portway-operator", _PORT)

    @classmethod
    def parse(cls, text: str) -> OperatorPlace:
        """Return what `text` names: `http://HOST:PORT` or `namespace/service[:port]`. Raises `ValueError`."""
        if "://" in text:
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f"{text!r} is no operator; write http://HOST:8081.")
            return cls(text.rstrip("/"))
        found = _SERVICE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no operator; write namespace/service[:port], or a URL.")
        return cls("", (found[1], found[2], found[3] or _PORT))

    @property
    def viewer(self) -> tuple[str, str]:
        """Return namespace and name of the account that may look at it: `portway-viewer` for `portway-operator`."""
        namespace, name, _ = self.service
        # With operator and proxy in one pod it is the Service of the metrics that leads there.
        return namespace, f"{name.removesuffix('-operator').removesuffix('-metrics')}-viewer"

    def on(self, connection: Connection) -> str:
        """Return the URL to ask by way of an API server, without the path."""
        namespace, name, port = self.service
        return connection.url(f"/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy")


class Operator(Protocol):
    """Answers whether proxies serve an object."""

    async def ask(self, asked: Asked) -> Answer:
        """Return the answer; raises `CannotAsk` when asking again is no use, and `OSError` otherwise."""


class RemoteOperator:
    """An operator at a URL, which is shown `token`, and one of `tokens` when it wants one."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, token: str = "", tokens: ViewerTokens | None = None
    ) -> None:
        self._session = session
        self._url = url + APPLIED_PATH
        self._token = token
        self._tokens = tokens

    async def ask(self, asked: Asked) -> Answer:
        """Return the answer; raises `CannotAsk` when asking again is no use, and `OSError` otherwise."""
        try:
            try:
                return await self._ask(asked)
            except _TokenWanted as error:
                if self._tokens is None:
                    raise CannotAsk(f"{error} Show one with --admin-token-file.") from None
                self._token = await self._tokens.request()
                return await self._ask(asked)
        except (_TokenWanted, NoViewerToken) as error:
            raise CannotAsk(str(error)) from None
        except ApiRefused as error:
            if error.status in _FINAL:
                raise CannotAsk(f"The operator cannot be asked: {error}.") from None
            raise OSError(str(error)) from None
        except msgspec.DecodeError as error:
            raise CannotAsk(f"What answers is no operator: {error}.") from None
        except aiohttp.ClientError as error:
            raise OSError(str(error) or type(error).__name__) from None

    async def _ask(self, asked: Asked) -> Answer:
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        fields = {TOKEN_FIELD: self._token} if self._token else {}
        async with self._session.get(self._url, params=asked.query(), headers=fields, timeout=timeout) as response:
            # An API server in between has a 401 of its own.
            if response.status == 401 and "portway" in response.headers.get(hdrs.WWW_AUTHENTICATE, ""):
                raise _TokenWanted(f"The operator says: {(await response.text()).strip()}")
            if response.status != 200:
                raise await refusal(response)
            return msgspec.json.decode(await response.read(), type=Answer)


def parse_asked(text: str, namespace: str) -> Asked:
    """Return the object in `ingress/NAME` or `service/NAME`; raises `ValueError`."""
    kind, slash, name = text.partition("/")
    if not slash or kind.lower() not in _KINDS or not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} is nothing to wait for; write ingress/NAME or service/NAME.")
    if not _NAME.fullmatch(namespace):
        raise ValueError(f"{namespace!r} is no namespace.")
    return Asked(_KINDS[kind.lower()], namespace, name)


async def current_version(session: aiohttp.ClientSession, connection: Connection, asked: Asked) -> Asked:
    """Return `asked` with the version that the object has now; raises `CannotAsk`."""
    url = connection.url(f"{RESOURCES[asked.kind].path(asked.namespace)}/{asked.name}")
    try:
        async with session.get(url) as response:
            if response.status == 404:
                raise CannotAsk(f"There is no {asked}.")
            if response.status != 200:
                raise await refusal(response)
            raw = await response.json()
    except (ApiRefused, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise CannotAsk(f"{asked} cannot be read: {str(error) or type(error).__name__}.") from None
    return Asked(asked.kind, asked.namespace, asked.name, str(raw["metadata"]["resourceVersion"]))


async def wait_applied(operator: Operator, asked: Asked, seconds: float) -> Answer:
    """Return the answer as soon as every ready proxy serves the object, or the last one after `seconds`.

    Raises `CannotAsk`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            answer = await operator.ask(asked)
        except (OSError, TimeoutError) as error:
            answer = Answer(applied=False, reason=f"The operator does not answer: {str(error) or 'not in time'}.")
        if answer.applied or loop.time() + _PAUSE > deadline:
            return answer
        await asyncio.sleep(_PAUSE)
