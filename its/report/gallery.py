"""Write the gallery: a static page that shows and plays the samples of runs."""

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

LAYERS = ("image", "color", "colormap")
"""Names of pictures of the spectrogram's size, which the page can show over it."""


def write_gallery(folders: Sequence[Path], output: Path, *, own: bool = False) -> tuple[Path, list[Run]]:
    """Write `index.html` into a folder, with relative links to the samples of run directories.

    Args:
        folders: run directories.
        output: folder of the page; made if it does not exist.
        own: whether this process wrote `its_config.yaml` in `output`. Only then does the page show the command that
            uses it, because the config of a received run may name any file or plugin.

    Returns:
        Path of the page, and the runs that it shows.

    Raises:
        UserError: a folder is not a run directory or has no samples, or the page can't be written.
    """
    runs = read_runs(folders)
    page = output / PAGE
    html = gallery_html(runs, output, own=own)
    write_page(page, html)
    return page, runs


def gallery_html(runs: Sequence[Run], output: Path, *, own: bool = False) -> str:
    """Render the page of runs, for a file or an address in the folder `output`. `own` as for `write_gallery`."""
    data = page_data(runs, output)
    return render(
        "gallery.html",
        styles=["base.css", "player.css", "gallery.css"],
        scripts=["player.js", "cards.js", "gallery.js"],
        title=", ".join(run.name for run in runs),
        facts=_facts(data),
        count=len(data["samples"]),
        data=data,
        own=own,
        **_embedded(data),
    )


def page_data(runs: Sequence[Run], output: Path) -> dict[str, Any]:
    """Return the data for the page's script, JSON-serialisable.

    Settings, weights and axes, which many samples share, are stored once; samples refer to them by index.
    """
    setups, pitches, times = _Unique(), _Unique(), _Unique()
    samples = [
        _sample(sample, index, output, setups=setups, pitches=pitches, times=times)
        for index, run in enumerate(runs)
        for sample in run.samples
    ]
    run_data = [
        {"name": run.name, "folder": _relative(run.folder, output), "unfinished": len(run.unfinished)} for run in runs
    ]
    shared = {"setups": setups.values, "pitches": pitches.values, "times": times.values}
    data = {"runs": run_data, **shared, "samples": samples}
    # JSON in browsers has neither NaN nor infinity: convert them to strings.
    plain: dict[str, Any] = json.loads(json.dumps(data), parse_constant=str)
    return plain


class _Unique:
    """List of unique values. A call adds a value unless it is in the list, and returns its index."""

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
    sample: StoredSample, run: int, output: Path, *, setups: _Unique, pitches: _Unique, times: _Unique
) -> dict[str, Any]:
    record, folder = sample.record, _relative(sample.folder, output)
    return {
        "run": run,
        "id": sample.folder.name,
        "folder": quote(os.fsencode(folder)),
        "status": "damaged" if sample.damage else str(record.get("status")),
        "error": "; ".join(sample.damage) or _text(record.get("error")),
        "prompts": {str(name): str(text) for name, text in sample.mapping("prompts").items()},
        "negative": {str(name): str(text) for name, text in sample.mapping("negative_prompts").items() if text},
        "seed": _text(record.get("seed")),  # JavaScript rounds numbers above 2^53
        "setup": setups(_setup(sample)),
        "pitch": pitches(hertz_ticks(record.get("format"))),
        "time": None if sample.seconds is None else times(second_ticks(sample.seconds)),
        "seconds": sample.seconds,
        "size": sample.size,
        "layers": [name for name in LAYERS if f"{name}.png" in sample.files],
        "files": [quote(name) for name in sample.files],
        "scores": dict(numbers(sample.mapping("scores"), " ")),
        "took": seconds_of(record),
        "favourite": record.get("favourite") is True,
        "kept": record.get("kept") if isinstance(record.get("kept"), bool) else None,
        "rank": dict(numbers({"rank": record.get("rank")})).get("rank"),
        "again": shlex.join(["its", "rerun", f"{'./' if folder.startswith('-') else ''}{folder}/{RECORD}"]),
    }


def _setup(sample: StoredSample) -> dict[str, Any]:
    """Return the settings, weights and versions of a sample."""
    weights = {key: _weights(value) for key, value in sample.mapping("weights").items() if value is not None}
    return {
        "settings": sample.mapping("settings"),
        "weights": weights,
        "embedded": sorted({value["name"] for value in weights.values() if value["embedded"]}),
        "fallback": _text(sample.record.get("fallback")),
        "versions": sample.mapping("versions"),
    }


def _weights(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Select the values of a component's weights that the page shows."""
    texts = {key: _text(provenance.get(key)) for key in ("name", "revision", "sha256")}
    return {**texts, "name": texts["name"] or "unnamed", "embedded": bool(provenance.get("embedded"))}


def _embedded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of samples with embedded weights, and the reasons of fallbacks, for the page's head."""
    setups = [data["setups"][sample["setup"]] for sample in data["samples"]]
    embedded = [setup for setup in setups if setup["embedded"]]
    fallbacks = list(dict.fromkeys(setup["fallback"] for setup in setups if setup["fallback"]))
    return {"embedded": len(embedded), "fallbacks": fallbacks}


def _facts(data: Mapping[str, Any]) -> list[str]:
    """Return facts for the page's head: number of incomplete samples, common method and vocoder, names of weights."""
    incomplete = sum(sample["status"] != "ok" for sample in data["samples"])
    settings = [setup["settings"] for setup in data["setups"]]
    methods = {_text(s.get("method")) for s in settings}
    vocoders = {_text(s["vocoder"].get("class")) for s in settings if isinstance(s.get("vocoder"), Mapping)}
    common = [value for values in (methods, vocoders) if len(values) == 1 for value in values if value]
    weights = {value["name"] for setup in data["setups"] for value in setup["weights"].values()}
    return [*([f"{incomplete} incomplete"] if incomplete else []), *common, *sorted(weights)]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _relative(folder: Path, output: Path) -> str:
    """Return the path from the page to a folder, which stays valid if both are moved together."""
    return Path(os.path.relpath(folder.resolve(), output.resolve())).as_posix()
