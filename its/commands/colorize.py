"""The command `its colorize`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from its.errors import UserError
from its.output import say


def colorize(
    run: Path,
    *options: str,
    config: Sequence[str] = (),
    prompt: str | None = None,
    count: int = 1,
    batch_size: int = 1,
    video: bool = False,
    trust: Sequence[str] = (),
) -> int:
    """Make colour pictures for the samples of a run.

    The pictures are color.png, color_2.png and so on in each sample's folder. By default the run's colorizer is used; a
    config can name another. Other options are keys of configs, such as --model.colorizer.init_args.KEY VALUE. The exit
    status is 1 if some pictures can't be made.

    Args:
        run: run directory of its predict.
        options: keys of configs with their values.
        config: configs over the run's, such as configs/colorize.yaml.
        prompt: prompt for all samples (default: "a colorful photo of" and the subject of each sample's prompt).
        count: pictures for each sample.
        batch_size: pictures in a batch.
        video: also make a video of each picture; the default if the run has save: [video].
        trust: additional modules to import.

    Raises:
        UserError: an option, a config or the run directory is invalid; nothing was made.
    """
    if count < 1 or batch_size < 1:
        raise UserError(f"--count is {count} and --batch_size {batch_size}; expected 1 or more")
    from its.config.compose import split_arguments
    from its.engine.coloring import colorize_run
    from its.media.limited import user_path

    _, _, keys = split_arguments(options)
    done, total, videos = colorize_run(
        run,
        list(map(user_path, config)),
        keys,
        prompt=prompt,
        count=count,
        batch_size=batch_size,
        video=video,
        trusted=trust,
    )
    say(f"{done} of {total} samples in {run / 'samples'} have colour pictures{' and videos' if videos else ''}")
    return 0 if done == total else 1
