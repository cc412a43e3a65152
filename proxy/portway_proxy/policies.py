"""What a route may ask for beyond forwarding: a part of the contract (`snapshot.Policy`), values and no behaviour."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from portway_proxy.tls_terms import ClientCertificate

__all__ = [
    "BasicAuth",
    "Blocked",
    "Buffering",
    "Canary",
    "Cors",
    "Credentials",
    "Edits",
    "ErrorPages",
    "ExternalAuth",
    "Mirror",
    "Patience",
    "Policy",
    "Rate",
    "RateLimit",
    "Redirect",
    "Traced",
]

_Count: TypeAlias = Annotated[int, msgspec.Meta(gt=0)]
_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class Credentials(msgspec.Struct, frozen=True):
    """Users and the hashes of their passwords; `name` is the Secret's `namespace/name`, `users` are sorted.

    Neither `repr` nor `str` shows the users.
    """

    name: str
    users: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        """Return the name and how many users there are; never a hash."""
        return f"Credentials(name={self.name!r}, users=<{len(self.users)}>)"


class BasicAuth(msgspec.Struct, frozen=True):
    """A user and a password of the `Credentials` of that name are needed (RFC 7617)."""

    credentials: str
    realm: str = ""


class ExternalAuth(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service says of each request whether it may pass: it is asked by a request of its own, without the body.

    `upstream` is where the service is; empty for the route that serves `target` on the host of the request. `target`,
    `host`, `signin`, `redirect` and `cache_key` are templates. `redirect` is the X-Auth-Request-Redirect that the
    service gets, `fields` are more of them. `copied` are the fields of its answer that the endpoint gets, lower-case.
    `signin` is where its 401 sends the client by a 302; empty: the client gets the 401. `always_cookie`: its cookies
    reach the client whatever the status, and not only when all is well. Its verdicts are remembered by `cache_key`, for
    the seconds that `durations` say of each status; 0 is any status.
    """

    upstream: str
    target: str
    host: str
    method: str = "GET"
    signin: str = ""
    redirect: str = "$request_uri"
    copied: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    cache_key: str = ""
    durations: tuple[tuple[int, float], ...] = ()
    always_cookie: bool = False


class Redirect(msgspec.Struct, frozen=True):
    """Every request is answered with this status and Location, a template (`variables`)."""

    status: int
    location: str


class Cors(msgspec.Struct, frozen=True):
    """What other origins' pages may do (Fetch, 3.2); preflights are answered by the proxy.

    `origins` are lower-case: `*`, `https://shop.example`, or one label left open: `https://*.shop.example`. `max_age`
    is in seconds.
    """

    origins: tuple[str, ...] = ("*",)
    methods: str = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
    headers: str = (
        "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization"
    )
    expose: str = ""
    credentials: bool = True
    max_age: int = 1_728_000


class RateLimit(msgspec.Struct, frozen=True):
    """The most that one client address may ask for; 0 is no limit.

    Routes with the same `zone` count together. `rate` is requests a second, of which `burst` may come at once.
    `connections` are requests under way. What is more gets `rate_status` or `connections_status`. `exempt` networks
    have no limit.
    """

    zone: str
    rates: tuple[tuple[_Positive, int], ...] = ()
    connections: int = 0
    exempt: tuple[str, ...] = ()
    rate_status: int = 503
    connections_status: int = 503


class Canary(msgspec.Struct, frozen=True):
    """Another upstream that gets some of a route's requests: by a header, else by a cookie, else by chance.

    `header` with `value`, or with the regular expression `pattern`, chooses it when that is so; alone, and `cookie`,
    when they say `always`, and never when they say `never`. `weight` of `total` requests go there. Where it is
    `sticky`, clients that an affinity cookie ties to either upstream stay there.
    """

    upstream: str
    header: str = ""
    value: str = ""
    pattern: str = ""
    cookie: str = ""
    weight: int = 0
    total: int = 100
    sticky: bool = False


class Edits(msgspec.Struct, frozen=True):
    """What becomes of an endpoint's answers: each is the old text and the new one.

    `cookie_domain` is the whole Domain of a cookie, `cookie_path` the beginning of its Path, `redirect` the beginning
    of a Location; the new one of that is a template.
    """

    cookie_domain: tuple[str, str] | None = None
    cookie_path: tuple[str, str] | None = None
    redirect: tuple[str, str] | None = None


class ErrorPages(msgspec.Struct, frozen=True, omit_defaults=True):
    """Another upstream makes the pages for what did not go well.

    What would reach the client with one of `statuses` (ascending), from the endpoint or from the proxy itself, is asked
    of `upstream` instead. Where that `stands_in`, requests for which there is no endpoint go there as they are.
    """

    upstream: str
    statuses: tuple[int, ...] = ()
    stands_in: bool = False


class Mirror(msgspec.Struct, frozen=True):
    """A copy of each request goes to another upstream; `target` and `host` are templates.

    Without `body` the copies have none.
    """

    upstream: str
    target: str
    host: str
    body: bool = True


class Rate(msgspec.Struct, frozen=True):
    """A response reaches its client with so many bytes a second, once it has had `after` of them."""

    bytes: _Count
    after: int = 0


class Buffering(msgspec.Struct, frozen=True, omit_defaults=True):
    """What waits in memory, in bytes; 0 is as usual.

    `request`: a request waits for so much of its body before an endpoint gets it. `response`: so much of a response
    waits for a client that does not keep up. `head`: the longest head of a response.
    """

    request: int = 0
    response: int = 0
    head: int = 0


class Traced(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests are traced, where that is not as for all; `name`, a template, is what their spans are called."""

    enabled: bool | None = None
    trust_incoming: bool | None = None
    name: str = ""


class Blocked(msgspec.Struct, frozen=True):
    """Clients with one of these in User-Agent or Referer get 403: whole texts, or patterns behind `~` and `~*`."""

    agents: tuple[str, ...] = ()
    referers: tuple[str, ...] = ()


class Patience(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long a route's endpoints have, in seconds; 0 leaves the proxy's own time.

    `connect` to accept, `read` between two parts of what they send, a WebSocket's included, `write` to take more.
    """

    connect: float = 0.0
    read: float = 0.0
    write: float = 0.0


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a route asks for beyond forwarding; a route without any of it has no policy at all.

    `https_redirect`: requests that came without TLS get a 308 to https.
    `body_size`: the most bytes a request body may have; None leaves the proxy's own limit, 0 lifts it.
    `closed`: a reason code; when set, every request gets 503 (a security setting could not be read).
    `allow`, `deny`: networks that clients must, and must not, come from; the latter counts first.
    `any_suffices`: one of `allow`, `basic` and `external` is enough.
    `app_root`: where a request for exactly `/` is sent by a 302.
    `relative`: that Location is the path alone.
    `www`: the host that every request is sent to by a 308.
    `rewrite`: what the endpoint gets for the path; `$1` is the first group of the route's pattern.
    `host`: the Host that the endpoint gets, a template.
    `prefix`: the X-Forwarded-Prefix that the endpoint gets.
    `certificate`: what certificates clients have to show.
    `unlogged`: its requests leave no access lines.
    `answer`: fields that every response has, in the place of the endpoint's own of these names.
    `connection`: the Connection field that the endpoint gets.
    `old_http`: endpoints are asked by HTTP/1.0.
    `request`: fields that the endpoint gets in the place of the client's; values are templates.
    `hidden`: fields of the endpoint's that the client does not get, lower-case and sorted.
    `errors`: who makes the pages for errors.
    """

    https_redirect: bool = False
    body_size: int | None = None
    closed: str = ""
    basic: BasicAuth | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    any_suffices: bool = False
    app_root: str = ""
    relative: bool = False
    redirect: Redirect | None = None
    www: str = ""
    cors: Cors | None = None
    limit: RateLimit | None = None
    rewrite: str = ""
    host: str = ""
    prefix: str = ""
    answer: tuple[tuple[str, str], ...] = ()
    canary: Canary | None = None
    patience: Patience | None = None
    certificate: ClientCertificate | None = None
    external: ExternalAuth | None = None
    edits: Edits | None = None
    unlogged: bool = False
    errors: ErrorPages | None = None
    mirror: Mirror | None = None
    rate: Rate | None = None
    buffering: Buffering | None = None
    connection: str = ""
    old_http: bool = False
    tracing: Traced | None = None
    request: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    blocked: Blocked | None = None

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The names of the upstreams that it refers to; an empty one is none."""
        parts = (self.canary, self.external, self.errors, self.mirror)
        return tuple(part.upstream for part in parts if part is not None)

    @property
    def guards(self) -> bool:
        """Whether it keeps anybody away, so that nothing may go around it."""
        asks = self.basic is not None or self.external is not None or self.certificate is not None
        return asks or bool(self.closed or self.allow or self.deny)
