"""Reproduce the paper's experiments: the commands to run, an estimate of their time, and the table of results."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.evaluation.paper import DISTILLATION_SECONDS, EXPERIMENTS, PaperRow, PaperRun
from its.evaluation.tables import Table, estimate_groups, flat
from its.media.packaged import find_file
from its.runs.reader import StoredSample

ROOT = Path(__file__).parents[2]
"""Root folder of a checkout. An installed package has no benchmarks."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Plan of an experiment of the paper.

    Attributes:
        rows: rows of the paper's table.
        commands: arguments of `its predict`, by run.
        output: folder of the run directories.
    """

    rows: Sequence[PaperRow]
    commands: Mapping[PaperRun, Sequence[str]]
    output: Path

    @property
    def runs(self) -> list[Path]:
        """The run directories."""
        return [self.output / making.folder for making in self.commands]


def plan(
    experiment: str,
    *,
    rows: Sequence[str],
    overlays: Sequence[str],
    folder: Path | None,
    output: Path,
    options: Sequence[str],
) -> Reproduction:
    """Plan an experiment.

    Args:
        experiment: a key of `EXPERIMENTS`.
        rows: names of the run directories to make; all if empty.
        overlays: configs over the experiment's and below the method's.
        folder: folder of the configs; by default `configs` in the current folder, or else the packaged configs.
        output: folder of the run directories.
        options: more arguments of `its predict`.

    Raises:
        UserError: the experiment has no such run, or a config is missing.
    """
    selected = _rows(experiment, rows)
    makings = list(dict.fromkeys(row.making for row in selected))
    commands = {}
    for making in makings:
        base, *methods = [_config(folder, name) for name in making.configs]
        files = [base, *overlays, *methods]  # a method's combiner must replace that of overlays with weights
        commands[making] = [
            *(argument for file in files for argument in ("--config", file)),
            *making.options,
            f"--output={output / making.folder}",
            "--model.fallback=null",  # the paper's weights, or none
            *options,
        ]
    return Reproduction(rows=selected, commands=commands, output=output)


def describe(reproduction: Reproduction, scorers: Sequence[str]) -> Iterator[str]:
    """Yield lines with the commands, the numbers of samples, and an estimate of the time."""
    measured = _benchmark()
    total = 0.0
    for making, arguments in reproduction.commands.items():
        yield shlex.join(["its", "predict", *arguments])
        distils = making.seconds == DISTILLATION_SECONDS
        seconds = making.seconds if distils or measured is None else measured[0]
        total += seconds * making.samples
        yield f"  # {making.samples} samples, {_duration(seconds * making.samples)} at {seconds:.3g} s each"
    yield shlex.join(["its", "evaluate", *map(str, reproduction.runs), "--scorers", *scorers])
    source = "the paper's times, on an L40S" if measured is None else measured[1]
    count = sum(making.samples for making in reproduction.commands)
    yield (
        f"# {count} samples of the paper's protocol, {_duration(total)} on one GPU by {source}. "
        "Other prompts, seeds or weights change both."
    )


def beside_the_paper(rows: Sequence[PaperRow], samples: Sequence[StoredSample], output: Path) -> Table:
    """Tabulate the scores of each row's samples, with the paper's figures beside the columns of CLIP and CLAP.

    Raises:
        UserError: a row has no sample, or no sample has a score.
    """
    groups: dict[tuple[str, ...], list[StoredSample]] = {}
    for row in rows:
        run = (output / row.making.folder).resolve()
        of_row = [sample for sample in samples if sample.run.resolve() == run and _matches(sample, row.where)]
        if not of_row:
            settings = ", ".join(f"{key} {value:g}" for key, value in row.where.items())
            raise UserError(f"{run} has no sample for the row {row.label}" + (f" ({settings})" if settings else ""))
        groups[(row.label,)] = of_row
    table = estimate_groups(groups, keys=["method"])
    keys = {"CLIPScorer": "clip", "CLAPScorer": "clap"}
    reference = {
        (number, position): figure
        for number, row in enumerate(rows)
        for position, column in enumerate(table.columns)
        if column in keys and (figure := getattr(row, keys[column])) is not None
    }
    notes = [*table.notes]
    if embedded := sum("embedded" in str(sample.record.get("weights")) for sample in samples):
        notes.append(f"{embedded} of {len(samples)} samples are from embedded weights, not from the paper's models")
    return replace(table, reference=reference, notes=notes)


def _rows(experiment: str, names: Sequence[str]) -> list[PaperRow]:
    rows = list(EXPERIMENTS[experiment])
    folders = list(dict.fromkeys(row.making.folder for row in rows))
    if unknown := [name for name in names if name not in folders]:
        raise UserError(f"--rows has {unknown[0]}; expected some of {', '.join(folders)} for {experiment}")
    return [row for row in rows if not names or row.making.folder in names]


def _config(folder: Path | None, name: str) -> str:
    if folder is None:
        return str(find_file(f"configs/{name}"))
    if not (folder / name).is_file():
        raise UserError(
            f"{folder / name} does not exist: set --configs to a folder of configs, or leave it out to use the "
            "packaged ones"
        )
    return str(folder / name)


def _benchmark() -> tuple[float, str] | None:
    """Return the seconds per sample of the main method on a GPU and their source; None without a benchmark."""
    path = ROOT / "benchmarks" / "results" / "gpu.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        figures = content["parts"]["compare"]["figures"]
        speeds = [
            figure["value"]
            for name, figure in figures.items()
            if name.startswith("ours, batch") and name.endswith("| samples/s") and isinstance(figure, Mapping)
        ]
        machine: Any = content["machine"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not speeds or max(speeds) <= 0:
        return None
    name = machine.get("gpu", machine) if isinstance(machine, Mapping) else machine
    source = f"the benchmark's figure (benchmarks/results/gpu.json, {name}); score distillation the paper's"
    return 1 / max(speeds), source


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours" if seconds < 48 * 3600 else f"about {seconds / 86400:.0f} days"


def _matches(sample: StoredSample, where: Mapping[str, float]) -> bool:
    settings = flat(sample.record)
    return all(settings.get(key) == value for key, value in where.items())
