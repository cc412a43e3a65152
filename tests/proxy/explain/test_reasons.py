from __future__ import annotations

from collections.abc import Iterator

import pytest

from portway_proxy import errors
from portway_proxy.errors import Blame, ProxyError
from portway_proxy.explain import parts
from portway_proxy.explain.reasons import REASONS
from portway_proxy.policies import Policy
from portway_proxy.upstream_policies import UpstreamPolicy

# What only shows once bytes, or time, have passed: nothing of it can be told of a request beforehand.
UNTOLD = {"bad_chunk", "bad_proxy_header", "request_timeout", "client_gone", "protocol_unknown"}


def reasons(kind: type[ProxyError] = ProxyError) -> Iterator[type[ProxyError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from reasons(one)


@pytest.mark.parametrize(
    "reason",
    sorted(
        {one.reason for one in reasons() if one.__module__ == errors.__name__ and one.blame is not Blame.UPSTREAM}
        - {one.reason for one in reasons(errors.Overloaded)}
        - {"no_descriptors"}
        - UNTOLD
    ),
)
def test_every_reason_that_a_request_may_be_answered_for_says_what_to_change(reason: str) -> None:
    assert REASONS[reason].says.endswith(".")
    assert REASONS[reason].mend


def test_every_field_of_a_policy_has_a_sentence_about_what_it_does() -> None:
    told = {*parts._STEPS, *parts._ADDED, *parts._OTHERS, *parts._SECOND.values()}
    assert set(Policy.__struct_fields__) <= told
    assert set(UpstreamPolicy.__struct_fields__) == set(parts._UPSTREAM)
