"""Pages that a default backend makes for errors: of endpoints, of the proxy itself, and of what guards a path."""

from __future__ import annotations

import base64

import msgspec
import pytest

from portway_proxy.snapshot import BasicAuth, Cors, Credentials, ErrorPages, ExternalAuth, Policy, RateLimit
from wire.http2_client import connect, request_fields
from wire.peers import Client, Endpoint, Message, Peer, Script, answering, echoing, reply
from wire.site import WEB, Net, Site, prefix, table, upstream

PAGES = "shop/pages:80"
AUTH = "auth/service:80"
ERRORS = ErrorPages(PAGES, (401, 403, 404, 413, 502, 503))
PAGE = reply(b"<h1>sorry</h1>", b"410 Gone", b"Content-Type: text/html")
MISSING = reply(b"no such thing", b"404 Not Found", b"X-Inner: secret")
USERS = Credentials("shop/users", (("ada", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),))  # password


class Shop:
    """A site whose endpoint fails, a default backend that makes pages, and a client."""

    def __init__(self, site: Site, web: Endpoint, pages: Endpoint, client: Client) -> None:
        self.site, self.web, self.pages, self.client = site, web, pages, client

    def serve(self, policy: Policy, *others: tuple[str, int], web: bool = True) -> None:
        ports = (self.web.port,) if web else ()
        named = [(WEB, ports), (PAGES, (self.pages.port,)), *((name, (port,)) for name, port in others)]
        ups = [upstream(name, *ports, reason="" if ports else "no_endpoints") for name, ports in named]
        snapshot = table({"": [prefix("/", policy=policy)]}, *ups)
        self.site.serve(msgspec.structs.replace(snapshot, credentials=(USERS,)))

    async def asked(self) -> Message:
        """Return the first request that the default backend got."""
        peer = Peer()
        peer.received += self.pages.received[0]
        return await peer.request()


LOST, MADE = answering(MISSING), answering(PAGE)


async def shop(net: Net, script: Script = LOST, policy: Policy | None = None, pages: Script = MADE) -> Shop:
    web, maker = await net.endpoint(script), await net.endpoint(pages)
    site = await net.site(table({}))
    found = Shop(site, web, maker, await net.client(site))
    found.serve(policy or Policy(errors=ERRORS))
    return found


async def test_the_page_takes_the_place_of_an_endpoints_error_with_a_status_of_its_own(net: Net) -> None:
    here = await shop(net)
    for _ in range(2):
        got = await here.client.get("/lost?a=b", "shop.example", "Accept: text/html", "X-Request-ID: 77", "X-Code: 1")
        assert (got.status, got.body, got.get(b"content-type")) == (410, b"<h1>sorry</h1>", b"text/html")
        assert (got.get(b"x-inner"), got.closes) == (None, False)
    asked = await here.asked()
    assert asked.start == b"GET / HTTP/1.1"
    told = {
        b"host": b"shop.example",
        b"x-code": b"404",
        b"x-format": b"text/html",
        b"x-original-uri": b"/lost?a=b",
        b"x-namespace": b"shop",
        b"x-ingress-name": b"web",
        b"x-service-name": b"web",
        b"x-service-port": b"80",
        b"x-request-id": b"77",
    }
    assert {name: asked.all(name) for name in told} == {name: [value] for name, value in told.items()}
    line = (await here.site.lines(2))[0]
    assert (line["status"], line["target"]) == (410, "/lost?a=b")


async def test_other_statuses_reach_the_client_as_they_are(net: Net) -> None:
    here = await shop(net, answering(reply(b"teapot", b"418 No")))
    assert (await here.client.get("/")).body == b"teapot"
    assert here.pages.received == []


async def test_a_rewritten_request_is_told_as_it_came(net: Net) -> None:
    here = await shop(net, policy=Policy(errors=ERRORS, rewrite="/inner", host="inner.example", prefix="/p"))
    assert (await here.client.get("/outer?q", "shop.example")).status == 410
    asked = await here.asked()
    assert (asked.get(b"x-original-uri"), asked.get(b"host")) == (b"/outer?q", b"shop.example")


async def test_a_head_request_gets_the_head_of_the_page(net: Net) -> None:
    here = await shop(net)
    here.client.send(b"HEAD /lost HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    got = await here.client.response(b"HEAD")
    assert (got.status, got.get(b"content-length"), (await here.asked()).start) == (410, b"14", b"HEAD / HTTP/1.1")


async def test_the_body_of_a_request_does_not_go_to_the_page(net: Net) -> None:
    here = await shop(net)
    here.client.send(b"POST /lost HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    assert (await here.client.response(b"POST")).status == 410
    assert (await here.client.get("/again")).status == 410
    asked = await here.asked()
    assert (asked.start, asked.get(b"content-length"), asked.body) == (b"GET / HTTP/1.1", None, b"")


async def test_a_body_that_nobody_wants_is_dropped_while_the_page_comes(net: Net) -> None:
    here = await shop(net, policy=Policy(errors=ERRORS, body_size=10))
    body = b"x" * 300_000
    here.client.send(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    here.client.send(body)
    got = await here.client.response(b"POST")
    assert (got.status, got.body, got.closes) == (410, b"<h1>sorry</h1>", True)
    assert (await here.asked()).get(b"x-code") == b"413"


async def test_an_endpoint_that_answers_before_it_has_the_body_gets_no_more_of_it(net: Net) -> None:
    async def hasty(peer: Peer) -> None:
        await peer.head()
        peer.send(MISSING)
        await peer.end()

    here = await shop(net, hasty)
    here.client.send(b"POST /lost HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
    got = await here.client.response(b"POST")
    assert (got.status, got.closes, (await here.asked()).body) == (410, True, b"")


async def test_pages_are_made_for_errors_of_the_proxy_too(net: Net) -> None:
    here = await shop(net)
    here.web.refuse()
    assert (await here.client.get("/")).status == 410
    assert (await here.asked()).get(b"x-code") == b"502"
    limited = Policy(errors=ERRORS, limit=RateLimit("z", ((0.001, 0),)))
    here.serve(limited)
    await here.client.get("/")
    assert (await here.client.get("/")).body == b"<h1>sorry</h1>"
    assert [line["reason"] for line in await here.site.lines(3)][1:] == ["connect_failed", "limited"]


async def test_without_a_page_the_client_gets_the_status_that_it_was_for(net: Net) -> None:
    here = await shop(net)
    here.pages.refuse()
    got = await here.client.get("/")
    assert (got.status, got.closes) == (404, False)

    async def hanging_up(peer: Peer) -> None:
        await peer.request()
        peer.close()

    here = await shop(net, pages=hanging_up)
    assert (await here.client.get("/")).status == 404


async def test_nobody_makes_a_page_for_a_page(net: Net) -> None:
    here = await shop(net, pages=answering(reply(b"neither", b"404 Not Found")))
    assert (await here.client.get("/")).body == b"neither"
    assert len(here.pages.received) == 1


async def test_requests_without_endpoint_go_to_who_stands_in_as_they_are(net: Net) -> None:
    here = await shop(net, pages=echoing)
    here.serve(Policy(errors=ErrorPages(PAGES, (), stands_in=True)), web=False)
    here.client.send(b"POST /order?a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    got = await here.client.response(b"POST")
    assert (got.status, got.body) == (200, b"/order?abody")
    asked = await here.asked()
    assert (asked.start, asked.get(b"x-code")) == (b"POST /order?a HTTP/1.1", b"503")


async def test_without_standing_in_a_missing_endpoint_is_an_error_like_others(net: Net) -> None:
    here = await shop(net)
    here.serve(Policy(errors=ERRORS), web=False)
    assert (await here.client.get("/")).status == 410
    assert (await here.asked()).start == b"GET / HTTP/1.1"


# --- with what shares a response with them


async def test_a_page_for_who_knows_no_password_still_asks_for_it_and_lets_nobody_in(net: Net) -> None:
    here = await shop(net, echoing, Policy(errors=ERRORS, basic=BasicAuth("shop/users", "shop")))
    got = await here.client.get("/")
    assert (got.status, got.body, got.get(b"www-authenticate")) == (410, b"<h1>sorry</h1>", b'Basic realm="shop"')
    assert here.web.received == []
    password = "Authorization: Basic " + base64.b64encode(b"ada:password").decode()
    assert (await here.client.get("/in", "a", password)).body == b"/in"


@pytest.mark.parametrize(("verdict", "code"), [(b"401 Unauthorized", b"401"), (b"403 Forbidden", b"403")])
async def test_a_page_for_whom_a_service_keeps_out_lets_nobody_in(net: Net, verdict: bytes, code: bytes) -> None:
    auth = await net.endpoint(answering(reply(b"", verdict)))
    here = await shop(net, echoing)
    here.serve(Policy(errors=ERRORS, external=ExternalAuth(AUTH, "/", "auth")), (AUTH, auth.port))
    assert (await here.client.get("/")).body == b"<h1>sorry</h1>"
    assert (here.web.received, (await here.asked()).get(b"x-code")) == ([], code)


async def test_who_signs_in_elsewhere_is_sent_there_and_gets_no_page(net: Net) -> None:
    auth = await net.endpoint(answering(reply(b"", b"401 Unauthorized")))
    here = await shop(net, echoing)
    asked = ExternalAuth(AUTH, "/", "auth", signin="https://login.example/")
    here.serve(Policy(errors=ERRORS, external=asked), (AUTH, auth.port))
    got = await here.client.get("/")
    assert (got.status, got.get(b"location"), here.pages.received) == (302, b"https://login.example/", [])


async def test_a_page_has_the_fields_of_cors_and_those_that_every_answer_has(net: Net) -> None:
    here = await shop(net, policy=Policy(errors=ERRORS, cors=Cors(), answer=(("X-A", "b"),)))
    got = await here.client.get("/", "shop.example", "Origin: https://a.example")
    assert (got.status, got.get(b"access-control-allow-origin"), got.get(b"x-a")) == (410, b"*", b"b")


async def test_a_closed_path_has_no_page(net: Net) -> None:
    here = await shop(net, policy=Policy(errors=ERRORS, closed="why"))
    assert ((await here.client.get("/")).status, here.pages.received) == (503, [])


async def test_clients_of_http2_get_pages_too(net: Net) -> None:
    here = await shop(net)
    client = await connect(net, here.site)
    got = await client.get("/lost")
    assert (got.status, got.body) == (410, b"<h1>sorry</h1>")
    stream = client.ask([(b":method", b"POST"), *request_fields("/lost")[1:]], end=False)
    await client.send(stream, b"body")
    assert (await client.answer(stream)).status == 410
    assert (await client.get("/again")).body == b"<h1>sorry</h1>"
