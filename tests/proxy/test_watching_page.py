"""docs/watching.md against the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from portway_proxy.ingress_nginx import INGRESS_NGINX_FAMILIES
from portway_proxy.log_format import PREFIXES, VARIABLES
from portway_proxy.metrics import FAMILIES, Family

ROWS = (Path(__file__).parents[2] / "docs/watching.md").read_text("utf-8").splitlines()


def test_the_page_lists_every_variable_and_no_other() -> None:
    expected = [f"| `${name}` | {doc} |" for name, doc in VARIABLES.items()]
    expected += [f"| `${name}NAME` | {doc} |" for name, doc in PREFIXES.items()]
    assert [row for row in ROWS if row.startswith("| `$")] == expected


@pytest.mark.parametrize(
    ("prefix", "families"), [("portway_", FAMILIES), ("nginx_ingress_controller_", INGRESS_NGINX_FAMILIES)]
)
def test_the_page_lists_every_metric_and_no_other(prefix: str, families: tuple[Family, ...]) -> None:
    expected = [f"| `{one.name}` | {one.kind} | {', '.join(one.labels)} | {one.doc} |" for one in families]
    assert [row for row in ROWS if row.startswith(f"| `{prefix}")] == expected
