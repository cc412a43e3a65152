"""A rule on `/admin` holds for every spelling of it, and what was matched is what goes on (hostile-world 1.7)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.paths import ADMIN, OTHER, readings, rules
from fuzz.reading import read_request_head
from portway_proxy.errors import ClientError
from portway_proxy.l7.request import RequestParser
from portway_proxy.l7.rewrite import forwarded_fields, request_head
from portway_proxy.settings import Limits
from portway_proxy.snapshot import Policy, Snapshot
from wire.site import Net, exact, prefix, table, upstream

# Every one leads to the rule on /admin in the form behind it, or is refused: None.
SPELLINGS: dict[str, str | None] = {
    "/admin": "/admin",
    "/admin/": "/admin/",
    "/admin?x=/": "/admin?x=/",
    "/admin?": "/admin?",
    "/%61dmin": "/admin",
    "/%61%64%6D%69%6e": "/admin",
    "//admin": "/admin",
    "///admin//users": "/admin/users",
    "/./admin": "/admin",
    "/%2e/admin": "/admin",
    "/x/../admin": "/admin",
    "/x/%2E%2e/admin": "/admin",
    "/x/y/../../admin": "/admin",
    "/admin/.": "/admin/",
    "/admin/x/..": "/admin/",
    "/admin/%2e": "/admin/",
    "/admin/../admin": "/admin",
    "/x/../%61dmin/./users": "/admin/users",
    "http://shop.example/admin": "/admin",
    "HTTP://Shop.Example//%61dmin": "/admin",
    "https://shop.example/x/../admin": "/admin",
    # What some servers read as /admin and others do not.
    "/admin;x": None,
    "/admin;": None,
    "/admin%3Bx": None,
    "/;/admin": None,
    "/x;/../admin": "/admin",
    "/admin/..;/admin": None,
    "/..;/admin": None,
    "/x/..;y=1/admin": None,
    "/admin%2f..": None,
    "/admin%2F..%2Fx": None,
    "/x%2f..%2fadmin": None,
    "/x/..%2fadmin": None,
    "/%2e%2e%2fadmin": None,
    "/admin%2Fusers": None,
    "/%2Fadmin": None,
    "/admin%5Cusers": None,
    "/%5cadmin": None,
    "/x%5c..%5cadmin": None,
    "/\\admin": None,
    "\\admin": None,
    "/x\\..\\admin": None,
    "/admin\\": None,
    "/admin#": None,
    "/x#/../admin": None,
    "/#/admin": None,
    "/../admin": None,
    "/%2e%2e/admin": None,
    "/x/../../admin": None,
    "/admin%00": None,
    "/admin%": None,
    "/admin%6": None,
    "/%u0061dmin": None,
    "/admin%0": None,
    "/admin\n": None,
    "/admin\tx": None,
    "admin": None,
    "*": None,
    "http:/admin": None,
    "http:///admin": None,
    "http://other.example/admin": None,
    "http://user@shop.example/admin": None,
    "ftp://shop.example/admin": None,
    "shop.example:80": None,
}
# What is none of its spellings, and what goes on of it.
STRANGERS = {
    "/ADMIN": "/ADMIN",
    "/Admin/x": "/Admin/x",
    "/administrator": "/administrator",
    "/admin.html": "/admin.html",
    "/admi%6E%32": "/admin2",
    "/x/admin": "/x/admin",
    "/admin/..": "/",
    "/admin/../x": "/x",
    "/admin;/..": "/",
    "//shop.example/admin": "/shop.example/admin",
    "/%2561dmin": "/%2561dmin",
    "/x%2fy": "/x%2Fy",
    "/x%2Fy%5cz": "/x%2Fy%5Cz",
    "/x;v=1/y": "/x;v=1/y",
    "/x%20%c3%a9": "/x%20%C3%A9",
    "/x?/../admin": "/x?/../admin",
    "/?//admin%2f..;": "/?//admin%2f..;",
}


def snapshot(admin: int, rest: int) -> Snapshot:
    routes = [prefix("/admin", "shop/admin:80"), prefix("/", "shop/rest:80")]
    return table({"": routes}, upstream("shop/admin:80", admin), upstream("shop/rest:80", rest))


@pytest.mark.parametrize("target", SPELLINGS)
async def test_every_spelling_of_a_path_meets_its_rule_or_is_refused(net: Net, target: str) -> None:
    admin, rest = await net.endpoint(), await net.endpoint()
    client = await net.client(await net.site(snapshot(admin.port, rest.port)))
    client.send(b"GET %b HTTP/1.1\r\nHost: shop.example\r\n\r\n" % target.encode())
    response = await client.response()
    expected = SPELLINGS[target]
    if expected is None:
        assert response.status == 400
        assert admin.received == rest.received == []
    else:
        # The endpoint answers with the target that it got.
        assert (response.status, response.body.decode()) == (200, expected)
        assert rest.received == []


@pytest.mark.parametrize("target", STRANGERS)
async def test_what_is_another_path_goes_elsewhere_and_keeps_its_escapes(net: Net, target: str) -> None:
    admin, rest = await net.endpoint(), await net.endpoint()
    client = await net.client(await net.site(snapshot(admin.port, rest.port)))
    response = await client.get(target)
    assert (response.status, response.body.decode()) == (200, STRANGERS[target])
    assert admin.received == []


async def test_a_closed_path_is_closed_in_every_spelling(net: Net) -> None:
    rest = await net.endpoint()
    routes = [prefix("/admin", policy=Policy(closed="bad_allow_list")), exact("/admin/open"), prefix("/")]
    site = await net.site(table({"": routes}, upstream("shop/web:80", rest.port)))
    for target in SPELLINGS:
        client = await net.client(site)
        client.send(b"GET %b HTTP/1.1\r\nHost: shop.example\r\n\r\n" % target.encode())
        assert (await client.response()).status in (400, 503)
    assert rest.received == []


# --- any spelling

pieces = st.sampled_from(
    [
        "/",
        "//",
        "/./",
        "/../",
        "/x/../",
        "/%2e/",
        "/%2E%2e/",
        "%2F",
        "%2f",
        "%5c",
        "\\",
        ";",
        ";x=1",
        "%3B",
        "..;",
        "#",
        "?",
        "%00",
        "%",
        "%25",
        "%2561",
        ".",
        "..",
        "x",
        "admin",
        "%61dmin",
        "ADMIN",
        "adm%69n",
        "a",
        "dmin",
    ]
)
targets = st.builds(
    lambda form, parts: form + "".join(parts),
    st.sampled_from(["/", "/", "/", "http://shop.example/", "http://shop.example", "HTTPS://SHOP.example//", ""]),
    st.lists(pieces, max_size=8),
)
_TABLE = rules()


@given(targets)
@example("/admin%2Fusers")
@example("/a%2561dmin/..;/admin")
def test_what_is_matched_is_what_goes_on_and_no_reading_of_it_evades_the_rule(target: str) -> None:
    data = b"GET %b HTTP/1.1\r\nHost: shop.example\r\n\r\n" % target.encode()
    try:
        head = RequestParser(Limits()).parse(data)
        route = _TABLE.match(b"h", head.path)
    except ClientError:
        return
    head.request_id = b"id"
    written = request_head(head, forwarded_fields("192.0.2.1", 80, b"http"), b"")
    path = read_request_head(written).target.partition(b"?")[0]
    assert path == head.path
    under = [reading == b"/admin" or reading.startswith(b"/admin/") for reading in readings(path)]
    assert under == [route.upstream == ADMIN] * len(under)
    assert route.upstream in (ADMIN, OTHER)
    # And it is in its one form: to read it again changes nothing.
    assert RequestParser(Limits()).parse(written).path == path
