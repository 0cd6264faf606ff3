"""Render the parts of the page that Gradio has no component for. All values are escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from its.app.jobs import Job
from its.app.library import FAVOURITE
from its.app.settings import balance_of
from its.app.weights import WeightsStatus, names_of

if TYPE_CHECKING:
    from jinja2 import Environment

    from its.runs.reader import StoredSample

TEMPLATES = Path(__file__).with_name("templates")
RUNS = "/its/runs"
"""Address of the runs."""


def cards(samples: Sequence[StoredSample], *, empty: str = "") -> str:
    """Render samples as a list of pictures with players; `empty` is shown if there are none."""
    return _render("cards.html", cards=[_card(sample) for sample in samples], empty=empty)


def played_card(token: str, *, title: str, seconds: float, size: tuple[int, int], facts: str) -> str:
    """Render a played picture, whose files are in the scratch store under `token`."""
    address = f"/its/made/{token}"
    card = {
        **{"key": token, "address": address, "picture": "picture.png", "sound": "audio.wav", "color": "", "video": ""},
        **{"seconds": seconds, "size": size, "prompts": {"Picture": title}, "facts": [facts], "id": "", "run": ""},
        **{"error": "", "favourite": False, "version": 0, "embedded": False},
    }
    return _render("cards.html", cards=[card], empty="")


def progress(current: Job | None, waiting: Sequence[Job], last: Job | None) -> str:
    """Render the running job with its previews, the waiting ones, and the last one if it did not succeed."""
    previews = [] if current is None else [_data_url(picture) for picture in current.previews]
    failed = last if last is not None and current is None and last.status in ("failed", "cancelled") else None
    return _render("progress.html", job=current, previews=previews, waiting=list(waiting), failed=failed)


def weights(status: WeightsStatus) -> str:
    """Render which weights are used."""
    return _render("weights.html", status=status)


def notice(text: str, *, wrong: bool = False) -> str:
    """Render a message."""
    return _render("notice.html", text=text, wrong=wrong)


def gallery_link(run: str) -> str:
    """Render a link to the gallery of a run."""
    return _render("link.html", address=f"{RUNS}/{quote(run)}/", text=f"Open the gallery of {run}")


def _card(sample: StoredSample) -> dict[str, Any]:
    from its.evaluation.scoring import score_of
    from its.runs.reader import SOUND, SPECTROGRAM, roles_of
    from its.runs.stored_video import VIDEO

    record, run, name = sample.record, sample.run.name, sample.folder.name
    scores = {scorer: score_of(sample, scorer) for scorer in sample.mapping("scores")}
    settings = sample.mapping("settings")
    facts = [f"seed {record.get('seed')}", *([f"{settings['steps']} steps"] if "steps" in settings else [])]
    if (balance := balance_of(settings.get("combiner"), roles_of(record))) is not None:
        facts.append(f"{balance:g} % sound")
    facts += [f"{scorer} {score:.3f}" for scorer, score in scores.items() if score is not None]
    facts += [f"rank {record['rank']}"] if isinstance(record.get("rank"), int) else []
    weights = sample.mapping("weights")
    embedded = any(isinstance(entry, dict) and entry.get("embedded") for entry in weights.values())
    color = sample.file("color.png")
    return {
        "key": f"{run}/{name}",
        "run": run,
        "id": name,
        "address": f"{RUNS}/{quote(run)}/samples/{quote(name)}",
        "picture": SPECTROGRAM,
        "sound": SOUND,
        "video": VIDEO,
        "color": "color.png" if color is not None else "",
        "seconds": sample.seconds,
        "size": sample.size,
        "prompts": {label: sample.prompt(role) for label, role in (("Picture", "visual"), ("Sound", "audio"))},
        "facts": facts if embedded else [*facts, ", ".join(names_of(weights))],
        "embedded": embedded,
        "error": "; ".join(sample.damage) or (str(record.get("error") or "") if not sample.complete else ""),
        "favourite": record.get(FAVOURITE) is True,
        "version": _version(sample),
    }


def _version(sample: StoredSample) -> int:
    """Return a number that changes when a file of a sample does, so that browsers load it again."""
    return max((int(path.stat().st_mtime * 1000) for path in map(sample.file, sample.files) if path), default=0)


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
