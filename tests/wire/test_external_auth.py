"""External authentication on real connections: what the service is asked, and what its word does."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path

import bcrypt
import msgspec
import pytest

from certs import issue
from eventually import eventually
from portway_proxy.errors import NameUnresolved
from portway_proxy.l7.verdicts import Verdict, Verdicts
from portway_proxy.resolver import Resolver
from portway_proxy.snapshot import (
    BasicAuth,
    Canary,
    Cors,
    Credentials,
    ExternalAuth,
    Policy,
    Protocol,
    RateLimit,
    Redirect,
    Upstream,
)
from portway_proxy.snapshot import Endpoint as EndpointOf
from wire.peers import Client, Endpoint, Message, Peer, Script, answering, echoing, reply
from wire.site import WEB, Net, Site, prefix, table, upstream

AUTH = "auth/service:80"
ASKED = ExternalAuth(AUTH, "/verify?a=b", "auth.example")
YES = reply(b"yes")
NO = reply(b"who?", b"401 Unauthorized", b"WWW-Authenticate: Bearer realm=x", b"Set-Cookie: seen=1")
FORBIDDEN = reply(b"", b"403 Forbidden")
USERS = Credentials("shop/users", (("ada", bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()),))
BASIC = BasicAuth("shop/users")
PASSWORD = "Authorization: Basic " + base64.b64encode(b"ada:open sesame").decode()
HERE, ELSEWHERE = ("127.0.0.0/8",), ("192.0.2.0/24",)


class Shop:
    """A site whose every path asks the service, the endpoint behind it, and a client."""

    def __init__(self, site: Site, web: Endpoint, auth: Endpoint, client: Client) -> None:
        self.site, self.web, self.auth, self.client = site, web, auth, client

    def serve(self, policy: Policy) -> None:
        routes = {"": [prefix("/", policy=policy)]}
        snapshot = table(routes, upstream(WEB, self.web.port), upstream(AUTH, self.auth.port))
        self.site.serve(msgspec.structs.replace(snapshot, credentials=(USERS,)))

    async def asked(self) -> Message:
        """Return the first request that the service got."""
        peer = Peer()
        peer.received += self.auth.received[0]
        return await peer.request()

    @property
    def count(self) -> int:
        """How often the service was asked."""
        return b"".join(self.auth.received).count(b"X-Sent-From: ")

    @property
    def served(self) -> int:
        """How many requests reached the endpoint."""
        return b"".join(self.web.received).count(b" HTTP/1.1\r\n")


async def shop(net: Net, script: Script, policy: Policy | None = None, web: Script = echoing) -> Shop:
    auth, endpoint = await net.endpoint(script), await net.endpoint(web)
    site = await net.site(table({}))
    found = Shop(site, endpoint, auth, await net.client(site))
    found.serve(policy or Policy(external=ASKED))
    return found


def changed(**changes: object) -> ExternalAuth:
    return msgspec.structs.replace(ASKED, **changes)


# --- what the service is asked


async def test_the_service_gets_the_head_of_the_request_and_no_body(net: Net) -> None:
    here = await shop(net, answering(YES))
    fields = b"Cookie: s=1\r\nX-Original-URL: http://evil\r\nx_original_url: http://evil\r\nContent-Length: 4\r\n"
    here.client.send(b"POST /a%%20b?c=d HTTP/1.1\r\nHost: shop.example:8080\r\n%b\r\nbody" % fields)
    assert (await here.client.response(b"POST")).body == b"/a%20b?c=dbody"
    asked = await here.asked()
    assert asked.start == b"GET /verify?a=b HTTP/1.1"
    assert asked.get(b"host") == b"auth.example"
    assert asked.get(b"x-original-url") == b"http://shop.example:8080/a%20b?c=d"
    assert asked.get(b"x_original_url") is None
    assert asked.get(b"x-original-method") == b"POST"
    assert asked.get(b"x-sent-from") == b"nginx-ingress-controller"
    assert asked.get(b"x-auth-request-redirect") == b"/a%20b?c=d"
    assert asked.get(b"x-real-ip") == asked.get(b"x-forwarded-for") == b"127.0.0.1"
    assert asked.get(b"cookie") == b"s=1"
    assert asked.get(b"content-length") is asked.get(b"transfer-encoding") is None


async def test_method_redirect_and_further_fields_are_as_the_policy_says(net: Net) -> None:
    fields = (("X-Team", "shop"), ("Cookie", "mine=1"), ("X-Method", "$request_method"))
    external = changed(method="HEAD", redirect="https://$host/back", fields=fields)
    here = await shop(net, answering(YES[: -len(b"yes")]), Policy(external=external))
    assert (await here.client.get("/x", "shop.example", "Cookie: theirs=1", "X-Team: other")).status == 200
    asked = await here.asked()
    assert asked.start == b"HEAD /verify?a=b HTTP/1.1"
    assert asked.get(b"x-auth-request-redirect") == b"https://shop.example/back"
    assert (asked.get(b"x-team"), asked.get(b"cookie")) == (b"shop", b"mine=1")
    assert asked.get(b"x-method") == b"GET"
    assert b"Cookie: theirs=1" in here.web.received[0]


async def test_what_a_client_sends_cannot_split_the_request_line(net: Net) -> None:
    here = await shop(net, answering(YES), Policy(external=changed(target="/v?agent=$http_user_agent&u=$request_uri")))
    assert (await here.client.get("/x", "shop.example", "User-Agent: a b HTTP/1.1")).status == 200
    assert (await here.asked()).target == b"/v?agent=a%20b%20HTTP/1.1&u=/x"


async def test_connections_to_the_service_are_kept(net: Net) -> None:
    here = await shop(net, answering(YES))
    assert {(await here.client.get("/")).status for _ in range(5)} == {200}
    assert (len(here.auth.peers), here.count) == (1, 5)


# --- what its word does


@pytest.mark.parametrize("answer", [YES, reply(b"", b"202 Accepted"), b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_any_2xx_lets_through(net: Net, answer: bytes) -> None:
    here = await shop(net, answering(answer))
    assert (await here.client.get("/x")).body == b"/x"


async def test_a_401_reaches_the_client_with_its_challenge_and_without_its_cookie(net: Net) -> None:
    here = await shop(net, answering(NO))
    for _ in range(2):
        answer = await here.client.get("/x")
        assert (answer.status, answer.get(b"www-authenticate"), answer.closes) == (401, b"Bearer realm=x", False)
        assert answer.get(b"set-cookie") is None
        assert b"who?" not in answer.body
    assert here.served == 0
    assert [line["reason"] for line in await here.site.lines(2)] == ["unauthorized", "unauthorized"]


async def test_a_403_reaches_the_client(net: Net) -> None:
    here = await shop(net, answering(FORBIDDEN), Policy(external=changed(signin="https://login.example/")))
    assert ((await here.client.get("/x")).status, here.served) == (403, 0)
    assert (await here.site.line())["reason"] == "auth_denied"


async def test_a_401_sends_the_client_to_sign_in_with_the_way_back_and_the_cookie(net: Net) -> None:
    signin = "https://login.example/start?rd=$scheme://$http_host$escaped_request_uri"
    here = await shop(net, answering(NO), Policy(external=changed(signin=signin)))
    answer = await here.client.get("/a?b=c", "shop.example:81")
    assert answer.status == 302
    assert answer.get(b"location") == b"https://login.example/start?rd=http://shop.example:81%2Fa%3Fb%3Dc"
    assert answer.get(b"set-cookie") == b"seen=1"


@pytest.mark.parametrize("status", [b"500 Oops", b"404 Not Found", b"302 Found", b"301 Moved", b"503 No", b"429 No"])
async def test_any_other_status_lets_nobody_through(net: Net, status: bytes) -> None:
    here = await shop(net, answering(reply(b"", status, b"Location: /x")))
    assert ((await here.client.get("/x")).status, here.served) == (500, 0)
    assert (await here.site.line())["reason"] == "auth_unavailable"


async def hangs_up(peer: Peer) -> None:
    await peer.request()
    peer.close()


async def cut_off(peer: Peer) -> None:
    await peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    peer.close()


async def endless(peer: Peer) -> None:
    await peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(3 << 20))


@pytest.mark.parametrize("script", [hangs_up, cut_off, endless, answering(b"nonsense\r\n\r\n")])
async def test_a_service_that_does_not_answer_whole_lets_nobody_through(net: Net, script: Script) -> None:
    here = await shop(net, script)
    assert ((await here.client.get("/x")).status, here.served) == (500, 0)


async def test_a_service_that_is_away_lets_nobody_through_and_is_asked_again_when_it_is_back(net: Net) -> None:
    here = await shop(net, answering(YES))
    here.auth.refuse()
    assert ((await here.client.get("/x")).status, here.served) == (500, 0)
    await here.auth.start(here.auth.port)
    assert (await here.client.get("/x")).status == 200


async def test_a_silent_service_lets_nobody_through_once_its_time_is_over(net: Net) -> None:
    async def silent(peer: Peer) -> None:
        await peer.request()

    here = await shop(net, silent)
    here.client.send(b"GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await eventually(lambda: here.count == 1, what="the service is asked, and let go")
    here.site.later(100)
    assert ((await here.client.response()).status, here.served) == (500, 0)


async def test_a_service_without_endpoints_lets_nobody_through(net: Net) -> None:
    here = await shop(net, answering(YES))
    routes = {"": [prefix("/", policy=Policy(external=ASKED))]}
    here.site.serve(table(routes, upstream(WEB, here.web.port), upstream(AUTH, reason="no_endpoints")))
    assert ((await here.client.get("/x")).status, here.served) == (500, 0)


async def test_a_service_outside_is_asked_for_by_its_name_over_tls(net: Net, tmp_path: Path) -> None:
    chain, key = issue("auth.example")
    (tmp_path / "both.pem").write_bytes(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    here, auth = await shop(net, answering(YES)), Endpoint(answering(YES))
    await auth.start(tls=context)
    net.stack.push_async_callback(auth.close)
    outside = Upstream(AUTH, Protocol.HTTPS, external_name="auth.example", external_port=auth.port)
    here.site.serve(table({"": [prefix("/", policy=Policy(external=ASKED))]}, upstream(WEB, here.web.port), outside))
    here.site.live.upstreams[AUTH].resolved([EndpointOf("127.0.0.1", auth.port)], NameUnresolved)
    assert (await here.client.get("/x")).status == 200
    assert names == ["auth.example"]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "169.254.169.254"])
async def test_a_service_whose_name_leads_to_this_machine_is_not_asked(
    net: Net, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portway_proxy.resolver._log.disabled", True)  # It warns, as it should.
    here = await shop(net, answering(YES))
    outside = Upstream(AUTH, external_name=name, external_port=here.auth.port)
    routes = {"": [prefix("/", policy=Policy(external=ASKED))]}
    here.site.serve(table(routes, upstream(WEB, here.web.port), outside))
    Resolver(here.site.tasks).follow(here.site.live.upstreams.values())
    assert ((await here.client.get("/x")).status, here.served, here.auth.peers) == (500, 0, [])


async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(net: Net) -> None:
    let = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await let.wait()
        peer.send(YES)

    here = await shop(net, slow)
    here.client.send(b"GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    await eventually(lambda: here.count == 1, what="the service is asked, and let go")
    here.client.close()
    assert (await here.site.line())["status"] == 499
    let.set()
    await eventually(lambda: here.site.pooled(AUTH) == 1, what="the service is asked, and let go")
    assert here.served == 0


# --- what it says to the endpoint and the client


async def test_fields_of_the_answer_reach_the_endpoint_and_the_clients_own_never_do(net: Net) -> None:
    yes = reply(b"", b"200 OK", b"X-User: ada", b"X-Group: a", b"X-Group: b", b"X-Other: no")
    external = changed(copied=("x-user", "x-group", "x-absent"))
    here = await shop(net, answering(yes), Policy(external=external))
    lies = ("X-User: root", "X_User: root", "X-Absent: root", "x-group: root")
    assert (await here.client.get("/x", "shop.example", *lies)).status == 200
    got = here.web.received[0]
    assert b"X-User: ada\r\nX-Group: a\r\nX-Group: b\r\n" in got
    assert b"root" not in got
    assert b"X-Other" not in got


@pytest.mark.parametrize(("status", "always", "seen"), [(200, False, 1), (404, False, 0), (404, True, 1)])
async def test_cookies_of_the_answer_reach_the_client_when_all_is_well_or_always(
    net: Net,
    status: int,
    always: bool,
    seen: int,
) -> None:
    yes = reply(b"", b"200 OK", b"Set-Cookie: s=1")
    external = changed(always_cookie=always)
    web = answering(reply(b"x", b"%d Such" % status, b"Set-Cookie: own=1"))
    here = await shop(net, answering(yes), Policy(external=external), web)
    answer = await here.client.get("/x")
    assert answer.status == status
    assert answer.all(b"set-cookie") == [b"own=1", *([b"s=1"] * seen)]


async def test_an_upgrade_asks_too(net: Net) -> None:
    here = await shop(net, answering(FORBIDDEN))
    answer = await here.client.get("/ws", "shop.example", "Connection: Upgrade", "Upgrade: websocket")
    assert (answer.status, here.served) == (403, 0)
    assert (await here.asked()).get(b"upgrade") is None


# --- the service behind the same host


async def test_a_url_on_the_requests_own_host_is_asked_without_the_way_around(net: Net) -> None:
    auth, web = await net.endpoint(answering(YES, NO)), await net.endpoint()
    policy = Policy(external=ExternalAuth("", "/oauth2/auth", "$http_host"))
    routes = {"shop.example": [prefix("/oauth2", AUTH), prefix("/", policy=policy)]}
    site = await net.site(table(routes, upstream(WEB, web.port), upstream(AUTH, auth.port)))
    client = await net.client(site)
    assert [(await client.get("/x")).status for _ in range(2)] == [200, 401]
    assert auth.received[0].startswith(b"GET /oauth2/auth HTTP/1.1\r\nHost: shop.example\r\n")


@pytest.mark.parametrize("target", ["/nowhere/../../..", "/guarded", "/"])
async def test_a_url_on_the_own_host_that_leads_nowhere_or_to_itself_lets_nobody_through(net: Net, target: str) -> None:
    web = await net.endpoint()
    policy = Policy(external=ExternalAuth("", target, "$http_host"))
    routes = {"shop.example": [prefix("/guarded", policy=Policy(deny=HERE)), prefix("/", policy=policy)]}
    site = await net.site(table(routes, upstream(WEB, web.port)))
    assert (await (await net.client(site)).get("/x")).status == 500
    assert web.received == []


# --- what is remembered


CACHED = changed(cache_key="$http_authorization", durations=((200, 60.0), (401, 5.0)))


async def test_a_verdict_is_remembered_by_its_key_for_its_time(net: Net) -> None:
    here = await shop(net, answering(YES), Policy(external=CACHED))
    for who in ("a", "b", "a", "b", "a"):
        assert (await here.client.get("/x", "shop.example", f"Authorization: {who}")).status == 200
    assert here.count == 2
    here.site.later(61)
    assert (await here.client.get("/x", "shop.example", "Authorization: a")).status == 200
    assert here.count == 3


async def test_a_remembered_verdict_survives_the_service_and_a_swap(net: Net) -> None:
    here = await shop(net, answering(reply(b"", b"200 OK", b"X-User: ada")), Policy(external=CACHED))
    assert (await here.client.get("/x", "shop.example", "Authorization: a")).status == 200
    here.auth.refuse()
    here.auth.peers[0].close()
    here.serve(Policy(external=CACHED, body_size=5))
    assert (await here.client.get("/x", "shop.example", "Authorization: a")).status == 200
    assert (await here.client.get("/x", "shop.example", "Authorization: b")).status == 500


async def test_no_verdict_counts_for_another_host_or_for_who_shows_nothing(net: Net) -> None:
    here = await shop(net, answering(YES), Policy(external=CACHED))
    for host in ("a.example", "b.example"):
        assert (await here.client.get("/x", host, "Authorization: a")).status == 200
    for _ in range(2):
        assert (await here.client.get("/x")).status == 200
    assert here.count == 4


@pytest.mark.parametrize(
    "answer", [reply(b"", b"200 OK", b"Set-Cookie: s=1"), reply(b"", b"200 OK", b"Cache-Control: no-store"), FORBIDDEN]
)
async def test_what_is_for_one_client_alone_or_has_no_time_is_not_remembered(net: Net, answer: bytes) -> None:
    here = await shop(net, answering(answer), Policy(external=CACHED))
    for _ in range(2):
        await here.client.get("/x", "shop.example", "Authorization: a")
    assert here.count == 2


async def test_a_remembered_401_still_sends_to_sign_in(net: Net) -> None:
    no = reply(b"", b"401 Unauthorized")
    here = await shop(net, answering(no), Policy(external=msgspec.structs.replace(CACHED, signin="/in")))
    for _ in range(2):
        assert (await here.client.get("/x", "shop.example", "Authorization: a")).get(b"location") == b"/in"
    assert here.count == 1


def test_verdicts_are_bounded_and_who_is_kept_out_pushes_nobody_out() -> None:
    verdicts = Verdicts([(0, 60.0)])
    good = (b"", "", "", b"good")
    verdicts.note(good, Verdict(200, b"", b"", b"", storable=True), 0.0)
    for number in range(25_000):
        verdicts.note((b"", "", "", b"%d" % number), Verdict(401, b"", b"", b"", storable=True), 0.0)
    assert verdicts.recall(good, 1.0) is not None
    assert len(verdicts._bad) <= 10_000


# --- beside other features


@pytest.mark.parametrize(
    ("allow", "password", "word", "status"),
    [
        (HERE, "", NO, 200),
        (ELSEWHERE, PASSWORD, NO, 200),
        (ELSEWHERE, "", YES, 200),
        (ELSEWHERE, PASSWORD.replace("b3Bl", "b3Bm"), YES, 200),
        (ELSEWHERE, "", NO, 401),
        ((), "", NO, 401),
    ],
)
async def test_any_of_network_password_and_service_suffices(
    net: Net, allow: tuple[str, ...], password: str, word: bytes, status: int
) -> None:
    here = await shop(net, answering(word), Policy(allow=allow, basic=BASIC, external=ASKED, any_suffices=True))
    assert (await here.client.get("/x", "shop.example", *([password] if password else []))).status == status
    assert here.count == (0 if allow == HERE or password == PASSWORD else 1)


@pytest.mark.parametrize(
    ("allow", "password", "word", "status", "count"),
    [
        (HERE, PASSWORD, YES, 200, 1),
        (ELSEWHERE, PASSWORD, YES, 403, 0),
        (HERE, "", YES, 401, 0),
        (HERE, PASSWORD, NO, 401, 1),
    ],
)
async def test_all_of_network_password_and_service_are_needed(
    net: Net, allow: tuple[str, ...], password: str, word: bytes, status: int, count: int
) -> None:
    here = await shop(net, answering(word), Policy(allow=allow, basic=BASIC, external=ASKED))
    assert (await here.client.get("/x", "shop.example", *([password] if password else []))).status == status
    assert here.count == count


async def test_a_page_of_another_origin_may_read_that_it_is_not_let_in(net: Net) -> None:
    policy = Policy(external=ASKED, cors=Cors(("https://a.example",)))
    here = await shop(net, answering(NO), policy)
    answer = await here.client.get("/x", "shop.example", "Origin: https://a.example")
    assert (answer.status, answer.get(b"access-control-allow-origin")) == (401, b"https://a.example")
    here.client.send(b"OPTIONS /x HTTP/1.1\r\nHost: shop.example\r\nOrigin: https://a.example\r\n\r\n")
    assert (await here.client.response()).status == 204
    assert here.count == 1


async def test_redirects_and_limits_come_before_the_service(net: Net) -> None:
    here = await shop(net, answering(YES), Policy(external=ASKED, redirect=Redirect(302, "/there")))
    assert (await here.client.get("/x")).status == 302
    here.serve(Policy(external=ASKED, limit=RateLimit("z", ((0.001, 0),))))
    assert [(await here.client.get("/x")).status for _ in range(2)] == [200, 503]
    assert here.count == 1


async def test_a_canary_asks_as_its_route_does(net: Net) -> None:
    canary = await net.endpoint(answering(reply(b"canary")))
    here = await shop(net, answering(YES, NO))
    policy = Policy(external=ASKED, canary=Canary("shop/canary:80", weight=100), rewrite="/new")
    parts = [upstream(WEB, here.web.port), upstream(AUTH, here.auth.port), upstream("shop/canary:80", canary.port)]
    here.site.serve(table({"": [prefix("/", policy=policy)]}, *parts))
    assert (await here.client.get("/x")).body == b"canary"
    assert (await here.asked()).get(b"x-original-url") == b"http://shop.example/x"
    assert ((await here.client.get("/x")).status, here.served) == (401, 0)
