"""`portway check`: files, a cluster, forms and exit statuses."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

from fake_api import FakeApi, configmap, endpoint_slice, ingress, ingress_class, service, serving
from kubeconfigs import write_kubeconfig
from portway_operator.cli import app
from portway_operator.objects import Kind
from portway_operator.sources.resources import RESOURCES
from scenes import CLASS, INGRESS, SERVICE

NGINX = "k8s.io/ingress-nginx"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def check(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments])


def files(tmp_path: Path, *texts: str) -> tuple[str, str]:
    (tmp_path / "all.yaml").write_text("---".join(texts))
    return "-f", str(tmp_path / "all.yaml")


def kubeconfig(tmp_path: Path, server: str) -> tuple[str, str]:
    return "--kubeconfig", str(write_kubeconfig(tmp_path, server))


async def check_cluster(tmp_path: Path, api: FakeApi, *arguments: str) -> tuple[int, dict[str, Any]]:
    named = kubeconfig(tmp_path, api.url)
    result = await asyncio.to_thread(check, *named, "--format", "json", *arguments)
    return result.exit_code, json.loads(result.stdout) if result.exit_code < 2 else {"said": result.output}


def theirs() -> dict[str, Any]:
    return ingress_class() | {"spec": {"controller": NGINX}}


def keys(report: dict[str, Any]) -> list[str]:
    return [f"{one['namespace']}/{one['name']}" for one in report["ingresses"]]


def test_nothing_to_know_is_status_0(tmp_path: Path) -> None:
    result = check(*files(tmp_path, CLASS, INGRESS, SERVICE))
    assert result.exit_code == 0, result.output
    assert "1 Ingress: 1 served exactly" in result.stdout


def test_findings_are_status_1_and_name_their_line(tmp_path: Path) -> None:
    result = check(*files(tmp_path, CLASS, INGRESS, SERVICE.replace("name: web", "name: other")))
    assert result.exit_code == 1
    place = r"all\.yaml:\d+: spec\.rules\[0\]\.http\.paths\[0\]"
    assert re.search(place, result.stdout)
    assert "There is no Service shop/web." in result.stdout


@pytest.mark.parametrize("arguments", [("-f", "nowhere.yaml"), ("--kubeconfig", "nowhere")])
def test_what_cannot_be_judged_is_status_2(arguments: tuple[str, str]) -> None:
    result = check(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith("portway: ")


def test_a_cluster_that_does_not_answer_is_status_2(tmp_path: Path) -> None:
    result = check(*kubeconfig(tmp_path, "http://127.0.0.1:1"))
    assert result.exit_code == 2
    assert "http://127.0.0.1:1" in result.output


@pytest.mark.parametrize(
    ("form", "begins"), [("markdown", "# Portway check"), ("html", "<!doctype html>"), ("json", "{")]
)
def test_each_form_can_be_asked_for(tmp_path: Path, form: str, begins: str) -> None:
    assert check(*files(tmp_path, CLASS, INGRESS, SERVICE), "--format", form).stdout.startswith(begins)


def test_the_class_of_ingress_nginx_is_judged_as_if_it_were_ours(tmp_path: Path) -> None:
    found = files(tmp_path, CLASS.replace("portway.dev/ingress-controller", NGINX), INGRESS, SERVICE)
    assert json.loads(check(*found, "--format", "json").stdout)["totals"]["ingresses"] == 1
    narrowed = check(*found, "--format", "json", "--controller-class", "portway.dev/ingress-controller")
    assert json.loads(narrowed.stdout)["totals"]["foreign"] == 1


async def test_a_cluster_is_read_by_lists_alone(tmp_path: Path) -> None:
    async with serving() as api:
        for raw in (theirs(), service(), endpoint_slice("web-1", "10.0.0.1"), ingress("web")):
            api.apply(raw)
        api.apply(configmap("ingress-nginx-controller", "ingress-nginx", **{"use-gzip": "true"}))
        status, report = await check_cluster(tmp_path, api)
        assert (status, keys(report)) == (1, ["shop/web"])
        assert [one["code"] for one in report["findings"]] == ["config_key_refused"]
        assert not any("watch" in query for query in api.queries.values())


async def test_a_kind_that_may_not_be_read_is_said_and_held_against_nobody(tmp_path: Path) -> None:
    def forbid(request: web.Request) -> web.Response | None:
        secrets = request.path == RESOURCES[Kind.SECRET].path(None)
        return web.json_response({"message": "no secrets for you"}, status=403) if secrets else None

    async with serving() as api:
        api.apply(theirs())
        api.fault = forbid
        status, report = await check_cluster(tmp_path, api)
        assert (status, report["unchecked"]) == (0, [{"kind": "Secret", "reason": "403 no secrets for you"}])


async def test_only_the_namespaces_that_are_named_are_read(tmp_path: Path) -> None:
    async with serving() as api:
        for raw in (theirs(), service(), endpoint_slice("web-1", "10.0.0.1"), ingress("web"), ingress("web", "other")):
            api.apply(raw)
        status, report = await check_cluster(tmp_path, api, "--watch-namespace", "shop")
        assert (status, keys(report)) == (0, ["shop/web"])
        assert "/api/v1/services" not in api.queries
