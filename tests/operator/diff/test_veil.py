"""Snapshots with fingerprints in the place of secrets, beside others."""

from __future__ import annotations

from portway_operator.diff import Effect, compare
from portway_operator.diff.veil import NOTE
from portway_proxy.redaction import Redaction
from portway_proxy.snapshot import (
    BasicAuth,
    Credentials,
    ExternalAuth,
    Host,
    Origin,
    PathMatch,
    Policy,
    Route,
    Snapshot,
    Upstream,
)


def served(*users: str, secret: str = "shop/users", value: str = "token") -> Snapshot:
    external = ExternalAuth("shop/auth:80", f"/check?token={value}", "auth", fields=(("X-Key", value),))
    policy = Policy(basic=BasicAuth(secret), external=external, request=(("X-Token", value),))
    route = Route("/", PathMatch.PREFIX, "shop/web:80", Origin("Ingress", "shop", "web"), policy)
    return Snapshot(
        hosts=(Host("shop.example", (route,)),),
        upstreams=(Upstream("shop/auth:80"), Upstream("shop/web:80")),
        credentials=(Credentials(secret, tuple((user, f"{user}'s hash") for user in users)),),
    )


def kept(snapshot: Snapshot, key: bytes) -> Snapshot:
    """Return a snapshot as a history with that key shows it."""
    return Redaction(key).snapshot(snapshot)


def kinds(old: Snapshot, new: Snapshot, *, one_history: bool = False) -> list[str]:
    return [one.kind for one in compare(old, new, one_history=one_history).findings]


def test_fingerprints_of_one_history_are_compared() -> None:
    old, new = kept(served("alice"), b"a"), kept(served("eve"), b"a")
    assert kinds(old, new, one_history=True) == ["users_changed"]
    assert kinds(old, old, one_history=True) == []


def test_fingerprints_beside_secrets_are_no_difference_and_that_is_said() -> None:
    old, new = kept(served("alice"), b"a"), served("alice")
    difference = compare(old, new)
    assert difference.findings == ()
    assert NOTE in difference.notes
    assert compare(new, old).findings == ()


def test_fingerprints_of_two_histories_are_no_difference() -> None:
    assert kinds(kept(served("alice"), b"a"), kept(served("alice"), b"b")) == []


def test_the_number_of_users_still_counts() -> None:
    assert kinds(kept(served("alice"), b"a"), served("alice", "eve")) == ["users_changed"]


def test_users_of_another_secret_are_others() -> None:
    found = compare(kept(served("alice"), b"a"), served("alice", secret="shop/others"))
    assert [one.kind for one in found.of(Effect.PROTECTION_LOST)] == ["password_other"]


def test_snapshots_with_their_secrets_are_compared_whole() -> None:
    assert kinds(served("alice"), served("eve")) == ["users_changed"]
    assert kinds(served("alice"), served("alice", value="another")) == ["external_other", "policy_changed"]


def test_no_finding_tells_a_secret() -> None:
    found = compare(served("alice", value="s3cret"), Snapshot(hosts=served().hosts, upstreams=served().upstreams))
    assert "s3cret" not in str(found)
    assert "/check?token=..." in str(found)
