from __future__ import annotations

import fcntl
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.access_log import AccessLog
from portway_proxy.errors import ClientError
from portway_proxy.journal import Journal
from portway_proxy.l4.records import RelayRecord
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.response import ResponseHead
from portway_proxy.live import LiveUpstream
from portway_proxy.observing import AccessLogSettings
from portway_proxy.snapshot import Endpoint, Origin, PathMatch, Route, Upstream
from portway_proxy.traffic import Traffic
from worker_parts import Parts

ORDINARY = AccessLogSettings()
SECOND = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
HEAD = (
    b"GET /a//b?c HTTP/1.1\r\nHost: Shop.example\r\nReferer: http://r/\r\nUser-Agent: agent/1\r\n"
    b"X-Request-ID: id-1\r\n\r\n"
)
RELAY = RelayRecord("tcp/5432", "192.0.2.1", "shop/db:5432/tcp", "10.0.0.1:5432", 7, 9, 1.25, "done")


class File:
    """An access log that writes into memory."""

    def __init__(self, log_format: str = "text", settings: AccessLogSettings = ORDINARY) -> None:
        self.parts = Parts()
        self.parts.clock.wall = SECOND
        self.descriptor = os.memfd_create("log")
        chosen = msgspec.structs.replace(settings, format=log_format)
        self.log = AccessLog(self.parts.clock, chosen, descriptor=self.descriptor, node="proxy-0")
        self.log.start()

    def exchange(self, exchange: Exchange, now: float) -> None:
        """Write the line of an exchange that ends `now`."""
        exchange.ended = now
        self.log.write([exchange])

    def lines(self) -> list[str]:
        """End the log and return its lines."""
        self.log.close()
        text = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0).decode("ascii")
        os.close(self.descriptor)
        return text.split("\n")[:-1]


def served(parts: Parts, head: bytes = HEAD) -> Exchange:
    """Return an exchange that an endpoint answered."""
    exchange = parts.exchange(head, started=100.0)
    exchange.route = Route("/a", PathMatch.PREFIX, "shop/web:80", Origin("Ingress", "shop", "web", "spec.rules[0]"))
    exchange.upstream = LiveUpstream(Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 8080),)))
    exchange.pool = exchange.upstream.pools[0]
    exchange.response = ResponseHead(1, 201, b"Created")
    exchange.status = 201
    exchange.request_size = 3
    exchange.response_size = 12
    exchange.ended = 101.5
    return exchange


# --- lines


async def test_a_text_line_is_nginxs_combined_with_the_fields_of_an_ingress() -> None:
    file = File("text")
    file.exchange(served(file.parts), 101.5)
    (line,) = file.lines()
    assert line == (
        '192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET /a//b?c HTTP/1.1" 201 12 "http://r/" "agent/1" 3 1.500 '
        "[shop/web:80] 10.0.0.1:8080 201 1.500 id-1 -"
    )


async def test_a_text_line_of_an_exchange_that_reached_nobody_has_dashes_and_a_reason() -> None:
    file = File("text")
    exchange = file.parts.exchange(started=100.0)
    exchange.status = 404
    exchange.reason = "no_path"
    file.exchange(exchange, 100.0)
    assert file.lines() == [
        '192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 404 0 "-" "-" 0 0.000 [-] - 0 0.000 - no_path'
    ]


async def test_a_json_line_has_every_field() -> None:
    file = File("json")
    file.exchange(served(file.parts), 101.5)
    (line,) = file.lines()
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20+00:00",
        "client": "192.0.2.1",
        "method": "GET",
        "host": "Shop.example",
        "target": "/a//b?c",
        "version": "1.1",
        "status": 201,
        "request_size": 3,
        "response_size": 12,
        "seconds": 1.5,
        "referer": "http://r/",
        "agent": "agent/1",
        "request_id": "id-1",
        "route": "Ingress shop/web spec.rules[0]",
        "upstream": "shop/web:80",
        "endpoint": "10.0.0.1:8080",
        "upstream_status": 201,
        "upstream_seconds": 1.5,
        "attempts": 1,
        "reason": "",
    }


async def test_a_json_line_of_a_request_without_a_host_says_so() -> None:
    file = File("json")
    file.exchange(file.parts.exchange(b"GET / HTTP/1.0\r\n\r\n"), 0.0)
    line = json.loads(file.lines()[0])
    assert (line["host"], line["version"], line["upstream"], line["upstream_status"]) == ("", "1.0", "", 0)


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_a_relay_has_a_line_too(log_format: str) -> None:
    file = File(log_format)
    file.log.relay(RELAY)
    (line,) = file.lines()
    if log_format == "text":
        expected = "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] tcp/5432 7 9 1.250 [shop/db:5432/tcp] 10.0.0.1:5432 done"
        assert line == expected
    else:
        assert json.loads(line) == {
            "time": "2023-11-14T22:13:20+00:00",
            "client": "192.0.2.1",
            "listener": "tcp/5432",
            "upstream": "shop/db:5432/tcp",
            "endpoint": "10.0.0.1:5432",
            "bytes_in": 7,
            "bytes_out": 9,
            "seconds": 1.25,
            "reason": "done",
        }


async def test_the_time_of_a_line_is_that_of_its_second() -> None:
    file = File("text")
    for second in (0, 0, 1):
        file.parts.clock.wall = SECOND + second
        file.log.write(())  # As at every tick.
        file.log.relay(RELAY)
    assert [line.partition("]")[0][-8:-6] for line in file.lines()] == ["20", "20", "21"]


TEXT_LINE = re.compile(
    r'192\.0\.2\.1 - - \[[^\]]+\] "GET [!-~]+ HTTP/1\.1" \d+ \d+ '
    r'"(?:[^"\\]|\\x[0-9A-F]{2})*" "(?:[^"\\]|\\x[0-9A-F]{2})*" \d+ [\d.]+ \[[^\]]+\] [!-~]+ \d+ [\d.]+ [!-~]+ [!-~]+'
)
controls = "".join(map(chr, [*range(9), *range(10, 32), 127]))
values = st.text(st.characters(max_codepoint=255, exclude_characters=controls))
targets = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="%\\#;"), max_size=20)


@given(targets, values, values)
async def test_nothing_that_a_client_sends_breaks_a_line(target: str, referer: str, agent: str) -> None:
    head = f"GET /{target} HTTP/1.1\r\nHost: a\r\nReferer: {referer}\r\nUser-Agent: {agent}\r\n\r\n".encode("latin-1")
    text, lines = File("text"), File("json")
    try:
        exchange = text.parts.exchange(head)
    except ClientError:  # What is refused has another line.
        exchange = text.parts.exchange()
    text.exchange(exchange, 0.0)
    lines.exchange(exchange, 0.0)
    (line,) = text.lines()
    assert line.isprintable()
    assert TEXT_LINE.fullmatch(line)
    (line,) = lines.lines()
    assert line.isprintable()
    assert json.loads(line)["target"] == exchange.head.raw_target.decode()


async def test_quotes_escapes_and_control_bytes_are_written_as_nginx_writes_them() -> None:
    file = File("text")
    exchange = file.parts.exchange()
    exchange.head.agent = b'"x" \\ \x1b[31m \xe9\t'
    file.exchange(exchange, 0.0)
    assert r'"\x22x\x22 \x5C \x1B[31m \xE9\x09"' in file.lines()[0]


# --- writing


async def test_a_log_that_is_off_writes_nothing_and_has_no_thread() -> None:
    before = threading.active_count()
    file = File(settings=AccessLogSettings(enabled=False))
    file.exchange(served(file.parts), 0.0)
    file.log.relay(RELAY)
    assert threading.active_count() == before
    assert file.lines() == []


async def test_lines_come_in_their_order_and_none_is_lost_at_the_end() -> None:
    file = File("text")
    exchanges = [file.parts.exchange() for _ in range(1000)]
    for size, exchange in enumerate(exchanges):
        exchange.response_size, exchange.ended = size, 0.0
    for start in range(0, 1000, 100):  # In batches, as the journal writes: the queue is not for lines.
        file.log.write(exchanges[start : start + 100])
    assert [line.split()[9] for line in file.lines()] == [str(size) for size in range(1000)]
    assert file.log.dropped == 0


async def test_the_clock_writes_what_waits() -> None:
    file = File("text")
    journal = Journal(file.parts, file.parts.clock, file.log, Traffic(10))
    journal.start()
    file.log.relay(RELAY)
    journal.note(served(file.parts))
    file.parts.clock.start()  # The first tick comes at once.
    file.parts.clock.stop()
    assert (journal._exchanges, file.log._relays) == ([], [])
    assert len(file.lines()) == 2


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Return both ends of a pipe that holds one page."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield reading, writing
    finally:
        os.close(reading)


def reader_of(descriptor: int, into: list[bytes]) -> threading.Thread:
    """Return a running thread that reads until the other end is closed."""

    def read() -> None:
        while data := os.read(descriptor, 65536):
            into.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_reader_that_does_not_keep_up_costs_lines_and_no_time(blocking: bool) -> None:
    parts = Parts()
    with pipe() as (reading, writing):
        os.set_blocking(writing, blocking)
        log = AccessLog(parts.clock, AccessLogSettings(), descriptor=writing)
        log.start()
        written = 1000
        for _ in range(written):  # None of these waits, though nobody reads.
            log.relay(RELAY)
            log.write(())
        assert log.dropped > 0
        read: list[bytes] = []
        thread = reader_of(reading, read)
        log.close()
        os.close(writing)
        thread.join()
    lines = b"".join(read).splitlines()
    assert len(lines) + log.dropped == written
    assert set(map(len, lines)) == {len(lines[0])}


async def test_a_full_disk_costs_lines_only() -> None:
    parts = Parts()
    descriptor = os.open("/dev/full", os.O_WRONLY)
    log = AccessLog(parts.clock, AccessLogSettings(), descriptor=descriptor)
    log.start()
    for _ in range(3):
        log.relay(RELAY)
        log.write(())
    log.close()
    os.close(descriptor)
    assert log.dropped == 3


async def test_a_reader_that_went_away_costs_lines_only() -> None:
    parts = Parts()
    with pipe() as (_, writing):
        pass
    log = AccessLog(parts.clock, AccessLogSettings(), descriptor=writing)
    log.start()
    log.relay(RELAY)
    log.close()
    os.close(writing)
    assert log.dropped == 1
