"""`portway diff` beside a running `portway run`: what it serves, its history, and the files that it follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from short_manifests import ingress, passwords, service, slices
from wire.command import ANY_PORTS, portway

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
