"""The flags of `portway proxy` for who may see its admin port."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import msgspec

from portway_proxy.admin_tokens import TokenFile
from portway_proxy.settings import AdminAccess

__all__ = ["add_admin", "admin_access", "host_names"]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


def add_admin(group: argparse._ArgumentGroup) -> None:
    """Add the flags to a parser."""
    add, flag = group.add_argument, argparse.BooleanOptionalAction
    add("--admin-token-file", metavar="FILE", help="whose token lets others than this machine see the pages (none)")
    add("--admin-hosts", type=_hosts, metavar="NAMES", help="what this machine calls it beside localhost (none)")
    add("--admin-review", action=flag, help="whether tokens count that the operator says may see the pages (yes)")
    add("--admin-protect-metrics", action=flag, help="metrics only for whom the other pages are (no)")


def admin_access(chosen: argparse.Namespace, usual: AdminAccess) -> AdminAccess:
    """Return the settings that the flags come to. Raises `ValueError` when the file holds no token."""
    said = {
        "token_file": chosen.admin_token_file,
        "hosts": chosen.admin_hosts,
        "review": chosen.admin_review,
        "protect_metrics": chosen.admin_protect_metrics,
    }
    settings = msgspec.structs.replace(usual, **{name: value for name, value in said.items() if value is not None})
    if settings.token_file:
        TokenFile(Path(settings.token_file)).check()
    return settings


def host_names(text: str) -> tuple[str, ...]:
    """Return the names in `text`, which has commas between them. Raises `ValueError`."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a host")
    return names


def _hosts(text: str) -> tuple[str, ...]:
    try:
        return host_names(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
