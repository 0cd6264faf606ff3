"""`its colorize`: colour pictures for the samples of a run, without making the samples again."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from its import registry
from its.config import fallback
from its.config.allowlist import ConfigRules
from its.config.compose import Config, Layer, command_line_layers, read_layer, split_arguments
from its.engine.trainer import default_precision
from its.errors import UserError
from its.instantiate import Instantiator, raise_faults
from its.interfaces import Colorizer
from its.media.contained import contained, is_own_file
from its.methods.base import Method
from its.output import say
from its.runs.colors import Colors, colors_of
from its.runs.reader import StoredSample
from its.runs.records import read_record
from its.runs.resume import CONFIG
from its.runs.stored_video import color_video, write_color_video_of
from its.weights import WeightsNotFound, prepare

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)

TAKEN = {"model": ("colorizer", "fallback"), "trainer": ("accelerator", "precision")}
"""Keys of configs that are used; the others are ignored, so that any config of a run can be an overlay."""


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 if every sample has its colour pictures, and their videos if asked for; 1 if some could not be made.

    Raises:
        UserError: the command line, a config or the run folder is wrong; nothing was made.
    """
    files, modules, rest = split_arguments(arguments)
    options, keys = _parser().parse_known_args(rest)
    if options.count < 1 or options.batch_size < 1:
        raise UserError(f"--count is {options.count} and --batch_size {options.batch_size}; expected 1 or more")
    registry.load_plugins()
    registry.load_modules(modules)
    wanted = colors_of(options.run, prompt=options.prompt, count=options.count)
    for colors in wanted:
        colors.gray()  # all are looked at before any is made
    path = contained(options.run, options.run / CONFIG)
    saved = read_layer(path) if path.is_file() else Layer(str(path), {})
    config = _compose([saved, *map(read_layer, files)], keys)
    colorizer = _prepared(config, modules)
    failed = _make(colorizer, wanted, config.values.get("trainer") or {}, options.batch_size)
    what = "their colours"
    if options.video or "video" in (saved.values.get("save") or ()):
        failed |= _make_videos(wanted, metadata=saved.values.get("metadata", True))
        what = "their colours and videos"
    say(f"its: {len(wanted) - len(failed)} of {len(wanted)} samples in {options.run / 'samples'} have {what}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="its colorize",
        description="Give the samples of a run their colours: color.png, color_2.png... in each sample's folder.",
        epilog="--config FILE names the colorizer, as in its predict: configs/colorize.yaml, say. Without one, the "
        "run's own is taken. --model.colorizer.init_args.KEY VALUE changes it, --trust MODULE imports a plugin.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a folder that its predict wrote")
    parser.add_argument("--prompt", help='for all samples; by default "a colorful photo of" what each one shows')
    parser.add_argument("--count", type=int, default=1, help="pictures for each sample (default: 1)")
    parser.add_argument("--batch_size", type=int, default=1, help="pictures that are made at once (default: 1)")
    parser.add_argument(
        "--video",
        action="store_true",
        help="also make a video of each picture: color.mp4, color_2.mp4...; the default if the run has save: [video]",
    )
    return parser


def _compose(layers: Sequence[Layer], arguments: Sequence[str]) -> Config:
    """Merge the run's own config, the overlays and the command line, reduced to the keys in `TAKEN`."""
    options = command_line_layers(arguments)
    for section, values in (item for layer in options for item in layer.values.items()):
        for key in values if isinstance(values, dict) else [""]:
            if key not in TAKEN.get(section, ()):
                raise UserError(f"there is no option --{section}.{key}; its colorize --help names them")
    return Config([replace(layer, values=_taken(layer.values)) for layer in (*layers, *options)])


def _taken(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        section: {key: value for key, value in (values.get(section) or {}).items() if key in keys}
        for section, keys in TAKEN.items()
    }


def _prepared(config: Config, trusted: Sequence[str]) -> Colorizer:
    """The colorizer that the config names; where its weights are missing, the fallback's, with a warning.

    Raises:
        UserError: there is none, or its weights are missing.
    """
    colorizer = _colorizer(config, trusted)
    try:
        prepare([colorizer])
        return colorizer
    except WeightsNotFound as error:
        missing = error.prefixed("model.colorizer")
    instantiator = Instantiator()
    name, _ = instantiator.build(str | None, config.values["model"].get("fallback"), "model.fallback")
    raise_faults(instantiator.faults, config.source_of)
    pack = fallback.pack_for(missing, name)
    colorizer = _colorizer(fallback.with_pack_colorizer(config, pack), trusted)
    prepare([colorizer])
    settings = "Its settings are the pack's own."
    line = fallback.warning(missing, pack, instead="demo colorizer", settings=settings)
    logger.warning(line)
    return colorizer


def _colorizer(config: Config, trusted: Sequence[str]) -> Colorizer:
    given = (config.values.get("model") or {}).get("colorizer")
    if given is None:
        raise UserError("this run has no colorizer: name one, such as --config configs/colorize.yaml")
    instantiator = Instantiator(ConfigRules(trusted=trusted, source_of=config.source_of))
    colorizer, _ = instantiator.build(Colorizer, given, "model.colorizer")
    raise_faults(instantiator.faults, config.source_of)
    built: Colorizer = colorizer
    return built


def _make(colorizer: Colorizer, wanted: Sequence[Colors], trainer: dict[str, Any], batch_size: int) -> set[Path]:
    """Make the pictures that are missing. Report the samples that fail, and return their folders."""
    coloring, weights = colorizer.describe(defining=True), colorizer.provenance()
    jobs = [(colors, number) for colors in wanted for number in colors.missing(coloring, weights)]
    if not jobs:
        return set()
    fabric = _fabric(trainer)
    with fabric.init_module():
        colorizer.load()
    colorizer.to(fabric.device).eval().requires_grad_(False)
    left = {id(colors): sum(other is colors for other, _ in jobs) for colors, _ in jobs}
    failed: dict[Path, str] = {}
    for batch in _batches(jobs, batch_size):
        try:
            with torch.inference_mode():
                rgb = _color(colorizer, batch, fabric.device)
            for (colors, number), picture in zip(batch, rgb, strict=True):
                colors.write(number, picture)
                left[id(colors)] -= 1
                if left[id(colors)] == 0:
                    colors.finish(coloring, weights)
                    logger.info(f"{colors.folder.name}: {colors.prompt}")
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and no sample may stop the others
            failed |= {colors.folder: f"{type(error).__name__}: {error}" for colors, _ in batch}
    for folder in sorted(failed):
        logger.error(f"failed: {folder.name}: {failed[folder]}")
    return set(failed)


def _fabric(trainer: Mapping[str, Any]) -> Fabric:
    """One device, with the accelerator and the precision of the config; by default as `its predict`."""
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    instantiator = Instantiator()
    given, _ = instantiator.arguments(Fabric, {k: v for k, v in trainer.items() if v is not None}, "trainer")
    raise_faults(instantiator.faults)
    precision = default_precision(given, Method.cuda_precision) or "32-true"
    try:
        return Fabric(**({"accelerator": "auto", "precision": precision} | given), devices=1)
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from None


def _make_videos(wanted: Sequence[Colors], *, metadata: bool) -> set[Path]:
    """Make the videos that the pictures lack. Report the samples that fail, and return their folders."""

    def made(colors: Colors) -> bool:
        try:
            run, record = colors.folder.parents[1], read_record(colors.folder) or colors.record
            sample = StoredSample(run=run, folder=colors.folder, record=record)
            for picture in map(colors.path, range(1, colors.count + 1)):
                if is_own_file(picture) and not is_own_file(color_video(picture)):
                    write_color_video_of(sample, picture, metadata=metadata)
        except (OSError, UserError, RuntimeError, KeyError) as error:
            logger.error(f"failed: {colors.folder.name}: {type(error).__name__}: {error}")
            return False
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # encoding releases the GIL
        return {colors.folder for colors, done in zip(wanted, pool.map(made, wanted), strict=True) if not done}


def _color(colorizer: Colorizer, batch: Sequence[tuple[Colors, int]], device: torch.device) -> torch.Tensor:
    gray = torch.stack([colors.gray() for colors, _ in batch]).to(device)
    sources = [colors.source(number) for colors, number in batch]
    rgb: torch.Tensor = colorizer(gray, [colors.prompt for colors, _ in batch], sources).float().cpu()
    if not rgb.isfinite().all():
        raise ValueError("not finite: the colours")
    return rgb


def _batches(jobs: Iterable[tuple[Colors, int]], size: int) -> Iterator[list[tuple[Colors, int]]]:
    """Jobs whose pictures are of one size, some at once."""
    for _, alike in groupby(jobs, key=lambda job: job[0].size):
        same = list(alike)
        for first in range(0, len(same), size):
            yield same[first : first + size]
