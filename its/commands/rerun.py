"""`its rerun FILE`: makes a sample again from what one of its files says of it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from its import registry
from its.commands.predict import make, quiet
from its.config.compose import split_arguments
from its.engine.build import PredictCLI, build
from its.errors import UserError
from its.media.metadata import read_metadata
from its.output import say, visible
from its.privacy import scrub
from its.runs.replay import differences
from its.weights.hub import local_only
from its.weights.source import content_of

logger = logging.getLogger(__name__)

OUTPUT = "runs/rerun"

FLAGS = ("--anyway", "--download")

HELP = """usage: its rerun FILE [--output runs/rerun] [--anyway] [--download] [any option of its predict]

Make a sample again: FILE is any spectrogram.png, image.png, color.png, audio.wav, video.mp4 or sample.json that its
wrote, wherever it is now. The sample has the same id as before, which says that everything it depends on is the same;
if it hasn't, what differs is named and nothing is made, unless --anyway is given.

Weights that have another place on this machine: --model.experts.visual.weights FOLDER, as in its predict. Weights that
are not on this machine are downloaded after a question, or with --download."""


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        As `its predict`.

    Raises:
        UserError: the file says nothing, or what it names would give another sample; nothing was made.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        say(HELP)
        return 0 if arguments else 2
    quiet()
    file, options = Path(arguments[0]), [a for a in arguments[1:] if a not in FLAGS]
    overlays, modules, rest = split_arguments(options)
    if arguments[0].startswith("--") or overlays:
        raise UserError("its rerun takes one FILE first, and then options; a FILE can also overlay: its predict --help")
    record = read_metadata(file)
    registry.load_plugins()
    registry.load_modules(modules)
    if not any(argument.startswith("--output=") for argument in rest):
        rest = [f"--output={OUTPUT}", *rest]
    rest = ["--mixed=true", *rest]  # samples of any settings lie side by side there
    cli = _build(file, rest, modules, downloads="--download" in arguments)
    changes = changed(record, cli)
    if changes and "--anyway" not in arguments:
        raise UserError(f"{file}: this would be another sample, so nothing was made. {changes} (--anyway makes it)")
    if changes:
        logger.warning(f"another sample than that of {file}: {changes}")
    return make(cli)


def _build(file: Path, arguments: Sequence[str], modules: Sequence[str], *, downloads: bool) -> PredictCLI:
    """Build the run. The hub is asked for what the file names only if the user agrees: the sender chose the names."""
    if not downloads:
        with local_only() as missing:
            try:
                return build([file], arguments, modules)
            except UserError:
                if not missing:
                    raise
        names = ", ".join(dict.fromkeys(missing))
        if not _agrees(f"its: {file} names weights that are not on this machine: {names}. Download them? [y/N]"):
            raise UserError(f"{file} names weights that are not on this machine: {names}. To download them: --download")
    return build([file], arguments, modules)


def _agrees(question: str) -> bool:
    """Ask on the terminal; no answer means no, as does input that is no terminal."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    sys.stderr.write(f"{visible(question)}\n")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def changed(record: Mapping[str, Any], cli: PredictCLI) -> str:
    """What makes the sample of a run that was built another one than that of a record; empty if it is the same."""
    (spec,) = cli.specs
    if spec.id == record["id"]:
        return ""
    before: Any = {"settings": record.get("settings"), "weights": record["weights"]}
    now: Any = scrub({"settings": _settings(cli), "weights": cli.model.provenance})
    named = differences(_comparable(before), _comparable(now))
    found = "; ".join(named) or "prompts, scales or seed differ, or what the id is made of"
    return f"{record['id']} -> {spec.id}: {found}."


def _settings(cli: PredictCLI) -> dict[str, Any]:
    (spec,) = cli.specs
    return {"guidance_scale": dict(spec.guidance_scale), **spec.definition["settings"]}


def _comparable(parts: Any) -> Any:
    """Without what an id doesn't tell apart: the machine, and where weights of a known content are."""
    plain = json.loads(json.dumps(parts))
    if isinstance(plain["settings"], dict):
        plain["settings"] = {k: v for k, v in plain["settings"].items() if k not in ("precision", "device")}
    plain["weights"] = content_of(plain["weights"])
    return plain
