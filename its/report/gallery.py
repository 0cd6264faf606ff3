"""The gallery: one static page that shows the samples of one run or of several, and plays them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from its.report.axes import hertz_ticks, second_ticks
from its.report.page import PAGE, render, write_page
from its.runs.reader import Run, StoredSample, read_runs
from its.runs.records import RECORD, numbers, seconds_of

LAYERS = {"image": "image.png", "color": "color.png", "colormap": "colormap.png"}
"""Pictures of the same size that can be laid over the spectrogram."""


def write_gallery(folders: Sequence[Path], output: Path, *, own: bool = False) -> tuple[Path, list[Run]]:
    """Write `index.html` into a folder, with relative links to the samples of run folders.

    Args:
        folders: of the runs.
        output: where the page goes; made if need be.
        own: whether `its_config.yaml` in `output` was written by this process, so that the page may offer it to
            `its predict`. That of a received run may name anything.

    Returns:
        The page, and what it shows.

    Raises:
        UserError: a folder is no run or has no samples, or the page can't be written.
    """
    runs = read_runs(folders)
    data = page_data(runs, output)
    page = output / PAGE
    html = render(
        "gallery.html",
        styles=["base.css", "gallery.css"],
        scripts=["player.js", "cards.js", "gallery.js"],
        title=", ".join(run.name for run in runs),
        runs=data["runs"],
        facts=_facts(data),
        makers=_makers(data),
        count=len(data["samples"]),
        data=data,
        own=own,
    )
    write_page(page, html)
    return page, runs


def page_data(runs: Sequence[Run], output: Path) -> dict[str, Any]:
    """What the page's script works on, JSON-serialisable.

    What many samples share (settings, weights, axes) is there once, and samples refer to it by its index.
    """
    setups, pitches, times = _Shared(), _Shared(), _Shared()
    samples = [
        _sample(found, index, output, setups=setups, pitches=pitches, times=times)
        for index, run in enumerate(runs)
        for found in run.samples
    ]
    data = {
        "runs": [
            {"name": run.name, "folder": _relative(run.folder, output), "unfinished": len(run.unfinished)}
            for run in runs
        ],
        "setups": setups.values,
        "pitches": pitches.values,
        "times": times.values,
        "samples": samples,
    }
    # A browser's JSON knows no NaN: where a record has one, it is a word.
    plain: dict[str, Any] = json.loads(json.dumps(data), parse_constant=str)
    return plain


class _Shared:
    """Values without repetition."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._indices: dict[str, int] = {}

    def __call__(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True)
        if key not in self._indices:
            self._indices[key] = len(self.values)
            self.values.append(value)
        return self._indices[key]


def _sample(
    found: StoredSample, run: int, output: Path, *, setups: _Shared, pitches: _Shared, times: _Shared
) -> dict[str, Any]:
    record, folder = found.record, _relative(found.folder, output)
    return {
        "run": run,
        "id": found.folder.name,
        "folder": quote(os.fsencode(folder)),
        "status": "damaged" if found.damage else str(record.get("status")),
        "error": "; ".join(found.damage) or _text(record.get("error")),
        "prompts": {str(name): str(text) for name, text in found.part("prompts").items()},
        "negative": {str(name): str(text) for name, text in found.part("negative_prompts").items() if text},
        "seed": _text(record.get("seed")),  # JavaScript rounds numbers above 2^53
        "setup": setups(_setup(found)),
        "pitch": pitches(hertz_ticks(record.get("format"))),
        "time": None if found.seconds is None else times(second_ticks(found.seconds)),
        "seconds": found.seconds,
        "size": found.size,
        "layers": [name for name, file in LAYERS.items() if file in found.files],
        "files": [quote(name) for name in found.files],
        "scores": dict(numbers(found.part("scores"), " ")),
        "took": seconds_of(record),
        "kept": record.get("kept") if isinstance(record.get("kept"), bool) else None,
        "rank": dict(numbers({"rank": record.get("rank")})).get("rank"),
        "again": shlex.join(["its", "rerun", f"{'./' if folder.startswith('-') else ''}{folder}/{RECORD}"]),
    }


def _setup(found: StoredSample) -> dict[str, Any]:
    """What made the sample, besides its prompts and its seed."""
    weights = {key: _weights(value) for key, value in found.part("weights").items() if value is not None}
    return {
        "settings": found.part("settings"),
        "weights": weights,
        "embedded": sorted({value["name"] for value in weights.values() if value["embedded"]}),
        "fallback": _text(found.record.get("fallback")),
        "versions": found.part("versions"),
    }


def _weights(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of weights: texts, and whether they are embedded."""
    shown = {key: _text(recorded.get(key)) for key in ("name", "revision", "sha256")}
    return {**shown, "name": shown["name"] or "unnamed", "embedded": bool(recorded.get("embedded"))}


def _makers(data: Mapping[str, Any]) -> dict[str, Any]:
    """Whose weights made the samples, for the head of the page, where nobody misses it."""
    setups = [data["setups"][sample["setup"]] for sample in data["samples"]]
    embedded = [setup for setup in setups if setup["embedded"]]
    fallbacks = list(dict.fromkeys(setup["fallback"] for setup in setups if setup["fallback"]))
    return {"embedded": len(embedded), "fallbacks": fallbacks}


def _facts(data: Mapping[str, Any]) -> list[str]:
    """What the head of the page says of all samples: how many are not whole, and what is common to the others."""
    lost = sum(sample["status"] != "ok" for sample in data["samples"])
    settings = [setup["settings"] for setup in data["setups"]]
    methods = {_text(s.get("method")) for s in settings}
    vocoders = {_text(s["vocoder"].get("class")) for s in settings if isinstance(s.get("vocoder"), Mapping)}
    common = [value for values in (methods, vocoders) if len(values) == 1 for value in values if value]
    weights = {value["name"] for setup in data["setups"] for value in setup["weights"].values()}
    return [*([f"{lost} not whole"] if lost else []), *common, *sorted(weights)]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _relative(folder: Path, output: Path) -> str:
    """A way from the page to a folder that holds on every machine, wherever both are moved together."""
    return Path(os.path.relpath(folder.resolve(), output.resolve())).as_posix()
