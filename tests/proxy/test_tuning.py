"""The table of settings: complete, true to the defaults, and what docs/limits.md says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from portway_proxy.errors import BadSnapshot
from portway_proxy.settings import Limits, ProxySettings, Timeouts
from portway_proxy.tuning import ROWS, Row, Setting, Unit, tuned, usual

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"

# What no ConfigMap sets: flags of one proxy, or nobody's to change.
FIXED = {"grace", "trailers", "interim_responses", "buffer"}


def test_every_limit_and_timeout_has_a_row_or_is_said_to_have_none() -> None:
    fields = {field.name for kind in (Limits, Timeouts) for field in msgspec.structs.fields(kind)}
    rows = {(row.section, row.field) for row in ROWS}
    assert {field for _, field in rows} | FIXED == fields
    assert len(ROWS) == len(rows) == len({row.name for row in ROWS})
    assert not {field for _, field in rows} & FIXED


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_default_of_a_row_is_what_a_user_may_say(row: Row) -> None:
    assert row.least <= usual(row) <= row.most
    assert tuned(ProxySettings(), [Setting(row.name, usual(row))]) == ProxySettings()


def test_a_setting_counts_over_what_there_was_and_leaves_the_rest() -> None:
    before = ProxySettings(limits=Limits(head=7000), timeouts=Timeouts(head=7.0))
    after = tuned(before, [Setting("client-header-timeout", 5.0), Setting("max-fields", 50.0)])
    assert (after.timeouts.head, after.limits.fields, after.limits.head) == (5.0, 50, 7000)
    assert isinstance(after.limits.fields, int)
    assert tuned(before, []) is before


def test_the_time_to_read_is_that_to_answer_too_unless_that_is_said() -> None:
    read, response = Setting("proxy-read-timeout", 5.0), Setting("proxy-response-timeout", 9.0)
    assert tuned(ProxySettings(), [read]).timeouts.response == 5.0
    assert tuned(ProxySettings(), [read, response]).timeouts.response == 9.0
    assert tuned(ProxySettings(), [response]).timeouts.read == 60.0


def test_a_setting_that_is_not_known_is_no_snapshot_for_this_proxy() -> None:
    with pytest.raises(BadSnapshot, match="there is no setting called patience"):
        tuned(ProxySettings(), [Setting("patience", 1.0)])


def shown(row: Row) -> str:
    value = usual(row)
    default = f"{value / 1024:g}k" if row.unit is Unit.BYTES and value >= 1024 else f"{value:g}"
    what = row.doc if row.unit is Unit.NUMBER else f"{row.unit} {row.doc}"
    return f"| `{row.name}` | `--{row.flag or row.name}` | {default} | {what} |"


def test_the_page_has_the_table() -> None:
    lines = re.findall(r"^\| `.*$", PAGE.read_text(), re.MULTILINE)
    assert lines == [shown(row) for row in ROWS]
