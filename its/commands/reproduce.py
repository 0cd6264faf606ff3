"""`its reproduce`: the paper's experiments, from samples to a table with ours beside the paper's figures."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from its import registry
from its.commands.evaluate import add_scorers
from its.errors import UserError
from its.evaluation.choosing import chosen, found
from its.evaluation.paper import DISTILLATION_SECONDS, EXPERIMENTS, Making, Reported
from its.evaluation.scoring import evaluate, write_csv
from its.evaluation.tables import FORMATS, Table, flat, labelled
from its.output import say
from its.runs.reader import StoredSample, whole_samples
from its.weights import prepare

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
"""Of a checkout; an installed package has neither configs nor benchmarks there."""


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0, or 1 when some samples could not be made.

    Raises:
        UserError: the command line or a config is wrong, or a scorer can't be had; nothing was made.
    """
    options, passed_on = _parser().parse_known_args(arguments)
    rows = _rows(options.experiment, options.rows)
    makings = list(dict.fromkeys(row.making for row in rows))
    configs = _configs(options.configs, makings)
    commands = {making: ["its", "predict", *_predict(making, configs, options, passed_on)] for making in makings}
    runs = [options.output / making.folder for making in makings]
    if options.dry_run:
        _show_plan(commands, runs, options)
        return 0
    registry.load_plugins()
    registry.load_modules(options.trust)
    scorers = found(chosen(options.scorers, options.set), fallback=options.fallback)
    prepare(scorers)  # before hours of sampling
    status = 0
    for command in commands.values():
        logger.info(f"{shlex.join(command)}")
        status |= _sample(command[2:])
    samples = evaluate(scorers, whole_samples(runs), device=options.device)
    for run in runs:
        write_csv(run)
    say(FORMATS[options.table](beside_the_paper(rows, samples, options.output)))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="its reproduce",
        description="Make the samples of an experiment of the paper's, score them, and print our figures beside the "
        "paper's. Stopped, the same command goes on. What is no option of this command is passed on to its predict, "
        "such as --trainer.devices=4.",
        allow_abbrev=False,
    )
    parser.add_argument("experiment", choices=EXPERIMENTS, help="what to reproduce")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="only say what would be run")
    parser.add_argument("--rows", nargs="+", metavar="RUN", help="only these, by their run's folder, such as imprint")
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="goes over the experiment's, below a method's",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/paper"), help="folder of runs (default: runs/paper)")
    parser.add_argument("--configs", type=Path, metavar="FOLDER", help="default: configs here, or of the checkout")
    parser.add_argument("--table", choices=FORMATS, default="md", help="how the table is written (default: md)")
    add_scorers(parser)
    return parser


def _rows(experiment: str, wanted: Sequence[str] | None) -> list[Reported]:
    rows = list(EXPERIMENTS[experiment])
    folders = list(dict.fromkeys(row.making.folder for row in rows))
    if unknown := [name for name in wanted or () if name not in folders]:
        raise UserError(f"--rows {unknown[0]}: {experiment} has the runs {', '.join(folders)}")
    return [row for row in rows if wanted is None or row.making.folder in wanted]


def _configs(given: Path | None, makings: Sequence[Making]) -> Path:
    """The folder of configs, with all that are needed."""
    places = [given] if given is not None else [Path("configs"), ROOT / "configs"]
    needed = [name for making in makings for name in making.configs]
    for place in places:
        if not [name for name in needed if not (place / name).is_file()]:
            return place
    missing = next(name for name in needed if not (places[0] / name).is_file())
    raise UserError(
        f"there is no {places[0] / missing}: its reproduce needs the configs of a checkout, which an installed package "
        "doesn't bring. Run it there, or name the folder with --configs"
    )


def _predict(making: Making, configs: Path, options: argparse.Namespace, passed_on: Sequence[str]) -> list[str]:
    """Arguments of the `its predict` that makes a run."""
    base, *methods = [configs / name for name in making.configs]
    files = [base, *options.config, *methods]  # other weights come with a combiner, which a method's own replaces
    named = [argument for file in files for argument in ("--config", str(file))]
    fixed = [f"--output={options.output / making.folder}", "--model.fallback=null"]  # the paper's weights, or none
    return [*named, *making.options, *fixed, *passed_on]


def _sample(arguments: Sequence[str]) -> int:
    from its.commands.predict import main as predict

    status = predict(arguments)
    if status == 130:
        raise KeyboardInterrupt
    return status


def _show_plan(commands: Mapping[Making, list[str]], runs: Sequence[Path], options: argparse.Namespace) -> None:
    """The commands, the count of samples, and how long they may take."""
    measured = _benchmark()
    total = 0.0
    for making, command in commands.items():
        say(shlex.join(command))
        distils = making.seconds == DISTILLATION_SECONDS
        seconds = making.seconds if distils or measured is None else measured[0]
        total += seconds * making.samples
        say(f"  # {making.samples} samples, {_duration(seconds * making.samples)} at {seconds:.3g} s each")
    say(shlex.join(["its", "evaluate", *map(str, runs), "--scorers", *options.scorers]))
    source = "the paper's times, on an L40S" if measured is None else measured[1]
    count = sum(making.samples for making in commands)
    say(
        f"# {count} samples of the paper's protocol, {_duration(total)} on one GPU by {source}. "
        "Prompts, seeds or weights of your own change both."
    )


def _benchmark() -> tuple[float, str] | None:
    """Seconds a sample of the main method on a GPU, and whose figure that is; None where nobody measured any."""
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


def beside_the_paper(rows: Sequence[Reported], samples: Sequence[StoredSample], output: Path) -> Table:
    """Our scores of each row's samples, with the paper's figures beside those of CLIP and CLAP, and of no others.

    Raises:
        UserError: a row has no sample, or nothing is scored.
    """
    groups: dict[tuple[str, ...], list[StoredSample]] = {}
    for row in rows:
        run = (output / row.making.folder).resolve()
        mine = [found for found in samples if found.run.resolve() == run and _matches(found, row.where)]
        if not mine:
            wanted = ", ".join(f"{key} {value:g}" for key, value in row.where.items())
            raise UserError(f"{run} has no sample for the row {row.label}" + (f" ({wanted})" if wanted else ""))
        groups[(row.label,)] = mine
    table = labelled(groups, keys=["method"])
    theirs = {"CLIPScorer": "clip", "CLAPScorer": "clap"}
    reference = {
        (number, position): figure
        for number, row in enumerate(rows)
        for position, column in enumerate(table.columns)
        if column in theirs and (figure := getattr(row, theirs[column])) is not None
    }
    embedded = sum("embedded" in str(found.record.get("weights")) for found in samples)
    notes = (
        [f"{embedded} of {len(samples)} samples are of embedded weights, not of the paper's models"] if embedded else []
    )
    return replace(table, reference=reference, notes=[*table.notes, *notes])


def _matches(found: StoredSample, where: Mapping[str, float]) -> bool:
    settings = flat(found.record)
    return all(settings.get(key) == value for key, value in where.items())
