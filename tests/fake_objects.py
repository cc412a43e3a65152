"""The part of a small API server that keeps single objects: created, read, replaced and patched by anyone."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from aiohttp import web

__all__ = ["Objects", "merged"]

Raw: TypeAlias = dict[str, Any]


class Objects:
    """Objects by their path. `writes` has the method and path of each change, `bodies` what was sent with it."""

    def __init__(self) -> None:
        self.by_path: dict[str, Raw] = {}
        self.writes: list[tuple[str, str]] = []
        self.bodies: list[Raw] = []
        self._version = 1000

    def put(self, collection: str, raw: Raw) -> Raw:
        """Keep an object as somebody else made it."""
        self._version += 1
        name = raw["metadata"]["name"]
        meta = {"uid": f"uid-{self._version}", **raw["metadata"], "resourceVersion": str(self._version)}
        stored = self.by_path[f"{collection}/{name}"] = {**raw, "metadata": meta}
        return stored

    def of(self, collection: str) -> list[Raw]:
        """Return the objects of a collection."""
        return [raw for path, raw in self.by_path.items() if path.rpartition("/")[0] == collection]

    async def serve(self, request: web.Request) -> web.Response:
        """Answer a request as an API server does."""
        path = request.path
        if request.method == "GET":
            return self._get(request)
        body = json.loads(await request.read())
        self.writes.append((request.method, path))
        self.bodies.append(body)
        if request.method == "POST":
            if f"{path}/{body['metadata']['name']}" in self.by_path:
                return _status(409, "already exists")
            return web.json_response(self.put(path, body), status=201)
        before = self.by_path.get(path)
        if before is None:
            return _status(404, "not found")
        after = merged(before, body) if request.method == "PATCH" else body
        wanted, actual = after["metadata"], before["metadata"]
        if wanted.get("uid") != actual["uid"]:
            return _status(422, 'metadata.uid: Invalid value: "another": field is immutable')
        if wanted.get("resourceVersion") != actual["resourceVersion"]:
            return _status(409, "the object has been modified")
        return web.json_response(self.put(path.rpartition("/")[0], after))

    def _get(self, request: web.Request) -> web.Response:
        found = self.by_path.get(request.path)
        if found is not None:
            return web.json_response(found)
        items = self.of(request.path)
        wanted = dict(term.split("=") for term in request.query.get("labelSelector", "").split(",") if term)
        items = [raw for raw in items if wanted.items() <= raw["metadata"].get("labels", {}).items()]
        if not items and request.path.rpartition("/")[2] not in ("pods", "events", "leases", "nodes"):
            return _status(404, "not found")
        return web.json_response({"kind": "List", "metadata": {}, "items": items})


def merged(before: object, patch: Raw) -> Raw:
    """Return what a JSON merge patch (RFC 7386) makes of a value."""
    result: Raw = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value) if isinstance(value, dict) else value
    return result


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)
