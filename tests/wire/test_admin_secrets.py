"""What may be secret, put wherever objects and requests can hold it, is on no page of an admin server."""

from __future__ import annotations

import asyncio
import base64
import re
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from certs import issue
from portway_operator.settings import CompileSettings
from portway_operator.standalone import Standalone
from portway_proxy.settings import AdminAccess, ProxySettings
from wire.parts import Web, serve_web

NGINX = "nginx.ingress.kubernetes.io/"
OURS = "portway.dev/"
TOKEN = "mark-of-the-admin-token"
HASH = "$apr1$abcdefgh$ZZmarkofahashZZmarkofa"
KEY = base64.b64encode(b"mark-of-the-affinity-key")

# Each mark says where it was: `mark-of-NAME`, in no other place.
ANNOTATIONS: dict[str, dict[str, str]] = {
    "basic": {f"{NGINX}auth-type": "basic", f"{NGINX}auth-secret": "users"},
    "external": {
        f"{NGINX}auth-url": "http://web.default.svc/verify?token=mark-of-auth-url",
        f"{NGINX}auth-signin": "https://login.example/?rd=$escaped_request_uri&access_token=mark-of-signin",
        f"{NGINX}auth-proxy-set-headers": "told",
    },
    "external-user": {f"{NGINX}auth-url": "http://me:mark-of-userinfo@web.default.svc/verify"},
    "external-bad": {f"{NGINX}auth-url": "ftp://me:mark-of-bad-userinfo@web/?token=mark-of-bad-url"},
    "signin-user": {
        f"{NGINX}auth-url": "http://web.default.svc/verify",
        f"{NGINX}auth-signin": "https://me:mark-of-signin-user@login.example/",
    },
    "told": {f"{OURS}request-headers": "Authorization: Bearer mark-of-request-header\nX-Api-Key: mark-of-api-key"},
    "told-bad": {f"{OURS}request-headers": "Authorization Bearer mark-of-bad-request-header"},
    "answers": {f"{OURS}response-headers": "Set-Cookie: id=mark-of-response-cookie\nX-Auth-Token: mark-of-response"},
    "redirect": {
        f"{NGINX}permanent-redirect": "https://me:mark-of-redirect@other.example/?api_key=mark-of-redirect-key"
    },
    "mirror": {f"{NGINX}mirror-target": "http://web.default.svc/copy?token=mark-of-mirror"},
    "rewrite": {f"{NGINX}rewrite-target": "/there?password=mark-of-rewrite"},
    "app-root": {f"{NGINX}app-root": "/home?token=mark-of-app-root"},
    "sealed": {
        f"{NGINX}backend-protocol": "HTTPS",
        f"{NGINX}proxy-ssl-secret": "default/client",
    },
    "asked": {
        f"{NGINX}auth-tls-secret": "default/client",
        f"{NGINX}auth-tls-error-page": "https://me:mark-of-error-page@x.example/?token=mark-of-error-page-token",
    },
    "canary": {
        f"{NGINX}canary": "true",
        f"{NGINX}canary-by-header": "X-Api-Token",
        f"{NGINX}canary-by-header-value": "mark-of-canary",
    },
    "location": {
        f"{NGINX}proxy-redirect-from": "http://old.example/",
        f"{NGINX}proxy-redirect-to": "http://me:mark-of-location@new.example/?token=mark-of-location-token",
    },
}
SETTINGS = {
    "proxy-set-headers": "default/told-all",
    "global-auth-url": "http://web.default.svc/all?token=mark-of-global-auth",
    "no-auth-locations": "/",
}
PAGES = [
    "/", "/healthz", "/readyz", "/readyz?verbose", "/metrics", "/routes", "/problems", "/flows", "/upstreams",
    "/history", "/history/1", "/dashboard", "/dashboard/", "/dashboard/routes", "/login", "/login.css", "/nothing",
]  # fmt: skip
# Of these one is among the pages.
SAMPLED = {"/history/{generation}", "/dashboard/{name}"}
# What everybody who reaches the port may see.
OPEN = {"/healthz", "/readyz", "/metrics", "/login", "/login.css"}
MARK = re.compile(r"mark-of-[a-z-]*[a-z]")


def ingress(name: str) -> dict[str, Any]:
    host = "told.example" if name == "canary" else f"{name}.example"
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    spec: dict[str, Any] = {"rules": [rule]}
    if name == "asked":
        spec["tls"] = [{"hosts": [host], "secretName": "client"}]
    meta = {"name": name, "annotations": ANNOTATIONS[name]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}


def objects(port: int, chain: bytes, key: bytes) -> Iterator[dict[str, Any]]:
    def core(kind: str, name: str, **rest: object) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **rest}

    service = core("Service", "web", spec={"ports": [{"port": 80}]})
    service["metadata"]["annotations"] = {
        f"{OURS}endpoints": f"127.0.0.1:{port}",
        f"{OURS}health-check": "http",
        f"{OURS}health-check-path": "/health?token=mark-of-health-check",
    }
    yield service
    yield core("ConfigMap", "settings", data=SETTINGS)
    yield core("ConfigMap", "told", data={"Authorization": "Basic mark-of-auth-field"})
    yield core("ConfigMap", "told-all", data={"X-Access-Token": "mark-of-field-of-all"})
    parts = {"tls.crt": chain, "tls.key": key, "ca.crt": chain}
    data = {name: base64.b64encode(part).decode() for name, part in parts.items()}
    yield core("Secret", "client", type="kubernetes.io/tls", data=data)
    yield core("Secret", "users", data={"auth": base64.b64encode(f"me:{HASH}\n".encode()).decode()})
    yield from map(ingress, ANNOTATIONS)


@asynccontextmanager
async def serving(folder: Path, web: Web, key: bytes, chain: bytes) -> AsyncIterator[Standalone]:
    (folder / "all.yaml").write_text(yaml.safe_dump_all(objects(web.port, chain, key)))
    (folder / "token").write_text(TOKEN)
    settings = ProxySettings(
        http_port=0,
        https_port=0,
        admin_port=0,
        admin_access=AdminAccess(str(folder / "token")),
        workers=1,
        access_log=False,
    )
    compiling = CompileSettings(
        standalone=True, config_map="default/settings", affinity_key=base64.b64decode(KEY), ingress_class=("portway",)
    )
    app = await Standalone([folder / "all.yaml"], settings, compiling=compiling).start()
    try:
        yield app
    finally:
        await app.close()


def explained(host: str) -> str:
    fields = [
        "Authorization: Bearer mark-of-question",
        "Cookie: id=mark-of-question-cookie",
        "X-Api-Token: mark-of-canary",
    ]
    url = f"http://{host}/?token=mark-of-question-url"
    return f"/explain?{urllib.parse.urlencode({'url': url, 'header': fields}, doseq=True)}"


async def page(session: aiohttp.ClientSession, url: str) -> str:
    """Return all that an answer says: its fields, and its body."""
    async with session.get(url) as response:
        return f"{response.headers}\n{await response.text()}"


async def stream(session: aiohttp.ClientSession, url: str) -> str:
    """Return what the dashboard's stream says in its first seconds."""
    said = b""
    async with session.get(url) as response:
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                async for part in response.content.iter_any():
                    said += part
    return said.decode()


async def traffic(app: Standalone, session: aiohttp.ClientSession) -> None:
    """Send requests with secrets of clients through every host."""
    fields = {"Authorization": "Bearer mark-of-client-token", "Cookie": "id=mark-of-client-cookie"}
    for name in ANNOTATIONS:
        url = f"{app.url('http')}/a?token=mark-of-client-url"
        named = {**fields, "Host": f"{name}.example"}
        async with session.post(url, data="mark-of-client-body", headers=named, allow_redirects=False) as response:
            await response.read()


def pages_of(app: Standalone) -> set[str]:
    """Return all that there is on the admin server."""
    return {one.canonical for one in app._supervisor._admin._site._runner.app.router.resources()}


async def everything(app: Standalone) -> dict[str, str]:
    """Return all that the admin server says, by the page."""
    admin = app.url("admin")
    async with aiohttp.ClientSession() as session:
        await traffic(app, session)
        streamed, _ = await asyncio.gather(stream(session, f"{admin}/dashboard/stream"), traffic(app, session))
        said = {"stream": streamed}
        for path in (*PAGES, *(explained(f"{name}.example") for name in ANNOTATIONS)):
            for form in ("json", "text"):
                said[f"{path} as {form}"] = await page(
                    session, f"{admin}{path}{'&' if '?' in path else '?'}format={form}"
                )
        for one in pages_of(app):
            path = one.replace("{generation}", "1").replace("{name}", "index.html")
            async with session.get(f"{admin}{path}", headers={"X-Forwarded-For": "192.0.2.1"}) as response:
                said[f"elsewhere {one}"] = str(response.status)
        # What somebody without a token, and with one, is told.
        for fields in ({}, {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer mark-of-guess"}):
            async with session.get(f"{admin}/routes", headers={"Via": "1.1 x", **fields}) as response:
                said[f"/routes with {fields}"] = f"{response.headers}{await response.text()}"
        return said


@pytest.fixture
def key_pair() -> tuple[bytes, bytes]:
    return issue("asked.example")


async def test_nothing_secret_is_on_any_page(tmp_path: Path, key_pair: tuple[bytes, bytes]) -> None:
    chain, key = key_pair
    async with serve_web() as web, serving(tmp_path, web, key, chain) as app:
        said = await everything(app)
    lines = re.findall(rb"(?m)^[A-Za-z0-9+/=]{20,}$", key)
    secrets = [HASH[15:], KEY.decode(), *(line.decode() for line in lines)]
    found = {(path.partition("?")[0], mark) for path, text in said.items() for mark in MARK.findall(text)}
    found |= {(path, "a key or a hash") for path, text in said.items() for secret in secrets if secret in text}
    assert sorted(found) == []
    # Of pages nobody sees more from elsewhere than what is open to all.
    assert {path for path, text in said.items() if path.startswith("elsewhere") and "200" in text} == {
        f"elsewhere {path}" for path in OPEN
    }
    # All pages were seen, and did say something of each.
    assert pages_of(app) - SAMPLED <= {*PAGES, "/explain", "/dashboard/stream"}
    for name in ANNOTATIONS:
        assert name in said["/routes as text"]
        assert name in said["/dashboard/routes as json"]
