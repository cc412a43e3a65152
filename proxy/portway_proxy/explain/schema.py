"""The form of `portway explain --json` as a JSON Schema; `python -m portway_proxy.explain.schema` prints it."""

from __future__ import annotations

import sys

import msgspec

from portway_proxy.explain.explanation import Explanation

__all__ = ["as_schema"]


def as_schema() -> str:
    """Return the JSON Schema, ended by a newline."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Explanation))).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_schema())
