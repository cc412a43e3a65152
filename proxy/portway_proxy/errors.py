"""Everything that can go wrong with a request, as one tree of exceptions.

The class is the reason; its attributes are the consequences: who is to blame, which status the client gets,
whether another endpoint may be tried. The reason code is what the access log, the metrics and `explain` say.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

__all__ = [
    "AddressRefused",
    "AuthBusy",
    "BadChunk",
    "BadHead",
    "BadHost",
    "BadProxyHeader",
    "BadSnapshot",
    "BadTarget",
    "Blame",
    "BodyTooLarge",
    "CertificateNeeded",
    "ClientError",
    "ClientGone",
    "Closed",
    "ConfigurationError",
    "ConnectFailed",
    "ConnectTimeout",
    "DeadlineExceeded",
    "Denied",
    "EndpointRemoved",
    "EndpointUnreadable",
    "EndpointUnverified",
    "ExpectationFailed",
    "FieldsTooLarge",
    "Forbidden",
    "HandshakeFailed",
    "LengthRequired",
    "Limited",
    "LoopLate",
    "MemoryShort",
    "MethodNotAllowed",
    "Misdirected",
    "NameUnresolved",
    "NoDescriptors",
    "NoEndpoints",
    "NoHost",
    "NoPath",
    "Overloaded",
    "PlainHttp",
    "ProtocolUnknown",
    "ProxyError",
    "QueueFull",
    "QueueTimeout",
    "RequestOverdue",
    "RequestTimeout",
    "Retry",
    "StreamRefused",
    "TargetTooLong",
    "TlsToPlainPort",
    "TooManyConnections",
    "TooManyFromAddress",
    "UnknownCoding",
    "UpstreamBadResponse",
    "UpstreamError",
    "UpstreamReset",
    "UpstreamStale",
    "UpstreamTimeout",
    "VersionUnsupported",
    "WrongCertificate",
]


class Blame(StrEnum):
    """Whose fault it is."""

    CLIENT = "client"
    CONFIGURATION = "configuration"
    UPSTREAM = "upstream"
    PROXY = "proxy"


class Retry(StrEnum):
    """Whether the request may go to another endpoint.

    `ALWAYS`: no byte of the request left, so any method may.
    `SAFE`: bytes may have left; only a method that changes nothing may, and only before any byte of a response.
    """

    NEVER = "never"
    SAFE = "safe"
    ALWAYS = "always"


class ProxyError(Exception):
    """The root: a request cannot be served as it was asked.

    `retry_after` is how many seconds the answer tells the client to wait; 0 says nothing.
    """

    status: int = 500
    reason: ClassVar[str] = "internal"
    blame: ClassVar[Blame] = Blame.PROXY
    retry: ClassVar[Retry] = Retry.NEVER
    retry_after: ClassVar[int] = 0


class BadSnapshot(ProxyError):
    """A snapshot that this proxy cannot apply; the one that it serves stays."""

    reason = "bad_snapshot"
    blame = Blame.CONFIGURATION


class NoDescriptors(ProxyError):
    """The proxy may open no further descriptor, or the system has no memory for one."""

    status = 503
    reason = "no_descriptors"
    retry_after = 1


class Overloaded(ProxyError):
    """The worker has more to do, or holds more memory, than it can bear; what runs is finished first."""

    status = 503
    reason = "overloaded"
    retry_after = 1


class MemoryShort(Overloaded):
    """The worker, or the group that it belongs to, comes close to its limit of memory."""

    reason = "memory_short"


class LoopLate(Overloaded):
    """The event loop is later than it may be: more requests come than can be served in time."""

    reason = "loop_late"


class TooManyConnections(Overloaded):
    """As many client connections are open as the worker may have."""

    reason = "too_many_connections"


class TooManyFromAddress(Overloaded):
    """As many connections of one client address are open as there may be."""

    reason = "too_many_from_address"


# --- the client's ------------------------------------------------------------------------------------------


class ClientError(ProxyError):
    """The client sent what may not be sent on; its connection ends after the answer."""

    status = 400
    reason = "bad_request"
    blame = Blame.CLIENT


class BadHead(ClientError):
    """A start line, field or framing that RFC 9112 forbids."""

    reason = "bad_head"


class TlsToPlainPort(BadHead):
    """A client speaks TLS on a port that does not."""

    reason = "tls_to_plain_port"


class CertificateNeeded(ClientError):
    """A client shows no certificate, or none that counts."""

    reason = "certificate_needed"


class Misdirected(ClientError):
    """A connection is used for a host for which its client was not asked for a certificate (RFC 9110, 15.5.20)."""

    status = 421
    reason = "misdirected"


class PlainHttp(ClientError):
    """A client speaks HTTP without TLS on a port for TLS."""

    reason = "plain_http"


class HandshakeFailed(ClientError):
    """A client and the proxy do not come to terms about TLS."""

    reason = "handshake_failed"


class BadHost(BadHead):
    """The Host is missing, repeated or malformed."""

    reason = "bad_host"


class BadProxyHeader(ClientError):
    """A connection that has to begin with a header of the PROXY protocol, and does not begin with a sound one."""

    reason = "bad_proxy_header"


class BadTarget(BadHead):
    """A request target that is malformed, or that two readers would read differently."""

    reason = "bad_target"


class UnknownCoding(BadHead):
    """A transfer coding other than a single `chunked` (RFC 9112, 6.1)."""

    status = 501
    reason = "unknown_coding"


class BadChunk(ClientError):
    """A malformed chunk, or one whose size line or trailers pass the limits (RFC 9112, 7.1)."""

    reason = "bad_chunk"


class TargetTooLong(ClientError):
    """The request line passes the limit."""

    status = 414
    reason = "target_too_long"


class FieldsTooLarge(ClientError):
    """The head, one field of it or their number passes the limit (RFC 6585, 5)."""

    status = 431
    reason = "fields_too_large"


class BodyTooLarge(ClientError):
    """The body passes the limit of the route or of the proxy."""

    status = 413
    reason = "body_too_large"


class LengthRequired(ClientError):
    """The body's length is not known, and the endpoint has to know it."""

    status = 411
    reason = "length_required"


class RequestTimeout(ClientError):
    """The head or the next part of the body did not come in time."""

    status = 408
    reason = "request_timeout"


class MethodNotAllowed(ClientError):
    """CONNECT: this is no forward proxy."""

    status = 405
    reason = "method_not_allowed"


class ProtocolUnknown(ClientError):
    """CONNECT with a protocol for which there are no tunnels (RFC 8441, 4)."""

    status = 501
    reason = "protocol_unknown"


class ExpectationFailed(ClientError):
    """An `Expect` other than `100-continue` (RFC 9110, 10.1.1)."""

    status = 417
    reason = "expectation_failed"


class VersionUnsupported(ClientError):
    """A major version of HTTP other than 1."""

    status = 505
    reason = "version_unsupported"


class ClientGone(ClientError):
    """The client hung up before its response was complete; nobody reads this status but the log (as nginx's)."""

    status = 499
    reason = "client_gone"


# --- the configuration's -----------------------------------------------------------------------------------


class ConfigurationError(ProxyError):
    """The configuration has no way to serve the request."""

    status = 503
    blame = Blame.CONFIGURATION


class NoHost(ConfigurationError):
    """No host matches, and there is no default backend."""

    status = 404
    reason = "no_host"


class NoPath(ConfigurationError):
    """The host has no matching path, and there is no default backend."""

    status = 404
    reason = "no_path"


class NoEndpoints(ConfigurationError):
    """The upstream has no endpoint; the instance's `reason` says why when the snapshot does."""

    reason = "no_endpoints"
    retry_after = 1

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or type(self).reason)
        self.code = reason or type(self).reason


class Closed(ConfigurationError):
    """A security setting of the route could not be read, so that nothing passes."""

    reason = "closed"


# --- a policy's --------------------------------------------------------------------------------------------


class Denied(ProxyError):
    """The client may not have what it asks for; its connection stays."""

    status = 403
    reason = "denied"
    blame = Blame.CLIENT


class Forbidden(Denied):
    """The client's address may not come here."""

    reason = "forbidden"


class WrongCertificate(Denied):
    """A client shows a good certificate of somebody else."""

    reason = "wrong_certificate"


class Limited(Denied):
    """The client's address asks for more than it may."""

    status = 503  # As in ingress-nginx, where it may be set to 429.
    reason = "limited"

    def __init__(self, status: int = status) -> None:
        super().__init__("the client's address asks for more than it may")
        self.status = status


class AuthBusy(ProxyError):
    """More passwords wait to be verified than may."""

    status = 503
    reason = "auth_busy"
    retry_after = 1


# --- the upstream's ----------------------------------------------------------------------------------------


class UpstreamError(ProxyError):
    """An endpoint failed."""

    status = 502
    reason = "upstream"
    blame = Blame.UPSTREAM


class ConnectFailed(UpstreamError):
    """An endpoint could not be reached; `refused` when it said so at once, which cost it nothing."""

    reason = "connect_failed"
    retry = Retry.ALWAYS

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class ConnectTimeout(UpstreamError):
    """An endpoint did not accept the connection in time."""

    status = 504
    reason = "connect_timeout"
    retry = Retry.ALWAYS


class EndpointUnreadable(UpstreamError):
    """An endpoint and the proxy do not come to terms about TLS."""

    reason = "endpoint_tls"
    retry = Retry.ALWAYS


class EndpointUnverified(EndpointUnreadable):
    """An endpoint shows a certificate that is not the one to expect; nothing of a request is sent to it."""

    reason = "endpoint_unverified"


class NameUnresolved(UpstreamError):
    """The name of an ExternalName service has no address."""

    reason = "name_unresolved"


class AddressRefused(UpstreamError):
    """The name of an ExternalName service leads to an address that no tenant may reach through us."""

    reason = "address_refused"


class UpstreamStale(UpstreamError):
    """A pooled connection had ended before any byte of the response."""

    reason = "upstream_stale"
    retry = Retry.SAFE


class StreamRefused(UpstreamError):
    """An endpoint did not take a request, which it knows nothing of (RFC 9113, 8.7)."""

    reason = "stream_refused"
    retry = Retry.ALWAYS


class UpstreamReset(UpstreamError):
    """An endpoint hung up before its response was complete; `silent` when not one byte of it had come."""

    reason = "upstream_reset"

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class UpstreamBadResponse(UpstreamError):
    """An endpoint sent what is no HTTP response."""

    reason = "upstream_bad_response"


class UpstreamTimeout(UpstreamError):
    """An endpoint did not answer in time."""

    status = 504
    reason = "upstream_timeout"


class EndpointRemoved(UpstreamError):
    """The endpoint left the upstream, and the request was not answered within the time to drain."""

    status = 503
    reason = "endpoint_removed"
    retry = Retry.SAFE


class DeadlineExceeded(UpstreamError):
    """The time that the client itself gave its request is over (gRPC's `grpc-timeout`)."""

    status = 504
    reason = "deadline_exceeded"


class RequestOverdue(UpstreamError):
    """The response was not complete within the time that a whole request may take."""

    status = 504
    reason = "request_overdue"


class QueueFull(UpstreamError):
    """Every endpoint has as many requests as it may, and as many wait as may."""

    status = 503
    reason = "queue_full"
    retry_after = 1


class QueueTimeout(UpstreamError):
    """Every endpoint had as many requests as it may for as long as a request may wait."""

    status = 503
    reason = "queue_timeout"
    retry_after = 1
