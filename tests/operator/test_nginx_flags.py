"""The command line of ingress-nginx's controller, as `portway operator` takes it."""

from __future__ import annotations

import pytest

from portway_operator.nginx_flags import Refused, taken

SWITCHES = {"update-status": ("--update-status", "--no-update-status"), "disable-all": ("--disable-all", "--all")}
OURS = ("update-status", "no-update-status", "disable-all", "all", "configmap", "election-id")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--configmap=a/b", "--election-id", "x"], ["--configmap=a/b", "--election-id", "x"]),
        (["--update-status=true"], ["--update-status"]),
        (["--update-status=false", "--disable-all=0"], ["--no-update-status", "--all"]),
        (["--update-status", "--configmap", "a/b"], ["--update-status", "--configmap", "a/b"]),
        (["--v", "2", "--configmap", "a/b"], ["--configmap", "a/b"]),
        (["--profiling", "--configmap", "a/b"], ["--configmap", "a/b"]),
        (["--watch-namespace-selector="], []),
        (["--annotations-prefix", "nginx.ingress.kubernetes.io"], []),
    ],
)
def test_flags_in_the_form_of_go_become_ours(given: list[str], expected: list[str]) -> None:
    assert taken(given, SWITCHES, OURS)[0] == expected


def test_a_flag_that_only_tunes_nginx_is_left_out_with_a_word() -> None:
    assert taken(["--sync-period=1m", "--enable-metrics=false"], SWITCHES, OURS)[1] == [
        "--sync-period has no effect. It is about nginx or the Go program.",
        "--enable-metrics has no effect. Proxies always have metrics, at their admin port.",
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("--watch-namespace-selector=a=b", "name the namespaces by --watch-namespace"),
        ("--annotations-prefix=shop.example", "are read by the prefixes nginx.ingress.kubernetes.io/ and portway.dev/"),
        ("--disable-leader-election", "Replicas have to agree"),
        ("--update-status=perhaps", "neither true nor false"),
    ],
)
def test_a_flag_that_would_have_to_do_something_is_refused_with_a_sentence(given: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        taken([given], SWITCHES, OURS)
