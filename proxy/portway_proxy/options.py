"""What a proxy process is started with: its command line, and the environment where a flag is not given."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from portway_proxy.admin_options import add_admin, admin_access
from portway_proxy.dial import Address, Credentials
from portway_proxy.settings import Limits, ProxySettings, Timeouts
from portway_proxy.stream import valid_node
from portway_proxy.tuning import ROWS, Row, Setting, Unit, tuned
from portway_proxy.tuning import usual as default_of
from portway_proxy.watch_options import add_watching, watching

__all__ = ["Options", "read_options", "reread_settings", "size"]

_Settings = TypeVar("_Settings", ProxySettings, Limits, Timeouts)

_PREFIX: Final = "PORTWAY_"
_FACTORS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
# A Service called portway-http has Kubernetes set PORTWAY_HTTP_PORT=tcp://10.0.0.1:80 in every pod beside it.
_SERVICE_LINKS: Final = ("tcp://", "udp://", "sctp://")
_FOREVER: Final = 1e6
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Options:
    """A proxy to run, and what it serves: the operators that it follows, or without any the `snapshot` of a file."""

    settings: ProxySettings
    snapshot: Path | None
    operators: tuple[Address, ...]
    credentials: Credentials
    state_dir: Path | None


def read_options(arguments: Sequence[str] | None, environment: Mapping[str, str] = os.environ) -> Options:
    """Return what the command line asks for; `--http-port` left out is `PORTWAY_HTTP_PORT`, and so on.

    Ends the process with a usage message when that makes no sense, or when only help is wanted.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its own flags
            _fill_in(chosen, action, environment.get(_PREFIX + action.dest.upper(), ""))
        return _options(chosen)
    except (ValueError, OSError, argparse.ArgumentTypeError, msgspec.DecodeError) as error:
        parser.error(str(error))


def reread_settings(arguments: Sequence[str] | None, environment: Mapping[str, str] = os.environ) -> ProxySettings:
    """Return what the same command line asks for now, as a file that it names may have changed; raises ValueError."""
    try:
        return read_options(arguments, environment).settings
    except SystemExit:
        raise ValueError("the settings cannot be used any more") from None


def size(text: str) -> int:
    """Return the bytes that `text` says: a number, or one with `k`, `m` or `g` behind it (times 1024)."""
    number = text.rstrip("kmgKMG")
    factor = _FACTORS.get(text[len(number) :].lower())
    if not (number.isascii() and number.isdigit() and len(number) < 16) or factor is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 1048576, 1024k or 1m")
    return int(number) * factor


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="portway proxy",
        description="Serve what an operator says (--operator), or one snapshot from a JSON file.",
        epilog=f"Each flag may come from the environment instead: --http-port is {_PREFIX}HTTP_PORT.",
        allow_abbrev=False,
    )
    parser.add_argument("snapshot", nargs="?", type=Path, help="a snapshot as JSON, when there is no operator")
    _add_operator(parser.add_argument_group("operator"))
    _add_proxy(parser.add_argument_group("proxy"))
    add_admin(parser.add_argument_group("who may see the admin port"))
    add_watching(parser.add_argument_group("what people watch"))
    return parser


def _add_operator(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--operator",
        action="append",
        metavar="URL",
        help="https://HOST[:9444] or unix:///PATH; may be repeated, or be a list with commas",
    )
    add("--ca-file", type=Path, metavar="FILE", help="the operator's authority (PEM); nobody else is trusted")
    add("--token-file", type=Path, metavar="FILE", help="a service account token for the audience portway-config")
    add("--client-cert", type=Path, metavar="FILE", help="the certificate that says who we are (PEM)")
    add("--client-key", type=Path, metavar="FILE", help="its key (PEM)")
    add("--state-dir", type=Path, metavar="DIR", help="where the last good snapshot is kept; in memory, for its keys")
    add("--node", help="this proxy's name (the host's)")
    add("--zone", help="the zone of this proxy's node, so that endpoints with hints for it are preferred (none)")
    add("--insecure", action=argparse.BooleanOptionalAction, help="allow http:// for the operator")


def _add_proxy(group: argparse._ArgumentGroup) -> None:
    usual = ProxySettings()
    port, positive = _number(0, 65535), _number(1, 256)

    def add(flag: str, read: Callable[[str], object], what: str, default: object = None) -> None:
        group.add_argument(flag, type=read, metavar=read.__name__.strip("_").upper(), help=f"{what} ({default})")

    add("--http-port", port, "the port for HTTP; 0 takes any that is free", usual.http_port)
    add("--https-port", port, "the port for HTTPS; 0 takes any that is free", usual.https_port)
    add("--admin-port", port, "the port of /healthz /readyz /metrics /routes /problems", usual.admin_port)
    add("--address", str, "the address to listen on; 0.0.0.0 or :: for all", usual.address)
    add("--admin-address", str, "the address of the admin port", usual.admin_address)
    add("--public-http-port", port, "what clients see in the place of the HTTP port", "the HTTP port")
    add("--public-https-port", port, "what redirects to HTTPS name", "the HTTPS port")
    add("--workers", positive, "processes that serve", "one for each core")
    add("--drain-grace", _seconds, "seconds from SIGTERM to the end of accepting", usual.timeouts.grace)
    for row in ROWS:
        what = f"{row.unit} {row.doc}" if row.unit is not Unit.NUMBER else row.doc
        add(f"--{row.flag or row.name}", _reader(row), what, f"{default_of(row):g}")
    group.add_argument(
        "--settings",
        metavar="JSON",
        help='all that departs from the usual: {"timeouts": {"head": 10}}, or @FILE; flags go before it',
    )


def _fill_in(chosen: argparse.Namespace, action: argparse.Action, text: str) -> None:
    """Take `text` for a flag that was not given. Raises `ArgumentTypeError`."""
    if not action.option_strings or getattr(chosen, action.dest, "") is not None:
        return
    if not text or text.startswith(_SERVICE_LINKS):
        return
    read = _flag if isinstance(action, argparse.BooleanOptionalAction) else action.type
    try:
        value = read(text) if callable(read) else text
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{_PREFIX}{action.dest.upper()}: {error}") from None
    if action.choices is not None and value not in action.choices:
        raise argparse.ArgumentTypeError(f"{_PREFIX}{action.dest.upper()}: {text!r} is none of {action.choices}")
    setattr(chosen, action.dest, value)


def _options(chosen: argparse.Namespace) -> Options:
    """Return what the flags come to. Raises `ValueError` and `msgspec.DecodeError`."""
    insecure = chosen.insecure or False
    named = [chosen.operator] if isinstance(chosen.operator, str) else chosen.operator or []
    urls = [url.strip() for entry in named for url in entry.split(",") if url.strip()]
    addresses = tuple(Address.parse(url, insecure=insecure) for url in urls)
    if bool(addresses) == (chosen.snapshot is not None):
        raise ValueError("name either an operator or a snapshot")
    if (chosen.client_cert is None) != (chosen.client_key is None):
        raise ValueError("--client-cert and --client-key go together")
    if chosen.ca_file is None and any(address.scheme == "https" for address in addresses):
        raise ValueError("an operator with https needs --ca-file, its authority")
    certificate = (chosen.client_cert, chosen.client_key) if chosen.client_cert is not None else None
    return Options(
        settings=_settings(chosen),
        snapshot=chosen.snapshot,
        operators=addresses,
        credentials=Credentials(chosen.ca_file, chosen.token_file, certificate),
        state_dir=chosen.state_dir,
    )


def _settings(chosen: argparse.Namespace) -> ProxySettings:
    text = chosen.settings or "{}"
    given = Path(text[1:]).read_bytes() if text.startswith("@") else text
    usual = msgspec.json.decode(given, type=ProxySettings)
    node = chosen.node or usual.node or socket.gethostname()
    if not valid_node(node):
        raise ValueError(f"{node!r} is no name of a proxy: letters, digits, dots and dashes")
    usual = tuned(usual, _tuning(chosen))
    timeouts = _with(usual.timeouts, grace=chosen.drain_grace)
    return _with(
        usual,
        address=chosen.address,
        http_port=chosen.http_port,
        https_port=chosen.https_port,
        admin_address=chosen.admin_address,
        admin_port=chosen.admin_port,
        admin_access=admin_access(chosen, usual.admin_access),
        public_http_port=chosen.public_http_port,
        public_https_port=chosen.public_https_port,
        workers=chosen.workers,
        **watching(chosen, usual),
        node=node,
        zone=chosen.zone,
        timeouts=timeouts,
    )


def _tuning(chosen: argparse.Namespace) -> Iterator[Setting]:
    for row in ROWS:
        value = getattr(chosen, (row.flag or row.name).replace("-", "_"))
        if value is not None:
            yield Setting(row.name, value)


def _reader(row: Row) -> Callable[[str], float]:
    """Return the parser of a setting's flag."""
    read: Callable[[str], float] = {Unit.SECONDS: _seconds, Unit.BYTES: size, Unit.NUMBER: _count}[row.unit]

    def value(text: str) -> float:
        found = read(text)
        if not row.least <= found <= row.most:
            raise argparse.ArgumentTypeError(f"{text!r} is not from {row.least:g} to {row.most:g}")
        return found

    value.__name__ = str(row.unit)
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _with(settings: _Settings, **chosen: object) -> _Settings:
    """Return `settings` with what was chosen; None leaves the usual."""
    return msgspec.structs.replace(settings, **{name: value for name, value in chosen.items() if value is not None})


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 6 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
        return int(text)

    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < _FOREVER:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds")
    return seconds


def _flag(text: str) -> bool:
    if text.lower() in (*_YES, *_NO):
        return text.lower() in _YES
    raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
