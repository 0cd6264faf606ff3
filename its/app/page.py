"""The Gradio page: three tabs, and a clock that brings the state of the server to each open page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from its.app import html, make_tab, play_tab, runs_tab
from its.app.make_tab import EMPTY, PLAIN, MakeTab, values_of
from its.app.runs_tab import RunsTab
from its.app.studio import Studio
from its.app.uploads import confine
from its.errors import UserError

INTERVAL = 0.6
"""Seconds between two queries of the server's state by a page."""

TITLE = '<div class="its-title"><h1>Images that sound</h1></div>'

HEAD = '<link rel="stylesheet" href="/its/page.css"><script src="/its/page.js" defer></script>'


def build_page(studio: Studio) -> gr.Blocks:
    """Build the page."""
    with gr.Blocks(
        title="Images that sound", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)
    ) as page:
        gr.HTML(TITLE, **PLAIN)
        with gr.Row(elem_classes="its-line"):
            weights = gr.HTML(html.weights(studio.weights.status), elem_id="weights", scale=5, min_width=280, **PLAIN)
            download = gr.Button("Download the real ones", visible=False, elem_id="download", scale=1, min_width=200)
        with gr.Tabs(selected="make") as tabs:
            with gr.Tab("Make", id="make"):
                make = make_tab.build(studio)
            with gr.Tab("Play a picture", id="play"):
                play_tab.build(studio, make, tabs)
            with gr.Tab("Runs", id="runs") as runs_panel:
                runs = runs_tab.build(studio)
        _connect(studio, page, make, runs, runs_panel, tabs, weights, download)
    confine(page)
    return page


def _connect(
    studio: Studio,
    page: gr.Blocks,
    make: MakeTab,
    runs: RunsTab,
    panel: gr.Tab,
    tabs: gr.Tabs,
    weights: Any,
    download: Any,
) -> None:
    seen = gr.State({})
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def refresh_runs(name: str | None, show: Any, number: int) -> list[Any]:
        names = studio.library.runs()
        chosen = name if name in names else (names[0] if names else None)
        return [gr.Dropdown(choices=names, value=chosen), *runs.render(chosen, show, number), html.notice("")]

    def tick(known: dict[str, Any], visual: str, audio: str, seed: int | None, *chosen: Any) -> list[Any]:
        untouched = [visual, audio, seed] == make.example
        return _tick(studio, make, known, lambda: refresh_runs(*chosen), untouched=untouched)

    def download_weights() -> str:
        try:
            studio.download()
        except UserError as error:
            return html.notice(str(error), wrong=True)
        return html.notice("")

    def act(event: gr.EventData) -> list[Any]:
        return _act(studio, make, event)

    shown_runs = [runs.run, runs.link, runs.page, runs.count, runs.cards, runs.notice]
    state = [seen, weights, download, make.progress, make.cancel, make.results, *make.form, *shown_runs]
    inputs = [seen, *make.form[:2], make.form[4], runs.run, runs.show, runs.page]
    gr.Timer(INTERVAL).tick(tick, inputs, state, **quick)
    page.load(tick, inputs, state, **quick)
    panel.select(refresh_runs, [runs.run, runs.show, runs.page], shown_runs, **quick)
    for cards in (make.results, runs.cards):
        cards.act(act, None, [tabs, make.notice, *make.form], trigger_mode="multiple", **quick)
    download.click(download_weights, None, make.notice, **quick)


def _tick(
    studio: Studio, make: MakeTab, known: dict[str, Any], refresh_runs: Callable[[], list[Any]], *, untouched: bool
) -> list[Any]:
    """Return the state of the server; parts that the page shows already are skipped.

    Prompts and seed of the form become the config's only if they are `untouched`.
    """
    jobs, status, pipeline = studio.jobs, studio.weights.status, studio.weights.pipeline
    current, waiting, finished = jobs.current, jobs.waiting, jobs.finished
    every = [*([] if current is None else [current]), *finished]
    state: dict[str, Any] = {
        "weights": [status.text, status.missing],
        "controls": [id(pipeline)] if pipeline is not None else None,
        "progress": [
            current and [id(current), current.note, current.progress],
            [id(job) for job in (*waiting, *finished)],
        ],
        "results": [[id(job), len(job.folders), job.status] for job in every],
        "runs": [id(job) for job in finished],
    }
    new = {key for key, value in state.items() if known.get(key) != value}
    if not new:
        return [gr.skip()] * (6 + len(make.form) + 6)
    idle = current is None and not waiting
    last = finished[0] if finished else None
    form = [gr.skip()] * len(make.form)
    if "controls" in new:
        defaults = studio.defaults()
        form[5:] = values_of(defaults)[5:]
        if untouched and defaults.visual:
            form[:5] = values_of(defaults)[:5]
    return [
        state,
        html.weights(status) if "weights" in new else gr.skip(),
        gr.update(visible=status.missing) if "weights" in new else gr.skip(),
        html.progress(current, waiting, last) if "progress" in new else gr.skip(),
        gr.update(visible=not idle) if "progress" in new else gr.skip(),
        html.cards(studio.results(), empty=EMPTY if idle else "") if "results" in new else gr.skip(),
        *form,
        *(refresh_runs() if "runs" in new and known else [gr.skip()] * 6),
    ]


def _act(studio: Studio, make: MakeTab, event: gr.EventData) -> list[Any]:
    """Handle a click on a button of a card."""
    data = {key: str(event._data.get(key, "")) for key in ("act", "run", "id")}
    form: list[Any] = [gr.skip()] * len(make.form)
    notice, tab = html.notice(""), gr.skip()
    try:
        match data["act"]:
            case "favourite":
                studio.library.set_favourite(data["run"], data["id"], event._data.get("on") is True)
            case "color":
                studio.color(data["run"], data["id"])
            case "like":
                studio.more_like(data["run"], data["id"])
            case "again":
                settings, notes = studio.again(data["run"], data["id"])
                form, tab = values_of(settings), gr.Tabs(selected="make")
                notice = html.notice("; ".join(notes), wrong=True) if notes else notice
    except UserError as error:
        notice = html.notice(str(error), wrong=True)
    return [tab, notice, *form]
