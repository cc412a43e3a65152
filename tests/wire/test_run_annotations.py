"""Annotations of ingress-nginx through `portway run`: real files, real workers, and changes while requests come."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import bcrypt

from wire.command import ANY_PORTS, Command, portway
from wire.parts import serve_web

Ask = Callable[..., Awaitable[tuple[int, str]]]

NGINX = "nginx.ingress.kubernetes.io/"


def shop(port: int, path: str = "/", path_type: str = "Prefix", **annotations: str) -> str:
    lines = "".join(f"    {NGINX}{name.replace('_', '-')}: '{value}'\n" for name, value in annotations.items())
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations: {{portway.dev/endpoints: "127.0.0.1:{port}"}}
spec:
  ports:
  - port: 80
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    portway.dev/ssl-redirect: "true"
{lines}spec:
  rules:
  - host: shop.example
    http:
      paths:
      - path: {path}
        pathType: {path_type}
        backend: {{service: {{name: web, port: {{number: 80}}}}}}
"""


def users(password: str) -> str:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    return f"""\
apiVersion: v1
kind: Secret
metadata: {{name: users}}
stringData: {{auth: "ada:{hashed}"}}
"""


@asynccontextmanager
async def running(directory: Path, *flags: str) -> AsyncIterator[tuple[Command, Ask]]:
    async with (
        portway("run", *ANY_PORTS, "--workers", "2", *flags, "-f", directory) as command,
        aiohttp.ClientSession() as session,
    ):
        await command.serving()
        port = await command.port("http")

        async def ask(path: str = "/", password: str = "", **fields: str) -> tuple[int, str]:
            if password:
                fields["Authorization"] = "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()
            url = f"http://127.0.0.1:{port}{path}"
            more = {"Host": "shop.example", "Connection": "close"} | fields
            async with session.get(url, headers=more, allow_redirects=False) as response:
                return response.status, response.headers.get("Location", "") or await response.text()

        yield command, ask


async def test_passwords_follow_the_file_that_has_them(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "shop.yaml").write_text(shop(web.port, auth_type="basic", auth_secret="users"))
        async with running(tmp_path) as (command, ask):
            assert (await ask())[0] == 503
            assert command.errors("auth-secret.*There is no Secret default/users")
            (tmp_path / "users.yaml").write_text(users("one"))
            await command.until("1 problem gone")
            # Each worker verifies for itself.
            assert {(await ask(password="one"))[0] for _ in range(10)} == {200}
            assert {(await ask(password="two"))[0] for _ in range(10)} == {401}
            (tmp_path / "users.yaml").write_text(users("two"))
            await command.until("^generation 3")
            assert {(await ask(password="two"))[0] for _ in range(10)} == {200}
            assert {(await ask(password="one"))[0] for _ in range(10)} == {401}
            (tmp_path / "users.yaml").unlink()
            await command.until("^generation 4")
            assert (await ask(password="two"))[0] == 503
            assert await command.stop() == 0
            assert "$2b$" not in command.said


async def test_a_service_is_asked_and_its_absence_lets_nobody_in(tmp_path: Path) -> None:
    async with serve_web("a") as web, serve_web("auth") as auth:
        (tmp_path / "shop.yaml").write_text(shop(web.port, auth_url="http://auth.sso.svc.cluster.local:4180/"))
        async with running(tmp_path) as (command, ask):
            assert (await ask())[0] == 503
            assert command.errors("auth-url.*There is no Service sso/auth")
            (tmp_path / "auth.yaml").write_text(f"""\
apiVersion: v1
kind: Service
metadata: {{name: auth, namespace: sso, annotations: {{portway.dev/endpoints: "127.0.0.1:{auth.port}"}}}}
spec: {{ports: [{{port: 4180}}]}}
""")
            await command.until("1 problem gone")
            assert {(await ask())[0] for _ in range(4)} == {200}


async def test_a_service_of_the_config_map_is_asked_for_all_but_those_that_do_without(tmp_path: Path) -> None:
    async with serve_web("a") as web, serve_web("auth") as auth:
        (tmp_path / "shop.yaml").write_text(
            shop(web.port)
            + "---\n"
            + shop(web.port, enable_global_auth="false")
            .replace("shop.example", "free.example")
            .replace(" web\n", " free\n")
        )
        (tmp_path / "auth.yaml").write_text(f"""\
apiVersion: v1
kind: Service
metadata: {{name: auth, namespace: sso, annotations: {{portway.dev/endpoints: "127.0.0.1:{auth.port}"}}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: portway}}
data: {{global-auth-url: "http://auth.sso.svc/slow"}}
""")
        async with running(tmp_path, "--configmap", "portway/settings") as (command, ask):
            auth.release.set()
            assert ((await ask())[0], auth.slow) == (200, 1)
            assert ((await ask(Host="free.example"))[0], auth.slow) == (200, 1)
            (tmp_path / "auth.yaml").unlink()
            (tmp_path / "settings.yaml").write_text("""\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: portway}
data: {global-auth-url: "http://auth.sso.svc/slow"}
""")
            await command.until("There is no Service sso/auth")
            assert ((await ask())[0], (await ask(Host="free.example"))[0]) == (503, 200)


async def test_what_is_not_built_and_would_guard_a_path_closes_it_and_names_its_line(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "shop.yaml").write_text(shop(web.port, enable_modsecurity="true"))
        async with running(tmp_path) as (command, ask):
            assert (await ask())[0] == 503
            [problem] = command.errors("^problem ")
            assert problem.startswith(f"problem {tmp_path}/shop.yaml:16: Ingress default/web metadata.annotations")
            (tmp_path / "shop.yaml").write_text(shop(web.port))
            await command.until("1 problem gone")
            assert await ask() == (200, "sent by a")


async def test_a_pattern_and_its_rewrite_may_change_while_requests_come(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        web.release.set()
        (tmp_path / "shop.yaml").write_text(shop(web.port, "/api(/|$)(.*)", rewrite_target="/$2"))
        async with running(tmp_path) as (command, ask):
            assert (await ask("/API/slow"), web.slow) == ((200, "sent by a"), 1)
            assert (await ask("/other"))[0] == 404
            (tmp_path / "shop.yaml").write_text(shop(web.port, "/v[0-9]+/(.*)", rewrite_target="/$1"))
            await command.until("^generation 2")
            assert (await ask("/v12/slow"), web.slow) == ((200, "sent by a"), 2)
            assert (await ask("/api/slow"))[0] == 404
