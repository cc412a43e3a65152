"""One file of manifests: its text to objects, or the last good version of what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from portway_operator.decode import BadObject, decode
from portway_operator.objects import Kind, Object
from portway_operator.sources.documents import BadYaml, Block, Document, Items, line_of, read_documents
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = ["Adapt", "Key", "Manifest", "Placed", "as_it_is", "read_manifest", "twice", "unread"]

Key = tuple[Kind, str, str]
Adapt = Callable[[Mapping[str, object]], Mapping[str, object]]
"""Changes a raw object before it is decoded."""


def as_it_is(raw: Mapping[str, object]) -> Mapping[str, object]:
    """Return `raw`: the `Adapt` that changes nothing."""
    return raw


@dataclass(frozen=True, slots=True)
class Placed:
    """An object (`found`) and where it stands: its file as shown to people, the document's number, the first line."""

    found: Object
    file: str
    document: int
    line: int
    value: object = field(repr=False)

    def place(self, part: str) -> str:
        """Return `shop.yaml:14` for the field `part`."""
        return f"{self.file}:{line_of(self.value, part, self.line)}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file says. `broken` when its text did not parse: then `objects` are those of the version before."""

    objects: Mapping[Key, Placed] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    broken: bool = False


def read_manifest(file: str, data: bytes, before: Manifest, adapt: Adapt) -> Manifest:
    """Return what `data` says; where it cannot be read, what `before` said stays.

    A text that does not parse keeps all objects of the version before, a malformed object keeps its own.
    """
    try:
        documents = read_documents(data, json=file.endswith(".json"))
    except BadYaml as bad:
        return unread(file, bad.line, f"The text cannot be read: {bad}.", before)
    reading = _Reading(file, before, adapt)
    for document in documents:
        reading.take(document)
    return Manifest(reading.objects, tuple(reading.problems))


def unread(file: str, line: int, found: str, before: Manifest) -> Manifest:
    """Return the version before for a file that cannot be read now, with the problem that it is."""
    done = "The version read before stays." if before.objects else "Nothing in it is used."
    problem = Problem(
        Origin("File", "", f"{file}:{line}" if line else file), "file_unreadable", found, done, "Mend it and save."
    )
    return Manifest(before.objects, (problem,), broken=True)


def twice(loser: Placed, winner: Placed) -> Problem:
    """Return the problem that one object is defined at two places."""
    meta = loser.found.meta
    return Problem(
        Origin("File", "", f"{loser.file}:{loser.line}", f"document {loser.document}"),
        "object_twice",
        f"{Origin(loser.found.kind, meta.namespace, meta.name)} is defined again at {winner.file}:{winner.line}.",
        "The later one is used.",
        "Remove one of them.",
        Severity.NOTICE,
    )


class _Reading:
    """The objects and problems of one file, as its documents are taken in."""

    def __init__(self, file: str, before: Manifest, adapt: Adapt) -> None:
        self.objects: dict[Key, Placed] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._before = before
        self._adapt = adapt

    def take(self, document: Document) -> None:
        """Take in the objects of a document; those of a `kind: List` one by one."""
        for value, field_, line in _objects(document.value, "", document.line):
            if value is None:
                continue
            if not isinstance(value, Block):
                bad = BadObject("", "It is no object: it has no fields.", "An object begins with `apiVersion:`.")
                self._refuse(bad, document.number, field_, line)
                continue
            try:
                decoded = decode(self._adapt(value))
            except BadObject as error:
                # The fields of an object inside of a list go on from the list's.
                place = ".".join(filter(None, (field_, error.field)))
                self._refuse(error, document.number, place, line_of(value, error.field, line))
                continue
            if decoded is None and not {"apiVersion", "kind"} <= value.keys():
                bad = BadObject("", "It is no object of Kubernetes.", "An object has `apiVersion` and `kind`.")
                self._refuse(bad, document.number, field_, line)
            elif decoded is not None:
                self._put(Placed(decoded, self._file, document.number, line, value))

    def _put(self, new: Placed) -> None:
        meta = new.found.meta
        key = (new.found.kind, meta.namespace, meta.name)
        old = self.objects.pop(key, None)
        # An equal document at two places of one file is the same fault as a differing one.
        if old is not None:
            self.problems.append(twice(old, new))
        self.objects[key] = new

    def _refuse(self, bad: BadObject, document: int, place: str, line: int) -> None:
        origin = bad.origin
        done = "The object is left out."
        if origin.kind in set(Kind) and origin.name:
            key = (Kind(origin.kind), origin.namespace, origin.name)
            kept = self._before.objects.get(key)
            if kept is not None:
                self.objects.setdefault(key, kept)
                done = "The version read before stays."
        who = str(Origin(origin.kind, origin.namespace, origin.name)) if origin.kind else ""
        where = " ".join(filter(None, (f"document {document}", who, place)))
        self.problems.append(
            Problem(
                Origin("File", "", f"{self._file}:{line}", where), "object_malformed", bad.message, done, bad.remedy
            )
        )


def _objects(value: object, path: str, line: int) -> Iterator[tuple[object, str, int]]:
    """Return the objects of a document with their path in it and their line; lists may hold lists."""
    if isinstance(value, Block) and str(value.get("kind", "")).endswith("List"):
        items = value.get("items")
        if isinstance(items, Items):
            for index, item in enumerate(items):
                inner = f"{path}.items[{index}]" if path else f"items[{index}]"
                yield from _objects(item, inner, items.lines[index])
            return
    yield value, path, line
