from __future__ import annotations

import re

import pytest

from portway_proxy import errors
from portway_proxy.errors import (
    BadSnapshot,
    Blame,
    ClientError,
    ConfigurationError,
    Denied,
    NoEndpoints,
    ProxyError,
    Retry,
    UpstreamError,
)

KINDS = [
    kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type) and issubclass(kind, ProxyError)
]
ROOTS = (ProxyError, ClientError, ConfigurationError, UpstreamError)

# RFC 9110, RFC 9112, RFC 6585 and ingress-semantics, 1.6.
STATUSES = {
    "BadHead": 400,
    "BadHost": 400,
    "BadProxyHeader": 400,
    "BadTarget": 400,
    "HandshakeFailed": 400,
    "PlainHttp": 400,
    "CertificateNeeded": 400,
    "Misdirected": 421,
    "WrongCertificate": 403,
    "TlsToPlainPort": 400,
    "BadChunk": 400,
    "MethodNotAllowed": 405,
    "RequestTimeout": 408,
    "BodyTooLarge": 413,
    "LengthRequired": 411,
    "TargetTooLong": 414,
    "ExpectationFailed": 417,
    "FieldsTooLarge": 431,
    "ClientGone": 499,
    "UnknownCoding": 501,
    "VersionUnsupported": 505,
    "NoHost": 404,
    "NoPath": 404,
    "NoEndpoints": 503,
    "Closed": 503,
    "Denied": 403,
    "Forbidden": 403,
    "AuthBusy": 503,
    "Limited": 503,
    "ProtocolUnknown": 501,
    "NoDescriptors": 503,
    "ConnectFailed": 502,
    "ConnectTimeout": 504,
    "EndpointUnreadable": 502,
    "EndpointUnverified": 502,
    "NameUnresolved": 502,
    "AddressRefused": 502,
    "StreamRefused": 502,
    "UpstreamStale": 502,
    "UpstreamReset": 502,
    "UpstreamBadResponse": 502,
    "UpstreamTimeout": 504,
    "EndpointRemoved": 503,
    "DeadlineExceeded": 504,
    "RequestOverdue": 504,
    "Overloaded": 503,
    "MemoryShort": 503,
    "LoopLate": 503,
    "TooManyConnections": 503,
    "TooManyFromAddress": 503,
    "QueueFull": 503,
    "QueueTimeout": 503,
    "BadSnapshot": 500,
}


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_each_fault_has_the_status_that_the_documents_ask_for(name: str, status: int) -> None:
    assert getattr(errors, name).status == status


def test_no_fault_is_without_a_row_in_that_table() -> None:
    assert {kind.__name__ for kind in KINDS} - {kind.__name__ for kind in ROOTS} == set(STATUSES)


def test_reason_codes_are_slugs_and_each_belongs_to_one_class() -> None:
    reasons = [kind.reason for kind in KINDS if kind is not ConfigurationError]
    assert len(set(reasons)) == len(reasons)
    for reason in reasons:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_branch_of_the_tree_says_who_is_to_blame(kind: type[ProxyError]) -> None:
    branches: list[tuple[type[ProxyError], Blame]] = [
        (ClientError, Blame.CLIENT),
        (ConfigurationError, Blame.CONFIGURATION),
        (Denied, Blame.CLIENT),
        (BadSnapshot, Blame.CONFIGURATION),
        (UpstreamError, Blame.UPSTREAM),
    ]
    assert kind.blame is next((blame for root, blame in branches if issubclass(kind, root)), Blame.PROXY)


def test_only_an_endpoint_that_got_nothing_lets_every_method_try_another() -> None:
    retries = {kind.__name__: kind.retry for kind in KINDS if kind.retry is not Retry.NEVER}
    assert retries == {
        "ConnectFailed": Retry.ALWAYS,
        "ConnectTimeout": Retry.ALWAYS,
        "UpstreamStale": Retry.SAFE,
        "EndpointRemoved": Retry.SAFE,
        "EndpointUnreadable": Retry.ALWAYS,
        "EndpointUnverified": Retry.ALWAYS,
        "StreamRefused": Retry.ALWAYS,
    }


def test_an_upstream_without_endpoints_says_why() -> None:
    assert NoEndpoints().code == "no_endpoints"
    error = NoEndpoints("service_missing")
    assert (error.code, str(error), error.status) == ("service_missing", "service_missing", 503)
