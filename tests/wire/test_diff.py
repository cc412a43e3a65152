"""`portway diff` beside a running `portway run`: what it serves, its history, and the files that it follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from short_manifests import ingress, passwords, service, slices
from wire.command import ANY_PORTS, portway
from wire.parts import serve_web

GUARDED = ingress("/admin", name="guarded", nginx={"auth-type": "basic", "auth-secret": "users"})
SHOP = [service(), slices(), ingress("/"), passwords("users", "alice")]


async def diff(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    async with portway("diff", *arguments, "--format", "json") as command:
        status = await command.ended()
        return status, json.loads("\n".join(command.out))


def write(path: Path, objects: list[dict[str, Any]]) -> None:
    path.write_text(yaml.safe_dump_all(objects))


async def test_what_runs_is_compared_with_its_files_and_with_what_ran_before(tmp_path: Path) -> None:
    served, opened = tmp_path / "served.yaml", tmp_path / "opened.yaml"
    write(served, [*SHOP, GUARDED])
    write(opened, SHOP)
    async with portway("run", "-f", served, *ANY_PORTS) as command:
        url = f"http://127.0.0.1:{await (await command.serving()).port('admin')}"
        first = command.generation()
        status, found = await diff(url, served)
        # The history has fingerprints for the users, which are no difference.
        assert (status, found["findings"]) == (0, [])
        assert "fingerprints" in found["notes"][-1]
        status, found = await diff(url, opened)
        assert (status, found["findings"][0]["kind"]) == (4, "password_lost")
        write(served, SHOP)
        await command.until(rf"^generation {first + 1}: ")
        status, found = await diff(str(first), f"@{first + 1}", "--admin", url)
        assert (status, found["findings"][0]["kind"], found["notes"]) == (4, "password_lost", [])
        assert (await diff(f"@{first + 1}", url, "--admin", url))[0] == 0


def scenes() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return Ingresses of both sides: on each host a guard is lost in its own way."""
    asked = {"auth-type": "basic", "auth-secret": "users"}

    def guarded(*rules: str, host: str, name: str) -> dict[str, Any]:
        return ingress(*rules, host=host, name=f"guarded-{name}", nginx=asked)

    old = [
        ingress("/", host="gone.example", name="gone"),
        guarded("/admin", host="gone.example", name="gone"),
        guarded("/admin", host="opened.example", name="opened"),
        ingress("/", host="exact.example", name="exact"),
        guarded("/admin", host="exact.example", name="exact"),
        guarded("/", host="*.wild.example", name="wild"),
    ]
    new = [
        ingress("/", host="gone.example", name="gone"),
        guarded("/admin", host="opened.example", name="opened"),
        ingress("/admin/public", host="opened.example", name="opened"),
        ingress("/", host="exact.example", name="exact"),
        guarded("=/admin", host="exact.example", name="exact"),
        guarded("/", host="*.wild.example", name="wild"),
        ingress("/", host="a.wild.example", name="wild"),
    ]
    return old, new


async def statuses(port: int, findings: list[dict[str, Any]]) -> list[int]:
    """Return how a proxy answers the request that each finding names."""
    found = []
    async with aiohttp.ClientSession() as session:
        for one in findings:
            url = f"http://127.0.0.1:{port}{one['path']}"
            async with session.get(url, headers={"Host": one["host"]}) as response:
                found.append(response.status)
    return found


async def test_the_request_that_shows_a_loss_was_refused_and_is_answered_now(tmp_path: Path) -> None:
    async with serve_web("in") as endpoint:
        web = service(endpoints=f"127.0.0.1:{endpoint.port}")
        sides = [[web, passwords("users", "alice"), *some] for some in scenes()]
        paths = [tmp_path / "old.yaml", tmp_path / "new.yaml"]
        for path, side in zip(paths, sides, strict=True):
            write(path, side)
        _, difference = await diff(*paths)
        lost = [one for one in difference["findings"] if one["effect"] == "protection-lost"]
        assert [(one["host"], one["path"]) for one in lost] == [
            ("a.wild.example", "/"),
            ("exact.example", "/admin/"),
            ("gone.example", "/admin"),
            ("opened.example", "/admin/public"),
        ]
        served = tmp_path / "served.yaml"
        write(served, sides[0])
        async with portway("run", "-f", served, *ANY_PORTS) as command:
            port = await (await command.serving()).port("http")
            assert await statuses(port, lost) == [401] * 4
            first = command.generation()
            write(served, sides[1])
            await command.until(rf"^generation {first + 1}: ")
            assert await statuses(port, lost) == [200] * 4
