"""Render self-contained pages: one file with template, styles and scripts, which loads only local media."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.media.marked import write_marked

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "index.html"
GENERATOR = "its, images that sound"
MARK = f'<meta name="generator" content="{GENERATOR}"'
"""Mark in the head of every page. Files without it are not overwritten."""

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Render a template with escaped values, and with styles and scripts inserted.

    The page's Content-Security-Policy allows only these scripts, by their digest, so that texts can't inject scripts.
    """
    from markupsafe import Markup

    script = "\n".join(template_text(name) for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = Markup("\n".join(template_text(name) for name in styles))
    inserted = {"style": style, "script": Markup(script), "script_digest": digest, "generator": GENERATOR}
    return _environment().get_template(template).render(**inserted, **values)


def write_page(path: Path, html: str) -> None:
    """Write a page, and make the folders above it.

    Raises:
        NotWritten: the page can't be written.
        UserError: the path is a file that `its` did not write.
    """
    write_marked(path, html.encode(errors="replace").decode(), MARK)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader, undefined = FileSystemLoader(_TEMPLATES), StrictUndefined
    environment = Environment(loader=loader, undefined=undefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


@cache
def template_text(name: str) -> str:
    """Return the text of a template, a style or a script of the package."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")
