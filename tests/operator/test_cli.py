"""`cli.py`: what the commands print and return; `run` and `demo` are in the wire tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from portway_operator.cli import app

WEB = """\
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    portway.dev/endpoints: "127.0.0.1:5000"
spec:
  ports:
  - port: 80
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /gone, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}
"""

ORIGIN = "Ingress default/web spec.rules[0].http.paths"

runner = CliRunner()


def test_routes_are_lines_where_nobody_looks(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    result = runner.invoke(app, ["routes", "-f", str(path)])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"shop.example prefix /gone => default/gone:80 -> 503 service_missing  <- {ORIGIN}[1]",
        f"shop.example prefix / => default/web:80 -> 127.0.0.1:5000  <- {ORIGIN}[0]",
    ]
    (problem,) = result.stderr.splitlines()
    assert problem.startswith(f"problem {path}:20: Ingress default/web spec.rules[0].http.paths[1]")


def test_routes_are_json_when_asked(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(WEB)
    result = runner.invoke(app, ["routes", "-f", str(tmp_path), "--json"])
    found = json.loads(result.stdout)
    assert [route["path"] for route in found["hosts"][0]["routes"]] == ["/gone", "/"]
    assert [problem["code"] for problem in found["problems"]] == ["service_missing"]


def test_json_shows_no_key(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(WEB)
    assert '"key"' not in runner.invoke(app, ["routes", "-f", str(tmp_path), "--json"]).stdout


def test_a_path_that_cannot_be_read_is_status_2(tmp_path: Path) -> None:
    result = runner.invoke(app, ["routes", "-f", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert result.stderr == f"portway: {tmp_path}/nowhere does not exist.\n"
    assert result.stdout == ""


def test_a_file_that_does_not_parse_is_status_0_and_a_line(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text("a: [\n")
    result = runner.invoke(app, ["routes", "-f", str(path)])
    assert result.exit_code == 0
    assert result.stderr.startswith(f"problem File {path}:2: The text cannot be read: ")


@pytest.mark.parametrize(
    "arguments", [["-m", "portway_operator"], ["-c", "from portway_operator.cli import main; main()"]]
)
def test_the_version_is_the_distributions(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, *arguments, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "portway 0.1.0\n"


@pytest.mark.parametrize("text", ["1x", "-1", "", "m", "1.5m", "\u0661", "9" * 20])
def test_a_size_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    result = runner.invoke(app, ["run", "-f", str(tmp_path / "nowhere"), "--body-size", text])
    assert result.exit_code == 2
    assert "--body-size" in result.stderr


def test_networks_that_are_none_are_refused(tmp_path: Path) -> None:
    result = runner.invoke(app, ["run", "-f", str(tmp_path / "nowhere"), "--explain-to", "10.0.0.0/8,office"])
    assert result.exit_code == 2
    assert "--explain-to" in result.stderr
    assert "office" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "-f", "x", "--http-port", "65536"],
        ["run", "-f", "x", "--workers", "0"],
        ["routes"],
        ["nothing"],
    ],
)
def test_what_is_wrong_with_the_arguments_is_status_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2
