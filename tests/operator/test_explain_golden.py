"""Golden cases: what `portway explain` says about requests to the files of `explain/`, asked as their first lines do.

After a change that is meant: `UPDATE_GOLDEN=1 pytest tests/operator/test_explain_golden.py`, and read the difference.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from portway_operator.cli import app
from portway_operator.compile import compile_snapshot
from portway_proxy.explain.explaining import View, explain
from portway_proxy.explain.question import Question
from portway_proxy.explain.text import describe_explanation
from portway_proxy.snapshot import PathMatch, Snapshot
from scenes import CASES as COMPILED
from scenes import scene

CASES = sorted((Path(__file__).parent / "explain").glob("*.yaml"))
ROOT = Path(__file__).parents[2]
_DATE = re.compile(r"Date: .*")


def said(case: Path) -> Iterator[str]:
    for line in case.read_text().splitlines():
        if line.startswith("#$ "):
            result = CliRunner().invoke(app, ["explain", *shlex.split(line[3:]), "-f", str(case)])
            yield f"$ portway explain {line[3:]}"
            yield from _DATE.sub("Date: ...", result.output).replace(f"{case.parent}/", "").splitlines()
            yield f"exit status {result.exit_code}"
            yield ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_case_is_explained_in_its_golden_text(case: Path) -> None:
    golden = case.with_suffix(".txt")
    lines = list(said(case))
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text("\n".join(lines) + "\n")
    assert lines == golden.read_text().splitlines()


@pytest.mark.parametrize("page", ["README.md", "docs/explain.md"])
def test_what_the_page_shows_is_what_the_command_says(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, _, shown = (ROOT / page).read_text().partition("    $ portway explain ")
    asked, *lines = [line.removeprefix("    ") for line in shown.partition("\n\n")[0].split("\n")]
    said = iter(CliRunner().invoke(app, ["explain", *shlex.split(asked)]).output.splitlines())
    for line in lines:
        # `...` stands for lines that are left out.
        assert line.strip() == "..." or line in said, line


@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.stem)
def test_whatever_is_compiled_can_be_explained(case: Path) -> None:
    """Whatever an Ingress asks for has a sentence about what it does, and every error one about what to change."""
    snapshot = compile_snapshot(*scene(case)).snapshot
    for url in urls(snapshot):
        found = explain(Question.of(url), View(snapshot, 1.8e9))
        assert all(part.does and part.source for part in found.policies), (url, found.policies)
        assert found.outcome.says, url
        assert found.outcome.mend or not found.outcome.fails, (url, found.outcome)
        assert describe_explanation(found)


def urls(snapshot: Snapshot) -> Iterator[str]:
    for host in snapshot.hosts:
        name = (host.name or "any.example").replace("*", "x")
        for route in host.routes:
            path = "/v1/x" if route.match is PathMatch.REGEX else route.path
            yield from (f"http://{name}{path}", f"https://{name}{path}")
    for listener in snapshot.listeners:
        yield f"{listener.transport}://a.example:{listener.port}"


def test_every_golden_text_has_its_case() -> None:
    assert {text.stem for text in (Path(__file__).parent / "explain").glob("*.txt")} == {case.stem for case in CASES}
