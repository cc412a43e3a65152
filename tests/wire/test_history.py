"""`portway history` beside `portway run` with real files: a file changes, and the row says which and what it did."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from eventually import eventually
from portway_proxy.snapshot import Snapshot
from wire.command import ANY_PORTS, Command, portway
from wire.parts import free_port, serve_web

USERS = """\
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData: {auth: "alice:$apr1$SaltSalt$wholly.secret.hash...."}
"""


def service(*ports: int) -> str:
    where = ", ".join(f"127.0.0.1:{port}" for port in ports)
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: web, annotations: {{portway.dev/endpoints: "{where}"}}}}
spec:
  ports: [{{port: 80}}]
"""


def ingress(name: str, path: str, annotations: str = "{}") -> str:
    return f"""\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {annotations}}}
spec:
  rules:
  - host: shop.example
    http:
      paths: [{{path: {path}, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]
"""


GUARDED = ingress(
    "admin", "/admin", "{nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users}"
)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Command]:
    async with portway("run", *ANY_PORTS, "--no-access-log", "--workers", "1", "-f", folder) as command:
        yield await command.serving()


async def said(running: Command, *arguments: str) -> list[str]:
    """Return the lines that `portway history` prints, with each time as TIME and each digest as DIGEST."""
    async with portway("history", "--admin", f"http://127.0.0.1:{await running.port('admin')}", *arguments) as command:
        await command.ended()
    assert command.err == []
    lines = [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", line) for line in command.out]
    return [re.sub(r"\b[0-9a-f]{32}\b", "DIGEST", re.sub(r"in \d+ ms", "in N ms", line)) for line in lines]


async def test_each_change_of_a_file_is_a_row_that_names_object_and_place(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "service.yaml").write_text(service(web.port) + "---\n" + USERS)
        admin, shop = tmp_path / "admin.yaml", tmp_path / "shop.yaml"
        admin.write_text(GUARDED)
        shop.write_text(ingress("web", "/"))
        async with running(tmp_path) as command:
            shop.write_text(f"# new\n---\n{ingress('web', '/shop')}")
            await command.until("^generation 2")
            admin.unlink()
            await command.until("^generation 3")
            assert await said(command) == [
                "generation 3 at TIME: 1 route gone, applied in N ms (DIGEST)",
                f"  Ingress default/admin deleted by file at TIME ({admin}:1)",
                "",
                "generation 2 at TIME: 1 route new, 1 route gone, applied in N ms (DIGEST)",
                f"  Ingress default/web changed by file at TIME ({shop}:3)",
                "",
                "generation 1 at TIME: the first: 2 routes, applied in N ms (DIGEST)",
            ]
            assert await said(command, "show", "3") == [
                "generation 3 at TIME: 1 route gone, applied in N ms (DIGEST)",
                f"  Ingress default/admin deleted by file at TIME ({admin}:1)",
                "",
                *await said(command, "diff", "2", "3"),
            ]
            assert (await said(command, "diff", "1", "3"))[0].startswith("Traffic lost")
            written = "\n".join(await said(command, "show", "1", "--json"))
            first = msgspec.json.decode(written, type=Snapshot)
            assert [route.path for host in first.hosts for route in host.routes] == ["/admin", "/"]
            assert "wholly.secret" not in written
            assert "fingerprint:" in written


async def test_endpoints_that_come_and_go_are_rows_of_the_person_who_writes_them(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        path = tmp_path / "a.yaml"
        path.write_text(service(web.port) + "---\n" + ingress("web", "/"))
        async with running(tmp_path) as command:
            path.write_text(service(web.port, free_port()) + "---\n" + ingress("web", "/"))
            await command.until("^generation 2")
            rows = json.loads("\n".join(await said(command, "--json")))
            assert [(row["generation"], row["endpoints"]) for row in rows] == [(2, False), (1, False)]
            (cause,) = rows[0]["causes"]
            told = [cause[name] for name in ("kind", "name", "action", "manager")]
            assert told == ["Service", "web", "changed", "file"]
            assert rows[0]["summary"] == "1 route changed"


async def test_what_is_not_kept_is_said_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ingress("web", "/"))
    async with running(tmp_path) as running_one:
        admin = f"http://127.0.0.1:{await running_one.port('admin')}"
        for arguments in (("show", "7"), ("show", "7", "--json"), ("diff", "1", "7")):
            async with portway("history", *arguments, "--admin", admin) as command:
                assert await command.ended() != 0
            assert command.err == [f"portway: {admin} does not say: Generation 7 is not kept: 1 is."]
        await eventually(lambda: not running_one.errors("error"))
