"""Settings of the configuration server that could not work say so before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from portway_operator.authority_store import KeptNames
from portway_operator.publish import Publisher
from portway_operator.sources.connection import Connection
from portway_operator.stream_service import StreamService
from portway_operator.stream_settings import StreamSettings, TlsFiles

FILES = TlsFiles(Path("/tls.crt"), Path("/tls.key"), Path("/ca.crt"))
KEPT = KeptNames("portway", client_secret="portway-proxy-tls")
TOKEN = StreamSettings(accounts=("system:serviceaccount:portway:portway-proxy",), hosts=("operator",), kept=KEPT)
MTLS = replace(TOKEN, auth="mtls")
API = Connection("http://127.0.0.1:1")


@pytest.mark.parametrize(
    "settings",
    [
        TOKEN,
        MTLS,
        replace(TOKEN, plain=True, kept=None),
        replace(TOKEN, files=FILES, kept=None),
        replace(MTLS, files=FILES, kept=None),
        StreamSettings(socket=Path("/cfg.sock")),
    ],
)
def test_what_works_has_no_fault(settings: StreamSettings) -> None:
    assert settings.fault() == ""


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (StreamSettings(), "Name the service account"),
        (replace(TOKEN, kept=None), "Name a certificate, or where an authority is kept"),
        (replace(TOKEN, hosts=()), "the names that proxies call the operator"),
        (replace(MTLS, plain=True), "Client certificates need TLS"),
        (replace(MTLS, files=replace(FILES, clients=None)), "Name the authority of the proxies' certificates"),
        (replace(MTLS, kept=KeptNames("portway")), "Name the Secret for the proxies' certificate"),
    ],
)
async def test_what_cannot_is_refused_with_what_to_do(settings: StreamSettings, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        StreamService(Publisher(), settings, API)


async def test_what_needs_an_api_server_says_so() -> None:
    with pytest.raises(ValueError, match="needs an API server"):
        StreamService(Publisher(), TOKEN)
    StreamService(Publisher(), replace(MTLS, files=FILES))
    StreamService(Publisher(), StreamSettings(socket=Path("/cfg.sock")))
