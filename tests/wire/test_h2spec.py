"""The conformance tests of HTTP/2, whole, against a real worker: over TLS and with prior knowledge."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from go_programs import Unavailable
from h2spec.binary import find_or_build
from portway_proxy.supervisor import Supervisor
from wire.parts import Web, running, settings, snapshot

_WHOLE = 145  # So that a version that runs fewer is noticed.

# What does not begin as HTTP/2 does is a request of HTTP/1 on the HTTP port: it gets an answer there, and then the end.
_NOT_IN_CLEAR = {"Sends invalid connection preface"}


@pytest.fixture(scope="module")
def h2spec() -> Path:
    """The program; without Go it is missing, which CI does not bear."""
    try:
        return find_or_build()
    except Unavailable as reason:
        if os.environ.get("PORTWAY_CLUSTER_TESTS") == "required":
            raise
        pytest.skip(str(reason))


@pytest.fixture
async def proxy(web: Web) -> AsyncIterator[Supervisor]:
    async with running(settings(workers=1)) as supervisor:
        await supervisor.apply(snapshot(web.port))
        yield supervisor


async def _failures(program: Path, report: Path, *options: str) -> set[str]:
    """Run all tests and return the names of those that failed."""
    process = await asyncio.create_subprocess_exec(
        str(program),
        "-h",
        "127.0.0.1",
        "-o",
        "5",
        "-j",
        str(report),
        *options,
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(120):
        await process.wait()
    cases = list(ElementTree.parse(report).iter("testcase"))
    assert len(cases) == _WHOLE
    return {
        f"{case.get('package')}: {case.get('classname')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }


async def test_it_passes_whole_over_tls(proxy: Supervisor, h2spec: Path, tmp_path: Path) -> None:
    assert await _failures(h2spec, tmp_path / "report", "-t", "-k", "-p", str(proxy.https_port)) == set()


async def test_it_passes_in_clear_but_for_what_is_a_request_there(
    proxy: Supervisor, h2spec: Path, tmp_path: Path
) -> None:
    failed = await _failures(h2spec, tmp_path / "report", "-p", str(proxy.http_port))
    assert {name for name in failed if name.partition(": ")[2] not in _NOT_IN_CLEAR} == set()
