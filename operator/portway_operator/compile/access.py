"""Who may come to a path: the passwords of Secrets that annotations name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.htpasswd import SecretForm, Users, read_users
from portway_operator.objects import Ingress, Secret
from portway_operator.problems import Origin, Problem, at
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import BasicAuth, ClientCertificate, Credentials, ExternalAuth

__all__ = ["Access", "AccessReader"]

Key = tuple[str, str]

_WANTED = {
    SecretForm.FILE: "Give it lines of htpasswd under the key auth.",
    SecretForm.MAP: "Give it a key for each user, with the password's hash as its value.",
}


@dataclass(frozen=True, slots=True)
class Access:
    """What the paths of an Ingress ask of their clients; `closed` is the code of the problem that lets nobody in."""

    basic: BasicAuth | None = None
    external: ExternalAuth | None = None
    certificate: ClientCertificate | None = None
    closed: str = ""
    problems: tuple[Problem, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether a password is asked for, or a service."""
        return self.basic is not None or self.external is not None

    def telling(self, fields: tuple[tuple[str, str], ...]) -> Access:
        """Return this with further fields for the service that is asked."""
        if not fields or self.external is None:
            return self
        told = msgspec.structs.replace(self.external, fields=(*self.external.fields, *fields))
        return replace(self, external=told)

    def beside(self, other: Access) -> Access:
        """Return what this and another part of the annotations ask for together."""
        return Access(
            self.basic or other.basic,
            self.external or other.external,
            self.certificate or other.certificate,
            self.closed or other.closed,
            self.problems + other.problems,
        )


class AccessReader:
    """Reads what Ingresses ask of clients.

    `secrets` are the namespaces and names of all Secrets that Ingresses named so far, whether they exist or not: they
    are to be followed.
    """

    __slots__ = ("_found", "_store", "secrets")

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._found: dict[str, Credentials] = {}
        self.secrets: set[Key] = set()

    def credentials(self) -> tuple[Credentials, ...]:
        """Return those that were found so far, sorted by name."""
        return tuple(self._found[name] for name in sorted(self._found))

    def read(self, ingress: Ingress, values: IngressAnnotations) -> Access:
        """Return what an Ingress with these annotations asks for."""
        if values.auth_type is None:
            return Access()
        named = _at(ingress, "auth_secret")
        namespace, slash, name = values.auth_secret.rpartition("/")
        if not name:
            return _closed(problems.auth_secret_unnamed(_at(ingress, "auth_type"), _key(ingress, "auth_secret")))
        if slash and namespace != ingress.meta.namespace:
            return _closed(problems.auth_secret_foreign(named, values.auth_secret, ingress.meta.namespace))
        key = (ingress.meta.namespace, name)
        self.secrets.add(key)
        secret = self._store.secrets.get(key)
        if secret is None:
            return _closed(problems.auth_secret_missing(named, *key))
        return self._ask(secret, values, named)

    def _ask(self, secret: Secret, values: IngressAnnotations, origin: Origin) -> Access:
        form = values.auth_secret_type
        users = read_users(secret, form)
        if not users.users:
            return _closed(problems.auth_secret_empty(origin, secret.meta.name, _WANTED[form]))
        found = [problems.auth_secret_lines(origin, secret.meta.name, users.faults)] if users.faults else []
        return Access(BasicAuth(self._keep(secret, form, users), values.auth_realm), problems=tuple(found))

    def _keep(self, secret: Secret, form: SecretForm, users: Users) -> str:
        # The same Secret may be read both ways.
        name = "/".join(secret.meta.key) + ("" if form is SecretForm.FILE else f" ({form})")
        self._found[name] = Credentials(name, users.users)
        return name


def _at(ingress: Ingress, field: str) -> Origin:
    return at(ingress, f"metadata.annotations[{_key(ingress, field)}]")


def _key(ingress: Ingress, field: str) -> str:
    return key_of(ingress, rows(IngressAnnotations)[field])


def _closed(problem: Problem) -> Access:
    return Access(closed=problem.code, problems=(problem,))
