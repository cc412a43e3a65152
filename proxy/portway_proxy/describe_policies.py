"""A route's policy as text, a part for each thing that it asks for; of what is secret only the name is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from portway_proxy.discretion import HIDDEN, discreet_url, secret_name
from portway_proxy.snapshot import Canary, Cors, ExternalAuth, Policy, RateLimit

__all__ = ["describe_policy", "described_fields", "policy_parts"]

_SHOWN: Final = 4  # Networks that a line shows; an allow-list may have 10,000.


def describe_policy(policy: Policy | None) -> str:
    """Return ` [https-redirect, body-size=1024]`, or nothing for a route without policy."""
    parts = policy_parts(policy)
    return f" [{', '.join(parts)}]" if parts else ""


def policy_parts(policy: Policy | None) -> list[str]:
    """Return a text for each thing that a policy asks for: `https-redirect`, `body-size=1024`."""
    return [text for _, text in described_fields(policy)]


def described_fields(policy: Policy | None) -> list[tuple[str, str]]:
    """Return these texts, each behind the name of the field of `Policy` that it is about.

    `relative` stands with `app_root`, and `old_http` with `connection`.
    """
    parts = () if policy is None else ((field, part(policy)) for field, part in _PARTS.items())
    return [(field, discreet_url(text)) for field, text in parts if text]


def _https(policy: Policy) -> str:
    return "https-redirect" if policy.https_redirect else ""


def _body(policy: Policy) -> str:
    return "" if policy.body_size is None else f"body-size={policy.body_size}"


def _closed(policy: Policy) -> str:
    return policy.closed and f"closed={policy.closed}"


def _www(policy: Policy) -> str:
    return policy.www and f"to={policy.www}"


def _cors(policy: Policy) -> str:
    cors = policy.cors
    if cors is None:
        return ""
    usual = Cors()
    names = ("methods", "headers", "expose", "credentials", "max_age")
    chosen = [f"{name}={getattr(cors, name)}" for name in names if getattr(cors, name) != getattr(usual, name)]
    return " ".join([f"cors={' '.join(cors.origins)}", *chosen])


def _app_root(policy: Policy) -> str:
    return policy.app_root and f"app-root={policy.app_root}{' relative' if policy.relative else ''}"


def _redirect(policy: Policy) -> str:
    return "" if policy.redirect is None else f"redirect={policy.redirect.status} {policy.redirect.location}"


def _limit(policy: Policy) -> str:
    return "" if policy.limit is None else f"limit={_rates(policy.limit)}"


def _rates(limit: RateLimit) -> str:
    parts = [f"{rate:g}/s+{burst}" for rate, burst in limit.rates]
    if limit.connections:
        parts.append(f"{limit.connections} at once")
    if limit.exempt:
        parts.append(f"but {_networks(limit.exempt)}")
    return " ".join(parts)


def _allow(policy: Policy) -> str:
    return _networks(policy.allow) and f"allow={_networks(policy.allow)}"


def _deny(policy: Policy) -> str:
    return _networks(policy.deny) and f"deny={_networks(policy.deny)}"


def _networks(networks: tuple[str, ...]) -> str:
    more = f" and {len(networks) - _SHOWN} more" if len(networks) > _SHOWN else ""
    return " ".join(networks[:_SHOWN]) + more


def _any(policy: Policy) -> str:
    return "any-suffices" if policy.any_suffices else ""


def _basic(policy: Policy) -> str:
    return "" if policy.basic is None else f"basic={policy.basic.credentials}"


def _external(policy: Policy) -> str:
    external = policy.external
    if external is None:
        return ""
    usual = ExternalAuth("", "", "")
    parts = [f"auth={external.method} {external.upstream or external.host}{external.target}"]
    parts += [f"signin={external.signin}"] if external.signin else []
    parts += [f"copied={' '.join(external.copied)}"] if external.copied else []
    parts += [f"fields={' '.join(name for name, _ in external.fields)}"] if external.fields else []
    parts += [f"redirect={external.redirect}"] if external.redirect != usual.redirect else []
    parts += ["cookie=always"] if external.always_cookie else []
    if external.cache_key:
        times = " ".join(f"{status or 'any'} {seconds:g}s" for status, seconds in external.durations)
        parts.append(f"cached by {external.cache_key} {times}")
    return " ".join(parts)


def _canary(policy: Policy) -> str:
    return "" if policy.canary is None else f"canary={policy.canary.upstream} by {_choice(policy.canary)}"


def _choice(canary: Canary) -> str:
    ways = []
    if canary.header:
        value = f"={canary.value}" if canary.value else f"~{canary.pattern}" if canary.pattern else ""
        value = f"{value[0]}{HIDDEN}" if value and secret_name(canary.header) else value
        ways.append(f"header {canary.header}{value}")
    if canary.cookie:
        ways.append(f"cookie {canary.cookie}")
    if canary.weight or not ways:
        ways.append(f"chance {canary.weight}/{canary.total}")
    return ", ".join(ways) + (" sticky" if canary.sticky else "")


def _rewrite(policy: Policy) -> str:
    return policy.rewrite and f"rewrite={policy.rewrite}"


def _host(policy: Policy) -> str:
    return policy.host and f"host={policy.host}"


def _prefix(policy: Policy) -> str:
    return policy.prefix and f"prefix={policy.prefix}"


def _request(policy: Policy) -> str:
    return f"request={' '.join(name for name, _ in policy.request)}" if policy.request else ""


def _hidden(policy: Policy) -> str:
    return f"hidden={' '.join(policy.hidden)}" if policy.hidden else ""


def _blocked(policy: Policy) -> str:
    blocked = policy.blocked
    return "" if blocked is None else f"blocked={' '.join((*blocked.agents, *blocked.referers))}"


def _answer(policy: Policy) -> str:
    return f"answer={' '.join(name for name, _ in policy.answer)}" if policy.answer else ""


def _certificate(policy: Policy) -> str:
    asked = policy.certificate
    if asked is None:
        return ""
    parts = [f"client-certificate={asked.authority} {asked.verification}"]
    parts += [f"{name}={value}" for name in ("subject", "error_page") if (value := getattr(asked, name))]
    return " ".join([*parts, *(["forwarded"] if asked.forwarded else [])])


def _edits(policy: Policy) -> str:
    edits = policy.edits
    if edits is None:
        return ""
    pairs = (("cookie-domain", edits.cookie_domain), ("cookie-path", edits.cookie_path), ("location", edits.redirect))
    return " ".join(f"{name}={pair[0]}>{pair[1]}" for name, pair in pairs if pair is not None)


def _patience(policy: Policy) -> str:
    patience = policy.patience
    if patience is None:
        return ""
    times = (("connect", patience.connect), ("read", patience.read), ("write", patience.write))
    return " ".join(f"{name}={seconds:g}s" for name, seconds in times if seconds)


def _errors(policy: Policy) -> str:
    errors = policy.errors
    if errors is None:
        return ""
    pages = f"errors={' '.join(map(str, errors.statuses))}" if errors.statuses else ""
    absent = "without endpoints" if errors.stands_in else ""
    return f"{' or '.join(filter(None, (pages, absent)))} by {errors.upstream}"


def _mirror(policy: Policy) -> str:
    mirror = policy.mirror
    if mirror is None:
        return ""
    return f"copied-to={mirror.upstream}{mirror.target} as {mirror.host}{'' if mirror.body else ' without body'}"


def _rate(policy: Policy) -> str:
    rate = policy.rate
    return "" if rate is None else f"rate={rate.bytes}/s{f' after {rate.after}' if rate.after else ''}"


def _buffering(policy: Policy) -> str:
    asked = policy.buffering
    if asked is None:
        return ""
    sizes = (("request", asked.request), ("response", asked.response), ("response-head", asked.head))
    return " ".join(f"{name}={size}" for name, size in sizes if size)


def _spoken(policy: Policy) -> str:
    parts = [f"connection={policy.connection}"] if policy.connection else []
    return " ".join([*parts, *(["http=1.0"] if policy.old_http else [])])


def _tracing(policy: Policy) -> str:
    traced = policy.tracing
    if traced is None:
        return ""
    words = {None: "", True: "on", False: "off"}
    parts = (words[traced.enabled], words[traced.trust_incoming] and f"trust={words[traced.trust_incoming]}")
    return f"traced={' '.join(filter(None, (*parts, traced.name)))}"


def _unlogged(policy: Policy) -> str:
    return "unlogged" if policy.unlogged else ""


_PARTS: Final[Mapping[str, Callable[[Policy], str]]] = {
    "https_redirect": _https,
    "body_size": _body,
    "closed": _closed,
    "www": _www,
    "cors": _cors,
    "app_root": _app_root,
    "redirect": _redirect,
    "limit": _limit,
    "allow": _allow,
    "deny": _deny,
    "any_suffices": _any,
    "basic": _basic,
    "external": _external,
    "canary": _canary,
    "rewrite": _rewrite,
    "host": _host,
    "prefix": _prefix,
    "answer": _answer,
    "patience": _patience,
    "edits": _edits,
    "unlogged": _unlogged,
    "certificate": _certificate,
    "errors": _errors,
    "mirror": _mirror,
    "rate": _rate,
    "buffering": _buffering,
    "connection": _spoken,
    "tracing": _tracing,
    "request": _request,
    "hidden": _hidden,
    "blocked": _blocked,
}
