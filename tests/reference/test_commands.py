"""What the pages tell people to type and to write: each command and object names what there is, if known here.

The demo's lines are run by `tests/wire`, the charts that are installed here in a real API server by `tests/cluster`.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import typer.main
import yaml
from helm_python import parse_set_string, parse_set_string_values

from chart.rendering import Raw, render
from portway_operator.annotations import SCOPES
from portway_operator.cli import app
from portway_operator.compile import compile_snapshot
from portway_operator.settings import CompileSettings
from portway_operator.sources.files import FileSource
from portway_operator.store import ObjectStore
from portway_proxy.options import read_options

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "charts" / "portway" / "README.md"]
KINDS = {"deployment": "Deployment", "service": "Service", "lease": "Lease", "configmap": "ConfigMap"}


def blocks(page: Path) -> Iterator[str]:
    """Yield what is indented by four spaces or more, each block without them."""
    block: list[str] = []
    for line in [*page.read_text("utf-8").splitlines(), ""]:
        if line.startswith("    "):
            block.append(line)
        elif line or not block:
            if block:
                yield dedent("\n".join(block))
            block = []
        else:
            block.append("")


def commands(program: str) -> list[Any]:
    """Return each line that starts a program, with the page it is on."""
    found: list[Any] = []
    for page in PAGES:
        for block in blocks(page):
            for line in block.replace("\\\n", " ").splitlines():
                text = re.sub(r"\s{2,}#.*|\s*>.*|\s*\|.*|\s*&$", "", line).removeprefix("$ ").removeprefix(".venv/bin/")
                if text.startswith(f"{program} ") and text not in (each.values[0] for each in found):
                    found.append(pytest.param(text, id=f"{page.stem}: {text[:60]}"))
    return found


OBJECTS = [
    pytest.param(block, id=f"{page.stem}: {number}")
    for page in PAGES
    for number, block in enumerate(blocks(page))
    if re.search(r"^apiVersion: ", block, re.MULTILINE)
]
ELSEWHERE = {"no_endpoints", "secret_missing", "service_missing"}
"""Problems of an object that is shown without those that it names."""


@pytest.mark.parametrize("text", OBJECTS)
def test_an_object_is_served_as_it_stands(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.yaml").write_text(text.partition("\n$ ")[0])
    store = ObjectStore()
    FileSource([tmp_path], store).load()
    problems = compile_snapshot(store, CompileSettings(standalone=True)).snapshot.problems
    assert [str(problem) for problem in problems if problem.code not in ELSEWHERE] == []


def test_every_annotation_that_a_page_names_is_there() -> None:
    known = {field.metadata["row"].name for scope in SCOPES.values() for field in dataclasses.fields(scope)}
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"portway\.dev/([a-z0-9-]+)(?=\W)", page.read_text("utf-8"))
    }
    others = {"l4", "ingress-controller", "operator", "endpoints", "fallback"}
    assert {(page, name) for page, name in named if name not in known | others} == set()


@pytest.mark.parametrize("line", commands("portway"))
def test_portway_takes_the_command(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    if name == "proxy":
        read_options([each for each in arguments if each != "--help"], {})
        return
    command: Any = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    while arguments and arguments[0] in getattr(command, "commands", ()):
        name, *arguments = arguments
        command = command.commands[name]
    with command.make_context(name, arguments, resilient_parsing="--help" in arguments) as context:
        assert context.info_name == name


@pytest.mark.parametrize("line", commands("make"))
def test_make_has_the_target(line: str) -> None:
    targets = [word for word in shlex.split(line)[1:] if "=" not in word]
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(targets) <= made


def _merged(one: Raw, other: Raw) -> Raw:
    both = {
        key: _merged(one[key], other[key])
        for key in one.keys() & other.keys()
        if isinstance(one[key], dict) and isinstance(other[key], dict)
    }
    return {**one, **other, **both}


def _values(words: list[str], page: str) -> Raw:
    """Return what the flags of a command of Helm's come to; a file of values is the block of the page that is one."""
    values: Raw = {}
    for flag, value in pairwise(words):
        if flag == "--set":
            values = _merged(values, parse_set_string(value))
        elif flag == "--set-string":
            values = _merged(values, parse_set_string_values(value))
        elif flag == "--values":
            [block] = [each for each in blocks(ROOT / "docs" / f"{page}.md") if each.startswith("controller:")]
            values = _merged(values, yaml.safe_load(block))
    return values


@pytest.mark.parametrize("line", commands("helm"))
def test_helm_gets_a_chart_that_is_there_and_values_that_it_takes(line: str, request: pytest.FixtureRequest) -> None:
    words = shlex.split(line)
    if "charts/portway" not in words or words[1] not in ("install", "upgrade"):
        assert words[1] in ("package", "push", "test", "uninstall", "upgrade")
        return
    page = re.search(r"\[(\S+): ", request.node.name)
    assert page is not None
    assert render(_values(words, page[1]), name=words[2], namespace=words[words.index("--namespace") + 1])


@pytest.mark.parametrize("line", commands("kubectl"))
def test_kubectl_names_what_the_chart_makes(line: str) -> None:
    words = shlex.split(line)
    for flag, path in pairwise(words):
        if flag == "-f":
            assert (ROOT / path).is_file()
    if words[1:3] != ["-n", "portway"]:
        return
    made = {(raw["kind"], raw["metadata"]["name"]) for raw in render()}
    kind, _, name = next((word for word in words if "/" in word), "/".join(words[4:6])).partition("/")
    assert (KINDS[kind], name) in made
