"""What `portway check` finds, as values: one report for an installation, in a form that programs may rely on.

`Report.version` changes when a field changes its meaning or goes away; fields that are added do not change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from portway_operator.settings import Compatibility
from portway_proxy.snapshot import Origin, Severity

__all__ = [
    "VERSION",
    "AnnotationTotal",
    "Finding",
    "IngressReport",
    "Left",
    "PathRule",
    "Report",
    "Served",
    "Topic",
    "Totals",
    "Translation",
    "Unchecked",
    "Use",
    "Verdict",
]

VERSION: Final = 1


class Verdict(StrEnum):
    """What becomes of an annotation."""

    EXACT = "exact"
    DIFFERS = "differs"
    REFUSED = "refused"
    OBSOLETE = "obsolete"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    IDLE = "idle"


class Topic(StrEnum):
    """What a finding is about, in the order in which people read them."""

    UNPROTECTED = "unprotected"
    CONFLICT = "conflict"
    SHADOWED = "shadowed"
    SERVICE = "service"
    CERTIFICATE = "certificate"
    ANNOTATION = "annotation"
    MATCHING = "matching"
    CONFIGURATION = "configuration"
    OTHER = "other"


class Served(StrEnum):
    """How an Ingress is served: as ingress-nginx has it, with differences that are said, or not wholly."""

    EXACTLY = "exactly"
    DIFFERENTLY = "differently"
    IN_PART = "in part"


class Finding(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """One thing to know: what was found, what Portway does about it, what to write instead; each a sentence.

    `place` is where the object stands in a file, or empty.
    """

    topic: Topic
    code: str
    severity: Severity
    origin: Origin
    found: str
    done: str
    remedy: str
    place: str = ""


class Use(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """An annotation of an Ingress, by its full name, and what becomes of it; `words` and `remedy` are sentences."""

    name: str
    verdict: Verdict
    words: str = ""
    remedy: str = ""


class Left(msgspec.Struct, frozen=True, order=True):
    """A line of a snippet that is not translated, and why."""

    line: int
    text: str
    reason: str


class PathRule(msgspec.Struct, frozen=True):
    """A path that needs an Ingress of its own, with these annotations."""

    path: str
    path_type: str
    annotations: Mapping[str, str]


class Translation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a snippet comes to.

    `snippet` is the annotation that holds it. `yaml` is what to paste. `needless` are lines that ask for what Portway
    does anyway, `left` those that are not translated.
    """

    snippet: str
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    paths: tuple[PathRule, ...] = ()
    needless: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    yaml: str = ""


class IngressReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One Ingress. `routes` is how many paths of how many hosts it serves."""

    namespace: str
    name: str
    served: Served
    class_name: str = ""
    place: str = ""
    hosts: tuple[str, ...] = ()
    routes: int = 0
    annotations: tuple[Use, ...] = ()
    findings: tuple[Finding, ...] = ()
    translations: tuple[Translation, ...] = ()

    @property
    def key(self) -> str:
        """Return the namespace and the name."""
        return f"{self.namespace}/{self.name}"


class AnnotationTotal(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """How many Ingresses have an annotation with one outcome."""

    name: str
    verdict: Verdict
    ingresses: int
    words: str = ""
    remedy: str = ""


class Totals(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts. `foreign` are Ingresses of other classes, which are not judged."""

    ingresses: int = 0
    exactly: int = 0
    differently: int = 0
    in_part: int = 0
    foreign: int = 0
    hosts: int = 0
    routes: int = 0
    errors: int = 0
    notices: int = 0
    topics: Mapping[str, int] = msgspec.field(default_factory=dict)
    annotations: tuple[AnnotationTotal, ...] = ()


class Unchecked(msgspec.Struct, frozen=True, order=True):
    """A kind of objects that could not be looked at, and why: what depends on it is not judged."""

    kind: str
    reason: str


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything: each Ingress, and in `findings` what is about other objects and settings."""

    version: int = VERSION
    compatibility: Compatibility = Compatibility.STRICT
    totals: Totals = msgspec.field(default_factory=Totals)
    unchecked: tuple[Unchecked, ...] = ()
    findings: tuple[Finding, ...] = ()
    ingresses: tuple[IngressReport, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether there is nothing to know."""
        return not self.totals.errors and not self.totals.notices
