"""The annotations of an Ingress that have a service say who may come; one that cannot be read lets nobody in."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import Invalid, row
from portway_operator.parse import boolean, map_reference, token
from portway_operator.parse_auth import ServiceUrl, auth_url, copied_fields, durations, remembered_by, returned_to
from portway_operator.parse_http import fields, location

__all__ = ["ExternalAuthAnnotations"]

_URL = ("auth_url",)
_CLOSE = Invalid.CLOSE


@dataclass(frozen=True)
class ExternalAuthAnnotations:
    """What the annotations of an Ingress say about the service that is asked of each request."""

    auth_url: ServiceUrl | None = row(
        "auth-url",
        auth_url,
        default=None,
        makes="external",
        doc="The URL of a service that says of each request whether it may pass (`http://auth.sso.svc/verify`): it "
        "gets the head of the request, and 2xx lets it pass. 401 and 403 go to the client, anything else is a 500. "
        "`http://NAME.NAMESPACE.svc` is that Service and its endpoints; `$host` is the host of the request, whose "
        "route for the path is asked without the way around; other names are looked up again and again.",
        invalid=_CLOSE,
        nginx="auth-url",
        fidelity=close(
            "In the place of the host no other variable than `$host` and its like may stand; what is asked there must "
            "not be guarded itself. Addresses of loopback, link-local and metadata services are refused."
        ),
    )
    auth_method: str = row(
        "auth-method",
        token,
        default="GET",
        makes="external",
        doc="The method of the request to `auth-url`.",
        invalid=_CLOSE,
        nginx="auth-method",
        requires=_URL,
    )
    auth_signin: str = row(
        "auth-signin",
        location,
        default="",
        makes="external",
        doc="Where a 401 of `auth-url` sends the client, by a 302, with the URL to come back to as a parameter.",
        invalid=_CLOSE,
        nginx="auth-signin",
        requires=_URL,
    )
    auth_signin_redirect_param: str = row(
        "auth-signin-redirect-param",
        token,
        default="rd",
        makes="external",
        doc="The name of that parameter; where `auth-signin` has it already, none is added.",
        invalid=_CLOSE,
        nginx="auth-signin-redirect-param",
        requires=("auth_signin",),
    )
    auth_response_headers: tuple[str, ...] = row(
        "auth-response-headers",
        copied_fields,
        default=(),
        makes="external",
        doc="The fields of `auth-url`'s answer that the endpoint gets (`X-Auth-Request-User, Authorization`), in the "
        "place of the client's, which it never gets.",
        invalid=_CLOSE,
        nginx="auth-response-headers",
        requires=_URL,
    )
    auth_request_redirect: str = row(
        "auth-request-redirect",
        returned_to,
        default="",
        makes="external",
        doc="The X-Auth-Request-Redirect that `auth-url` gets, perhaps with variables; unset, it is the request's path "
        "and query.",
        invalid=_CLOSE,
        nginx="auth-request-redirect",
        requires=_URL,
    )
    auth_fields: tuple[tuple[str, str], ...] = row(
        "auth-fields",
        fields,
        default=(),
        makes="external",
        doc="Further header fields that `auth-url` gets, in the place of the client's, one a line (`X-Team: shop`).",
        invalid=_CLOSE,
        requires=_URL,
    )
    auth_proxy_set_headers: str = row(
        "auth-proxy-set-headers",
        map_reference,
        default="",
        makes="external",
        doc="The ConfigMap of the same namespace whose keys and values are further such fields.",
        invalid=_CLOSE,
        nginx="auth-proxy-set-headers",
        requires=_URL,
    )
    auth_cache_key: str = row(
        "auth-cache-key",
        remembered_by,
        default="",
        makes="external",
        doc="What `auth-url`'s answers are remembered by, for each host and path of the Ingress, in each worker "
        "(`$cookie_session$http_authorization`); requests in which that is empty are asked about each time.",
        invalid=_CLOSE,
        nginx="auth-cache-key",
        requires=_URL,
        fidelity=close("An empty key remembers nothing, nor is an answer with a cookie remembered."),
    )
    auth_cache_duration: tuple[tuple[int, float], ...] = row(
        "auth-cache-duration",
        durations,
        default=((200, 300.0), (202, 300.0), (401, 300.0)),
        makes="external",
        doc="How long they are, by their status (`200 202 401 5m, 403 10s`); times without a status are of 200, and "
        "`any` is every status.",
        invalid=_CLOSE,
        nginx="auth-cache-duration",
        requires=("auth_cache_key",),
        fidelity=close("Only 2xx, 401 and 403 are remembered."),
    )
    enable_global_auth: bool = row(
        "enable-global-auth",
        boolean,
        default=True,
        doc="Whether the service that the ConfigMap names for all (`global-auth-url`) is asked here too, where no "
        "`auth-url` names another.",
        nginx="enable-global-auth",
    )
    auth_always_set_cookie: bool = row(
        "auth-always-set-cookie",
        boolean,
        default=False,
        makes="external",
        doc="Whether cookies of `auth-url`'s answer reach the client whatever the status of the response; else they do "
        "with 200, 201, 204, 206, 301 to 304, 307 and 308.",
        nginx="auth-always-set-cookie",
        requires=_URL,
    )
