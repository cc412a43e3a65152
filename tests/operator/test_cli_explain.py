"""`portway explain`: files, a cluster, forms and exit statuses; a proxy that runs is asked in the wire tests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from fake_api import endpoint_slice, ingress, ingress_class, service, serving
from kubeconfigs import write_kubeconfig
from portway_operator.cli import app
from portway_operator.cli_explain import styled
from portway_operator.settings import NGINX_CONTROLLER
from portway_proxy.explain.text import Line, Tone
from scenes import SHOP


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["explain", *arguments])


@pytest.fixture
def shop(tmp_path: Path) -> str:
    (tmp_path / "shop.yaml").write_text(SHOP)
    return str(tmp_path / "shop.yaml")


def test_a_request_that_an_endpoint_gets_is_status_0(shop: str) -> None:
    result = explain("http://shop.example/a", "-f", shop)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"from Ingress shop/web spec.rules[0].http.paths[0] ({shop}:16)" in result.stdout


def test_an_error_is_status_1_and_ends_with_what_to_change(shop: str) -> None:
    result = explain("http://nobody.example/", "-f", shop)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("to mend it")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ftp://shop.example/",), "no URL"),
        (("http://shop.example/", "-H", "none"), "no field"),
        (("http://shop.example/", "--client-ip", "shop"), "no address"),
        (("GET", "http://shop.example/", "http://shop.example/"), "[METHOD] URL"),
    ],
)
def test_what_is_no_request_is_status_2(shop: str, arguments: tuple[str, ...], said: str) -> None:
    result = explain(*arguments, "-f", shop)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    "place", [("-f", "nowhere.yaml"), ("--kubeconfig", "nowhere"), ("--admin", "http://127.0.0.1:1")]
)
def test_a_place_that_cannot_be_asked_is_status_2(place: tuple[str, str]) -> None:
    result = explain("http://shop.example/", *place)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("portway: ")


def test_json_has_the_version_of_its_form_and_no_secret(shop: str) -> None:
    result = explain("http://shop.example/", "-H", "Authorization: Bearer s3cret", "-f", shop, "--json")
    found = json.loads(result.stdout)
    assert (found["schema"], found["outcome"]["kind"], found["upstream"]) == (1, "forward", "shop/web:80")
    assert found["request"]["fields"] == [["Authorization", "..."]]
    assert "s3cret" not in result.output


def test_what_would_steer_a_terminal_is_escaped(shop: str) -> None:
    result = explain("http://shop.example/", "-H", "X-A: \x1b[2J", "-f", shop)
    assert "\x1b" not in result.output


def test_a_terminal_gets_colours() -> None:
    console = Console(force_terminal=True, color_system="standard", width=80)
    with console.capture() as captured:
        console.print(styled(Line(Tone.BAD, "=> 404 Not Found.")))
    assert "\x1b[1;31m=> 404 Not Found." in captured.get()


async def test_a_cluster_is_read_once_and_compiled(tmp_path: Path) -> None:
    async with serving() as api:
        theirs = ingress_class() | {"spec": {"controller": NGINX_CONTROLLER}}
        for raw in (theirs, service(), endpoint_slice("web-1", "10.0.0.1"), ingress("web")):
            api.apply(raw)
        config = str(write_kubeconfig(tmp_path, api.url))
        asked = ("http://shop.example/", "--kubeconfig", config, "--json")
        foreign = await asyncio.to_thread(explain, *asked)
        assert foreign.exit_code == 1
        outcome = json.loads(foreign.stdout)["outcome"]
        assert "shop.example has a rule here, and the Ingress is of the class 'portway'" in outcome["says"]
        assert outcome["mend"].endswith("(Ingress shop/web spec.rules[0])")
        result = await asyncio.to_thread(explain, *asked, "--controller-class", NGINX_CONTROLLER)
        assert not any("watch" in query for query in api.queries.values())
    found = json.loads(result.stdout)
    assert (result.exit_code, found["outcome"]["kind"]) == (0, "forward"), result.output
