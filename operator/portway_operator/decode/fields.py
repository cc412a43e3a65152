"""Reads typed values out of raw objects; whatever is not as the API server would have it is a `BadObject`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from portway_operator.objects import Fault
from portway_proxy.snapshot import Origin

__all__ = [
    "BadObject",
    "Raw",
    "boolean",
    "each",
    "integer",
    "items",
    "mapping",
    "optional_mapping",
    "show",
    "text",
]

Raw = Mapping[str, object]
T = TypeVar("T")

_SHOWN = 60

# The first that fits: a boolean is an integer too, and what a file is read into are lists and mappings of its own.
_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (str, "a string"),
    (list, "a list"),
    (Mapping, "a mapping"),
)


class BadObject(ValueError):
    """An object, or a part of one, that cannot be read.

    `field` is its path (`spec.rules[0].host`), `message` and `remedy` are sentences; `origin` is empty until `decode`
    knows the object.
    """

    def __init__(self, field: str, message: str, remedy: str = "", *, code: str = "malformed") -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message
        self.remedy = remedy
        self.code = code
        self.origin = Origin("", "", "", field)

    def __str__(self) -> str:
        """Return `Ingress shop/web spec.rules: It is a string, not a list.`, the remedy included."""
        where = str(self.origin) if self.origin.kind else self.field
        return f"{where}: {self.message} {self.remedy}".rstrip()


def show(value: object) -> str:
    """Return `value` quoted for a message: escaped, and cut when it is long."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _wrong_type(value: object, field: str, wanted: str) -> BadObject:
    if value is None:
        return BadObject(field, "It is missing.", f"Give it {wanted}.")
    actual = next((name for kind, name in _TYPE_NAMES if isinstance(value, kind)), f"a {type(value).__name__}")
    hint = " In YAML, put it in quotes." if wanted == "a string" and not isinstance(value, (list, dict)) else ""
    return BadObject(field, f"It is {actual}, not {wanted}.", f"Give it {wanted}.{hint}")


def mapping(value: object, field: str) -> Raw:
    """Return `value` if it is a mapping with string keys."""
    if not isinstance(value, Mapping):
        raise _wrong_type(value, field, "a mapping")
    for key in value:
        if not isinstance(key, str):
            raise BadObject(field, f"The key {show(key)} is not a string.", "In YAML, put it in quotes.")
    return value


def optional_mapping(value: object, field: str) -> Raw:
    """Return `value` if it is a mapping, an empty one for None."""
    return {} if value is None else mapping(value, field)


def items(value: object, field: str) -> Sequence[object]:
    """Return `value` if it is a list, an empty one for None."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise _wrong_type(value, field, "a list")
    return value


def text(value: object, field: str, default: str | None = None) -> str:
    """Return `value` if it is a string; `default`, if there is one, for None."""
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise _wrong_type(value, field, "a string")
    return value


def boolean(value: object, field: str, *, default: bool) -> bool:
    """Return `value` if it is a boolean, `default` for None."""
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _wrong_type(value, field, "true or false")
    return value


def integer(value: object, field: str) -> int:
    """Return `value` if it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(value, field, "a whole number")
    return value


def each(
    values: Sequence[object], field: str, read: Callable[[object, str], T], done: str, faults: list[Fault]
) -> list[T]:
    """Return `read(value, field[i])` for each value; one that is malformed becomes a fault and is left out.

    `done` is the sentence that says what leaving it out means.
    """
    read_values: list[T] = []
    for index, value in enumerate(values):
        try:
            read_values.append(read(value, f"{field}[{index}]"))
        except BadObject as error:
            faults.append(Fault(error.field, error.code, error.message, done, error.remedy))
    return read_values
