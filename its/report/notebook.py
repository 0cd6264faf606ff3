"""Render one sample as HTML for notebooks: picture with a playhead, and sound."""

from __future__ import annotations

import base64
from html import escape

from its.report.page import render


def sample_html(*, png: bytes, size: tuple[int, int], wav: bytes, seconds: float, title: str, facts: str) -> str:
    """Return an iframe, which isolates style and script from those of the notebook.

    Args:
        png: content of the picture's file.
        size: width and height of the picture in pixels.
        wav: content of the sound's file.
        seconds: duration of the sound.
        title: the prompts.
        facts: seed and weights.
    """
    page = render(
        "sample.html",
        styles=["base.css", "player.css"],
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
