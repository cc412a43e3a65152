from __future__ import annotations

from pathlib import Path

from portway_proxy.explain.schema import as_schema

ROOT = Path(__file__).parents[3]


def test_the_schema_in_docs_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "explain.schema.json").read_text() == as_schema()
