"""The forms of a difference: for people, for pull requests, and for programs."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from portway_operator.diff import Difference, Effect, Finding, compare
from portway_operator.diff.findings import Counted
from portway_operator.diff.forms import as_json, as_markdown, as_schema, print_text, summary
from portway_proxy.snapshot import Origin, Snapshot
from short_manifests import compiled, ingress, passwords

DOCS = Path(__file__).parents[3] / "docs"
HANDED = "  shop.example /admin was served by Ingress shop/guarded, now it is served by Ingress shop/web."
ADMIN = {"auth-type": "basic", "auth-secret": "users"}


def example() -> Difference:
    """One of many kinds, the gravest last in the manifests."""
    users = passwords("users", "alice")
    old = [ingress("/", "/old"), ingress("/admin", name="guarded", nginx=ADMIN), users]
    new = [ingress("/", "api:/api"), ingress(name="new", host="new.example"), users]
    return compare(compiled(*old), compiled(*new))


def text_of(difference: Difference, *, terminal: bool) -> str:
    out = io.StringIO()
    print_text(
        difference,
        Console(file=out, force_terminal=terminal, color_system="standard" if terminal else None, highlight=False),
    )
    return out.getvalue()


def one(sentence: str, effect: Effect = Effect.PROTECTION_LOST) -> Difference:
    origin = Origin("Ingress", "shop", "web")
    return Difference(Counted("old"), Counted("new"), (Finding(effect, "kind", sentence, before=origin, after=origin),))


def test_people_read_the_gravest_first() -> None:
    assert text_of(example(), terminal=False).splitlines() == [
        "Protection lost (1)",
        "  shop.example /admin asked for a password of shop/users, now it does not.",
        "      - Ingress shop/guarded spec.rules[0].http.paths[0]",
        "      + Ingress shop/web spec.rules[0].http.paths[0]",
        "",
        "Changed hands (1)",
        HANDED,
        "      - Ingress shop/guarded spec.rules[0].http.paths[0]",
        "      + Ingress shop/web spec.rules[0].http.paths[0]",
        "",
        "Changed (1)",
        "  shop.example /api went to shop/web:80, now it goes to shop/api:80.",
        "      - Ingress shop/web spec.rules[0].http.paths[0]",
        "      + Ingress shop/web spec.rules[0].http.paths[1]",
        "",
        "Added (1)",
        "  new.example got 404, now it has 1 route.",
        "      + Ingress shop/new spec.rules[0].http.paths[0]",
        "",
        ": 1 host, 3 routes, 0 listeners, 0 problems",
        ": 2 hosts, 3 routes, 0 listeners, 0 problems",
        "1 protection lost, 1 changed hands, 1 changed, 1 added",
    ]


def test_what_is_lost_is_red_on_a_terminal_and_plain_elsewhere() -> None:
    assert "\x1b[1;31m  shop.example /admin asked" in text_of(example(), terminal=True)
    assert "\x1b" not in text_of(example(), terminal=False)


def test_nothing_is_said_to_differ_where_nothing_does() -> None:
    same = compare(Snapshot(), Snapshot())
    assert summary(same) == "Nothing differs that a request could tell."
    assert as_markdown(same).startswith("### Portway: Nothing differs that a request could tell\n")


def test_no_name_steers_the_terminal() -> None:
    assert "\x1b" not in text_of(one("a\x1b[2Jb\n\rc [bold]d[/]"), terminal=False)
    assert "[bold]d[/]" in text_of(one("a [bold]d[/]"), terminal=False)


def test_a_pull_request_has_a_table_for_what_is_lost_and_folds_the_rest() -> None:
    lines = as_markdown(example()).splitlines()
    assert lines[:5] == [
        "### Portway: 1 protection lost, 1 changed hands, 1 changed, 1 added",
        "",
        "#### \N{LARGE RED CIRCLE} Protection lost (1)",
        "",
        "| What | From |",
    ]
    assert lines.count("<details><summary><b>Changed hands (1)</b></summary>") == 1
    assert "Protection lost" not in "".join(line for line in lines if line.startswith("<details"))


def test_a_long_list_is_folded_and_cut() -> None:
    found = [
        Finding(Effect.PROTECTION_LOST, "kind", "x" * 900, f"h{number}", before=Origin("Ingress", "shop", f"{number}"))
        for number in range(500)
    ]
    text = as_markdown(Difference(Counted(), Counted(), tuple(found)))
    assert "<details open>" in text
    assert "| and 400 more | |" in text
    assert len(text) < 65_536


def test_what_is_so_for_many_paths_of_an_ingress_is_said_once() -> None:
    origin = Origin("Ingress", "shop", "web")
    found = [
        Finding(
            Effect.PROTECTION_LOST, "kind", f"a.example /{number} lost it.", "a.example", f"/{number}", before=origin
        )
        for number in range(14)
    ]
    difference = Difference(Counted(), Counted(), tuple(found))
    also = "also a.example /1, a.example /2, a.example /3, a.example /4, a.example /5, a.example /6"
    also += ", a.example /7, a.example /8, a.example /9, a.example /10 and 3 more"
    assert text_of(difference, terminal=False).splitlines()[:4] == [
        "Protection lost (14)",
        "  a.example /0 lost it.",
        f"      {also}",
        "      - Ingress shop/web",
    ]
    assert f"<br>{also} |" in as_markdown(difference)


HOSTILE = [
    "<script>alert(1)</script>",
    "</details><h1>Approved</h1>",
    "<!-- hidden",
    "[click](https://evil.example)",
    "![x](//evil.example/x.png)",
    "https://evil.example",
    "www.evil.example",
    "`code` ``` ~~~",
    "*bold* __bold__ ~~gone~~",
    "a | b | c",
    "line\nbreak\n\n# Title\n- [x] done",
    "&lt;b&gt; &#64;",
    "\\| \\`",
    "+ item",
    "\u202eexe.txt",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_markup_in_a_pull_request(name: str) -> None:
    check_that_only_ours_is_markup(f"{name} went")


@given(st.text("<>&|`*_[]()!#@~\\\n\r\t :/.wa-+=1\u2028\u202e", max_size=40))
def test_no_text_is_markup_in_a_pull_request(name: str) -> None:
    check_that_only_ours_is_markup(name)


def check_that_only_ours_is_markup(name: str) -> None:
    plain, hostile = (as_markdown(one(sentence)) for sentence in ("name", name))
    assert tags_of(hostile) == tags_of(plain)
    # What GitHub makes links of by itself.
    assert re.findall(r"://|www\.", hostile.replace("\\", ""), re.IGNORECASE) == []


def tags_of(markdown: str) -> list[str]:
    """Return the tags of the page that the text is on GitHub, with tables and HTML."""
    page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown)
    return re.findall(r"</?[a-z][^>]*>|<!--", page)


@pytest.mark.parametrize("name", ["@shop/admins", "mail@shop.example", "#12", "GH-12", "shop/web#12"])
def test_nobody_is_mentioned_and_no_issue_linked(name: str) -> None:
    assert name not in as_markdown(one(name)).replace("\\", "")


def test_programs_read_everything_by_the_schema() -> None:
    read = json.loads(as_json(example()))
    assert read["version"] == 1
    assert read["findings"][0] == {
        "effect": "protection-lost",
        "kind": "password_lost",
        "host": "shop.example",
        "path": "/admin",
        "was": "asked for a password of shop/users",
        "now": "does not",
        "sentence": "shop.example /admin asked for a password of shop/users, now it does not.",
        "before": {
            "kind": "Ingress",
            "namespace": "shop",
            "name": "guarded",
            "field": "spec.rules[0].http.paths[0]",
        },
        "after": {"kind": "Ingress", "namespace": "shop", "name": "web", "field": "spec.rules[0].http.paths[0]"},
    }
    assert read["old"] == {"name": "", "hosts": 1, "routes": 3, "listeners": 0, "problems": 0}


def test_the_schema_in_docs_is_that_of_the_code() -> None:
    assert (DOCS / "diff.schema.json").read_text("utf-8").splitlines() == as_schema().splitlines()
