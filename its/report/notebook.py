"""HTML that shows one sample in a notebook: its picture with a playhead, and its sound."""

from __future__ import annotations

import base64
from html import escape

from its.report.page import render


def sample_html(*, png: bytes, size: tuple[int, int], wav: bytes, seconds: float, title: str, facts: str) -> str:
    """A frame with a page of its own, so that its style and script don't meet those of the notebook.

    Args:
        png: the picture.
        size: its width and height in pixels.
        wav: the sound.
        seconds: its length.
        title: the prompts.
        facts: seed and weights.
    """
    page = render(
        "sample.html",
        styles=["base.css"],
        scripts=["player.js", "sample.js"],
        picture=_data_url("image/png", png),
        sound=_data_url("audio/wav", wav),
        size=size,
        seconds=round(seconds, 3),
        title=title,
        facts=facts,
    )
    height = size[1] + 110
    style = f"border: 0; width: min(100%, {size[0] + 24}px); height: {height}px"
    return f'<iframe style="{style}" title="{escape(title)}" srcdoc="{escape(page)}"></iframe>'


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
