"""Confine Gradio to files that were uploaded.

Gradio copies files and addresses that an event names into its folder of uploads before any handler runs, and, when it
is mounted in another application, does not check where they come from. It also opens pictures itself. Here only
uploaded files are accepted, and handlers open them with the functions of `its.media`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from its.errors import UserError


def confine(page: gr.Blocks) -> None:
    """Refuse files outside of the folder of uploads in all events of a page, and addresses of other servers."""
    page.has_launched = True  # otherwise Gradio skips its own check
    for block in page.blocks.values():
        if hasattr(block, "GRADIO_CACHE"):
            block.move_resource_to_block_cache = partial(check_uploaded, Path(block.GRADIO_CACHE))
            block.async_move_resource_to_block_cache = partial(_check_uploaded, Path(block.GRADIO_CACHE))


def receive_path(component: Any) -> Any:
    """Let a component pass the path of an uploaded file to handlers, without opening it. Returns the component."""
    component.preprocess = partial(_path_of, Path(component.GRADIO_CACHE))
    return component


def check_uploaded(uploads: Path, path: Any) -> str | None:
    """Return the path of an uploaded file.

    Raises:
        UserError: it is no file in the folder of uploads.
    """
    if path is None:
        return None
    found = Path(str(path)).resolve()
    if not found.is_relative_to(uploads.resolve()) or not found.is_file():
        raise UserError("the file was not uploaded")
    return str(found)


async def _check_uploaded(uploads: Path, path: Any) -> str | None:
    return check_uploaded(uploads, path)


def _path_of(uploads: Path, payload: Any) -> str | None:
    first = payload.root[0] if payload is not None and isinstance(getattr(payload, "root", None), list) else payload
    return None if first is None else check_uploaded(uploads, first.path)
