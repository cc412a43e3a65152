"""Who gets which answer of an admin server: by the connection's own address, by Host, by token, by session."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from network import Network
from portway_proxy.admin_access import CONTENT_POLICY, Access, AccessRules
from portway_proxy.admin_site import AdminSite
from portway_proxy.admin_tokens import TokenFile, TokenRefused, TokenUnknowable
from portway_proxy.tasks import Tasks

TOKEN = "correct-horse-battery-staple"
OTHER = "another-horse-battery-staple"
PAGES = ("/routes", "/problems", "/flows", "/dashboard", "/metrics")
PROBES = ("/healthz", "/readyz", "/livez")


class Knows:
    """A verifier that says what the test has it say."""

    def __init__(self, answer: Exception | None) -> None:
        self.answer = answer
        self.asked = 0

    async def verify(self, token: str) -> None:
        assert token
        self.asked += 1
        if self.answer is not None:
            raise self.answer


class Client:
    """Asks a port, from this machine or from the other end of a network."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.session = session
        self.origin = origin

    async def ask(self, path: str, method: str = "GET", **fields: str) -> aiohttp.ClientResponse:
        return await self._ask(path, method, None, fields)

    async def sign_in(self, form: dict[str, str], **fields: str) -> aiohttp.ClientResponse:
        return await self._ask("/login", "POST", form, fields)

    async def status(self, path: str, method: str = "GET", **fields: str) -> int:
        return (await self.ask(path, method, **fields)).status

    async def _ask(
        self, path: str, method: str, form: dict[str, str] | None, fields: dict[str, str]
    ) -> aiohttp.ClientResponse:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        url = f"{self.origin}{path}"
        async with self.session.request(method, url, headers=named, data=form, allow_redirects=False) as response:
            await response.read()
            return response


def write(path: Path, token: str | None) -> None:
    """Have the file hold another token, or be no more."""
    path.unlink() if token is None else path.write_text(token)


@asynccontextmanager
async def serving(rules: AccessRules | None, address: str = "127.0.0.1", **bounds: float) -> AsyncIterator[str]:
    """Serve pages that are all alike, and yield where."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="shown\n")

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b"more")
                await asyncio.sleep(0.01)
        return response

    app = web.Application()
    Access(rules).guard(app)
    for path in (*PROBES, *PAGES):
        app.router.add_get(path, page)
    app.router.add_get("/dashboard/stream", stream)
    site = AdminSite(app, **bounds)  # type: ignore[arg-type]  # connections is a whole number here
    port = await site.start(address, 0)
    try:
        yield f"http://{address}:{port}"
    finally:
        await site.close()


@asynccontextmanager
async def local(rules: AccessRules | None = None) -> AsyncIterator[Client]:
    async with serving(rules) as origin, aiohttp.ClientSession() as session:
        yield Client(session, origin)


@asynccontextmanager
async def remote(network: Network, rules: AccessRules | None = None) -> AsyncIterator[Client]:
    """Yield a client on another host, which sees us under an address of the network."""

    def inside(_: object) -> socket.socket:
        made = network.made(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        made.setblocking(False)
        return made

    connector = aiohttp.TCPConnector(socket_factory=inside)
    cookies = aiohttp.CookieJar(unsafe=True)
    async with (
        serving(rules, network.outer) as origin,
        aiohttp.ClientSession(connector=connector, cookie_jar=cookies) as session,
    ):
        yield Client(session, origin)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def guarded(token_file: Path) -> AccessRules:
    return AccessRules((TokenFile(token_file),), penalty=0.0)


# --- this machine


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:9090", "[::1]:9090", "127.0.0.1:80", "[::1]"])
async def test_this_machine_sees_every_page_without_a_token(host: str) -> None:
    async with local() as client:
        assert [await client.status(path, Host=host) for path in PAGES] == [200] * len(PAGES)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9090", "localhost.evil.example", "", "127.0.0.1.nip.io"]
)
async def test_a_name_that_anybody_can_make_lead_here_shows_nothing(host: str) -> None:
    async with local() as client:
        for path in PAGES:
            response = await client.ask(path, Host=host)
            assert response.status == 421
            assert "--admin-hosts" in await response.text()


async def test_probes_are_answered_under_any_name() -> None:
    async with local() as client:
        assert [await client.status(path, Host="evil.example") for path in PROBES] == [200] * len(PROBES)


async def test_a_name_that_was_configured_is_as_good_as_localhost() -> None:
    async with local(AccessRules(hosts=("Portway.Test",))) as client:
        assert await client.status("/routes", Host="portway.test:9090") == 200
        assert await client.status("/routes", Host="other.test") == 421


@pytest.mark.parametrize(
    "field", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Client-Cert", "l5d-client-id"]
)
async def test_what_a_proxy_on_this_machine_hands_on_is_not_of_this_machine(field: str) -> None:
    async with local() as client:
        assert await client.status("/routes", **{field: "192.0.2.1"}) == 403


async def test_a_request_for_another_address_of_ours_was_handed_on() -> None:
    async with local() as client:
        assert await client.status("/routes", Host="192.0.2.1:9090") == 403
        assert await client.status("/metrics", Host="192.0.2.1:9090") == 200


# --- browsers


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
    ],
)
async def test_a_page_of_another_site_is_answered_nothing(fields: dict[str, str]) -> None:
    async with local() as client:
        assert [await client.status(path, **fields) for path in PAGES] == [403] * len(PAGES)


@pytest.mark.parametrize(
    "fields",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
async def test_our_own_pages_and_people_who_follow_a_link_are_answered(fields: dict[str, str]) -> None:
    async with local() as client:
        assert await client.status("/dashboard", **fields) == 200
        assert await client.status("/dashboard", Origin=client.origin, **fields) == 200


@pytest.mark.parametrize("path", [*PROBES, *PAGES, "/login", "/login.css", "/nothing"])
async def test_every_answer_tells_browsers_to_keep_to_themselves(path: str) -> None:
    async with local() as client:
        for host in ("localhost", "evil.example"):
            fields = (await client.ask(path, Host=host)).headers
            assert fields["Content-Security-Policy"] == CONTENT_POLICY
            assert fields["X-Content-Type-Options"] == "nosniff"
            assert fields["Referrer-Policy"] == "same-origin"
            assert fields["Cross-Origin-Resource-Policy"] == "same-origin"
            assert fields["Cross-Origin-Opener-Policy"] == "same-origin"
            assert fields["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_pages_are_read_and_nothing_else(method: str) -> None:
    async with local() as client:
        response = await client.ask("/routes", method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        assert await client.status("/routes", "HEAD") == 200


# --- other machines


async def test_without_a_token_other_machines_see_probes_and_metrics_alone(network: Network) -> None:
    async with remote(network) as client:
        assert [await client.status(path) for path in (*PROBES, "/metrics")] == [200] * 4
        for path in PAGES[:-1]:
            response = await client.ask(path, Accept="text/html", Authorization=f"Bearer {TOKEN}", Host="localhost")
            assert response.status == 403
            assert "kubectl port-forward" in await response.text()
            assert "--admin-token-file" in await response.text()


async def test_other_machines_see_every_page_with_the_token(network: Network, guarded: AccessRules) -> None:
    async with remote(network, guarded) as client:
        for path in PAGES:
            assert await client.status(path, Authorization=f"Bearer {TOKEN}") == 200
            assert await client.status(path, Authorization=f"bearer  {TOKEN} ", Host="portway.example") == 200
            assert await client.status(path, X_Portway_Token=TOKEN) == 200


@pytest.mark.parametrize("field", ["", "Bearer", "Bearer ", f"Bearer {OTHER}", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"])
async def test_other_machines_without_the_right_token_are_asked_for_it(
    network: Network, guarded: AccessRules, field: str
) -> None:
    async with remote(network, guarded) as client:
        response = await client.ask("/routes", Authorization=field)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="portway"')
        assert TOKEN not in await response.text()
        assert OTHER not in await response.text()


async def test_metrics_can_be_protected_like_the_other_pages(network: Network, guarded: AccessRules) -> None:
    async with remote(network, replace(guarded, protect_metrics=True)) as client:
        assert await client.status("/metrics") == 401
        assert await client.status("/metrics", Authorization=f"Bearer {TOKEN}") == 200
        assert await client.status("/readyz") == 200


async def test_a_changed_file_changes_the_token_at_once(
    network: Network, guarded: AccessRules, token_file: Path
) -> None:
    async with remote(network, guarded) as client:
        write(token_file, OTHER)
        assert await client.status("/routes", Authorization=f"Bearer {TOKEN}") == 401
        assert await client.status("/routes", Authorization=f"Bearer {OTHER}") == 200
        write(token_file, None)
        assert await client.status("/routes", Authorization=f"Bearer {OTHER}") == 503
        write(token_file, "")
        assert await client.status("/routes", Authorization="Bearer x") == 503


async def test_one_verifier_that_knows_the_token_is_enough(network: Network, guarded: AccessRules) -> None:
    for other in (TokenRefused("no"), TokenRefused("no", 403), TokenUnknowable("later")):
        both = replace(guarded, verifiers=(Knows(other), *guarded.verifiers))
        async with remote(network, both) as client:
            assert await client.status("/routes", Authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize(
    ("answer", "status"), [(TokenRefused("x", 403), 403), (TokenUnknowable("x"), 503), (TokenRefused("x"), 401)]
)
async def test_why_a_token_does_not_count_is_told(
    network: Network, guarded: AccessRules, answer: Exception, status: int
) -> None:
    rules = replace(guarded, verifiers=(Knows(answer), *guarded.verifiers))
    async with remote(network, rules) as client:
        assert await client.status("/routes", Authorization=f"Bearer {OTHER}") == status


async def test_who_guesses_tokens_waits_and_nobody_else_does(network: Network, guarded: AccessRules) -> None:
    async with remote(network, replace(guarded, penalty=60.0)) as client:
        tasks = Tasks()
        guess = tasks.spawn(client.status("/routes", Authorization=f"Bearer {OTHER}"), "guess")
        assert [await client.status("/routes", Authorization=f"Bearer {TOKEN}") for _ in range(20)] == [200] * 20
        assert not guess.done()
        await tasks.close()


@pytest.mark.parametrize(
    "path", ["//metrics", "/metrics/", "/metrics/../routes", "/%2e/metrics", "/routes?/metrics", "/nothing"]
)
async def test_no_spelling_of_an_open_page_opens_another(network: Network, guarded: AccessRules, path: str) -> None:
    async with remote(network, guarded) as client:
        host, port = client.origin.removeprefix("http://").split(":")
        with network.made(lambda: socket.create_connection((host, int(port)))) as connection:
            connection.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=connection)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await reader.readline()).split()[1] == b"401"
            writer.transport.abort()


# --- sessions


async def test_a_browser_shows_the_token_once_and_has_a_session_from_then_on(
    network: Network, guarded: AccessRules
) -> None:
    async with remote(network, guarded) as client:
        response = await client.ask("/dashboard", Accept="text/html,*/*")
        assert (response.status, response.headers["Location"]) == (303, "login")
        response = await client.ask("/dashboard/", Accept="text/html,*/*")
        assert (response.status, response.headers["Location"]) == (303, "../login")
        page = await client.ask("/login", Accept="text/html")
        assert (page.status, page.content_type) == (200, "text/html")
        response = await client.sign_in({"token": TOKEN}, Origin=client.origin)
        assert (response.status, response.headers["Location"]) == (303, "dashboard/")
        cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert [await client.status(path) for path in PAGES] == [200] * len(PAGES)


async def test_a_wrong_token_begins_no_session(network: Network, guarded: AccessRules) -> None:
    async with remote(network, guarded) as client:
        for form in ({"token": OTHER}, {"token": ""}, {}, {"other": TOKEN}):
            response = await client.sign_in(form)
            assert response.status == 401
            assert "Set-Cookie" not in response.headers
            assert "The token is not" in await response.text()
        assert (await client.sign_in({"token": "x" * 9000})).status == 413


async def test_no_other_site_signs_anybody_in(network: Network, guarded: AccessRules) -> None:
    async with remote(network, guarded) as client:
        response = await client.sign_in({"token": TOKEN}, Origin="http://evil.example")
        assert response.status == 403


async def test_a_session_ends_with_its_token(network: Network, guarded: AccessRules, token_file: Path) -> None:
    async with remote(network, guarded) as client:
        await client.sign_in({"token": TOKEN})
        assert await client.status("/routes") == 200
        write(token_file, OTHER)
        assert await client.status("/routes") == 401


# --- bounds


async def test_a_stream_ends_in_time_for_its_token_to_be_asked_for_anew(network: Network, guarded: AccessRules) -> None:
    async with remote(network, replace(guarded, longest=0.1)) as client:
        fields = {"Authorization": f"Bearer {TOKEN}"}
        async with client.session.get(f"{client.origin}/dashboard/stream", headers=fields) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    async with (
        local(AccessRules(longest=0.0)) as client,
        client.session.get(f"{client.origin}/dashboard/stream") as response,
    ):
        for _ in range(20):
            assert await response.content.readexactly(4) == b"more"


async def test_one_address_has_a_bounded_number_of_connections() -> None:
    async with serving(None, connections=2) as origin:
        host, port = origin.removeprefix("http://").split(":")
        kept = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        for _, writer in kept:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [(await reader.readline()).split()[1] for reader, _ in kept] == [b"200", b"200"]
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        for other in (*(each for _, each in kept), writer):
            other.transport.abort()


async def test_a_head_that_never_ends_is_cut() -> None:
    async with serving(None, patience=0.2) as origin:
        host, port = origin.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /routes HTTP/1.1\r\nHost: localhost\r\n")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
