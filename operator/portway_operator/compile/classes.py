"""Which Ingresses are ours (ingress-semantics 1.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from portway_operator.decode.meta import CLASS_ANNOTATION
from portway_operator.objects import Ingress, IngressClass
from portway_operator.problems import Problem, at, class_foreign, class_missing, rule_foreign
from portway_operator.settings import CompileSettings

__all__ = ["Classes"]


@dataclass(frozen=True, slots=True)
class _Named:
    """The class that an Ingress names, and where."""

    name: str
    field: str
    legacy: bool


class Classes:
    """The IngressClasses, and what they make of an Ingress.

    `spec.ingressClassName` wins over the annotation, as in ingress-nginx: the API server refuses an unequal pair when
    the object is made, so that they differ only after an update, and the field is what people update.

    A named class is looked up as an IngressClass, and its controller decides. One that does not exist is ours if the
    old annotation names it and the settings list it.

    Out of files (`settings.standalone`), people try Portway with the YAML they have at hand, which seldom holds the
    IngressClass, as that belongs to the cluster: there an Ingress is ours too when it names no class, or one that the
    files do not define. Once they do define a class of ours, they are taken at their word for named classes.
    """

    __slots__ = ("_classes", "_declared", "_settings")

    def __init__(self, classes: Iterable[IngressClass], settings: CompileSettings) -> None:
        self._settings = settings
        self._classes = {found.meta.name: found for found in classes}
        self._declared = any(self._is_ours(found) for found in self._classes.values())

    def own(self) -> list[IngressClass]:
        """Return the IngressClasses that are ours."""
        return [found for found in self._classes.values() if self._is_ours(found)]

    def ours(self, ingress: Ingress) -> bool:
        """Return whether an Ingress is ours to serve."""
        named = _named(ingress)
        if named is None:
            return self._settings.standalone or self._settings.watch_ingress_without_class
        found = self._classes.get(named.name)
        if found is not None:
            return self._is_ours(found)
        if self._settings.standalone and not self._declared:
            return True
        return named.legacy and named.name in self._settings.ingress_class

    def named(self, ingress: Ingress) -> IngressClass | None:
        """Return the IngressClass that an Ingress names, if it exists."""
        named = _named(ingress)
        return None if named is None else self._classes.get(named.name)

    def foreign_rules(self, ingresses: Iterable[Ingress]) -> Iterator[Problem]:
        """Yield a finding for each host that is left to others because its Ingress is not ours."""
        for ingress in ingresses:
            if not self.ours(ingress):
                named = _named(ingress)
                for rule in ingress.rules:
                    yield rule_foreign(at(ingress, rule.field), rule.host, "" if named is None else named.name)

    def problem(self, ingress: Ingress) -> Problem | None:
        """Return what is wrong with the class of an Ingress that is not ours, if it may have been meant to be.

        Out of files it always may: there is no other controller.
        """
        named = _named(ingress)
        if named is None:
            return None
        origin = at(ingress, named.field)
        found = self._classes.get(named.name)
        if found is None and (self._settings.standalone or named.name in self._settings.ingress_class):
            return class_missing(origin, named.name)
        if found is not None and self._settings.standalone:
            return class_foreign(origin, named.name, found.controller)
        return None

    def _is_ours(self, found: IngressClass) -> bool:
        settings = self._settings
        by_name = settings.ingress_class_by_name and found.meta.name in settings.ingress_class
        return by_name or found.controller == settings.controller


def _named(ingress: Ingress) -> _Named | None:
    if ingress.class_name is not None:
        return _Named(ingress.class_name, "spec.ingressClassName", legacy=False)
    name = ingress.meta.annotations.get(CLASS_ANNOTATION)
    return _Named(name, f"metadata.annotations[{CLASS_ANNOTATION}]", legacy=True) if name else None
