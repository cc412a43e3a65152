"""The annotations of an Ingress that change what endpoints answer: cookies and redirects."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.parse_http import domain_pair, path_pair, redirect_text, redirect_to

__all__ = ["AnswerAnnotations"]

_PLAIN = close("A regular expression (`~...`) is refused.")


@dataclass(frozen=True)
class AnswerAnnotations:
    """What the annotations of an Ingress say about its endpoints' answers."""

    cookie_domain: tuple[str, str] | None = row(
        "cookie-domain",
        domain_pair,
        default=None,
        makes="edits",
        doc="What takes the place of a Domain of endpoints' cookies (`old.example new.example`), or `off`.",
        nginx="proxy-cookie-domain",
        fidelity=_PLAIN,
    )
    cookie_path: tuple[str, str] | None = row(
        "cookie-path",
        path_pair,
        default=None,
        makes="edits",
        doc="What takes the place of the beginning of a Path of endpoints' cookies (`/old/ /`), or `off`.",
        nginx="proxy-cookie-path",
        fidelity=_PLAIN,
    )
    redirect_from: str = row(
        "redirect-from",
        redirect_text,
        default="",
        makes="edits",
        doc="The beginning of endpoints' Location and Refresh that `redirect-to` takes the place of; `off` is none.",
        nginx="proxy-redirect-from",
        fidelity=_PLAIN,
    )
    redirect_to: str = row(
        "redirect-to",
        redirect_to,
        default="",
        makes="edits",
        doc="What takes its place, perhaps with variables; `off` leaves it.",
        nginx="proxy-redirect-to",
        requires=("redirect_from",),
    )
