"""The command line of ingress-nginx's controller, as `portway operator` takes it: in Go's form, and without its nginx.

Go's `--flag=true` becomes what click knows. Flags that only tune nginx are left out with a word, those that would have
to do something refuse to start with a sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["FLAGS", "Flag", "Refused", "taken"]

_TRUE: Final = ("true", "True", "TRUE", "t", "T", "1")
_FALSE: Final = ("false", "False", "FALSE", "f", "F", "0")


class Refused(ValueError):
    """A flag that cannot be left out in silence; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of ingress-nginx's: `reason` is a sentence, `harmless` are values that ask for what is so anyway.

    One that is not `idle` refuses to start with any other value. `switch` tells one that needs no value.
    """

    reason: str
    idle: bool = True
    harmless: tuple[str, ...] = ()
    switch: bool = False


def _idle(reason: str, names: str, *, switch: bool = False) -> dict[str, Flag]:
    return {name: Flag(reason, switch=switch) for name in names.split()}


FLAGS: Final[Mapping[str, Flag]] = {
    **_idle(
        "It is about nginx or the Go program.",
        "apiserver-host certificate-authority default-server-port dynamic-configuration-retries health-check-timeout "
        "internal-logger-address maxmind-edition-ids maxmind-license-key maxmind-mirror maxmind-retries-count "
        "maxmind-retries-timeout profiler-address profiler-port ssl-passthrough-proxy-port status-port "
        "status-update-interval stream-port sync-period sync-rate-limit v vmodule",
    ),
    **_idle(
        "It is about nginx or the Go program.",
        "alsologtostderr deep-inspect disable-full-test disable-sync-events enable-annotation-validation "
        "enable-ssl-chain-completion logtostderr profiling",
        switch=True,
    ),
    **_idle("It is a flag of the proxies: portway proxy.", "http-port https-port"),
    **_idle("Proxies wait for what still runs: portway proxy --drain-timeout.", "post-shutdown-grace-period"),
    **_idle("It is a flag of the proxies: portway proxy --drain-grace.", "shutdown-grace-period"),
    **_idle("Portway answers on --health-port, at /livez and /readyz.", "healthz-host healthz-port health-check-path"),
    **_idle("It is a flag of the proxies: portway proxy.", "metrics-per-host", switch=True),
    **_idle("Hosts that have no routes are counted together, as *.", "metrics-per-undefined-host", switch=True),
    **_idle("Proxies always have metrics, at their admin port.", "enable-metrics", switch=True),
    **_idle("Counts of requests tell statuses apart, and times their classes.", "report-status-classes", switch=True),
    **_idle(
        "The buckets of Portway's histograms are fixed.",
        "bucket-factor exclude-socket-metrics length-buckets max-buckets monitor-max-batch-size size-buckets "
        "time-buckets",
    ),
    **_idle("TLS passes through without a flag, for Ingresses that ask for it.", "enable-ssl-passthrough", switch=True),
    **_idle(
        "Endpoints with zone hints are preferred by proxies with --zone.", "enable-topology-aware-routing", switch=True
    ),
    "annotations-prefix": Flag(
        "Annotations are read by the prefixes nginx.ingress.kubernetes.io/ and portway.dev/ alone.",
        idle=False,
        harmless=("nginx.ingress.kubernetes.io",),
    ),
    "disable-leader-election": Flag(
        "Replicas have to agree who writes statuses; with one replica, the election costs nothing.",
        idle=False,
        harmless=_FALSE,
        switch=True,
    ),
    "watch-namespace-selector": Flag(
        "Portway does not look at the labels of namespaces; name the namespaces by --watch-namespace.",
        idle=False,
        harmless=("",),
    ),
}
"""The flags of ingress-nginx's that `portway operator` does not have itself."""


def taken(
    arguments: Sequence[str], switches: Mapping[str, tuple[str, str]], ours: Collection[str]
) -> tuple[list[str], list[str]]:
    """Return a command line as click takes it, and a sentence for each flag that is left out.

    `switches` are the names of our flags without value, with how each is set and unset; `ours` are the names of all of
    ours. Raises `Refused`.
    """
    found: list[str] = []
    left: list[str] = []
    rest = list(arguments)
    while rest:
        one = rest.pop(0)
        name, equals, value = one.partition("=")
        bare = name.lstrip("-")
        if not name.startswith("-") or one == "--":
            found.append(one)
        elif bare in switches and equals:
            found.append(_switched(name, value, switches[bare]))
        elif bare in FLAGS and bare not in ours:
            flag = FLAGS[bare]
            if not equals and not flag.switch and rest:
                value = rest.pop(0)
            left += _left(name, flag, value or (_TRUE[0] if flag.switch and not equals else value))
        else:
            found.append(one)
    return found, left


def _switched(name: str, value: str, forms: tuple[str, str]) -> str:
    if value not in (*_TRUE, *_FALSE):
        raise Refused(f"{name}: {value!r} is neither true nor false.")
    return forms[value in _FALSE]


def _left(name: str, flag: Flag, value: str) -> list[str]:
    if value in flag.harmless:
        return []
    if not flag.idle:
        raise Refused(f"{name}: {flag.reason}")
    return [f"{name} has no effect. {flag.reason}"]
