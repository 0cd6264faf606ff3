"""Pages that need nothing but themselves and the media beside them: templates, styles and scripts put into one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.media.marked import check_marked, write_marked

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "index.html"
GENERATOR = "its, images that sound"
"""Stands in the head of every page of ours: no other page is ever overwritten."""
_MARK = f'<meta name="generator" content="{GENERATOR}"'

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Fill a template in; every value is escaped.

    The styles and scripts become part of the page. It lets no other script run, whatever a prompt may say: the one
    that is its own is named by its digest (Content-Security-Policy).
    """
    from markupsafe import Markup

    script = "\n".join(_text(name) for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup("\n".join(_text(name) for name in styles)),
            script=Markup(script),
            script_digest=digest,
            generator=GENERATOR,
            **values,
        )
    )


def check_page(path: Path) -> None:
    """Check that a page may be written.

    Raises:
        UserError: another page is there.
    """
    check_marked(path, _MARK)


def write_page(path: Path, html: str) -> None:
    """Write a page, with the folders above it.

    Raises:
        NotWritten: it can't be written.
        UserError: another page is there.
    """
    write_marked(path, html.encode(errors="replace").decode(), _MARK)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


@cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
