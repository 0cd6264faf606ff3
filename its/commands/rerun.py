"""The command `its rerun`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from its.errors import UserError

logger = logging.getLogger(__name__)


def rerun(
    file: Path,
    *options: str,
    output: Path = Path("runs/rerun"),
    anyway: bool = False,
    download: bool = False,
    trust: Sequence[str] = (),
) -> int:
    """Make a sample again from one of its files: picture, sound, video or sample.json.

    If the settings and weights are the same, the sample has the same id. Otherwise the differences are printed and
    nothing is made, unless --anyway is given. Other options are keys of configs, as for its predict; for instance,
    --model.experts.visual.weights FOLDER sets another place of weights.

    Args:
        file: spectrogram.png, image.png, color.png, audio.wav, video.mp4 or sample.json of a sample.
        options: keys of configs with their values.
        output: run directory for the sample.
        anyway: make the sample even if it differs.
        download: download missing weights without a prompt.
        trust: additional modules to import.

    Raises:
        UserError: the file contains no config, or the sample would differ; nothing was made.
    """
    from its import registry
    from its.commands.predict import simplify_warnings
    from its.config.compose import split_arguments
    from its.engine.rerun import build_again, changes
    from its.engine.run import make
    from its.media.metadata import read_metadata

    simplify_warnings()
    overlays, _, keys = split_arguments(options)
    if overlays:
        raise UserError("its rerun takes no --config; a sample's file can overlay configs: its predict --config FILE")
    record = read_metadata(file)
    registry.load_plugins()
    registry.load_modules(trust)
    # A directory of reruns may hold samples of any settings.
    cli = build_again(file, [f"--output={output}", "--mixed=true", *keys], trust, download=download)
    if differences := changes(record, cli):
        if not anyway:
            raise UserError(f"{file}: the sample would differ, so nothing was made. {differences} (--anyway makes it)")
        logger.warning(f"{file}: the new sample differs. {differences}")
    return make(cli)
