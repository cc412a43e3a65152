"""`portway diff`: files, clusters and admin ports, forms and exit statuses."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner, Result

from fake_api import ingress_class, serving
from kubeconfigs import write_kubeconfig
from portway_operator.cli import app
from portway_proxy.snapshot import Snapshot
from short_manifests import INGRESS_CLASS, compiled, ingress, passwords, service, slices

GUARDED = ingress("/admin", name="guarded", nginx={"auth-type": "basic", "auth-secret": "users"})
USERS = passwords("users", "alice")
SHOP = [service(), slices(), ingress("/")]
WITH, WITHOUT = [*SHOP, GUARDED, USERS], [*SHOP, USERS]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def diff(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["diff", *map(str, arguments)])


def written(path: Path, objects: list[dict[str, Any]]) -> Path:
    path.write_text(yaml.safe_dump_all(objects))
    return path


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    return written(tmp_path / "old.yaml", WITH), written(tmp_path / "new.yaml", WITHOUT)


def test_lost_protection_is_status_4_and_said_first(sides: tuple[Path, Path]) -> None:
    result = diff(*sides)
    assert result.exit_code == 4
    assert result.stdout.splitlines()[:2] == [
        "Protection lost (1)",
        "  shop.example /admin asked for a password of shop/users, now it does not.",
    ]


def test_the_same_is_status_0(sides: tuple[Path, Path]) -> None:
    result = diff(sides[0], sides[0])
    assert result.exit_code == 0
    assert result.stdout.endswith("Nothing differs that a request could tell.\n")


def test_what_is_gained_is_status_0_but_for_any(sides: tuple[Path, Path]) -> None:
    assert diff(*sides[::-1]).exit_code == 0
    assert diff(*sides[::-1], "--fail-on", "any").exit_code == 1


def test_lost_traffic_is_status_3(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    empty = written(tmp_path / "empty.yaml", [service(), slices()])
    assert diff(sides[0], empty).exit_code == 3


@pytest.mark.parametrize(
    ("threshold", "status"), [("protection-lost", 0), ("traffic-lost", 3), ("any", 3), ("never", 0)]
)
def test_the_threshold_says_what_fails(tmp_path: Path, sides: tuple[Path, Path], threshold: str, status: int) -> None:
    empty = written(tmp_path / "empty.yaml", [service(), slices()])
    assert diff(sides[0], empty, "--fail-on", threshold).exit_code == status


@pytest.mark.parametrize("side", ["nowhere.yaml", "admin:host", "clusters:here", "@x"])
def test_a_side_that_is_nothing_is_status_2_and_told_what_is(sides: tuple[Path, Path], side: str) -> None:
    result = diff(sides[0], side)
    assert result.exit_code == 2
    assert "cluster:CONTEXT" in re.sub(r"[\s│]+", " ", result.output)


def test_a_cluster_that_is_not_there_is_status_2(sides: tuple[Path, Path]) -> None:
    result = diff("cluster:", sides[0], "--kubeconfig", "nowhere")
    assert result.exit_code == 2
    assert result.output.startswith("portway: ")


def test_an_admin_port_that_does_not_answer_is_status_2(sides: tuple[Path, Path]) -> None:
    result = diff("http://127.0.0.1:1", sides[0])
    assert result.exit_code == 2
    assert "http://127.0.0.1:1 does not say" in result.output


def test_programs_and_pull_requests_have_forms_of_their_own(sides: tuple[Path, Path]) -> None:
    read = json.loads(diff(*sides, "--format", "json").stdout)
    assert (read["old"]["name"], read["new"]["name"]) == tuple(map(str, sides))
    assert [one["kind"] for one in read["findings"]] == ["password_lost", "hands_changed"]
    assert diff(*sides, "--format", "markdown").stdout.startswith("### Portway: 1 protection lost, 1 changed hands\n")


def test_where_files_stand_is_no_difference(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder / "a.yaml", [ingress("/"), *([USERS] if folder == "new" else []), service()])
        written(tmp_path / folder / "b.yaml", [service()])
    assert "Nothing differs" in diff(tmp_path / "old", tmp_path / "new").stdout
    files = [written(tmp_path / f"{name}.yaml", [ingress("/"), service(), service()]) for name in ("old", "new")]
    assert "Nothing differs" in diff(*files).stdout


@pytest.mark.parametrize("context", ["", "here"])
async def test_a_cluster_is_compared_with_files(tmp_path: Path, sides: tuple[Path, Path], context: str) -> None:
    async with serving() as api:
        for each in (INGRESS_CLASS, *WITH):
            api.apply(each)
        where = write_kubeconfig(tmp_path, api.url)
        arguments = (f"cluster:{context}", sides[1], "--kubeconfig", where, "--format", "json")
        result = await asyncio.to_thread(diff, *arguments)
        assert result.exit_code == 4, result.output
        assert [one["kind"] for one in json.loads(result.stdout)["findings"]] == ["password_lost", "hands_changed"]


async def test_files_are_compared_as_if_they_had_been_applied(tmp_path: Path) -> None:
    opened = ingress("/admin", name="guarded")
    # Without the time of an API server it would be the youngest, and lose its path to this one.
    younger = ingress("api:/admin", name="younger")
    younger["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    del opened["metadata"]["creationTimestamp"]
    change = written(tmp_path / "change.yaml", [opened, ingress(name="new", host="new.example")])
    async with serving() as api:
        for each in (INGRESS_CLASS, *WITH, younger):
            api.apply(each)
        where = write_kubeconfig(tmp_path, api.url)
        arguments = ("cluster:here", f"cluster:here+{change}", "--kubeconfig", where, "--format", "json")
        result = await asyncio.to_thread(diff, *arguments)
        found = [(one["kind"], one["host"]) for one in json.loads(result.stdout)["findings"]]
        assert found == [("password_lost", "shop.example"), ("host_added", "new.example")]
        result = await asyncio.to_thread(diff, "cluster:", "cluster:+nowhere", "--kubeconfig", where)
        assert (result.exit_code, "no file or folder 'nowhere'" in result.output) == (2, True)


async def test_what_a_cluster_does_not_show_is_said(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    async with serving() as api:
        api.fault = lambda request: web.Response(status=403) if request.path.endswith("/secrets") else None
        where = write_kubeconfig(tmp_path, api.url)
        result = await asyncio.to_thread(diff, "cluster:", sides[0], "--kubeconfig", where, "--format", "json")
        assert "Cluster: Secrets cannot be read: 403" in json.loads(result.stdout)["notes"][0]


async def test_ingresses_of_other_controllers_are_said_to_be_left_out(tmp_path: Path, sides: tuple[Path, Path]) -> None:
    async with serving() as api:
        for each in (ingress_class(), *WITH):
            api.apply(each)
        where = write_kubeconfig(tmp_path, api.url)
        result = await asyncio.to_thread(diff, "cluster:", sides[0], "--kubeconfig", where)
        assert "Cluster: None of the 2 Ingresses there is of portway.dev/ingress-controller." in result.stdout
        theirs = ("--controller-class", "portway.dev/ingress")
        result = await asyncio.to_thread(diff, "cluster:", sides[0], "--kubeconfig", where, *theirs)
        assert "Nothing differs" in result.stdout


class Generations:
    """An admin server with a history."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self._snapshots = snapshots
        app = web.Application()
        app.router.add_get("/history", self._rows)
        app.router.add_get("/history/{number}", self._one)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _rows(self, _: web.Request) -> web.Response:
        numbers = range(len(self._snapshots), 0, -1)
        return web.json_response([{"generation": number, "at": "2026-01-01T00:00:00Z"} for number in numbers])

    async def _one(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number > len(self._snapshots):
            raise web.HTTPNotFound(text=f"generation {number} is not kept\n")
        return web.Response(body=msgspec.json.encode(self._snapshots[number - 1]))


async def test_generations_of_an_admin_port_are_compared() -> None:
    async with Generations(compiled(*WITH), compiled(*WITHOUT)) as url:
        for old, new in (("1", "2"), ("@1", "@2"), ("1", url), ("@1", f"admin:{url}")):
            result = await asyncio.to_thread(diff, old, new, "--admin", url, "--format", "json")
            assert result.exit_code == 4, result.output
            assert json.loads(result.stdout)["findings"][0]["kind"] == "password_lost"


async def test_a_generation_that_is_not_kept_is_status_2() -> None:
    async with Generations(compiled(*WITH)) as url:
        result = await asyncio.to_thread(diff, "1", "7", "--admin", url)
        assert result.exit_code == 2
        assert "generation 7 is not kept" in result.output


async def test_what_is_served_now_is_compared_with_files(sides: tuple[Path, Path]) -> None:
    async with Generations(compiled(*WITHOUT), compiled(*WITH)) as url:
        result = await asyncio.to_thread(diff, url, sides[1], "--format", "json")
        assert json.loads(result.stdout)["findings"][0]["kind"] == "password_lost"
