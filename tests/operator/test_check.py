"""`check`: what a store is judged to come to, and each form of the report.

After a change that is meant: `UPDATE_GOLDEN=1 pytest tests/operator/test_check.py`, and read the difference.
"""

from __future__ import annotations

import io
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from portway_operator.check import Report, Unchecked, adopt, judge
from portway_operator.check.forms import as_html, as_json, as_markdown, as_schema, print_text
from portway_operator.check.report import Finding, Served, Topic
from portway_operator.settings import CONTROLLER, NGINX_CONTROLLER, Compatibility, CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Severity
from scenes import CLASS, SERVICE, SLICE, objects

FOLDER = Path(__file__).parent / "check"
ROOT = Path(__file__).parents[2]
BLIND = (Unchecked("EndpointSlice", "The files hold none."), Unchecked("Secret", "The files hold none."))


def store_of(*texts: str) -> ObjectStore:
    store = ObjectStore()
    for text in texts:
        for found in objects(text):
            store.put(found)
    adopt(store, frozenset({NGINX_CONTROLLER}), CONTROLLER)
    return store


def move(compatibility: Compatibility = Compatibility.STRICT) -> Report:
    settings = CompileSettings(
        ingress_class=("nginx", "portway"),
        standalone=True,
        config_map="ingress-nginx/ingress-nginx-controller",
        compatibility=compatibility,
    )
    return judge(store_of((FOLDER / "move.yaml").read_text()), settings, BLIND)


def text_of(report: Report) -> str:
    out = io.StringIO()
    print_text(report, Console(file=out, width=120, highlight=False))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def ingress(name: str, host: str, *paths: tuple[str, str], **annotations: str) -> str:
    rules = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": "web", "port": {"number": 80}}}}
        for path, kind in paths
    ]
    keys = {f"nginx.ingress.kubernetes.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return json.dumps(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "namespace": "shop", "annotations": keys},
            "spec": {"ingressClassName": "portway", "rules": [{"host": host, "http": {"paths": rules}}]},
        }
    )


def judged(*texts: str, compatibility: Compatibility = Compatibility.STRICT) -> Report:
    return judge(store_of(CLASS, SERVICE, SLICE, *texts), CompileSettings(compatibility=compatibility))


def about(report: Report, topic: Topic) -> list[Finding]:
    found = [*report.findings, *(one for each in report.ingresses for one in each.findings)]
    return [one for one in found if one.topic is topic]


@pytest.mark.parametrize("form", ["txt", "md", "html", "json"])
def test_a_move_is_told_in_every_form_as_its_golden_text(form: str) -> None:
    make = {"txt": text_of, "md": as_markdown, "html": as_html, "json": as_json}
    actual = make[form](move())
    golden = FOLDER / f"move.{form}"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(actual)
    assert actual.splitlines() == golden.read_text().splitlines()


def test_json_is_what_the_documented_schema_says() -> None:
    assert (ROOT / "docs" / "check.schema.json").read_text() == as_schema()
    assert msgspec.json.decode(as_json(move()), type=Report) == move()


def test_no_name_or_value_becomes_markup() -> None:
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - as it is
            tags.append(tag)

    Tags().feed(as_html(move()))
    assert tags.count("b") == as_html(move()).count('<b class="')
    assert "<b>.example" not in as_markdown(move())
    assert not {"script", "link", "img", "iframe"} & set(tags)


def test_an_ingress_without_anything_to_know_is_served_exactly() -> None:
    report = judged(ingress("web", "shop.example", ("/", "Prefix"), enable_cors="true", proxy_read_timeout="60"))
    assert [(one.key, one.served) for one in report.ingresses] == [("shop/web", Served.EXACTLY)]
    assert report.clean


def test_a_difference_is_told_only_where_the_value_is_touched_by_it() -> None:
    report = judged(ingress("web", "shop.example", ("/", "Prefix"), proxy_read_timeout="1m"))
    assert [(use.verdict, report.ingresses[0].served) for use in report.ingresses[0].annotations] == [
        ("differs", Served.DIFFERENTLY)
    ]


def test_what_would_be_matched_otherwise_is_told_unless_it_is_asked_for() -> None:
    texts = (
        ingress("a", "a.example", ("/v.*", "ImplementationSpecific"), use_regex="true"),
        ingress("b", "a.example", ("/Docs", "Exact"), ("/shop/", "Prefix")),
        ingress("c", "c.example", ("/shop/", "Prefix")),
    )
    assert [(one.origin.name, one.code) for one in about(judged(*texts), Topic.MATCHING)] == [
        ("b", "matched_otherwise"),
        ("b", "matched_otherwise"),
        ("c", "matched_otherwise"),
    ]
    assert about(judged(*texts, compatibility=Compatibility.INGRESS_NGINX), Topic.MATCHING) == []


GUARDED = ingress("admin", "a.example", ("/admin", "Exact"), whitelist_source_range="10.0.0.0/8")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([ingress("web", "b.example", ("/", "Prefix"))], [Severity.ERROR]),
        ([ingress("web", "b.example", ("/api", "Prefix"))], []),
        ([ingress("web", "b.example", ("/", "Prefix"), whitelist_source_range="10.0.0.0/8")], []),
        ([ingress("web", "b.example", ("/", "Prefix"), permanent_redirect="https://a.example")], []),
        # `/admin/` and `/ADMIN` by the Ingress beside it.
        ([ingress("web", "a.example", ("/", "Prefix"))], [Severity.ERROR, Severity.NOTICE]),
    ],
    ids=["another-host", "another-path", "guarded-too", "redirects", "another-spelling"],
)
def test_ways_past_a_guard_are_found(texts: list[str], expected: list[Severity]) -> None:
    assert [one.severity for one in about(judged(GUARDED, *texts), Topic.UNPROTECTED)] == expected


def test_a_host_with_tls_and_no_certificate_is_found() -> None:
    text = ingress("web", "a.example", ("/", "Prefix"))
    secured = text.replace('"rules"', '"tls": [{"hosts": ["a.example"]}], "rules"')
    assert [one.code for one in about(judged(secured), Topic.CERTIFICATE)] == ["host_without_certificate"]


def test_what_could_not_be_looked_at_is_held_against_nobody() -> None:
    store = store_of(CLASS, ingress("web", "a.example", ("/", "Prefix")))
    assert not judge(store, CompileSettings()).clean
    report = judge(store, CompileSettings(), (Unchecked("Service", "403 Forbidden"),))
    assert report.clean
    assert report.unchecked == (Unchecked("Service", "403 Forbidden"),)
