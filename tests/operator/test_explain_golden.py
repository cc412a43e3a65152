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


def test_every_golden_text_has_its_case() -> None:
    assert {text.stem for text in (Path(__file__).parent / "explain").glob("*.txt")} == {case.stem for case in CASES}
