"""Which certificates clients of a host are asked for: by one set of rules, of the oldest Ingress that has any."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography import x509

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, key_of, rows
from portway_operator.annotations.client_certificates import VerifyClient
from portway_operator.compile.access import Access
from portway_operator.compile.sources import Loan
from portway_operator.compile.tls import DAY, SOON
from portway_operator.objects import Ingress, Secret
from portway_operator.problems import Origin, Problem, at
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import ClientAuthority, ClientCertificate, Host, Policy, Route, Verification

__all__ = ["ClientCertificates", "own_namespace"]

Key = tuple[str, str]

_NONE = Policy()
_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class ClientCertificates:
    """Reads what Ingresses ask of clients' certificates, from the oldest to the youngest.

    `secrets` are the namespaces and names of all Secrets that they named so far, `loans` the rules that others' routes
    got. `today` is the day since the epoch; 0
    is unknown.
    """

    __slots__ = ("_authorities", "_hosts", "_store", "_today", "loans", "secrets")

    def __init__(self, store: ObjectStore, today: int = 0) -> None:
        self.secrets: set[Key] = set()
        self.loans: list[Loan] = []
        self._store = store
        self._today = today
        self._authorities: dict[str, ClientAuthority] = {}
        self._hosts: dict[str, tuple[ClientCertificate, Origin]] = {}

    def read(self, ingress: Ingress, values: IngressAnnotations) -> Access:
        """Return what an Ingress with these annotations asks for; `closed` where that cannot be."""
        if not values.auth_tls_secret or values.auth_tls_verify_client is VerifyClient.OFF:
            return Access()
        origin = at(ingress, f"metadata.annotations[{key_of(ingress, rows(IngressAnnotations)['auth_tls_secret'])}]")
        found = self._secret(ingress, values, origin)
        if isinstance(found, Problem):
            return Access(closed=found.code, problems=(found,))
        read = _authority(found, values.auth_tls_verify_depth)
        if isinstance(read, str):
            problem = problems.client_authority_unusable(origin, found.meta.name, read)
            return Access(closed=problem.code, problems=(problem,))
        self._authorities[read.name] = read
        certificate = ClientCertificate(
            read.name,
            Verification(values.auth_tls_verify_client),
            values.auth_tls_match_cn,
            values.auth_tls_error_page,
            values.auth_tls_pass_certificate_to_upstream,
        )
        access = Access(certificate=certificate) if values.canary else self._claim(ingress, certificate, origin)
        return access.beside(Access(problems=self._age(found, origin)))

    def spread(self, hosts: tuple[Host, ...]) -> tuple[Host, ...]:
        """Return the hosts with the rules of each on all of its routes: a path without would lead around them."""
        return tuple(self._spread(host) for host in hosts) if self._hosts else hosts

    def authorities(self, hosts: Iterable[Host], default: Route | None) -> tuple[ClientAuthority, ...]:
        """Return the authorities that routes of these hosts and the `default` one name, with their hosts."""
        if not self._authorities:
            return ()
        named: dict[str, set[str]] = {}
        everywhere = () if default is None else (Host("", (default,)),)
        for host in (*everywhere, *hosts):
            for route in host.routes:
                if route.policy is not None and route.policy.certificate is not None:
                    named.setdefault(route.policy.certificate.authority, set()).add(host.name)
        return tuple(
            msgspec.structs.replace(self._authorities[name], hosts=tuple(sorted(named[name]))) for name in sorted(named)
        )

    def _secret(self, ingress: Ingress, values: IngressAnnotations, origin: Origin) -> Secret | Problem:
        key = own_namespace(values.auth_tls_secret, ingress)
        if key is None:
            return problems.auth_secret_foreign(origin, values.auth_tls_secret, ingress.meta.namespace)
        self.secrets.add(key)
        return self._store.secrets.get(key) or problems.auth_secret_missing(origin, *key)

    def _age(self, secret: Secret, origin: Origin) -> tuple[Problem, ...]:
        """Return what is wrong with the age of authorities and lists, of which a good client needs one each."""
        authorities = x509.load_pem_x509_certificates(secret.data["ca.crt"])
        ends = {"ca.crt": max(one.not_valid_after_utc for one in authorities)}
        lists = [one.next_update_utc for one in _lists(secret.data.get("ca.crl", b""))]
        ends |= {"ca.crl": min(end for end in lists if end is not None)} if any(lists) else {}
        days = {part: int(end.timestamp()) // DAY for part, end in ends.items()}
        # Lists are made anew every few days: one that is about to end is as it should be.
        soon = {"ca.crt": SOON, "ca.crl": -1}
        return tuple(
            problems.client_authority_expires(origin, secret.meta.name, part, day, expired=day < self._today)
            for part, day in days.items()
            if self._today and day <= self._today + soon[part]
        )

    def _claim(self, ingress: Ingress, certificate: ClientCertificate, origin: Origin) -> Access:
        """Note the rules of the Ingress's hosts, unless one of them has others."""
        hosts = tuple(dict.fromkeys(rule.host for rule in ingress.rules))
        for host in hosts:
            winner, owner = self._hosts.get(host, (certificate, origin))
            if winner != certificate:
                problem = problems.client_rules_taken(origin, host, owner)
                return Access(closed=problem.code, problems=(problem,))
        self._hosts.update({host: (certificate, origin) for host in hosts if host not in self._hosts})
        return Access(certificate=certificate)

    def _spread(self, host: Host) -> Host:
        found = self._hosts.get(host.name)
        if found is None:
            return host
        return msgspec.structs.replace(host, routes=tuple(self._with(route, *found) for route in host.routes))

    def _with(self, route: Route, certificate: ClientCertificate, origin: Origin) -> Route:
        policy = route.policy or _NONE
        if policy.certificate is not None or policy.closed:
            return route
        self.loans.append(Loan("certificate", route.origin, origin))
        return msgspec.structs.replace(route, policy=msgspec.structs.replace(policy, certificate=certificate))


def _lists(pem: bytes) -> list[x509.CertificateRevocationList]:
    """Return the lists of revoked certificates; raises ValueError for one that cannot be read."""
    blocks = _LIST.findall(pem)
    if len(blocks) != pem.count(b"-----BEGIN X509 CRL"):
        raise ValueError("a list has no end")
    return [x509.load_pem_x509_crl(block) for block in blocks]


def own_namespace(reference: str, ingress: Ingress) -> Key | None:
    """Return the namespace and name of what an Ingress refers to, or None: it is of another namespace."""
    namespace, slash, name = reference.rpartition("/")
    return None if slash and namespace != ingress.meta.namespace else (ingress.meta.namespace, name)


def _authority(secret: Secret, depth: int) -> ClientAuthority | str:
    """Return the authority in a Secret, or a sentence that says why it has none."""
    ca, crl = secret.data.get("ca.crt", b""), secret.data.get("ca.crl", b"")
    if not ca:
        return "It has no ca.crt."
    try:
        x509.load_pem_x509_certificates(ca)
    except ValueError:
        return "ca.crt holds no PEM certificate that can be read."
    try:
        listed = _lists(crl)
    except ValueError:
        listed = []
    if crl and not listed:
        return "ca.crl holds no PEM list of revoked certificates that can be read."
    # By another name when anything changes: clients that were asked by the one before are asked again.
    content = hashlib.sha256(b"\0".join((ca, crl, b"%d" % depth))).hexdigest()[:12]
    return ClientAuthority(f"{'/'.join(secret.meta.key)}@{content}", (), ca, crl, depth)
