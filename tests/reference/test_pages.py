"""The pages of docs against the code."""

from __future__ import annotations

import re

import pytest

from portway_proxy.l4 import relay
from reference.pages import DOCS, PAGES, keys, reasons

TROUBLES = (DOCS / "troubleshooting.md").read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes_it(name: str) -> None:
    assert (DOCS / name).read_text("utf-8").splitlines() == PAGES[name]().splitlines()


def test_every_reason_has_its_paragraph_with_its_status_and_no_other_has() -> None:
    _, _, section = TROUBLES.partition("## Answers that Portway makes itself")
    told: dict[str, int] = {}
    for entry in re.findall(r"^- (`.*?\)): ", section.partition("\n## ")[0], re.MULTILINE):
        for codes, status in re.findall(r"((?:`\w+`(?:, )?)+) \((\d+)\)", entry):
            told |= dict.fromkeys(re.findall(r"`(\w+)`", codes), int(status))
    assert told == reasons()


def test_every_end_of_a_relay_has_its_paragraph() -> None:
    _, _, section = TROUBLES.partition("## How connections of layer 4 end")
    told = set(
        re.findall(r"`(\w+)`", " ".join(re.findall(r"^- (`.*?): ", section.partition("\n## ")[0], re.MULTILINE)))
    )
    ends = {getattr(relay, name) for name in relay.__all__ if name.isupper()}
    assert ends <= told


def test_every_key_of_the_config_map_is_told_of_on_some_page() -> None:
    rows = (DOCS / "configmap.md").read_text("utf-8").partition("\n## ")[0].splitlines()
    assert [row for row in rows if row.endswith("|  |")] == []
    assert {row.split("`")[1] for row in rows if row.startswith("| `")} == keys()
