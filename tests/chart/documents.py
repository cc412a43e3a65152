"""Makes the chart's values.schema.json and README.md of the comments in its values.yaml, and renders manifests/static.

The version is pyproject.toml's: the chart and the demo's manifests get it from there.

`python -m chart.documents` writes them; a test compares what lies there.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from chart.rendering import CHART, ROOT, texts

__all__ = ["STATIC", "numbered", "paths", "readme", "schema", "static", "write"]

Json: TypeAlias = dict[str, Any]

STATIC = ROOT / "manifests" / "static" / "portway.yaml"
_STATIC = """\
# Portway without Helm: kubectl apply -f manifests/static/portway.yaml
# Made from charts/portway by `make chart`; a test compares.
apiVersion: v1
kind: Namespace
metadata:
  name: portway
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
"""
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
_SCHEMA = "# @schema "
_TEXTS = re.compile(r"(annotations|labels|nodeSelector|additionalLabels)$", re.IGNORECASE)
_ROWS = "<!-- values -->"


@dataclass(frozen=True)
class Value:
    """A key of values.yaml: what its comment says, and its default. `open`: its own keys are the user's."""

    path: tuple[str, ...]
    default: Any
    words: str
    more: Json
    node: yaml.MappingNode | None

    @property
    def open(self) -> bool:
        return self.node is None or not self.node.value or "additionalProperties" in self.more


def _values(node: yaml.MappingNode, lines: list[str], path: tuple[str, ...] = ()) -> Iterator[Value]:
    for key, value in node.value:
        words, more = _comment(lines, key.start_mark.line)
        default = yaml.safe_load(yaml.serialize(value))
        # A map in one line, and one of what Kubernetes defines, is a default; one in a block has keys of ours.
        ours = isinstance(value, yaml.MappingNode) and not value.flow_style and key.value not in _KUBERNETES
        yield Value((*path, key.value), default, words, more, value if ours else None)


_KUBERNETES = {
    "containerSecurityContext",
    "livenessProbe",
    "nodeSelector",
    "podSecurityContext",
    "readinessProbe",
    "resources",
    "startupProbe",
}


def _comment(lines: list[str], line: int) -> tuple[str, Json]:
    """Return the sentences directly above a line, and what they say for the schema."""
    words: list[str] = []
    more: Json = {}
    while line and (text := lines[line - 1].strip()).startswith("#"):
        line -= 1
        if text.startswith(_SCHEMA):
            more = json.loads(text.removeprefix(_SCHEMA))
        else:
            words.insert(0, text.removeprefix("#").strip())
    return " ".join(words), more


def _read() -> tuple[yaml.MappingNode, list[str]]:
    text = (CHART / "values.yaml").read_text()
    node = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    return node, text.splitlines()


def schema() -> str:
    """Return values.schema.json: no key but those of values.yaml."""
    node, lines = _read()
    begin = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart portway"}
    return json.dumps(begin | _object(node, lines, ()), indent=1) + "\n"


def _object(node: yaml.MappingNode, lines: list[str], path: tuple[str, ...]) -> Json:
    properties = {value.path[-1]: _schema(value, lines) for value in _values(node, lines, path)}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema(value: Value, lines: list[str]) -> Json:
    found: Json = {"description": value.words} if value.words else {}
    if value.node is not None and value.node.value:
        found |= _object(value.node, lines, value.path)
    elif isinstance(value.default, dict):
        texts = _TEXTS.search(value.path[-1]) is not None
        found |= {"type": "object"} | ({"additionalProperties": {"type": "string"}} if texts else {})
    elif value.default is not None:
        found["type"] = _TYPES[type(value.default)]
    return found | value.more


def paths() -> list[str]:
    """Return the path of every value, as `helm --set` takes it."""
    return [".".join(value.path) for value in _leaves(*_read())]


def readme() -> str:
    """Return README.md: what was written by hand above the table of values, and the table."""
    above, _, _ = (CHART / "README.md").read_text().partition(_ROWS)
    node, lines = _read()
    rows = [
        f"| `{'.'.join(value.path)}` | {_default(value.default)} | {value.words} |" for value in _leaves(node, lines)
    ]
    table = ["", "", "| value | default | |", "| --- | --- | --- |", *rows]
    return above + _ROWS + "\n".join(table) + "\n"


def _leaves(node: yaml.MappingNode, lines: list[str], path: tuple[str, ...] = ()) -> Iterator[Value]:
    for value in _values(node, lines, path):
        if value.node is None or not value.node.value:
            yield value
            continue
        if value.words:
            yield Value(value.path, "", value.words, {}, None)
        yield from _leaves(value.node, lines, value.path)


def _default(default: Any) -> str:  # noqa: ANN401 - a default is anything that YAML has
    return f"`{json.dumps(default)}`" if default != "" else ""


def static() -> str:
    """Return the chart as it renders for the namespace portway, for people without Helm."""
    # A key of affinity cookies would be another one each time, and known to everybody.
    found = texts({"controller": {"affinityKey": {"create": False}}})
    documents = [text.strip() for file, text in found.items() if "/tests/" not in file and text.strip()]
    return _STATIC + "\n---\n".join(each.removeprefix("---\n") for each in documents) + "\n"


def numbered() -> dict[Path, str]:
    """Return the files that name the project's version, with that of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    patterns = {
        CHART / "Chart.yaml": r"(?m)^(version|appVersion): (?P<old>\S+)$",
        ROOT / "manifests" / "demo" / "apps.yaml": r"(?m)image: portway:(?P<old>\S+)$",
    }
    return {
        path: re.sub(pattern, lambda found: found[0].replace(found["old"], version), path.read_text())
        for path, pattern in patterns.items()
    }


def write() -> None:
    """Write all of them; first the versions and the schema, for what is rendered has to meet it."""
    for path, text in numbered().items():
        path.write_text(text)
    (CHART / "values.schema.json").write_text(schema())
    (CHART / "README.md").write_text(readme())
    STATIC.write_text(static())


if __name__ == "__main__":
    write()
