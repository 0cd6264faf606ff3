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

    The sample has the same id as before, if everything that it depends on is the same. If something differs, it is
    named and nothing is made, unless --anyway is given. Other options are keys of configs, as for its predict: weights
    in another place are --model.experts.visual.weights FOLDER.

    Args:
        file: a spectrogram.png, image.png, color.png, audio.wav, video.mp4 or sample.json that its wrote.
        options: keys of configs with their values.
        output: run directory for the sample.
        anyway: make the sample even if it differs.
        download: download weights that are not on this machine, without asking.
        trust: modules to import too.

    Raises:
        UserError: the file carries no config, or the sample would differ; nothing was made.
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
    if different := changes(record, cli):
        if not anyway:
            raise UserError(
                f"{file}: this would be another sample, so nothing was made. {different} (--anyway makes it)"
            )
        logger.warning(f"another sample than that of {file}: {different}")
    return make(cli)
