"""The tab "Make": prompts, settings, progress and results."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr
import yaml

from its.app import html
from its.app.settings import BALANCE, LEAD, Settings, read_settings
from its.app.studio import Studio
from its.app.uploads import receive_path
from its.errors import UserError
from its.media.packaged import find_file

EIGHT = 8
SEED = 1234
LARGEST_SEED = 2**31
"""New seeds are below it, which is short enough to be read out."""

EMPTY = "Describe a picture and a sound, or click an example, and press Make."


ON_CARDS = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]"), card = event.target.closest(".its-card");
  if (!button || !card) return;
  const data = { act: button.dataset.act, run: card.dataset.run, id: card.dataset.id };
  if (data.act === "favourite") {
    data.on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(data.on));
  }
  trigger("act", data);
});"""
"""Script of lists of cards: passes clicks on buttons to the server."""

SHOW_PROGRESS = """() => {
  const progress = document.querySelector("#progress");
  if (progress.getBoundingClientRect().bottom > innerHeight) progress.scrollIntoView({ block: "center" });
}"""
"""Script that scrolls to the progress, which is below the form on narrow screens."""

PLAIN: dict[str, Any] = {"js_on_load": None, "apply_default_css": False}
"""Arguments of HTML without actions and without Gradio's style of texts."""
CARDS: dict[str, Any] = {"js_on_load": ON_CARDS, "apply_default_css": False}
"""Arguments of lists of cards, which have the event `act`."""


@dataclass(frozen=True)
class MakeTab:
    """Components of the tab that other parts of the page read or change.

    Attributes:
        form: components of `Settings`, in the order of its fields.
        notice: message below the buttons.
        progress, cancel, results: state of the jobs.
        start: picture to start from.
        example: prompts and seed when the page opens.
    """

    form: list[Any]
    notice: gr.HTML
    progress: gr.HTML
    cancel: gr.Button
    results: gr.HTML
    start: gr.Image
    example: list[Any]


def build(studio: Studio) -> MakeTab:
    """Build the tab in the current Gradio context."""
    pairs, lists = _examples()
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            visual = gr.Textbox(pairs[0][0], label="Picture", lines=2, max_lines=5, elem_id="visual")
            audio = gr.Textbox(pairs[0][1], label="Sound", lines=1, max_lines=5, elem_id="audio")
            with gr.Row(elem_classes="its-line"):
                seed = gr.Number(SEED, label="Seed", precision=0, minimum=0, elem_id="seed", min_width=100, scale=2)
                new_seed = gr.Button("New seed", min_width=80, elem_id="new-seed", scale=1)
            with gr.Row(elem_classes="its-line"):
                make = gr.Button("Make", variant="primary", elem_id="make", min_width=140)
                eight = gr.Button("Give me eight", elem_id="eight", min_width=140)
            notice = gr.HTML(elem_id="notice", **PLAIN)
            examples = _chips("Examples", [visual, audio], pairs, [f"{_short(v)} · {a}" for v, a in pairs])
            with gr.Accordion("More pictures and sounds", open=False):
                pictures = _chips("Pictures", [visual], [[text] for text in lists["visual"]])
                sounds = _chips("Sounds", [audio], [[text] for text in lists["audio"]])
            own, strength = _start_controls()
            with gr.Accordion("Settings", open=False, elem_id="settings"):
                steps, scales, balance, lead = _sliders()
                negative = [
                    gr.Textbox(label="Not in the picture", lines=1),
                    gr.Textbox(label="Not in the sound", lines=1),
                ]
            with gr.Accordion("Restore from a file", open=False, elem_id="restore"):
                gr.Markdown("Drop a PNG, WAV, MP4 or `sample.json` that `its` wrote.", elem_classes="its-hint")
                kinds = [".png", ".wav", ".mp4", ".json"]
                dropped = receive_path(gr.File(label="File of a sample", file_types=kinds, height=120, elem_id="drop"))
        with gr.Column(scale=4, min_width=320):
            cancel = gr.Button("Cancel", visible=False, size="sm", elem_id="cancel")
            progress = gr.HTML(elem_id="progress", **PLAIN)
            results = gr.HTML(html.cards([], empty=EMPTY), elem_id="results", **CARDS)
    # In the order of Settings' fields.
    form = [visual, audio, *negative, seed, steps, *scales, balance, lead]

    def submit(count: int, *values: Any) -> str:
        picture, amount, *fields = values
        try:
            settings = settings_of(fields)
            seeds = range(settings.seed, settings.seed + count)
            studio.make(settings, seeds, start=Path(picture) if picture else None, strength=amount)
        except UserError as error:
            return html.notice(str(error), wrong=True)
        return html.notice("")

    def restore(path: str | None) -> list[Any]:
        if path is None:
            return [gr.skip()] * (len(form) + 2)
        try:
            settings, notes = read_settings(Path(path), studio.weights.require())
        except UserError as error:
            message = str(error).replace(path, Path(path).name)
            return [*[gr.skip()] * len(form), html.notice(message, wrong=True), None]
        said = "; ".join(["Settings restored", *notes])
        return [*values_of(settings), html.notice(said, wrong=bool(notes)), None]

    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    for trigger in (make.click, visual.submit, audio.submit):
        trigger(lambda *values: submit(1, *values), [own, strength, *form], notice, **quick)
    eight.click(lambda *values: submit(EIGHT, *values), [own, strength, *form], notice, **quick)
    for button in (make, eight):
        button.click(None, None, None, js=SHOW_PROGRESS)
    new_seed.click(lambda: secrets.randbelow(LARGEST_SEED), None, seed, **quick)
    cancel.click(studio.jobs.cancel, None, None, **quick)
    dropped.upload(restore, dropped, [*form, notice, dropped], **quick)
    examples.click(lambda row: row, examples, [visual, audio], **quick)
    pictures.click(lambda row: row[0], pictures, visual, **quick)
    sounds.click(lambda row: row[0], sounds, audio, **quick)
    return MakeTab(form, notice, progress, cancel, results, own, [*pairs[0], SEED])


def settings_of(values: Sequence[Any]) -> Settings:
    """Return the settings of the form's values.

    Raises:
        UserError: the seed is missing or out of range.
    """
    named = dict(zip((field.name for field in fields(Settings)), values, strict=True))
    if not isinstance(named["seed"], int) or not 0 <= named["seed"] < 2**53:
        raise UserError(f"the seed is {named['seed']!r:.40}; expected a whole number from 0 to 2^53 - 1")
    texts = {key: str(named[key] or "") for key in ("visual", "audio", "not_visual", "not_audio")}
    return Settings(**{**named, **texts})


def values_of(settings: Settings) -> list[Any]:
    """Return updates of the form; controls that the method does not have are hidden."""
    updates: list[Any] = []
    for field in fields(Settings):
        value = getattr(settings, field.name)
        hidden = value is None
        updates.append(gr.update(visible=False) if hidden else gr.update(value=value, visible=True, interactive=True))
    return updates


def _sliders() -> tuple[Any, list[Any], Any, Any]:
    waiting: dict[str, Any] = {"interactive": False, "value": None}
    steps = gr.Slider(1, 200, step=1, label="Steps", elem_id="steps", **waiting)
    scales = [
        gr.Slider(0, 30, step=0.5, label="Guidance of the picture", **waiting),
        gr.Slider(0, 30, step=0.5, label="Guidance of the sound", **waiting),
    ]
    low, high = BALANCE
    balance = gr.Slider(
        low,
        high,
        step=1,
        label="Balance",
        info="Percent of the sound; the rest is the picture",
        elem_id="balance",
        **waiting,
    )
    low, high = LEAD
    lead = gr.Slider(
        low, high, step=1, label="Warm start", elem_id="lead", **waiting,
        info="Percent of the steps in which one begins alone: the sound above 0, the picture below",
    )  # fmt: skip
    return steps, scales, balance, lead


def _start_controls() -> tuple[Any, Any]:
    with gr.Accordion("Start from a picture", open=False, elem_id="start"):
        own = receive_path(gr.Image(label="Your picture", type="filepath", sources=["upload"], height=160, buttons=[]))
        strength = gr.Slider(0.05, 1, 0.6, step=0.05, label="Strength", info="How much of the picture may change")
    return own, strength


def _chips(label: str, components: list[Any], samples: list[list[Any]], labels: list[str] | None = None) -> Any:
    return gr.Dataset(
        label=label,
        components=components,
        samples=samples,
        sample_labels=labels or [_short(sample[0]) for sample in samples],
        samples_per_page=20,
        layout="gallery" if len(components) == 1 else None,
        elem_classes="its-chips",
    )


def _examples() -> tuple[list[list[str]], dict[str, list[str]]]:
    """Return the pairs of the paper's Table 5, and the pictures and sounds of Table 4."""
    lines = find_file("prompts/table5.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [[row["visual"], row["audio"]] for row in map(json.loads, lines)]
    return pairs, yaml.safe_load(find_file("prompts/table4.yaml").read_text(encoding="utf-8"))


def _short(prompt: str) -> str:
    return prompt.removeprefix("a painting of ").removesuffix(", grayscale")
