from __future__ import annotations

import pytest

from portway_proxy.describe_policies import describe_policy
from portway_proxy.snapshot import BasicAuth, Canary, Cors, Patience, Policy, RateLimit, Redirect


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (None, ""),
        (Policy(), ""),
        (Policy(body_size=0), " [body-size=0]"),
        (Policy(https_redirect=True, closed="why"), " [https-redirect, closed=why]"),
        (Policy(www="a.example"), " [to=a.example]"),
        (Policy(cors=Cors()), " [cors=*]"),
        (Policy(cors=Cors(("https://a", "https://b"), max_age=1)), " [cors=https://a https://b max_age=1]"),
        (Policy(app_root="/app"), " [app-root=/app]"),
        (Policy(redirect=Redirect(301, "https://a$uri")), " [redirect=301 https://a$uri]"),
        (Policy(limit=RateLimit("z", ((10.0, 50),), 5, ("10.0.0.0/8",))), " [limit=10/s+50 5 at once but 10.0.0.0/8]"),
        (Policy(allow=("10.0.0.0/8",), deny=("::1/128",)), " [allow=10.0.0.0/8, deny=::1/128]"),
        (Policy(allow=tuple("abcdefghi")), " [allow=a b c d and 5 more]"),
        (Policy(basic=BasicAuth("a/b"), any_suffices=True), " [any-suffices, basic=a/b]"),
        (Policy(canary=Canary("a/b:80")), " [canary=a/b:80 by chance 0/100]"),
        (
            Policy(canary=Canary("a/b:80", header="X", pattern="v.", cookie="c", weight=1)),
            " [canary=a/b:80 by header X~v., cookie c, chance 1/100]",
        ),
        (Policy(rewrite="/$1", host="a", prefix="/p"), " [rewrite=/$1, host=a, prefix=/p]"),
        (Policy(answer=(("X-A", "1"), ("X-B", "2"))), " [answer=X-A X-B]"),
        (Policy(patience=Patience(1.5, write=7.0)), " [connect=1.5s write=7s]"),
    ],
)
def test_a_policy_says_what_it_asks_for(policy: Policy | None, text: str) -> None:
    assert describe_policy(policy) == text
