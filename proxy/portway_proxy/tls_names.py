"""What a name gets that TLS clients ask for: certificates, whom they are asked for theirs by, and ciphers."""

from __future__ import annotations

from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Certificate, ClientAuthority, Snapshot
from portway_proxy.tls_terms import TlsTerms

__all__ = ["TlsNames"]


class TlsNames:
    """The names of a snapshot, whose hosts `table` has; names are lower-case, without a dot at their end.

    `default` are the certificates for names without their own, `terms` how TLS is spoken.
    """

    __slots__ = ("_authorities", "_ciphers", "_hosts", "_table", "default", "known", "terms")

    def __init__(self, snapshot: Snapshot, table: RouteTable) -> None:
        self.known = {certificate.name: certificate for certificate in snapshot.certificates}
        self._table = table
        self._hosts: dict[str, tuple[Certificate, ...]] = {}
        # Of several for one host and kind of key the first by name, on every worker and after every restart.
        for name in sorted(self.known):
            for host in self.known[name].hosts:
                self._hosts[host] = (*self._hosts.get(host, ()), self.known[name])
        default = self.known.get(snapshot.default_certificate)
        self.default: tuple[Certificate, ...] = () if default is None else (default,)
        self._authorities = {host: authority for authority in snapshot.authorities for host in authority.hosts}
        self.terms = snapshot.tls or TlsTerms()
        self._ciphers = dict(self.terms.host_ciphers)

    def own(self, name: str | None) -> tuple[Certificate, ...]:
        """Return the certificates for the name itself (case and a trailing dot do not count), of which all are tried.

        An exact host goes before a wildcard of one label.
        """
        if not name:
            return ()
        name = name.lower().removesuffix(".")
        return self._hosts.get(name) or self._hosts.get("*." + name.partition(".")[2], ())

    def knows(self, name: str | None) -> bool:
        """Return whether the name has a certificate, or is that of a host that is served."""
        return bool(self.own(name)) or self._table.names((name or "").lower().removesuffix(".").encode())

    def authority(self, name: str) -> ClientAuthority | None:
        """Return by whom clients of the host are asked that `name` belongs to, if they are."""
        if not self._authorities:
            return None
        found = self._authorities.get(name)
        if found is None and name.encode() not in self._table.hosts:
            found = self._authorities.get("*." + name.partition(".")[2])
            if found is None and not self._table.names(name.encode()):
                found = self._authorities.get("")
        return found

    def ciphers(self, name: str) -> str:
        """Return the ciphers of the host that `name` belongs to, where it has its own."""
        if not self._ciphers:
            return ""
        found = self._ciphers.get(name, "")
        if found or name.encode() in self._table.hosts:
            return found
        return self._ciphers.get("*." + name.partition(".")[2], "")
