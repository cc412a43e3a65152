"""The forms of a report: text for a terminal, Markdown, one page of HTML, and JSON."""

from __future__ import annotations

import html
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator

import msgspec
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from portway_operator.check.outline import Section, outline
from portway_operator.check.report import Report
from portway_operator.console import printable

__all__ = ["as_html", "as_json", "as_markdown", "as_schema", "print_text"]

_STYLES = {"error": "bold red", "notice": "yellow", "differs": "yellow", "refused": "red", "by hand": "magenta"}
_NARROWEST = 40
_SIGN = re.compile(r"([\\`*_\[\]<>|#])")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}"
    "pre{background:#f4f4f4;padding:.8rem;overflow:auto}b.error,b.refused{color:#b00020}b.notice,b.differs{color:#8a5a00}"
    "code,td:first-child{overflow-wrap:anywhere}"
)


def as_json(report: Report) -> str:
    """Return the report as JSON, by the schema of `as_schema`."""
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


def as_schema() -> str:
    """Return the JSON Schema of the report: `make reference` writes it to docs/check.schema.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Report))).decode() + "\n"


def print_text(report: Report, terminal: Console) -> None:
    """Print the report for people; no name in it can steer the terminal."""
    for section in outline(report):
        for line in _lines(section, terminal):
            if isinstance(line, Table):
                terminal.print(line)
            elif terminal.is_terminal:
                terminal.print(Text(*line), soft_wrap=True)
            else:
                # A tenth of the time, and reports may have a hundred thousand lines.
                terminal.file.write(f"{line[0]}\n")


def as_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    return "\n".join(line for section in outline(report) for line in _markdown(section)) + "\n"


def as_html(report: Report) -> str:
    """Return the report as one page that loads nothing from elsewhere."""
    body = "\n".join(line for section in outline(report) for line in _html(section))
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Portway check</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


# --- text


def _lines(section: Section, terminal: Console) -> Iterator[tuple[str, str] | Table]:
    """Yield lines with their styles, and tables."""
    width = max(terminal.width, _NARROWEST)
    if section.level > 1:
        yield "", ""
    yield printable(section.title), "bold"
    for line in section.lines:
        yield from _wrapped(line, width, "")
    if section.rows:
        table = Table(*(Column(name, overflow="fold") for name in section.head), show_edge=False, pad_edge=False)
        for row in section.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        yield table
    for item in section.items:
        yield f"  {printable(item.mark)}  {printable(item.where)}", _STYLES.get(item.mark.partition(",")[0], "")
        yield from _wrapped(item.text, width, "    ")
    for code in section.code:
        yield "", ""
        yield from ((f"    {printable(line)}".rstrip(), "") for line in code.rstrip().split("\n"))


def _wrapped(text: str, width: int, indent: str) -> Iterator[tuple[str, str]]:
    lines = textwrap.wrap(
        printable(text), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    yield from ((line, "") for line in lines)


# --- Markdown


def _markdown(section: Section) -> Iterator[str]:
    yield f"{'#' * section.level} {_plain(section.title)}\n"
    if section.lines:
        yield "  \n".join(map(_plain, section.lines)) + "\n"
    if section.rows:
        yield _cells(section.head)
        yield "|" + " --- |" * len(section.head)
        yield from (_cells(map(_plain, row)) for row in section.rows)
        yield ""
    for item in section.items:
        yield f"- **{_plain(item.mark)}** {_plain(item.where)}: {_plain(item.text)}"
    if section.items:
        yield ""
    for code in section.code:
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code) or [""]))
        yield f"{fence}yaml\n{code.rstrip()}\n{fence}\n"


def _plain(text: str) -> str:
    return _SIGN.sub(r"\\\1", printable(text))


def _cells(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


# --- HTML


def _html(section: Section) -> Iterator[str]:
    yield f"<h{section.level}>{_safe(section.title)}</h{section.level}>"
    yield from (f"<p>{_safe(line)}</p>" for line in section.lines)
    if section.rows:
        yield "<table><tr>" + "".join(f"<th>{_safe(cell)}</th>" for cell in section.head) + "</tr>"
        for row in section.rows:
            yield "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>"
        yield "</table>"
    if section.items:
        yield "<ul>"
        for item in section.items:
            kind = _safe(item.mark.partition(",")[0].replace(" ", "-"))
            mark, where = f'<b class="{kind}">{_safe(item.mark)}</b>', f"<code>{_safe(item.where)}</code>"
            yield f"<li>{mark} {where}: {_safe(item.text)}</li>"
        yield "</ul>"
    yield from (f"<pre>{html.escape(code.rstrip())}</pre>" for code in section.code)


def _safe(text: str) -> str:
    return html.escape(printable(text))


if __name__ == "__main__":
    sys.stdout.write(as_schema())
