"""The annotations of an Ingress that say who may come to its paths; one that cannot be read lets nobody in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import Invalid, row
from portway_operator.htpasswd import SecretForm
from portway_operator.parse import object_reference, one_of, quotable
from portway_operator.parse_http import some_networks

__all__ = ["AccessAnnotations", "AuthType", "Satisfy"]


class AuthType(StrEnum):
    """What clients have to show."""

    BASIC = "basic"


class Satisfy(StrEnum):
    """Which of network and password a client needs."""

    ALL = "all"
    ANY = "any"


@dataclass(frozen=True)
class AccessAnnotations:
    """What the annotations of an Ingress say about who may come."""

    allow_source_range: tuple[str, ...] = row(
        "allow-source-range",
        some_networks,
        default=(),
        makes="allow",
        doc="The networks that clients must come from (`10.0.0.0/8, 192.0.2.7`); others get 403.",
        invalid=Invalid.CLOSE,
        nginx=("allowlist-source-range", "whitelist-source-range"),
    )
    deny_source_range: tuple[str, ...] = row(
        "deny-source-range",
        some_networks,
        default=(),
        makes="deny",
        doc="The networks that clients must not come from; it counts before `allow-source-range`.",
        invalid=Invalid.CLOSE,
        nginx="denylist-source-range",
    )
    satisfy: Satisfy = row(
        "satisfy",
        one_of(Satisfy),
        default=Satisfy.ALL,
        makes="any_suffices",
        doc="`any`: one of `allow-source-range`, password and `auth-url` is enough to come in.",
        invalid=Invalid.CLOSE,
        nginx="satisfy",
    )

    auth_type: AuthType | None = row(
        "auth-type",
        one_of(AuthType),
        default=None,
        makes="basic",
        doc="`basic` asks for a user and a password of `auth-secret`; the endpoint does not get to see them. Digest "
        "authentication is not built: its hashes are MD5.",
        invalid=Invalid.CLOSE,
        nginx="auth-type",
        fidelity=close("`digest` closes the path.", lambda value: value.strip() != "basic"),
    )
    auth_secret: str = row(
        "auth-secret",
        object_reference,
        default="",
        makes="basic",
        doc="The Secret with the users, as `name`, or `namespace/name` where that is the Ingress's own namespace.",
        invalid=Invalid.CLOSE,
        nginx="auth-secret",
        fidelity=close("A hash that takes longer than about a second lets its user not in."),
        requires=("auth_type",),
    )
    auth_secret_type: SecretForm = row(
        "auth-secret-type",
        one_of(SecretForm),
        default=SecretForm.FILE,
        makes="basic",
        doc="`auth-file`: lines of htpasswd under the key `auth`. `auth-map`: a key for each user, and the password's "
        "hash as its value. Hashes are bcrypt (with a cost of at most 13), apr1, SHA and crypt.",
        invalid=Invalid.CLOSE,
        nginx="auth-secret-type",
        requires=("auth_type",),
    )
    auth_realm: str = row(
        "auth-realm",
        quotable,
        default="",
        makes="basic",
        doc="The realm that browsers show when they ask for the password.",
        nginx="auth-realm",
        requires=("auth_type",),
    )
