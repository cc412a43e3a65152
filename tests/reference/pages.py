"""Makes the pages of docs that list what the code has: flags, keys of the ConfigMap, metrics, codes of problems.

`python -m reference.pages` writes them; a test compares what lies there.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import typer.main

from portway_operator import problems
from portway_operator.cli import app
from portway_operator.compile import compile_snapshot, for_all, tuning
from portway_operator.compile.configuration import KEYS
from portway_operator.compile.nginx_keys import NGINX_KEYS
from portway_operator.operator_app import OperatorApp
from portway_operator.operator_settings import OperatorSettings, OwnPods
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection
from portway_operator.store import ObjectStore
from portway_operator.stream_settings import StreamSettings
from portway_proxy import errors, options
from portway_proxy import tuning as tuned
from portway_proxy.ingress_nginx import INGRESS_NGINX_FAMILIES
from portway_proxy.metrics import FAMILIES, Family

__all__ = ["DOCS", "PAGES", "keys", "reasons", "write"]

DOCS: Final = Path(__file__).parents[2] / "docs"
_MADE: Final = "Made from the code by `make reference`; a test compares."


_FLAGS: Final = f"""\
# Flags

{_MADE} `portway COMMAND --help` says the same.

Each flag of `portway operator` and `portway proxy` may come from the environment: `--health-port` is
`PORTWAY_HEALTH_PORT`. A flag counts over it, and a key of the [ConfigMap](configmap.md) over a flag."""

_KEYS: Final = f"""\
# Keys of the ConfigMap

{_MADE}

`portway operator --configmap NAMESPACE/NAME` names it (the chart's `controller.config` fills it), and `portway run
--configmap` one of its files. Names and values are ingress-nginx's where it has them. A key counts over the flag of its
name, and is followed live; one that cannot be read is a problem, and leaves what the flags say."""

_METRICS: Final = f"""\
# Metrics

{_MADE}

## Of a proxy

On `/metrics` of the admin port. What they count, and how many labels there may be, is in
[What people watch](watching.md#metrics)."""

_PROBLEMS: Final = f"""\
# Problems by their code

{_MADE} Where they are told, and what answers without a problem mean, is in
[What is wrong?](troubleshooting.md).

A problem names the object and the field, and then says what is wrong, what was done about it and how to mend it; …
stands for names and values. The code is in `/problems`, in the Events' reasons (in CamelCase) and in
`portway_operator_problems`."""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# --- flags


def flags() -> str:
    """Return docs/flags.md: the flags of every command."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    parts = [_FLAGS]
    for name, command in sorted(commands.items()):
        if command.hidden:
            continue
        parts.append(f"## portway {name}")
        if name == "proxy":
            parts += [*_proxy_flags()]
            continue
        parts += _command(command)
        for below, one in sorted(getattr(command, "commands", {}).items()):
            parts += [f"### portway {name} {below}", *_command(one)]
    return "\n\n".join(parts) + "\n"


def _command(command: Any) -> list[str]:  # noqa: ANN401 - typer hides click's types
    return [_sentences(command.help or ""), _table(("flag", "default", ""), map(_flag, _options(command)))]


def _sentences(text: str) -> str:
    return " ".join(text.split())


def _options(command: Any) -> list[Any]:  # noqa: ANN401 - typer hides click's types
    return [each for each in command.params if each.name != "help"]


def _flag(one: Any) -> tuple[str, str, str]:  # noqa: ANN401 - typer hides click's types
    names = [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else [str(one.name).upper()]
    shown = one.show_default if isinstance(one.show_default, str) else ""
    default = one.default
    if not shown and default is not None and default != "" and not callable(default):
        shown = one.opts[0] if default is True else "" if default is False else f"`{default}`"
        if isinstance(default, bool):
            shown = "on" if default else "off"
    return ", ".join(f"`{name}`" for name in names), shown, one.help or ""


def _proxy_flags() -> Iterator[str]:
    made = options._parser()
    yield _sentences(made.description or "")
    for group in made._action_groups:
        rows = [_proxy_flag(action) for action in group._group_actions if action.option_strings[:1] != ["-h"]]
        if rows:
            yield f"### {group.title.capitalize() if group.title else ''}"
            yield _table(("flag", "default", ""), rows)


def _proxy_flag(action: argparse.Action) -> tuple[str, str, str]:
    """Return a row; the default is what stands in brackets at the end of the sentence."""
    found = re.fullmatch(r"(.*?)(?: \(([^()]*)\))?", action.help or "", re.DOTALL)
    assert found is not None
    name = ", ".join(f"`{each}`" for each in action.option_strings) or f"`{action.dest}`"
    return name, found[2] or "", found[1]


# --- keys of the ConfigMap


def config_map() -> str:
    """Return docs/configmap.md: every key, and those of ingress-nginx that set nothing."""
    usual = CompileSettings()
    read = [(f"`{name}`", _default(getattr(usual, key.setting)), _pages(name)) for name, key in KEYS.items()]
    read += [(f"`{name}`", _default(for_all.default(name)), _pages(name)) for name in for_all.KEYS]
    usuals = {row.name: f"`{tuned.usual(row):g}`" for row in tuned.ROWS}
    read += [(f"`{name}`", usuals.get(name, ""), _pages(name)) for name in tuning.KEYS]
    idle = [(f"`{name}`", row.reason, row.remedy) for name, row in NGINX_KEYS.items() if name not in keys()]
    return (
        "\n\n".join(
            [
                _KEYS,
                _table(("key", "default", "more in"), sorted(read)),
                "## Of ingress-nginx, and without effect",
                "Each is a problem that says so, unless its value asks for what is so anyway.",
                _table(("key", "why", "instead"), sorted(idle)),
            ]
        )
        + "\n"
    )


def keys() -> set[str]:
    """Return every key that sets something."""
    return {*KEYS, *for_all.KEYS, *tuning.KEYS}


def _default(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = ", ".join(map(str, value)) if isinstance(value, tuple | list | frozenset) else str(value)
    return "" if text in ("", "None") else f"`{text}`"


_LISTS: Final = ("annotations.md", "configmap.md", "problems.md", "troubleshooting.md")


def _pages(key: str) -> str:
    """Return links to the pages that speak of a key, the README among them."""
    written = [path for path in sorted(DOCS.glob("*.md")) if path.name not in _LISTS]
    found = [
        path for path in (*written, DOCS.parent / "README.md") if re.search(f"`{key}[`:]", path.read_text("utf-8"))
    ]
    return ", ".join(f"[{path.stem}]({os.path.relpath(path, DOCS)})" for path in found)


# --- metrics


def metrics() -> str:
    """Return docs/metrics.md: every metric of both halves."""
    head = ("metric", "kind", "labels", "")
    return (
        "\n\n".join(
            [
                _METRICS,
                _table(head, map(_family, FAMILIES)),
                "## Of a proxy, under ingress-nginx's names",
                "With `--metrics-names ingress-nginx`, beside the others.",
                _table(head, map(_family, INGRESS_NGINX_FAMILIES)),
                "## Of an operator",
                "On `/metrics` of the health port.",
                _table(head, asyncio.run(_operators())),
            ]
        )
        + "\n"
    )


def _family(one: Family) -> tuple[str, str, str, str]:
    return f"`{one.name}`", str(one.kind), ", ".join(one.labels), one.doc


async def _operators() -> list[tuple[str, str, str, str]]:
    """Return the metrics of an operator that was never started: it measures nothing, under every name."""
    settings = OperatorSettings(OwnPods("operator", "portway"), stream=StreamSettings(socket=Path("cfg.sock")))
    operator = OperatorApp(Connection("https://127.0.0.1:1"), settings)
    try:
        measured = operator._metrics
        measured.compiled(compile_snapshot(ObjectStore(), settings.compile), 0.0)
        labelled = {each._name: each._labelnames for each in (measured._compile, measured._review)}
        rows = []
        for metric in operator.registry.collect():
            labels = labelled.get(metric.name) or getattr(metric, "_labelnames", ())
            name = metric.name + ("_total" if metric.type == "counter" else "")
            rows.append((f"`{name}`", metric.type, ", ".join(map(str, labels or ())), metric.documentation))
        return sorted(rows)
    finally:
        await operator.close()


# --- problems


def problem_codes() -> str:
    """Return docs/problems.md: what each problem says, with … for what differs from one to the next."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(problems.__file__).parent.glob("*.py")):
        for function in ast.parse(path.read_text("utf-8")).body:
            if isinstance(function, ast.FunctionDef):
                for code, text in _says(function):
                    found.setdefault(code, []).append(text)
    return (
        "\n\n".join(
            [
                _PROBLEMS,
                *(f"### `{code}`\n\n" + "\n\n".join(texts) for code, texts in sorted(found.items())),
            ]
        )
        + "\n"
    )


def _says(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Problem":
            what = _sentences(ast.get_docstring(function) or "").removeprefix("Say that ").partition("; ")[0]
            said = [text for text in map(_text, call.args[2:5]) if text != "…"]
            severity = ast.unparse(call.args[5]) if len(call.args) > 5 else "Severity.ERROR"
            kind = {"Severity.ERROR": "An error", "Severity.NOTICE": "A notice"}.get(severity, "An error or a notice")
            text = f"{kind}: {what.rstrip('.')}."
            if said:
                text += "\n\n> " + " ".join(said)
            for code in _OF_VALUES.get(function.name) or _codes(call.args[1]):
                yield code, text


# Where the code is that of a value.
_OF_VALUES: Final = {
    "bad_object": ["malformed", "resource_backend"],
    "fault": ["malformed", "resource_backend"],
    "secret_unusable": ["key_mismatch", "secret_malformed"],
}


def _codes(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return _codes(node.body) + _codes(node.orelse)
    assert isinstance(node, ast.Constant), ast.unparse(node)
    return [str(node.value)]


def _text(node: ast.expr) -> str:
    """Return a sentence of the code, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} Or: {_text(node.orelse)}"
    return "…"


def reasons() -> dict[str, int]:
    """Return the reason codes of answers that a proxy makes itself, with the status of each."""

    def tree(kind: type[errors.ProxyError]) -> Iterator[type[errors.ProxyError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from tree(each)

    found: dict[str, int] = {}
    for kind in tree(errors.ProxyError):
        if kind.__module__ == errors.__name__:
            found.setdefault(kind.reason, kind.status)
    return found


PAGES: Final[dict[str, Callable[[], str]]] = {
    "configmap.md": config_map,
    "flags.md": flags,
    "metrics.md": metrics,
    "problems.md": problem_codes,
}
"""What makes each page."""


def write() -> None:
    """Write them all."""
    for name, made in PAGES.items():
        (DOCS / name).write_text(made(), "utf-8")


if __name__ == "__main__":
    write()
