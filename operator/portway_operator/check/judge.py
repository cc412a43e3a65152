"""Judges what a store of Kubernetes objects would come to: the compile's problems, and what only a reader asks for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from portway_operator.annotations import IngressAnnotations, read, row_of
from portway_operator.annotations.fidelity import Grade
from portway_operator.check.matching import matched_otherwise
from portway_operator.check.paste import pasted
from portway_operator.check.report import (
    AnnotationTotal,
    Finding,
    IngressReport,
    Report,
    Served,
    Topic,
    Totals,
    Translation,
    Unchecked,
    Use,
    Verdict,
)
from portway_operator.check.snippets import SNIPPETS, translate
from portway_operator.check.topics import finding_of, needs
from portway_operator.check.twins import unprotected_twins
from portway_operator.compile import Compiled, compile_snapshot
from portway_operator.compile.classes import Classes
from portway_operator.compile.compatibility import Modes
from portway_operator.decode.meta import CLASS_ANNOTATION, PREFIX
from portway_operator.objects import Ingress, IngressClass, Kind
from portway_operator.problems import Origin, Problem, at
from portway_operator.settings import Compatibility, CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Severity

__all__ = ["adopt", "judge"]

Key = tuple[str, str]
Place = Callable[[Origin], str]

_FIELD = "metadata.annotations["
_FOREIGN = ("class_foreign", "class_missing")
_ORDER = {topic: number for number, topic in enumerate(Topic)}
_OF_GRADE = {Grade.REFUSED: Verdict.REFUSED, Grade.OBSOLETE: Verdict.OBSOLETE}
_OF_CODE = {
    "annotation_idle": Verdict.IDLE,
    "annotation_invalid": Verdict.INVALID,
    "annotation_unknown": Verdict.UNKNOWN,
}


def nowhere(_: Origin) -> str:
    """Return no place: the objects do not come out of files."""
    return ""


def adopt(store: ObjectStore, controllers: frozenset[str], ours: str) -> None:
    """Have the IngressClasses of other controllers be `ours`, as if the cluster had been handed over."""
    for one in list(store.ingress_classes.values()):
        if one.controller in controllers and one.controller != ours:
            store.put(IngressClass(one.meta, ours, one.faults))


def judge(
    store: ObjectStore, settings: CompileSettings, unchecked: tuple[Unchecked, ...] = (), place: Place = nowhere
) -> Report:
    """Return the report; 5,000 Ingresses take about two seconds.

    `unchecked` are the kinds that could not be read: what they lack is not held against anybody.
    """
    return _Judge(store, settings, unchecked, place).report()


class _Judge:
    def __init__(
        self, store: ObjectStore, settings: CompileSettings, unchecked: tuple[Unchecked, ...], place: Place
    ) -> None:
        self._store = store
        self._settings = settings
        self._unchecked = unchecked
        self._place = place
        self._compiled: Compiled = compile_snapshot(store, settings)
        self._mode = self._compiled.settings.compatibility
        self._modes = Modes(Classes(store.ingress_classes.values(), self._compiled.settings), self._compiled.settings)
        self._of_ingress: dict[Key, list[Finding]] = defaultdict(list)
        self._general: list[Finding] = []

    def report(self) -> Report:
        snapshot = self._compiled.snapshot
        blind = {one.kind for one in self._unchecked}
        for problem in snapshot.problems:
            if needs(problem.code) not in blind and not self._of_others(problem):
                self._add(finding_of(problem, ""))
        for found in (*unprotected_twins(snapshot), *self._without_certificate(blind)):
            self._add(found)
        if self._mode is Compatibility.STRICT:
            for found in matched_otherwise(self._store, self._settings, snapshot):
                self._add(found)
        hosts, routes = self._served()
        ingresses = tuple(
            self._ingress(self._store.ingresses[key], hosts.get(key, ()), routes[key])
            for key in sorted(self._compiled.ingresses)
        )
        return Report(
            compatibility=self._mode,
            totals=self._totals(ingresses),
            unchecked=self._unchecked,
            findings=tuple(sorted(self._general, key=_weight)),
            ingresses=ingresses,
        )

    def _of_others(self, problem: Problem) -> bool:
        """Return whether it is about an Ingress of a class that nobody said is ours."""
        if problem.code not in _FOREIGN:
            return False
        one = self._store.ingresses.get((problem.origin.namespace, problem.origin.name))
        name = "" if one is None else one.class_name or one.meta.annotations.get(CLASS_ANNOTATION, "")
        return name not in self._settings.ingress_class

    def _add(self, found: Finding) -> None:
        key = (found.origin.namespace, found.origin.name)
        placed = Finding(
            found.topic,
            found.code,
            found.severity,
            found.origin,
            found.found,
            found.done,
            found.remedy,
            self._place(found.origin),
        )
        if found.origin.kind == Kind.INGRESS and key in self._compiled.ingresses:
            self._of_ingress[key].append(placed)
        else:
            self._general.append(placed)

    def _served(self) -> tuple[dict[Key, tuple[str, ...]], Counter[Key]]:
        """Return the hosts of each Ingress, and how many routes it has."""
        routes: Counter[Key] = Counter()
        hosts: dict[Key, dict[str, None]] = defaultdict(dict)
        for host in self._compiled.snapshot.hosts:
            for route in host.routes:
                key = (route.origin.namespace, route.origin.name)
                routes[key] += 1
                hosts[key][host.name or "*"] = None
        default = self._compiled.snapshot.default
        if default is not None:
            routes[default.origin.namespace, default.origin.name] += 1
        return {key: tuple(names) for key, names in hosts.items()}, routes

    def _ingress(self, ingress: Ingress, hosts: tuple[str, ...], routes: int) -> IngressReport:
        key = ingress.meta.key
        found = tuple(sorted(set(self._of_ingress[key]), key=_weight))
        uses = tuple(sorted(self._uses(ingress)))
        served = Served.EXACTLY
        if any(one.severity is Severity.ERROR for one in found):
            served = Served.IN_PART
        elif found or any(use.verdict is not Verdict.EXACT for use in uses):
            served = Served.DIFFERENTLY
        return IngressReport(
            *key,
            served=served,
            class_name=ingress.class_name or ingress.meta.annotations.get(CLASS_ANNOTATION, ""),
            place=self._place(at(ingress)),
            hosts=hosts,
            routes=routes,
            annotations=uses,
            findings=found,
            translations=tuple(self._translations(ingress)),
        )

    def _uses(self, ingress: Ingress) -> Iterator[Use]:
        if not ingress.meta.annotations:
            return
        reading = read(IngressAnnotations, ingress)
        wrong = {problem.origin.field.removeprefix(_FIELD).removesuffix("]"): problem for problem in reading.problems}
        nginx = self._modes.nginx(ingress, reading.values)
        for key, value in ingress.meta.annotations.items():
            if key != CLASS_ANNOTATION:
                yield _use(key, value, wrong.get(key), nginx=nginx)

    def _translations(self, ingress: Ingress) -> Iterator[Translation]:
        for key in SNIPPETS:
            if text := ingress.meta.annotations.get(key, "").strip():
                yield pasted(translate(key, text), ingress)

    def _without_certificate(self, blind: set[str]) -> Iterator[Finding]:
        """Yield the hosts with TLS that no certificate is for."""
        snapshot = self._compiled.snapshot
        if snapshot.default_certificate:
            return
        names = {name for certificate in snapshot.certificates for name in certificate.hosts}
        passed = {one.host for one in snapshot.passthroughs}
        for key in sorted(self._compiled.ingresses):
            ingress = self._store.ingresses[key]
            for entry in ingress.tls:
                if entry.secret:
                    continue  # What is wrong with it has a problem of its own.
                hosts = entry.hosts or tuple(rule.host for rule in ingress.rules)
                bare = [host for host in hosts if host not in passed and not _has(names, host)]
                if bare and Kind.SECRET not in blind:
                    yield _bare(at(ingress, entry.field), bare)

    def _totals(self, ingresses: tuple[IngressReport, ...]) -> Totals:
        findings = [*self._general, *(found for one in ingresses for found in one.findings)]
        severities = Counter(found.severity for found in findings)
        topics = Counter(found.topic for found in findings)
        served = Counter(one.served for one in ingresses)
        annotations = Counter(use for one in ingresses for use in set(one.annotations))
        differing = sum(1 for one in ingresses for use in one.annotations if use.verdict is Verdict.DIFFERS)
        return Totals(
            ingresses=len(ingresses),
            exactly=served[Served.EXACTLY],
            differently=served[Served.DIFFERENTLY],
            in_part=served[Served.IN_PART],
            foreign=len(self._store.ingresses) - len(ingresses),
            hosts=len(self._compiled.snapshot.hosts),
            routes=sum(len(host.routes) for host in self._compiled.snapshot.hosts),
            errors=severities[Severity.ERROR],
            notices=severities[Severity.NOTICE] + differing,
            topics={str(topic): topics[topic] for topic in Topic if topics[topic]},
            annotations=tuple(
                AnnotationTotal(use.name, use.verdict, number, use.words, use.remedy)
                for use, number in sorted(annotations.items())
            ),
        )


def _weight(found: Finding) -> tuple[bool, int, Finding]:
    """Order findings: errors first, then by what they are about."""
    return found.severity is not Severity.ERROR, _ORDER[found.topic], found


def _use(key: str, value: str, problem: Problem | None, *, nginx: bool) -> Use:
    """Return what becomes of an annotation; what is wrong with it wins over what the table says."""
    entry = row_of(IngressAnnotations, key)
    if entry is None:
        return Use(key, Verdict.UNKNOWN, *((problem.found, problem.remedy) if problem is not None else ()))
    fidelity = entry.fidelity
    if problem is not None:
        verdict = _OF_CODE.get(problem.code) or _OF_GRADE.get(fidelity.grade, Verdict.REFUSED)
        return Use(key, verdict, problem.found, problem.remedy)
    differs = fidelity.grade is Grade.CLOSE and fidelity.concerns(value.strip(" "))
    if key.startswith(PREFIX) or not differs or (fidelity.strict and nginx):
        return Use(key, Verdict.EXACT)
    return Use(key, Verdict.DIFFERS, fidelity.words)


def _has(names: set[str], host: str) -> bool:
    return host in names or f"*.{host.partition('.')[2]}" in names


def _bare(origin: Origin, hosts: list[str]) -> Finding:
    shown = ", ".join(host or "any host" for host in hosts)
    return Finding(
        Topic.CERTIFICATE,
        "host_without_certificate",
        Severity.NOTICE,
        origin,
        f"No Secret has a certificate for {shown}, and there is no default one.",
        "A self-signed certificate is served, which clients refuse.",
        "Name a Secret in secretName, or a default one by --default-ssl-certificate.",
    )
