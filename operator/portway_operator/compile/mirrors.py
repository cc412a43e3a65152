"""Where copies of an Ingress's requests go."""

from __future__ import annotations

import msgspec

from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.compile.by_url import ByUrl
from portway_operator.objects import Ingress
from portway_operator.problems import Problem, at
from portway_proxy.snapshot import Mirror

__all__ = ["read_mirror"]


def read_mirror(ingress: Ingress, values: IngressAnnotations, services: ByUrl) -> tuple[Mirror | None, list[Problem]]:
    """Return where copies of the requests of an Ingress with these annotations go, and what is wrong with that."""
    url = values.mirror_target
    if url is None:
        return None, []
    origin = at(ingress, f"metadata.annotations[{key_of(ingress, rows(IngressAnnotations)['mirror_target'])}]")
    where = services.find(url, origin)
    if not isinstance(where, str):
        return None, [msgspec.structs.replace(problem, done="No request is copied.") for problem in where]
    return Mirror(where, url.target, values.mirror_host or url.authority, body=values.mirror_request_body), []
