"""docs/watching.md against the code."""

from __future__ import annotations

from pathlib import Path

from portway_proxy.log_format import PREFIXES, VARIABLES

ROWS = (Path(__file__).parents[2] / "docs/watching.md").read_text("utf-8").splitlines()


def test_the_page_lists_every_variable_and_no_other() -> None:
    expected = [f"| `${name}` | {doc} |" for name, doc in VARIABLES.items()]
    expected += [f"| `${name}NAME` | {doc} |" for name, doc in PREFIXES.items()]
    assert [row for row in ROWS if row.startswith("| `$")] == expected
