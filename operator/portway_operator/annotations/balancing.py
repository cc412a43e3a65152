"""The annotations of an Ingress that say which endpoint gets a request, under ingress-nginx's names.

They count for the paths of the Ingress alone, beside what the Service says for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.annotations.service import AffinityKind, SameSite
from portway_operator.parse import boolean, cookie_domain, cookie_path, count, one_of, seconds, token
from portway_operator.parse_http import hash_text, next_upstream, spoken
from portway_proxy.snapshot import Protocol

__all__ = ["AffinityMode", "BalancingAnnotations", "CanaryBehavior", "LoadBalance"]

_COOKIE = ("affinity",)
_ASKED = (
    "affinity",
    "backend_protocol",
    "load_balance",
    "next_upstream",
    "next_upstream_timeout",
    "next_upstream_tries",
    "service_upstream",
    "upstream_hash_by",
)
_YEAR = 366 * 86400.0
_MOST = 1_000


class AffinityMode(StrEnum):
    """What becomes of clients when endpoints come."""

    BALANCED = "balanced"
    PERSISTENT = "persistent"


class CanaryBehavior(StrEnum):
    """Whether a cookie ties to the canary too."""

    STICKY = "sticky"
    LEGACY = "legacy"


class LoadBalance(StrEnum):
    """How endpoints are chosen."""

    ROUND_ROBIN = "round_robin"
    EWMA = "ewma"


@dataclass(frozen=True)
class BalancingAnnotations:
    """What the annotations of an Ingress say about its endpoints."""

    affinity: AffinityKind | None = row(
        "",
        one_of(AffinityKind),
        default=None,
        makes="affinity",
        doc="`cookie` keeps each client at one endpoint, by a cookie of the proxy's own.",
        nginx="affinity",
        fidelity=close("The cookie's value is another; nginx's own cookies tie to nothing."),
    )
    affinity_mode: AffinityMode = row(
        "",
        one_of(AffinityMode),
        default=AffinityMode.BALANCED,
        makes="affinity",
        doc="`balanced` moves a share of the clients to endpoints that come; `persistent` none, as long as theirs is "
        "there.",
        nginx="affinity-mode",
        fidelity=close("A client whose endpoint is gone or ejected gets another one at once, and never a 503 for it."),
        requires=_COOKIE,
    )
    affinity_canary_behavior: CanaryBehavior = row(
        "",
        one_of(CanaryBehavior),
        default=CanaryBehavior.STICKY,
        makes="canary",
        doc="`sticky`: the cookie keeps clients at the canary, or away from it, whatever its rules say; on the canary.",
        nginx="affinity-canary-behavior",
    )
    session_cookie_name: str = row(
        "",
        token,
        default="INGRESSCOOKIE",
        makes="affinity",
        doc="The name of that cookie.",
        nginx="session-cookie-name",
        requires=_COOKIE,
    )
    session_cookie_path: str = row(
        "",
        cookie_path,
        default="",
        makes="affinity",
        doc="The Path of that cookie; unset, it is the path of the rule.",
        nginx="session-cookie-path",
        fidelity=close("Unset, for a path that is a regular expression it is `/`."),
        requires=_COOKIE,
    )
    session_cookie_domain: str = row(
        "",
        cookie_domain,
        default="",
        makes="affinity",
        doc="The Domain of that cookie; unset, it is for the host of the request alone.",
        nginx="session-cookie-domain",
        requires=_COOKIE,
    )
    session_cookie_expires: float = row(
        "",
        seconds(0, _YEAR),
        default=0.0,
        makes="affinity",
        doc="How long from now the Expires of that cookie is; 0 leaves it out.",
        nginx="session-cookie-expires",
        requires=_COOKIE,
    )
    session_cookie_max_age: float = row(
        "",
        seconds(0, _YEAR),
        default=0.0,
        makes="affinity",
        doc="The Max-Age of that cookie; 0 leaves it out.",
        nginx="session-cookie-max-age",
        requires=_COOKIE,
    )
    session_cookie_samesite: SameSite | None = row(
        "",
        one_of(SameSite),
        default=None,
        makes="affinity",
        doc="The SameSite of that cookie: `Strict`, `Lax` or `None`; unset, there is none.",
        nginx="session-cookie-samesite",
        requires=_COOKIE,
    )
    session_cookie_conditional_samesite_none: bool = row(
        "",
        boolean,
        default=False,
        makes="affinity",
        doc="Whether browsers that misread `SameSite=None` get none.",
        nginx="session-cookie-conditional-samesite-none",
        requires=_COOKIE,
    )
    session_cookie_secure: bool | None = row(
        "",
        boolean,
        default=None,
        makes="affinity",
        doc="Whether that cookie is Secure; unset, it is when the request came over TLS.",
        nginx="session-cookie-secure",
        requires=_COOKIE,
    )
    session_cookie_partitioned: bool = row(
        "",
        boolean,
        default=False,
        makes="affinity",
        doc="Whether that cookie is Partitioned.",
        nginx="session-cookie-partitioned",
        requires=_COOKIE,
    )
    session_cookie_change_on_failure: bool = row(
        "",
        boolean,
        default=False,
        makes="affinity",
        doc="Whether a client whose endpoint failed stays with the one that served it then.",
        nginx="session-cookie-change-on-failure",
        requires=_COOKIE,
    )
    load_balance: LoadBalance | None = row(
        "",
        one_of(LoadBalance),
        default=None,
        makes="balance",
        doc="`round_robin`, or `ewma`: of two endpoints by chance the one that took less time of late.",
        nginx="load-balance",
        fidelity=close(
            "`ewma` goes by the time until the head of a response, and each worker by its own.",
            lambda value: value == "ewma",
        ),
    )
    upstream_hash_by: str = row(
        "",
        hash_text,
        default="",
        makes=("balance", "hash_on"),
        doc="What a consistent hash of the endpoint is taken of (`$request_uri`); requests in which it is empty go in "
        "turn.",
        nginx="upstream-hash-by",
    )
    upstream_hash_by_subset: bool = row(
        "",
        boolean,
        default=False,
        makes="hash_on",
        doc="Whether the hash chooses a group of endpoints, any of which gets the request.",
        nginx="upstream-hash-by-subset",
        requires=("upstream_hash_by",),
    )
    upstream_hash_by_subset_size: int = row(
        "",
        count(1, _MOST),
        default=3,
        makes="hash_on",
        doc="How many endpoints are in such a group.",
        nginx="upstream-hash-by-subset-size",
        requires=("upstream_hash_by_subset",),
    )
    service_upstream: bool = row(
        "",
        boolean,
        default=False,
        makes="endpoints",
        doc="Whether the Service's own address (clusterIP) stands in for its endpoints.",
        nginx="service-upstream",
    )
    next_upstream: tuple[str, ...] | None = row(
        "",
        next_upstream,
        default=None,
        makes="retries",
        doc="When a request goes to another endpoint: `error`, `timeout`, `http_502` and other statuses, for POST, "
        "LOCK and PATCH too with `non_idempotent`, or `off`.",
        nginx="proxy-next-upstream",
        fidelity=close(
            "A request with a body is sent again only while nothing of it was; `timeout` is an endpoint's 504 too."
        ),
    )
    next_upstream_tries: int | None = row(
        "",
        count(0, 10),
        default=None,
        makes="retries",
        doc="How many endpoints are tried; 0 is ten.",
        nginx="proxy-next-upstream-tries",
    )
    next_upstream_timeout: float | None = row(
        "",
        seconds(0, 3600),
        default=None,
        makes="retries",
        doc="Later than this after its beginning a request is not sent again; 0 is an hour.",
        nginx="proxy-next-upstream-timeout",
    )

    backend_protocol: Protocol | None = row(
        "backend-protocol",
        spoken,
        default=None,
        makes=("protocol", "tls"),
        doc="What endpoints speak: `HTTP`, `HTTPS`, `GRPC` (HTTP/2 in clear, whatever is sent by it) or `GRPCS` (over "
        "TLS). It goes before the `appProtocol` of the Service's port.",
        nginx="backend-protocol",
        fidelity=close("`FCGI` is not spoken; `AUTO_HTTP` leaves it to the Service."),
    )

    def balances(self, usual: BalancingAnnotations) -> bool:
        """Return whether they say anything that counts for endpoints, beyond what is `usual`."""
        return any(getattr(self, name) != getattr(usual, name) for name in _ASKED)
