"""A small API server that can be told to misbehave in every way that real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from fake_objects import Objects, merged
from portway_operator.objects import Kind
from portway_operator.sources.resources import RESOURCES, Resource

__all__ = [
    "FakeApi",
    "Raw",
    "configmap",
    "endpoint_slice",
    "ingress",
    "ingress_class",
    "service",
    "serving",
    "tls_secret",
]

Raw: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]

_PLAIN = ("leases", "events", "pods", "nodes")


@dataclass
class _Collection:
    """One kind: its objects, and every event since the beginning."""

    resource: Resource
    objects: dict[Key, Raw] = field(default_factory=dict)
    log: list[tuple[int, str, Raw]] = field(default_factory=list)
    compacted: int = 0


@dataclass(eq=False)
class _Watch:
    """An open watch; what is put into the queue goes out as it is."""

    collection: _Collection
    keeps: Callable[[Raw], bool]
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    transport: asyncio.Transport | None = None


class FakeApi:
    """Lists (in pages), watches (from any version that is not compacted), and faults on demand.

    `fault` sees every request first and may answer it in the server's place. `requests` has every request's method
    and path, `queries` the last query of each path. `objects` are Leases, Events, pods and nodes, which nobody watches;
    `patches` are the statuses that were written, with their paths.
    """

    def __init__(self) -> None:
        self.version = 100
        self.tokens: set[str] = set()
        self.silent = False
        self.fault: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
        self.requests: list[tuple[str, str]] = []
        self.queries: dict[str, Mapping[str, str]] = {}
        self.lists: Counter[str] = Counter()
        self.watches: set[_Watch] = set()
        self._collections = {kind: _Collection(resource) for kind, resource in RESOURCES.items()}
        self._runner: web.AppRunner | None = None
        self.objects = Objects()
        self.patches: list[tuple[str, Raw]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the port of before when there was one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away, with every connection."""
        self.hang_up()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def apply(self, raw: Raw) -> Raw:
        """Create or replace an object, and tell the watches."""
        collection = self._collections[Kind(raw["kind"])]
        self.version += 1
        key = _key(raw)
        before = collection.objects.get(key)
        metadata = {
            "uid": before["metadata"]["uid"] if before else f"uid-{self.version}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **raw["metadata"],
            "resourceVersion": str(self.version),
        }
        stored = {**raw, "metadata": metadata}
        collection.objects[key] = stored
        self._tell(collection, "MODIFIED" if before else "ADDED", stored)
        return stored

    def all(self, kind: Kind) -> list[Raw]:
        """Return the objects of a kind."""
        return list(self._collections[kind].objects.values())

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete an object, and tell the watches."""
        collection = self._collections[kind]
        self.version += 1
        gone = collection.objects.pop((namespace, name))
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        self._tell(collection, "DELETED", gone)

    def lose(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete an object without a word to anyone."""
        self.version += 1
        del self._collections[kind].objects[namespace, name]

    def compact(self) -> None:
        """Forget all history: a watch from an older version gets a 410."""
        for collection in self._collections.values():
            collection.compacted = self.version
            collection.log.clear()

    def restore(self, version: int) -> None:
        """Go back to `version`, as after a restore from a backup: what exists now was last written before it."""
        self.version = version
        for collection in self._collections.values():
            collection.log.clear()
            collection.compacted = 0
            for raw in collection.objects.values():
                raw["metadata"]["resourceVersion"] = str(min(version, int(raw["metadata"]["resourceVersion"])))

    def hang_up(self) -> None:
        """Break every watch's connection."""
        for watch in list(self.watches):
            if watch.transport is not None:
                watch.transport.abort()

    def end_watches(self) -> None:
        """End every watch as the server does when its time is up."""
        for watch in list(self.watches):
            watch.queue.put_nowait(None)

    def say(self, kind: Kind, line: bytes) -> None:
        """Write a raw line into every watch of a kind."""
        for watch in self.watches:
            if watch.collection.resource.kind == kind:
                watch.queue.put_nowait(line + b"\n")

    def say_error(self, kind: Kind, code: int, message: str = "made up") -> None:
        """Send an ERROR event into every watch of a kind."""
        self.say(kind, _line("ERROR", _failure(code, message)).strip())

    def say_event(self, kind: Kind, event: str, raw: Raw) -> None:
        """Send an event that never happened, or happened before, into every watch of a kind."""
        self.say(kind, json.dumps({"type": event, "object": raw}).encode())

    def watching(self, *kinds: Kind) -> bool:
        """Return whether each of these kinds has a watch."""
        return set(kinds) <= {watch.collection.resource.kind for watch in self.watches}

    def _tell(self, collection: _Collection, event: str, raw: Raw) -> None:
        collection.log.append((self.version, event, raw))
        if self.silent:
            return
        for watch in self.watches:
            if watch.collection is collection and watch.keeps(raw):
                watch.queue.put_nowait(_line(event, raw))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        self.queries[request.path] = dict(request.query)
        if (answer := self.fault(request)) is not None:
            return answer
        if self.tokens and request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _status(401, "Unauthorized")
        if any(f"/{plural}" in request.path for plural in _PLAIN):
            return await self.objects.serve(request)
        if request.method != "GET":
            return await self._write(request)
        found = self._find(request.path)
        if found is None:
            return self._one(request.path) or self._discover(request.path)
        collection, namespace = found
        keeps = _filter(namespace, request.query.get("fieldSelector", ""))
        if request.query.get("watch") == "true":
            return await self._watch(request, _Watch(collection, keeps))
        return self._list(request, collection, keeps)

    def _find(self, path: str) -> tuple[_Collection, str | None] | None:
        for collection in self._collections.values():
            if path == collection.resource.path(None):
                return collection, None
            head, _, plural = path.rpartition("/")
            prefix = collection.resource.path("\0").partition("\0")[0]
            if plural == collection.resource.plural and head.startswith(prefix):
                return collection, head.removeprefix(prefix)
        return None

    def _one(self, path: str) -> web.Response | None:
        """Return a single object, if the path is of one."""
        head, _, name = path.rpartition("/")
        found = self._find(head)
        raw = None if found is None else found[0].objects.get((found[1] or "", name))
        return None if raw is None else web.json_response(raw)

    async def _write(self, request: web.Request) -> web.Response:
        """Take a patch of a status; our objects are nobody else's to write."""
        head, _, name = request.path.removesuffix("/status").rpartition("/")
        found = self._find(head)
        before = None if found is None else found[0].objects.get((found[1] or "", name))
        if request.method != "PATCH" or not request.path.endswith("/status") or before is None:
            return _status(404 if before is None else 405, "no such thing")
        patch = json.loads(await request.read())
        self.patches.append((request.path, patch))
        if patch.get("metadata", {}).get("uid") not in (None, before["metadata"]["uid"]):
            return _status(422, 'metadata.uid: Invalid value: "another": field is immutable')
        return web.json_response(self.apply({**before, "status": merged(before.get("status"), patch["status"])}))

    def _list(self, request: web.Request, collection: _Collection, keeps: Callable[[Raw], bool]) -> web.Response:
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 0)
        self.lists[collection.resource.kind] += not start
        kept = [raw for raw in collection.objects.values() if keeps(raw)]
        more = str(start + limit) if limit and start + limit < len(kept) else ""
        items = kept[start : start + limit] if limit else kept
        # As the real one does: the items of a list do not say what they are.
        bare = [{name: value for name, value in raw.items() if name not in ("kind", "apiVersion")} for raw in items]
        metadata = {"resourceVersion": str(self.version), "continue": more}
        return web.json_response({"kind": f"{collection.resource.kind}List", "metadata": metadata, "items": bare})

    async def _watch(self, request: web.Request, watch: _Watch) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        if since > self.version:
            return _status(504, "Too large resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if since < watch.collection.compacted:
            await response.write(_line("ERROR", _failure(410, "too old resource version")))
            return response
        for version, event, raw in watch.collection.log:
            if version > since and watch.keeps(raw) and not self.silent:
                watch.queue.put_nowait(_line(event, raw))
        watch.transport = request.transport
        self.watches.add(watch)
        try:
            with contextlib.suppress(ConnectionError):
                while (line := await watch.queue.get()) is not None:
                    await response.write(line)
        finally:
            self.watches.discard(watch)
        return response

    def _discover(self, path: str) -> web.Response:
        groups = {resource.group for resource in RESOURCES.values()} - {""}
        if path == "/api":
            return web.json_response({"versions": ["v1"]})
        if path == "/apis":
            v1 = "v1"
            named = [
                {
                    "name": group,
                    "versions": [{"groupVersion": f"{group}/{v1}", "version": v1}],
                    "preferredVersion": {"groupVersion": f"{group}/{v1}", "version": v1},
                }
                for group in sorted(groups)
            ]
            return web.json_response({"groups": named})
        resources = [resource for resource in RESOURCES.values() if path == resource.path(None).rpartition("/")[0]]
        if not resources:
            return _status(404, "not found")
        described = [_describe(resource.plural, resource.kind, resource.namespaced) for resource in resources]
        # kopf watches no namespaces, but waits to hear that there are such things.
        described += [_describe("namespaces", "Namespace", namespaced=False)] if path == "/api/v1" else []
        return web.json_response({"resources": described})


def _describe(plural: str, kind: str, namespaced: bool) -> Raw:
    return {
        "name": plural,
        "singularName": kind.lower(),
        "kind": str(kind),
        "namespaced": namespaced,
        "verbs": ["get", "list", "watch", "patch"],
    }


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


def _failure(code: int, message: str) -> Raw:
    return {"kind": "Status", "metadata": {}, "status": "Failure", "code": code, "message": message}


def _line(event: str, raw: Raw) -> bytes:
    return json.dumps({"type": event, "object": raw}).encode() + b"\n"


def _key(raw: Raw) -> Key:
    return raw["metadata"].get("namespace", ""), raw["metadata"]["name"]


def _filter(namespace: str | None, selector: str) -> Callable[[Raw], bool]:
    def keeps(raw: Raw) -> bool:
        if namespace is not None and raw["metadata"].get("namespace") != namespace:
            return False
        name, _, value = selector.partition("=")
        wanted = {"": value, "type": raw.get("type"), "metadata.name": raw["metadata"]["name"]}
        return bool(wanted[name] == value)

    return keeps


def ingress(name: str, namespace: str = "shop", host: str = "shop.example", service: str = "web") -> Raw:
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ingressClassName": "portway", "rules": [{"host": host, "http": {"paths": [path]}}]},
    }


def ingress_class(name: str = "portway") -> Raw:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": "portway.dev/ingress"},
    }


def service(name: str = "web", namespace: str = "shop", port: int = 80) -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.7", "ports": [{"port": port, "targetPort": 8080}]},
    }


def endpoint_slice(name: str, *addresses: str, namespace: str = "shop", service: str = "web", port: int = 8080) -> Raw:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def tls_secret(name: str, namespace: str = "shop", kind: str = "kubernetes.io/tls") -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": kind,
        "data": {"tls.crt": "Y2VydA==", "tls.key": "a2V5"},
    }


def configmap(name: str, namespace: str = "portway", **data: str) -> Raw:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[FakeApi]:
    """Give a running fake API server."""
    api = FakeApi()
    await api.start()
    try:
        yield api
    finally:
        await api.stop()
