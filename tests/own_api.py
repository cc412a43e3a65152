"""A small API server for what is Portway's own: TokenReviews, and single Secrets and ConfigMaps with their versions."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

from aiohttp import web

from portway_operator.sources.connection import Connection
from portway_operator.token_review import AUDIENCE

__all__ = ["ACCOUNT", "OwnApi", "serving"]

Raw: TypeAlias = dict[str, Any]

ACCOUNT = "system:serviceaccount:portway:portway-proxy"


class OwnApi:
    """Answers as a real one does. `fault` sees every request first and may answer it in the server's place."""

    def __init__(self) -> None:
        self.objects: dict[str, Raw] = {}
        self.requests: list[tuple[str, str]] = []
        self.reviews = 0
        self.port = 0
        self.fault: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
        self._tokens: dict[str, tuple[str, list[str], str, float]] = {}
        self._version = 100
        self._runner: web.AppRunner | None = None

    @property
    def connection(self) -> Connection:
        return Connection(f"http://127.0.0.1:{self.port}", namespace="portway")

    async def start(self) -> None:
        """Listen, on the port of before when there was one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def issue(
        self, account: str = ACCOUNT, *audiences: str, pod: str = "", seconds: float = 3600.0, known: bool = True
    ) -> str:
        """Return a token as the TokenRequest API makes it; one that is not `known` was signed by somebody else."""
        wanted = list(audiences or (AUDIENCE,))
        until = time.time() + seconds
        claims = {"aud": wanted, "exp": until, "sub": account, "jti": str(len(self._tokens))}
        token = f"{_encoded({'alg': 'RS256'})}.{_encoded(claims)}.c2lnbmF0dXJl"
        if known:
            self._tokens[token] = (account, wanted, pod, until)
        return token

    def revoke(self, token: str) -> None:
        """Know a token no more: its account was deleted."""
        del self._tokens[token]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if (answer := self.fault(request)) is not None:
            return answer
        body = await request.json() if request.can_read_body else {}
        if request.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            return self._review(body)
        match request.method:
            case "GET":
                found = self.objects.get(request.path)
                return web.json_response(found) if found is not None else _failure(404, "not found")
            case "POST":
                return self._create(f"{request.path}/{body['metadata']['name']}", body)
            case "PUT":
                return self._replace(request.path, body)
        return _failure(405, "not allowed")

    def _create(self, path: str, raw: Raw) -> web.Response:
        if path in self.objects:
            return _failure(409, "already exists")
        return web.json_response(self._keep(path, raw), status=201)

    def _replace(self, path: str, raw: Raw) -> web.Response:
        before = self.objects.get(path)
        if before is None:
            return _failure(404, "not found")
        if raw["metadata"].get("resourceVersion") != before["metadata"]["resourceVersion"]:
            return _failure(409, "the object has been modified")
        return web.json_response(self._keep(path, raw))

    def _keep(self, path: str, raw: Raw) -> Raw:
        self._version += 1
        self.objects[path] = {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self._version)}}
        return self.objects[path]

    def _review(self, body: Raw) -> web.Response:
        self.reviews += 1
        account, audiences, pod, until = self._tokens.get(body["spec"]["token"], ("", [], "", 0.0))
        both = [audience for audience in body["spec"]["audiences"] if audience in audiences]
        status: Raw = {"authenticated": False, "error": "invalid bearer token"}
        if both and until > time.time():
            extra = {"authentication.kubernetes.io/pod-name": [pod]} if pod else {}
            user = {"username": account, "groups": ["system:serviceaccounts"], "extra": extra}
            status = {"authenticated": True, "user": user, "audiences": both}
        return web.json_response({"kind": "TokenReview", "status": status}, status=201)


def _encoded(part: Raw) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def _failure(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[OwnApi]:
    """Give a running API server."""
    api = OwnApi()
    await api.start()
    try:
        yield api
    finally:
        await api.stop()
