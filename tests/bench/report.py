"""Outcomes as tables for people (text and Markdown) and as JSON for programs."""

from __future__ import annotations

from statistics import median

from bench.contest import Budget, Column, Outcome, Values

__all__ = ["as_data", "as_markdown", "as_text"]


def medians(rounds: list[Values]) -> Values:
    """Return the median of each column over the rounds."""
    return {key: median(values[key] for values in rounds) for key in rounds[0]}


def as_text(outcome: Outcome) -> str:
    """Return a table with aligned columns, the budgets below it."""
    head, body = _cells(outcome)
    widths = [max(len(line[place]) for line in [head, *body]) for place in range(len(head))]
    lines = [f"{outcome.row.key}: {outcome.row.title}"]
    for line in [head, *body]:
        rest = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append("  " + "  ".join([line[0].ljust(widths[0]), *rest]).rstrip())
    lines += [f"  {label}: {reason}" for label, reason in outcome.absent.items()]
    lines += [f"  budget {line}" for line in _judged(outcome)]
    return "\n".join([*lines, ""])


def as_markdown(outcome: Outcome) -> str:
    """Return the same table in Markdown."""
    head, body = _cells(outcome)
    lines = [f"### {outcome.row.title}", "", "| " + " | ".join(head) + " |"]
    lines.append("| --- |" + " ---: |" * (len(head) - 1))
    lines += ["| " + " | ".join(line) + " |" for line in body]
    notes = [f"{label}: {reason}" for label, reason in outcome.absent.items()]
    notes += [f"Budget {line}" for line in _judged(outcome)]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def as_data(outcome: Outcome) -> dict[str, object]:
    """Return everything that was measured, every round of it."""
    return {
        "key": outcome.row.key,
        "title": outcome.row.title,
        "units": {column.key: column.unit for column in outcome.row.columns},
        "notes": {contender.label: contender.peer.note for contender in outcome.row.contenders},
        "rounds": outcome.rounds,
        "medians": {label: medians(rounds) for label, rounds in outcome.rounds.items()},
        "absent": outcome.absent,
        "budgets": _judged(outcome),
    }


def _cells(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    row = outcome.row
    found = {label: medians(rounds) for label, rounds in outcome.rounds.items()}
    baselines = [label for label in row.baselines if label in found]
    head = [""]
    for column in row.columns:
        head.append(column.unit)
        if column.compared:
            head += [*(f"x {label}" for label in baselines), "spread"]
    body = []
    for contender in row.contenders:
        if contender.label not in found:
            continue
        line = [contender.label]
        for column in row.columns:
            line.append(_number(found[contender.label][column.key], column.digits))
            if column.compared:
                line += [_ratio(found, contender.label, label, column) for label in baselines]
                line.append(_spread([values[column.key] for values in outcome.rounds[contender.label]]))
        body.append(line)
    return head, body


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _ratio(found: dict[str, Values], label: str, baseline: str, column: Column) -> str:
    below = found[baseline][column.key]
    return f"{found[label][column.key] / below:.2f}" if below else "-"


def _spread(values: list[float]) -> str:
    middle = median(values)
    return f"{(max(values) - min(values)) / middle * 100:.0f} %" if len(values) > 1 and middle else "-"


def _judged(outcome: Outcome) -> list[str]:
    found = {label: medians(rounds) for label, rounds in outcome.rounds.items()}
    return [
        f"{budget}: {_verdict(found, budget)}"
        for budget in outcome.row.budgets
        if budget.label in found and budget.against in {"", *found}
    ]


def _verdict(found: dict[str, Values], budget: Budget) -> str:
    value, other = (found[label][budget.column] if label else 1.0 for label in (budget.label, budget.against))
    value = value - other if budget.more else value / other
    kept = value >= budget.limit if budget.least else value <= budget.limit
    return f"{value:.2f}, {'kept' if kept else 'MISSED'}"
