"""Findings about objects as such: that they cannot be read, their annotations, their class."""

from __future__ import annotations

from collections.abc import Sequence

from portway_operator.decode.fields import BadObject, show
from portway_operator.objects import Fault, Object
from portway_proxy.discretion import discreet_text
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = [
    "annotation_idle",
    "annotation_invalid",
    "annotation_refused",
    "annotation_unknown",
    "at",
    "bad_object",
    "class_foreign",
    "class_missing",
    "everybody_trusted",
    "fault",
    "fields_foreign",
    "fields_invalid",
    "fields_missing",
    "fields_unwelcome",
    "internal",
    "nobody_trusted",
    "rejected_by_proxy",
    "rule_foreign",
    "setting_invalid",
]


_ALL_CLOSED = "The paths of every Ingress answer 503, as nothing would guard them."


def at(owner: Object, field: str = "") -> Origin:
    """Return the place of a field in an object."""
    return Origin(owner.kind, owner.meta.namespace, owner.meta.name, field)


def bad_object(error: BadObject) -> Problem:
    """Say that nothing of an object can be used; the code is `malformed`."""
    return Problem(error.origin, error.code, error.message, "The object is ignored.", error.remedy)


def fault(owner: Object, found: Fault) -> Problem:
    """Say that a part of an object was left out when it was read; the code is the fault's."""
    return Problem(at(owner, found.field), found.code, found.found, found.done, found.remedy)


def internal(origin: Origin, error: Exception) -> Problem:
    """Say that Portway itself failed at an object."""
    return Problem(
        origin,
        "internal",
        f"Portway failed at it ({type(error).__name__}).",
        "It is left out; everything else is served.",
        "Report this, with the object, to Portway's makers.",
    )


def rejected_by_proxy(origin: Origin, reason: str) -> Problem:
    """Say that a proxy could not apply what an object asks for; `reason` is the proxy's own."""
    return Problem(
        origin,
        "rejected_by_proxy",
        f"A proxy cannot apply what it asks for: {reason}.",
        "It is left out until it changes; everything else is served.",
        "Run proxies and operator of the same version. If they are, report this to Portway's makers.",
    )


def setting_invalid(name: str, value: str, remedy: str) -> Problem:
    """Say that a setting of Portway itself is malformed."""
    origin = Origin("Setting", "", name)
    return Problem(origin, "setting_invalid", f"{show(value)} is malformed.", "It has no effect.", remedy)


def config_map_missing(origin: Origin) -> Problem:
    """Say that the ConfigMap that a flag names does not exist."""
    return Problem(
        origin,
        "config_map_missing",
        "There is no such ConfigMap.",
        "What the flags say counts.",
        "Create it, or do not name it by --configmap.",
        Severity.NOTICE,
    )


def config_key_unknown(origin: Origin, remedy: str) -> Problem:
    """Say that the ConfigMap has no key of that name."""
    return Problem(origin, "config_key_unknown", "There is no such key.", "It has no effect.", remedy, Severity.NOTICE)


def config_key_idle(origin: Origin, reason: str) -> Problem:
    """Say that a key of the ConfigMap asks for what there is no setting for; `reason` is a sentence."""
    return Problem(origin, "config_key_idle", reason, "The key has no effect.", "Remove it.", Severity.NOTICE)


def config_key_refused(origin: Origin, reason: str, remedy: str, *, guards: bool) -> Problem:
    """Say that a key of ingress-nginx's ConfigMap asks for what is not built; one that `guards` closes every path."""
    done = _ALL_CLOSED if guards else "The key has no effect."
    return Problem(origin, "config_key_refused", reason, done, remedy, Severity.ERROR if guards else Severity.NOTICE)


def config_value_invalid(origin: Origin, value: str, reason: str, *, guards: bool = False) -> Problem:
    """Say that a value of the ConfigMap is malformed; `reason` is the parser's sentence."""
    found = discreet_text(f"The value {show(value)} cannot be used: {reason}.")
    done = _ALL_CLOSED if guards else "What the flags say counts."
    return Problem(origin, "config_value_invalid", found, done, "Correct the value or remove the key.")


def log_variable_unknown(origin: Origin, found: str) -> Problem:
    """Say that a template of access lines names a variable that there is not; `found` says which."""
    remedy = "The variables are listed in docs/watching.md; remove what is not among them."
    return Problem(origin, "log_variable_unknown", found, "Access lines say - in its place.", remedy, Severity.NOTICE)


def collector_missing(origin: Origin) -> Problem:
    """Say that requests are to be traced, and where spans go is not said."""
    return Problem(
        origin,
        "collector_missing",
        "It does not say where spans go.",
        "Nothing is traced.",
        "Name the collector in otlp-collector-host.",
    )


def nobody_trusted(origin: Origin, networks: str) -> Problem:
    """Say that peers are to be believed, and none is; `networks` is the key that would name them."""
    return Problem(
        origin,
        "nobody_trusted",
        "It does not say whose word counts: no network is trusted.",
        "Nobody is believed.",
        f"Name the networks of your load balancer in {networks}.",
    )


def everybody_trusted(origin: Origin, network: str) -> Problem:
    """Say that the networks that are trusted leave nobody out."""
    return Problem(
        origin,
        "everybody_trusted",
        f"The network {network} lets every client say that it is another.",
        "Everybody is believed.",
        "Name the networks of your load balancer alone.",
        Severity.NOTICE,
    )


def annotation_invalid(origin: Origin, value: str, reason: str, *, closes: bool) -> Problem:
    """Say that an annotation's value is malformed; `reason` is the parser's sentence."""
    return Problem(
        origin,
        "annotation_invalid",
        discreet_text(f"The value {show(value)} cannot be used: {reason}."),
        "The paths of the Ingress answer 503." if closes else "The default is used.",
        "Correct the value or remove the annotation.",
    )


def annotation_refused(origin: Origin, reason: str, remedy: str, *, closes: bool) -> Problem:
    """Say that an annotation of ingress-nginx is not built here; `reason` and `remedy` are the table's sentences."""
    done = "The paths of the Ingress answer 503." if closes else "It has no effect."
    return Problem(origin, "annotation_refused", reason, done, remedy, Severity.ERROR if closes else Severity.NOTICE)


def annotation_idle(origin: Origin, others: Sequence[str]) -> Problem:
    """Say that an annotation belongs to others of which none is set."""
    wanted = " or ".join(others)
    return Problem(
        origin,
        "annotation_idle",
        f"It means something only beside {wanted}.",
        "It has no effect.",
        f"Set {wanted}, or remove it.",
        Severity.NOTICE,
    )


def annotation_unknown(origin: Origin, remedy: str) -> Problem:
    """Say that there is no such annotation of ours on this kind of object."""
    return Problem(
        origin,
        "annotation_unknown",
        "Portway has no such annotation here.",
        "It has no effect.",
        remedy,
        Severity.NOTICE,
    )


def class_foreign(origin: Origin, name: str, controller: str) -> Problem:
    """Say that an Ingress is of a class that is not ours; worth saying where there is no other controller."""
    return Problem(
        origin,
        "class_foreign",
        f"The IngressClass {show(name)} belongs to {show(controller)}.",
        "The Ingress is not served.",
        "Name a class of Portway's, or remove the IngressClass.",
        Severity.NOTICE,
    )


def rule_foreign(origin: Origin, host: str, name: str) -> Problem:
    """Say that a host has a rule in an Ingress that is not ours: told to who asks about that host, and nobody else."""
    whose = f"is of the class {show(name)}, which is not ours" if name else "names no class"
    return Problem(
        origin,
        "rule_foreign",
        f"{host or 'Any host'} has a rule here, and the Ingress {whose}.",
        "It is left to another controller.",
        "Set its spec.ingressClassName to the name of a class of Portway's.",
        Severity.NOTICE,
    )


def class_missing(origin: Origin, name: str) -> Problem:
    """Say that an Ingress asks for our class, and there is no such IngressClass."""
    return Problem(
        origin,
        "class_missing",
        f"There is no IngressClass {show(name)}.",
        "The Ingress is not served.",
        "Create it with the controller portway.dev/ingress-controller.",
        Severity.NOTICE,
    )


_CLOSED = "The paths of the Ingress answer 503."


def fields_foreign(origin: Origin, name: str, namespace: str) -> Problem:
    """Say that a ConfigMap of header fields is in another namespace, whose owner may be somebody else."""
    found = f"{show(name)} is not in the Ingress's own namespace {namespace}."
    return Problem(origin, "fields_foreign", found, _CLOSED, f"Put a copy of it into the namespace {namespace}.")


def fields_missing(origin: Origin, name: str) -> Problem:
    """Say that there is no such ConfigMap of header fields."""
    found = f"There is no ConfigMap {name}, or Portway may not read it."
    remedy = "Create it, correct the name, or grant the operator list and watch of it."
    return Problem(origin, "fields_missing", found, _CLOSED, remedy)


def fields_invalid(origin: Origin, name: str, reason: str) -> Problem:
    """Say that a ConfigMap holds what is no header field; `reason` completes a sentence."""
    found = f"ConfigMap {name} cannot be used: {reason}."
    remedy = "Have each key name a header field, and its value be one line."
    return Problem(origin, "fields_invalid", found, _CLOSED, remedy)


def fields_unwelcome(origin: Origin, name: str) -> Problem:
    """Say that a ConfigMap has a field for answers that nobody allowed."""
    return Problem(
        origin,
        "fields_unwelcome",
        f"{name} is none of the fields of answers that the settings allow.",
        _CLOSED,
        "Add it to global-allowed-response-headers, or write it as portway.dev/response-headers.",
    )
