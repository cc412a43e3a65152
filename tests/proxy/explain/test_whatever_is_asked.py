"""Whatever is asked has an answer: no URL, method or field brings `explain` to fall."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.explain.explaining import View, explain
from portway_proxy.explain.explanation import Explanation
from portway_proxy.explain.question import BadQuestion, Question
from portway_proxy.explain.text import describe_explanation
from portway_proxy.policies import BasicAuth, Cors, Credentials, Policy
from portway_proxy.snapshot import (
    Belief,
    Endpoint,
    Host,
    Listener,
    Origin,
    Passthrough,
    PathMatch,
    Route,
    Snapshot,
    Transport,
    Trust,
    Upstream,
)

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
WEB = Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 80),))
POLICY = Policy(https_redirect=True, basic=BasicAuth("shop/users"), cors=Cors(), body_size=9, rewrite="/x")
SERVED = Snapshot(
    hosts=(Host("shop.example", (Route("/", PathMatch.PREFIX, WEB.name, ORIGIN, POLICY),)),),
    upstreams=(WEB,),
    credentials=(Credentials("shop/users", (("ada", "{PLAIN}secret"),)),),
    trust=Trust(("10.0.0.0/8",), Belief.REQUEST, append=True),
    passthroughs=(Passthrough("*.pass.example", WEB.name, ORIGIN),),
    listeners=(Listener(53, WEB.name, ORIGIN, Transport.UDP),),
)
NAMES = [
    "Host",
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "Upgrade",
    "Expect",
    "TE",
    "Authorization",
    "Cookie",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "Content-Type",
    "Origin",
    "Range",
]
WORDS = [
    "shop.example",
    "close",
    "upgrade",
    "5",
    "chunked",
    "websocket",
    "trailers",
    "100-continue",
    "https",
    "10.0.0.1",
    "application/grpc",
    "https://a.example",
]

texts = st.text(st.characters(codec="utf-8"), max_size=12)
urls = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "tcp://", "udp://", ""]),
    st.sampled_from(["shop.example", "a.pass.example", "10.0.0.1", "[::1]", "x..y", "*.example", "-", "%41"]),
    st.sampled_from(["", ":80", ":443", ":53", ":0", ":65535"]),
    texts.map("/{}".format),
)
methods = st.sampled_from(["GET", "HEAD", "OPTIONS", "CONNECT", "PRI", "get"]) | texts
fields = st.builds("{}: {}".format, st.sampled_from(NAMES), st.sampled_from(WORDS) | texts)


@given(urls, methods, st.lists(fields, max_size=4))
def test_whatever_is_asked_has_an_answer(url: str, method: str, lines: list[str]) -> None:
    try:
        question = Question.of(url, method, lines, "10.0.0.7")
    except BadQuestion:
        return
    found = explain(question, View(SERVED, 0.0))
    assert found.outcome.says
    assert bool(found.outcome.mend) is found.outcome.fails
    assert all(line.isprintable() for line in describe_explanation(found).split("\n"))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
