"""The annotations of an Ingress that ask clients for certificates; one that cannot be read lets nobody in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import Invalid, row
from portway_operator.parse import boolean, count, object_reference, one_of
from portway_operator.parse_http import subject_pattern, url

__all__ = ["ClientCertificateAnnotations", "VerifyClient"]

_SECRET = ("auth_tls_secret",)


class VerifyClient(StrEnum):
    """What certificates clients have to show."""

    ON = "on"
    OFF = "off"
    OPTIONAL = "optional"
    OPTIONAL_NO_CA = "optional_no_ca"


@dataclass(frozen=True)
class ClientCertificateAnnotations:
    """What the annotations of an Ingress say about certificates of clients."""

    auth_tls_secret: str = row(
        "auth-tls-secret",
        object_reference,
        default="",
        makes="certificate",
        doc="The Secret with the authorities (`ca.crt`) whose certificates clients of the hosts have to show, and "
        "perhaps lists of revoked ones (`ca.crl`), as `name`, or `namespace/name` where that is the Ingress's own "
        "namespace. Endpoints are told by `ssl-client-verify`, `ssl-client-subject-dn` and `ssl-client-issuer-dn`.",
        invalid=Invalid.CLOSE,
        nginx="auth-tls-secret",
        fidelity=close("Another Ingress that asks clients of the same host for other certificates is closed."),
    )
    auth_tls_verify_client: VerifyClient = row(
        "auth-tls-verify-client",
        one_of(VerifyClient),
        default=VerifyClient.ON,
        makes="certificate",
        doc="`on`: a good certificate is needed, without TLS too; others get 400. `optional`: who has one has to "
        "have a good one. `optional_no_ca`: it may be of an authority that nobody knows. `off`: nobody is asked.",
        invalid=Invalid.CLOSE,
        nginx="auth-tls-verify-client",
        requires=_SECRET,
    )
    auth_tls_verify_depth: int = row(
        "auth-tls-verify-depth",
        count(0, 100),
        default=1,
        makes="certificate",
        doc="How many certificates may stand between a client's and the authority's.",
        invalid=Invalid.CLOSE,
        nginx="auth-tls-verify-depth",
        requires=_SECRET,
    )
    auth_tls_error_page: str = row(
        "auth-tls-error-page",
        url,
        default="",
        makes="certificate",
        doc="Where clients without a good certificate are sent by a 302, in the place of the 400.",
        nginx="auth-tls-error-page",
        requires=_SECRET,
    )
    auth_tls_pass_certificate_to_upstream: bool = row(
        "auth-tls-pass-certificate-to-upstream",
        boolean,
        default=False,
        makes="certificate",
        doc="Whether the endpoint gets the whole certificate, as `ssl-client-cert`.",
        nginx="auth-tls-pass-certificate-to-upstream",
        requires=_SECRET,
    )
    auth_tls_match_cn: str = row(
        "auth-tls-match-cn",
        subject_pattern,
        default="",
        makes="certificate",
        doc="A regular expression for the name in a client's certificate (`CN=alice`); others get 403.",
        invalid=Invalid.CLOSE,
        nginx="auth-tls-match-cn",
        requires=_SECRET,
    )
