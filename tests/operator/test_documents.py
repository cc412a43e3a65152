"""`sources/documents.py`: text to values that know their lines."""

from __future__ import annotations

import json
from typing import cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.sources import documents
from portway_operator.sources.documents import ALIAS_NODES, BadYaml, Block, line_of, read_documents


def value(text: str) -> object:
    (document,) = read_documents(text.encode())
    return document.value


def fault(text: str | bytes) -> tuple[int, str]:
    with pytest.raises(BadYaml) as caught:
        read_documents(text if isinstance(text, bytes) else text.encode())
    return caught.value.line, str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # go-yaml v2, resolve.go: what kubectl reads.
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("no", False),
        ("On", True),
        ("y", True),
        ("80", 80),
        ("-1", -1),
        ("+1", 1),
        ("0755", 493),
        ("0x1F", 31),
        ("0o17", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("08", 8.0),
        # What PyYAML would turn into a date or a base-60 number stays text.
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01", "2024-01-01"),
        ("22:22", "22:22"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("-x", "-x"),
        ("1" * 5000, "1" * 5000),
        (".inf", ".inf"),
        ("'80'", "80"),
        ('"no"', "no"),
        ("!!str 80", "80"),
        ("! 80", "80"),
        ("!!int '80'", 80),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(text: str, expected: object) -> None:
    found = cast("Block", value(f"key: {text}\n"))["key"]
    assert found == expected
    assert type(found) is type(expected)


def test_keys_are_text_as_written() -> None:
    assert value("80: a\ntrue: b\nno: c\n") == {"80": "a", "true": "b", "no": "c"}


def test_documents_are_numbered_and_know_their_first_line() -> None:
    found = read_documents(b"# a comment\na: 1\n---\n---\nb: 2\n...\n---\n- c\n")
    assert [(each.number, each.line, each.value) for each in found] == [
        (1, 2, {"a": 1}),
        (2, 4, None),
        (3, 5, {"b": 2}),
        (4, 8, ["c"]),
    ]


def test_no_text_has_no_documents() -> None:
    assert read_documents(b"") == []
    assert read_documents(b"# nothing but words\n") == []


INGRESS = """\
metadata:
  annotations:
    portway.dev/body-size: 5
    a.b/c: x
spec:
  rules:
  - host: a
  - host: b
    http:
      paths:
      - path: /x
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("", 1),
        ("metadata", 1),
        ("metadata.annotations", 2),
        ("metadata.annotations.portway.dev/body-size", 3),
        ("metadata.annotations[portway.dev/body-size]", 3),
        ('metadata.annotations["a.b/c"]', 4),
        ("metadata.annotations['a.b/c']", 4),
        ("spec.rules[0].host", 7),
        ("spec.rules[1].http.paths[0].path", 11),
        # Of what is not there, the line of what should hold it.
        ("metadata.name", 1),
        ("spec.rules[1].http.paths[0].pathType", 11),
        ("spec.rules[7].host", 6),
        ("spec.rulesets", 5),
        ("other", 1),
    ],
)
def test_a_field_is_found_on_its_line(field: str, line: int) -> None:
    assert line_of(value(INGRESS), field, 1) == line


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\n b: 2\n", 2, "mapping values are not allowed in this context"),
        ("a: 1\n---\nb: [\n---\n", 4, "did not find expected node content while parsing a flow node"),
        ("\n\ta: 1\n", 2, "found character that cannot start any token"),
        ("a: 'b\nc\n", 3, "that begins on line 1"),
        ("a: \n\x01\n", 2, "U+0001 is not allowed"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is there twice, first on line 1"),
        ("a: *b\n", 1, "the alias *b has no anchor"),
        ("a: &a\n- *a\n", 2, "the alias *a stands inside of what it names"),
        ("a:\n- !!python/object/apply:os.system [x]\n", 2, "stands for something that is no plain value"),
        ("a: !secret x\n", 1, "the tag !secret stands for something that is no plain value"),
        ("? [a]\n: b\n", 1, "used as a key"),
        ("a:\n  <<: 5\n", 3, "the merge key << has a value that is no mapping"),
        ("[" * 100_000, 1, "are inside each other"),
        ("- " * 100_000, 1, "are inside each other"),
    ],
)
def test_what_does_not_parse_is_refused_with_its_line(text: str | bytes, line: int, message: str) -> None:
    found_line, found = fault(text)
    assert message in found
    assert found_line == line


def test_a_file_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FILE_SIZE", 10)
    assert "more than the 10 that are read" in fault("a: 12345678\n")[1]


def test_aliases_stand_for_their_values() -> None:
    assert value("a: &x {p: [1, 2]}\nb: *x\n") == {"a": {"p": [1, 2]}, "b": {"p": [1, 2]}}


def test_an_alias_that_was_named_again_stands_for_the_newer_value() -> None:
    assert value("a: &x 1\nb: &x 2\nc: *x\n") == {"a": 1, "b": 2, "c": 2}


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 40)]
    assert f"more than {ALIAS_NODES} values" in fault("\n".join(lines))[1]


def test_a_bomb_of_merges_is_refused() -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{key}: x" for key in range(100)) + "}"]
    lines += [f"a{level}: &a{level} {{p: *a{level - 1}, q: *a{level - 1}}}" for level in range(1, 40)]
    lines.append("b: {<<: *a39}")
    assert f"more than {ALIAS_NODES} values" in fault("\n".join(lines))[1]


def test_merge_keys_fill_in_what_is_not_said() -> None:
    text = "a: &a {p: 1, q: 2}\nb: &b {q: 5, r: 6}\nc: {<<: [*a, *b], p: 3}\nd: {'<<': 1}\n"
    assert value(text) == {"a": {"p": 1, "q": 2}, "b": {"q": 5, "r": 6}, "c": {"p": 3, "q": 2, "r": 6}, "d": {"<<": 1}}


def test_json_with_tabs_and_escaped_surrogates_is_read() -> None:
    text = '{\t"a": "\\ud83d\\ude00 \\/ \\\\ud83d",\n\t"b": [1, 2.5, true, null]}'
    (document,) = read_documents(text.encode(), json=True)
    assert document.value == json.loads(text)
    assert line_of(document.value, "b[1]", 1) == 2


# libyaml, which reads the JSON, ends a key after 1,024 characters, escapes included; Kubernetes' have 317 at most.
keys = st.text(max_size=80)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_every_json_value_is_read_as_json_reads_it(expected: object) -> None:
    (document,) = read_documents(json.dumps(expected, indent="\t").encode(), json=True)
    assert document.value == expected


@given(st.text(alphabet="ab01:-[]{},&*!|>'\"#%?<~ \n\t", max_size=60))
def test_no_text_makes_more_than_a_refusal(text: str) -> None:
    lines = [1]
    try:
        read_documents(text.encode())
    except BadYaml as bad:
        lines.append(bad.line)
    assert 1 <= lines[-1] <= text.count("\n") + 2


@given(st.dictionaries(st.text(alphabet="abc", min_size=1), plain, max_size=3))
def test_what_pyyaml_writes_is_read_back(expected: dict[str, object]) -> None:
    (document,) = read_documents(yaml.safe_dump(expected, default_style='"').encode())
    assert document.value == expected
