"""Hostile request lines, targets, fields and hosts."""

from __future__ import annotations

from wire.hostile import HOST, SMUGGLED, Case

__all__ = ["HEADS"]


def _lines(name: str, line: bytes, status: int = 400) -> Case:
    return Case(f"line {name}", line + b"\r\n" + HOST + b"\r\n", status)


def _targets(name: str, target: bytes, status: int = 400) -> Case:
    return Case(f"target {name}", b"GET %b HTTP/1.1\r\n" % target + HOST + b"\r\n", status)


def _fields(name: str, field: bytes, status: int = 400) -> Case:
    return Case(f"field {name}", b"GET / HTTP/1.1\r\n" + HOST + field + b"\r\n\r\n", status)


def _hosts(name: str, fields: bytes) -> Case:
    return Case(f"host {name}", b"GET / HTTP/1.1\r\n" + fields + b"\r\n", 400)


REQUEST_LINES = [
    _lines("a leading space", b" GET / HTTP/1.1"),
    _lines("tabs", b"GET\t/\tHTTP/1.1"),
    _lines("two spaces before the target", b"GET  / HTTP/1.1"),
    _lines("two spaces before the version", b"GET /  HTTP/1.1"),
    _lines("a space behind", b"GET / HTTP/1.1 "),
    _lines("a tab behind", b"GET / HTTP/1.1\t"),
    _lines("no version", b"GET /"),
    _lines("no target", b"GET HTTP/1.1"),
    _lines("an empty target", b"GET  HTTP/1.1"),
    _lines("nothing but a method", b"GET"),
    _lines("vertical tabs", b"GET\x0b/\x0bHTTP/1.1"),
    _lines("form feeds", b"GET\x0c/\x0cHTTP/1.1"),
    _lines("a CR alone", b"GET / HTTP/1.1\rX: y"),
    _lines("two CRs", b"GET / HTTP/1.1\r"),
    _lines("HTTP/0.9", b"GET / HTTP/0.9", 505),
    _lines("HTTP/2.0", b"GET / HTTP/2.0", 505),
    _lines("HTTP/3.0", b"GET / HTTP/3.0", 505),
    _lines("HTTP/1.2", b"GET / HTTP/1.2"),
    _lines("HTTP/1.10", b"GET / HTTP/1.10"),
    _lines("HTTP/01.1", b"GET / HTTP/01.1"),
    _lines("HTTP/1", b"GET / HTTP/1"),
    _lines("HTTP/1.", b"GET / HTTP/1."),
    _lines("HTTP/.1", b"GET / HTTP/.1"),
    _lines("HTTP/+1.1", b"GET / HTTP/+1.1"),
    _lines("HTTP/1,1", b"GET / HTTP/1,1"),
    _lines("HTTP/ 1.1", b"GET / HTTP/ 1.1"),
    _lines("http/1.1", b"GET / http/1.1"),
    _lines("HTTP/1.1x", b"GET / HTTP/1.1x"),
    _lines("HTTP/1.1 and NUL", b"GET / HTTP/1.1\x00"),
    _lines("arabic digits", "GET / HTTP/\u0661.\u0661".encode()),
    _lines("another protocol", b"GET / RTSP/1.0"),
    _lines("ICY", b"GET / ICY/1.1"),
    _lines("a lower-case method", b"get / HTTP/1.1"),
    _lines("a method with a colon", b"GET: / HTTP/1.1"),
    _lines("a method with NUL", b"GE\x00T / HTTP/1.1"),
    _lines("a method beyond ASCII", "GÉT / HTTP/1.1".encode()),
    _lines("a method with an equals sign", b"GET=x / HTTP/1.1"),
    _lines("a method of a kilobyte", b"G" * 1024 + b" / HTTP/1.1"),
    _lines("CONNECT", b"CONNECT a:80 HTTP/1.1", 405),
    _lines("CONNECT with a path", b"CONNECT / HTTP/1.1", 405),
    _lines("a field as the first line", b"X: y"),
    _lines("a status line", b"HTTP/1.1 200 OK"),
    Case("line TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 30 + b"\r\n\r\n"),
    Case("line the PROXY protocol", b"PROXY TCP4 6.6.6.6 127.0.0.1 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Case("line the PROXY protocol 2", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + b"\x06" * 12 + SMUGGLED),
]

TARGETS = [
    *(_targets(f"with {octet:#04x}", b"/a" + bytes([octet]) + b"b") for octet in (0, 1, 8, 9, 11, 12, 13, 27, 31, 127)),
    _targets("with LF and a field", b"/a\nX-Forwarded-For:6.6.6.6"),
    _targets("with LF and two slashes", b"//a\nb://c/"),
    _targets("with CR and a field", b"/a\rX-Forwarded-For:6.6.6.6"),
    _targets("with raw UTF-8", "/é".encode()),
    _targets("with 0xff", b"/\xff"),
    _targets("with a space", b"/a b"),
    _targets("with a fragment", b"/a#b"),
    _targets("with a fragment in the query", b"/a?b#c"),
    _targets("with a backslash", b"/a\\b"),
    _targets("with dots and a backslash", b"/a\\..\\admin"),
    _targets("with an encoded backslash beside dots", b"/a/..%5cadmin"),
    _targets("with an encoded slash behind dots", b"/a/..%2fadmin"),
    _targets("with an encoded slash before dots", b"/a%2f../admin"),
    _targets("with all encoded", b"/a/%2e%2e%2fadmin"),
    _targets("with a semicolon behind dots", b"/a/..;/admin"),
    _targets("with a parameter behind dots", b"/a/..;x=y/admin"),
    _targets("with a parameter behind one dot", b"/a/.;x/admin"),
    _targets("above the root", b"/../admin"),
    _targets("above the root by escapes", b"/%2e%2E/admin"),
    _targets("above the root later", b"/a/../../admin"),
    _targets("with an encoded NUL", b"/a%00b"),
    _targets("with half an escape", b"/a%2"),
    _targets("with a percent sign", b"/100%"),
    _targets("with a broken escape", b"/%zz"),
    _targets("with an escape of Windows", b"/%u002e"),
    _targets("without a slash", b"admin"),
    _targets("that is a query", b"?x"),
    _targets("that is an asterisk", b"*"),
    _targets("of another scheme", b"ftp://a/"),
    _targets("of files", b"file:///etc/passwd"),
    _targets("without an authority", b"http:///admin"),
    _targets("with one slash", b"http:/a/"),
    _targets("with a user", b"http://user@a/"),
    _targets("with another host", b"http://b/"),
    _targets("with another port", b"http://a:81/"),
    _targets("with two ports", b"http://a:80:80/"),
    _targets("with a backslash in the authority", b"http://a\\@b/"),
    _targets("that is an authority", b"a:80"),
]

LINES = [
    Case("lines LF alone throughout", b"GET / HTTP/1.1\nHost: a\n\n"),
    Case("lines LF alone behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    Case("lines LF alone behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    Case("lines LF alone at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n" + SMUGGLED),
    Case("lines LF CR", b"GET / HTTP/1.1\n\rHost: a\n\r\n\r"),
    Case("lines CR alone throughout", b"GET / HTTP/1.1\rHost: a\r\r\r\n\r\n"),
    Case("lines CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    Case("lines LF in front", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Case("lines a space in front of the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    Case("lines two empty ones in front", b"\r\n\r\n" + SMUGGLED),
    Case("lines an empty one and a space in front", b"\r\n " + SMUGGLED),
    _fields("folded by a space", b"X: y\r\n folded"),
    _fields("folded by a tab", b"X: y\r\n\tfolded"),
    _fields("folded to a length", b"X: y\r\n Content-Length: 5"),
    _fields("folded before its value", b"X:\r\n y"),
    _fields("with a space before the colon", b"X : y"),
    _fields("with a tab before the colon", b"X\t: y"),
    _fields("with a space in its name", b"X Y: z"),
    _fields("without a name", b": y"),
    _fields("without a colon", b"X"),
    _fields("that is a space", b" "),
    *(
        _fields(f"with {octet:#04x} in its value", b"X: a" + bytes([octet]) + b"b")
        for octet in (0, 1, 8, 10, 11, 12, 13, 127)
    ),
    *(
        _fields(f"with {chr(octet)!r} in its name", b"X" + bytes([octet]) + b"Y: z")
        for octet in b'\x00\x01\x0b()/;<=>?@[]{}"\\'
    ),
    _fields("with a name beyond ASCII", "X-É: y".encode()),
    _fields("with 0xa0 before the colon", b"X\xa0: y"),
    *(
        _fields(f"{name} twice", b"%b: a\r\n%b: b" % (name.encode(), name.upper().encode()))
        for name in ("Authorization", "Content-Type", "If-Modified-Since", "If-Range", "Origin", "Range")
    ),
    _fields("that is twice the same credentials", b"Authorization: Basic YTpi\r\nAuthorization: Basic YTpi"),
    _fields("with CR and a field in its value", b"X: y\rContent-Length: 5"),
    _fields("with LF and a field in its value", b"X: y\nTransfer-Encoding: chunked"),
]

HOSTS = [
    _hosts("missing", b""),
    _hosts("missing, with another field", b"X: y\r\n"),
    _hosts("twice", HOST + HOST),
    _hosts("twice, different", HOST + b"Host: b\r\n"),
    _hosts("twice, in other case", HOST + b"HOST: b\r\n"),
    _hosts("twice, one empty", b"Host:\r\n" + HOST),
    *(
        _hosts(name, b"Host: %b\r\n" % value)
        for name, value in (
            ("empty", b""),
            ("with a space", b"a b"),
            ("with a tab", b"a\tb"),
            ("with a comma", b"a, b"),
            ("with a slash", b"a/b"),
            ("with a path", b"a/admin"),
            ("with a user", b"user@a"),
            ("with a user and password", b"user:pass@a"),
            ("with a scheme", b"http://a"),
            ("with a named port", b"a:http"),
            ("with an empty port", b"a:"),
            ("with two ports", b"a:80:80"),
            ("with a signed port", b"a:+80"),
            ("with a long port", b"a:000080"),
            ("with a backslash", b"a\\b"),
            ("with an escape", b"a%00"),
            ("with a question mark", b"a?b"),
            ("with a number sign", b"a#b"),
            ("with a semicolon", b"a;b"),
            ("with a quote", b'a"b'),
            ("with angle brackets", b"<script>"),
            ("with an asterisk", b"*.a"),
            ("beyond ASCII", "é".encode()),
            ("with a dot in front", b".a"),
            ("with two dots", b"a..b"),
            ("with two dots behind", b"a.."),
            ("with half a bracket", b"[::1"),
            ("with junk behind the bracket", b"[::1]x"),
            ("with a name in brackets", b"[localhost]"),
        )
    ),
    Case("host with a space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    Case("host in HTTP/1.0, twice", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    Case("host in an absolute target only", b"GET http://a/ HTTP/1.1\r\n\r\n"),
]


HEADS = [*REQUEST_LINES, *TARGETS, *LINES, *HOSTS]
