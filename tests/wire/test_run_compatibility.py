"""What ingress-nginx does with paths, through `portway run`, and that the specification counts where nobody asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from wire.command import ANY_PORTS, portway
from wire.parts import serve_web

Ask = Callable[..., Awaitable[tuple[int, str]]]

MADE = ("--compatibility", "ingress-nginx")
NGINX = "nginx.ingress.kubernetes.io/"


def service(name: str, port: int) -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}, annotations: {{portway.dev/endpoints: "127.0.0.1:{port}"}}}}
spec: {{ports: [{{port: 80}}]}}
---
"""


def ingress(name: str, host: str, path: str, path_type: str, to: str = "a", **annotations: str) -> str:
    lines = "".join(f'    {NGINX}{key.replace("_", "-")}: "{value}"\n' for key, value in annotations.items())
    return f"""\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  annotations:
    portway.dev/ssl-redirect: "false"
{lines}spec:
  rules:
  - host: {host}
    http:
      paths: [{{path: "{path}", pathType: {path_type}, backend: {{service: {{name: {to}, port: {{number: 80}}}}}}}}]
---
"""


@asynccontextmanager
async def serving(directory: Path, *flags: str) -> AsyncIterator[Ask]:
    async with serve_web("a") as one, serve_web("b") as two:
        text = service("a", one.port) + service("b", two.port)
        text += ingress("regex", "regex.example", "/v[0-9]/.*", "ImplementationSpecific", use_regex="true")
        text += ingress("beside", "regex.example", "/Docs", "Exact", "b")
        text += ingress("rewrite", "rewrite.example", "/old", "Prefix", rewrite_target="/new")
        text += ingress("near", "rewrite.example", "/shop", "Exact", "b")
        text += ingress("slash", "slash.example", "/exact/", "Exact")
        text += ingress("prefix", "slash.example", "/prefix/", "Prefix", "b")
        (directory / "all.yaml").write_text(text)
        async with (
            portway("run", *ANY_PORTS, "--workers", "1", "-f", directory, *flags) as command,
            aiohttp.ClientSession() as session,
        ):
            await command.serving()
            port = await command.port("http")

            async def ask(host: str, path: str) -> tuple[int, str]:
                url = f"http://127.0.0.1:{port}{path}"
                async with session.get(url, headers={"Host": host}, allow_redirects=False) as response:
                    text = response.headers.get("Location", "") or await response.text()
                    return response.status, text if response.status < 400 else ""

            yield ask


SURPRISES = [
    # 1: an expression fits the beginning, in upper or lower case. So it does in both.
    ("regex.example", "/V1/x", (200, "sent by a"), (200, "sent by a")),
    # 2: it makes expressions of the paths beside it, whatever their type.
    ("regex.example", "/docs/of/all", (200, "sent by b"), (404, "")),
    # 3: so does a rewrite.
    ("rewrite.example", "/SHOPPING", (200, "sent by b"), (404, "")),
    # 4: who leaves the slash out is sent there, even from an exact path.
    ("slash.example", "/exact?a=b", (301, "http://slash.example/exact/?a=b"), (404, "")),
    ("slash.example", "/prefix", (301, "http://slash.example/prefix/"), (200, "sent by b")),
    ("slash.example", "/prefix/x", (200, "sent by b"), (200, "sent by b")),
    # 5: paths are normalised before they are matched. So they are in both.
    ("slash.example", "//x/..//exact/./", (200, "sent by a"), (200, "sent by a")),
]


@pytest.mark.parametrize("flags", [MADE, ()], ids=["ingress-nginx", "strict"])
async def test_the_five_surprises_of_ingress_nginx_are_there_when_asked_for(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    async with serving(tmp_path, *flags) as ask:
        for host, path, there, strict in SURPRISES:
            assert (host, path, await ask(host, path)) == (host, path, there if flags else strict)


async def test_one_ingress_can_be_read_as_the_specification_has_it(tmp_path: Path) -> None:
    async with serving(tmp_path, *MADE) as ask:
        assert (await ask("regex.example", "/docs"))[0] == 200
    text = (tmp_path / "all.yaml").read_text()
    strict = 'portway.dev/ssl-redirect: "false"\n    portway.dev/compatibility: strict'
    (tmp_path / "all.yaml").write_text(text.replace('portway.dev/ssl-redirect: "false"', strict))
    async with portway("routes", "-f", tmp_path, *MADE) as command:
        await command.until("regex.example exact /Docs => default/b:80")
