"""The tab "Runs": galleries of the output directory, favourites, and the best by the scorers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr

from its.app import html
from its.app.library import FAVOURITE
from its.app.make_tab import CARDS, PLAIN
from its.app.studio import Studio
from its.errors import UserError

if TYPE_CHECKING:
    from its.runs.reader import StoredSample

PER_PAGE = 12
SHOW = {"all": "All", "favourites": "Favourites", "best": "Best"}
Show = Literal["all", "favourites", "best"]


@dataclass(frozen=True)
class RunsTab:
    """Components of the tab that the rest of the page reads or changes.

    Attributes:
        run, show, page: choice of samples.
        link: link to the gallery.
        count: number of samples.
        cards: the samples.
        notice: message.
        render: function of run, show and page; returns link, page, count and cards.
    """

    run: gr.Dropdown
    show: gr.Radio
    page: gr.Number
    link: gr.HTML
    count: gr.HTML
    cards: gr.HTML
    notice: gr.HTML
    render: Callable[[str | None, Show, int], list[Any]]


def build(studio: Studio) -> RunsTab:
    """Build the tab in the current Gradio context."""
    with gr.Row(elem_classes="its-line"):
        run = gr.Dropdown(studio.library.runs(), label="Run", value=None, elem_id="run", scale=3, min_width=220)
        show = gr.Radio(
            [(label, key) for key, label in SHOW.items()], value="all", label="Show", scale=2, min_width=220
        )
        best = gr.Number(2, label="Best of each pair", precision=0, minimum=1, min_width=120)
        score = gr.Button("Find the best", elem_id="rank", min_width=140)
    link = gr.HTML(elem_id="gallery-link", **PLAIN)
    notice = gr.HTML(**PLAIN)
    cards = gr.HTML(elem_id="run-cards", **CARDS)
    with gr.Row(elem_classes="its-line"):
        page = gr.Number(1, label="Page", precision=0, minimum=1, min_width=90, scale=0, elem_id="page")
        count = gr.HTML(**PLAIN)

    def render(run: str | None, show: Show, page: int) -> list[Any]:
        if run is None:
            return ["", 1, "", html.cards([], empty="No runs yet: samples that you make appear here.")]
        first = (max(page or 1, 1) - 1) * PER_PAGE
        try:
            found, total = studio.library.samples(run, first=first, count=PER_PAGE, select=_condition(show))
        except UserError as error:
            return ["", 1, "", html.notice(str(error), wrong=True)]
        pages = max(1, -(-total // PER_PAGE))
        if not found and first:
            return render(run, show, pages)
        empty = {"all": "This run has no samples.", "favourites": "No favourites: mark samples with the star."}
        text = empty.get(show, "Nothing is ranked yet: press Find the best.")
        said = html.notice(f"{total} samples, page {first // PER_PAGE + 1} of {pages}")
        return [html.gallery_link(run), gr.skip(), said, html.cards(found, empty=text)]

    def rank(run: str | None, best: int | None) -> str:
        try:
            studio.rank(run or "", int(best or 1))
        except UserError as error:
            return html.notice(str(error), wrong=True)
        return html.notice("Scoring; the progress is in the tab Make")

    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    outputs = [link, page, count, cards]
    gr.on([run.input, show.input, page.input], render, [run, show, page], outputs, **quick)
    score.click(rank, [run, best], notice, **quick)
    return RunsTab(run, show, page, link, count, cards, notice, render)


def _condition(show: Show) -> Callable[[StoredSample], bool] | None:
    if show == "favourites":
        return lambda sample: sample.record.get(FAVOURITE) is True
    return (lambda sample: sample.record.get("kept") is True) if show == "best" else None
