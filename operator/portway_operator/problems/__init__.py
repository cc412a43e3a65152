"""Every finding about a user's object, as one function each: what is wrong, what was done about it, how to mend it.

The code of a problem is the name of its function, unless the docstring says otherwise.
"""

from __future__ import annotations

from portway_operator.problems.objects import (
    annotation_idle,
    annotation_invalid,
    annotation_unknown,
    at,
    bad_object,
    class_foreign,
    class_missing,
    fault,
    internal,
    rejected_by_proxy,
    setting_invalid,
)
from portway_operator.problems.routes import (
    catch_all_refused,
    default_taken,
    default_unused,
    host_unserved,
    path_pattern,
    path_shadowed,
    path_taken,
)
from portway_operator.problems.services import (
    address_refused,
    app_protocol_unknown,
    endpoints_ignored,
    external_name_disabled,
    external_name_refused,
    http2_unspoken,
    listener_port_missing,
    no_endpoints,
    opaque_port,
    port_missing,
    port_reserved,
    port_taken,
    service_missing,
    udp_unserved,
)
from portway_operator.problems.tls import certificate_mismatch, certificate_taken, secret_missing, secret_unusable
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = [
    "Origin",
    "Problem",
    "Severity",
    "address_refused",
    "annotation_idle",
    "annotation_invalid",
    "annotation_unknown",
    "app_protocol_unknown",
    "at",
    "bad_object",
    "catch_all_refused",
    "certificate_mismatch",
    "certificate_taken",
    "class_foreign",
    "class_missing",
    "default_taken",
    "default_unused",
    "endpoints_ignored",
    "external_name_disabled",
    "external_name_refused",
    "fault",
    "host_unserved",
    "http2_unspoken",
    "internal",
    "listener_port_missing",
    "no_endpoints",
    "opaque_port",
    "path_pattern",
    "path_shadowed",
    "path_taken",
    "port_missing",
    "port_reserved",
    "port_taken",
    "rejected_by_proxy",
    "secret_missing",
    "secret_unusable",
    "service_missing",
    "setting_invalid",
    "udp_unserved",
]
