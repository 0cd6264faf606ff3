"""Pages that need nothing but themselves and the media beside them: templates, styles and scripts put into one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.errors import UserError
from its.media.atomic import atomic

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "index.html"
GENERATOR = "its, images that sound"
"""Stands in the head of every page of ours: no other page is ever overwritten."""

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


def check_ours(path: Path) -> None:
    """Check that a page may be written.

    Raises:
        UserError: another page is there.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = f'<meta name="generator" content="{GENERATOR}"' in file.read(2000)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from None
    if not ours:
        raise UserError(f"{path} is there already and not a page of ours: move it away, or choose another --output")


def write_page(path: Path, html: str) -> None:
    """Write a page, atomically, with the folders above it.

    Raises:
        UserError: it can't be written, or another page is there.
    """
    check_ours(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as partial:
            partial.write_text(html, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from None


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
