"""The tab "Play a picture": the user's own picture as a spectrogram, played whenever a control moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from its.app import html
from its.app.make_tab import PLAIN, MakeTab
from its.app.scratch import LONGEST, play_picture
from its.app.studio import Studio
from its.app.uploads import receive_path
from its.errors import UserError

TOP = 8000
"""Highest frequency in Hz of the default format, half of its sample rate."""
EMPTY = "Choose a picture: light is loud, the left is first, the top is high."


def build(studio: Studio, make: MakeTab, tabs: gr.Tabs) -> None:
    """Build the tab in the current Gradio context."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            picture = gr.Image(
                label="Your picture",
                type="filepath",
                sources=["upload", "clipboard"],
                height=220,
                elem_id="own",
                buttons=[],
            )
            receive_path(picture)
            seconds = gr.Slider(1, LONGEST, 10, step=0.5, label="Duration (s)", elem_id="duration")
            low = gr.Slider(0, TOP - 100, 0, step=50, label="Lowest frequency (Hz)", elem_id="low")
            high = gr.Slider(100, TOP, TOP, step=50, label="Highest frequency (Hz)", elem_id="high")
            contrast = gr.Slider(0.2, 5, 1, step=0.1, label="Contrast", elem_id="contrast")
            invert = gr.Checkbox(False, label="Dark is loud")
            begin = gr.Button("Start from it", elem_id="start-from-it")
        with gr.Column(scale=4, min_width=320):
            played = gr.HTML(html.cards([], empty=EMPTY), elem_id="played", **PLAIN)

    def play(path: str | None, seconds: float, low: float, high: float, contrast: float, invert: bool) -> str:
        if path is None:
            return html.cards([], empty=EMPTY)
        try:
            result = play_picture(Path(path), seconds=seconds, f_min=low, f_max=high, contrast=contrast, invert=invert)
        except UserError as error:
            return html.notice(str(error).replace(path, Path(path).name), wrong=True)
        token = studio.scratch.add(result)
        facts = f"{low:g} to {high:g} Hz, {result.seconds:.1f} s, by Griffin-Lim"
        return html.played_card(token, title=Path(path).name, seconds=result.seconds, size=result.size, facts=facts)

    controls = [picture, seconds, low, high, contrast, invert]
    quiet: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private", "concurrency_limit": 1}
    gr.on(
        [control.change for control in controls],
        play,
        controls,
        played,
        trigger_mode="always_last",
        concurrency_id="play",
        **quiet,
    )
    begin.click(lambda path: (path, gr.Tabs(selected="make")), picture, [make.start, tabs], api_visibility="private")
