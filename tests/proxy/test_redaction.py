from __future__ import annotations

import msgspec
import pytest

from portway_proxy.policies import Canary, Edits, ExternalAuth, Mirror, Policy, Redirect
from portway_proxy.redaction import Redaction
from portway_proxy.snapshot import Host, Origin, PathMatch, Route, Snapshot

ORIGIN = Origin("Ingress", "shop", "web")


def policy(secret: str) -> Policy:
    return Policy(
        answer=(("Set-Cookie", secret), ("X-Team", "shop")),
        app_root=f"/?token={secret}",
        canary=Canary("shop/new:80", header="X-Token", value=secret),
        edits=Edits(redirect=("http://a.example", f"http://u:{secret}@b.example")),
        external=ExternalAuth("", f"/?token={secret}", "auth", fields=(("X-Team", secret),), signin=f"//u:{secret}@x"),
        mirror=Mirror("shop/twin:80", f"/?token={secret}", "twin"),
        redirect=Redirect(301, f"https://u:{secret}@x/"),
        request=(("X-Team", secret),),
        rewrite=f"/?token={secret}",
    )


def snapshot(policy: Policy | None) -> Snapshot:
    return Snapshot(hosts=(Host("a.example", (Route("/", PathMatch.PREFIX, "shop/web:80", ORIGIN, policy),)),))


@pytest.mark.parametrize("key", [b"", b"k" * 32])
def test_no_part_of_a_policy_that_is_shown_holds_a_secret(key: bytes) -> None:
    shown = Redaction(key).snapshot(snapshot(policy("s3cret")))
    assert b"s3cret" not in msgspec.json.encode(shown)
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Snapshot) == shown
    [route] = shown.hosts[0].routes
    assert route.policy is not None
    assert route.policy.answer[1] == ("X-Team", "shop")


def test_with_a_key_another_secret_still_shows_as_a_change() -> None:
    one, other = Redaction(b"k" * 32), Redaction(b"j" * 32)
    first, again, changed = (one.snapshot(snapshot(policy(secret))) for secret in ("a" * 9, "a" * 9, "b" * 9))
    assert first == again
    assert first != changed
    assert first != other.snapshot(snapshot(policy("a" * 9)))


def test_a_route_without_secrets_is_the_very_same() -> None:
    plain = snapshot(Policy(app_root="/home", answer=(("X-Team", "shop"),)))
    assert Redaction().snapshot(plain).hosts[0] is plain.hosts[0]
