"""What each reason code means for the one who asks, and what to change; docs/troubleshooting.md has more of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["REASONS", "Reason"]


class Reason(NamedTuple):
    """What happened, as a sentence, and what to change; the latter is empty where nothing is wrong."""

    says: str
    mend: str = ""


_BROKEN: Final = "Send what HTTP allows: no client of repute sends this."

REASONS: Final[Mapping[str, Reason]] = {
    # --- answers that are no errors
    "https_redirect": Reason("Requests without TLS are sent to https."),
    "redirect": Reason("The client is sent elsewhere."),
    "preflight": Reason("The browser is told what pages of this Origin may do."),
    # --- no way for the request
    "no_host": Reason(
        "No Ingress of ours has this host, and there is no default backend.",
        "Ask with the right host, or give an Ingress of our class a rule for it. If there is one, `kubectl describe`"
        " it: its class may be another controller's.",
    ),
    "no_path": Reason(
        "The host is served, and no path of it fits.",
        "Ask for a path that is served, or give the host's Ingress a rule for this one: `/` with pathType Prefix"
        " serves all that nothing else does.",
    ),
    "no_endpoints": Reason(
        "The Service has no endpoint that is ready.",
        "See why none of its pods is ready, or whether its selector fits any:"
        " `kubectl get endpointslices -l kubernetes.io/service-name=NAME`.",
    ),
    "service_missing": Reason("The Service does not exist.", "Create it, or correct its name in the Ingress."),
    "port_missing": Reason("The Service does not have this port.", "Use a number or a name of its ports."),
    "opaque_port": Reason(
        "The port does not speak HTTP.",
        "Pass its TLS through by name (portway.dev/ssl-passthrough), or open a port for it (portway.dev/tcp-ports).",
    ),
    "closed": Reason(
        "A setting that guards the path cannot be read, so that nobody passes.",
        "Correct the setting: the problem of the Ingress names it.",
    ),
    "bad_snapshot": Reason("No proxy would serve this snapshot.", "Run operator and proxies of one version."),
    "internal": Reason("A fault of Portway.", "Please report it, with the proxy's log."),
    # --- the client may not
    "unauthorized": Reason(
        "Nobody has said who asks, or not rightly.", "Send the user's name and password, or log in."
    ),
    "auth_denied": Reason("The service that is asked who may pass says no.", "Ask as somebody whom it lets pass."),
    "auth_unavailable": Reason(
        "The service that is asked who may pass cannot be asked, or answers neither 2xx nor 401 nor 403.",
        "See that its Service has endpoints, and that the path it is asked for is not guarded itself.",
    ),
    "auth_busy": Reason("Too many passwords wait to be verified.", "Lower the cost of the hashes."),
    "forbidden": Reason(
        "The client may not come here: by its address, its User-Agent or its Referer.",
        "Come from a network that may, or add the client's to the Ingress's list. Behind a load balancer see first"
        " who a client is: docs/clients.md.",
    ),
    "denied": Reason("The client may not have what it asks for.", "Ask as somebody who may."),
    "limited": Reason("The client's address asks for more than it may.", "Ask for less, or raise the limit."),
    "certificate_needed": Reason(
        "The host asks for client certificates, and none came that counts.",
        "Show a certificate of the authority that the Ingress names, over TLS.",
    ),
    "wrong_certificate": Reason(
        "A good certificate of somebody else.", "Show one whose name fits the Ingress's pattern."
    ),
    "misdirected": Reason(
        "The connection is for another host, which did not ask for a client certificate.",
        "Open a connection with this host's own name (SNI).",
    ),
    # --- what may not be sent on
    "bad_request": Reason("The request breaks HTTP.", _BROKEN),
    "bad_head": Reason("The start line or a field is malformed.", _BROKEN),
    "bad_host": Reason("The Host is missing, repeated or malformed.", "Send one Host that is a name or an address."),
    "bad_target": Reason(
        "The target is malformed, or could be read in two ways.",
        "Write a path that has one reading: without dots that lead above the root, broken escapes, and encoded slashes,"
        " backslashes or semicolons where a rule depends on them.",
    ),
    "unknown_coding": Reason("A transfer coding other than chunked.", "Send the body chunked, or with its length."),
    "target_too_long": Reason("The request line is too long.", "Shorten the URL, or raise request-line-size."),
    "fields_too_large": Reason(
        "The head, one field of it or their number is too large.",
        "Send less (long cookies?), or raise head-size, field-size or max-fields.",
    ),
    "body_too_large": Reason("The body is longer than it may be.", "Send less, or raise proxy-body-size."),
    "length_required": Reason("The endpoint takes no body of unknown length.", "Send a Content-Length."),
    "method_not_allowed": Reason("CONNECT is for forward proxies.", "Use another method."),
    "expectation_failed": Reason("An Expect other than 100-continue.", "Leave the field out."),
    "version_unsupported": Reason("This version of HTTP is not spoken here.", "Ask by HTTP/1.1 or HTTP/2."),
    "tls_to_plain_port": Reason("The client speaks TLS on the port for HTTP.", "Use the HTTPS port, or http://."),
    "plain_http": Reason("The client speaks HTTP on the port for HTTPS.", "Write https://, or use the HTTP port."),
    "handshake_failed": Reason(
        "TLS clients that ask for a name that is no host's are refused.",
        "Ask for a host that is served, or turn ssl-reject-handshake off.",
    ),
    # --- the endpoint
    "queue_full": Reason("Every endpoint has as many requests as it may.", "More endpoints, or a larger limit."),
    # --- layer 4
    "port_closed": Reason(
        "Nothing listens on this port.",
        "Ask a Service to open it: its annotation portway.dev/tcp-ports or portway.dev/udp-ports.",
    ),
    "not_http": Reason(
        "The port takes HTTP alone, and TLS on the HTTPS port.",
        "Ask a Service for a port of its own, or the IngressClass for a fallback (portway.dev/fallback).",
    ),
}
"""By reason code, which is what access lines and metrics say."""
