"""`its colorize`: colour pictures for the samples of a run, without making the samples again."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from its import registry
from its.config import fallback
from its.config.compose import COMMAND_LINE, Composed, class_choices, split_arguments
from its.config.parse_errors import plain_message
from its.engine.build import forbid_imports
from its.errors import UserError
from its.interfaces import Colorizer
from its.runs.colors import Colors, colors_of
from its.runs.reader import StoredSample
from its.runs.resume import CONFIG
from its.runs.sample_files import read_record
from its.runs.stored_video import color_video, write_color_video_of
from its.weights import WeightsNotFound, prepare

TAKEN = {"model": ("colorizer", "fallback"), "trainer": ("accelerator", "precision")}
"""Keys of configs that matter here; the others are passed over, so that any config of a run serves as an overlay."""


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
    saved = _saved(options.run)
    composed = _compose(saved, options.run, files, keys, modules)
    colorizer = _prepared(composed)
    failed = _make(colorizer, wanted, composed.values.get("trainer") or {}, options.batch_size)
    what = "their colours"
    if options.video or "video" in (saved.get("save") or ()):
        failed |= _make_videos(wanted, metadata=saved.get("metadata", True))
        what = "their colours and videos"
    print(f"its: {len(wanted) - len(failed)} of {len(wanted)} samples in {options.run / 'samples'} have {what}")
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


def _saved(run: Path) -> dict[str, Any]:
    """The run's own config; empty if it has none."""
    path = run / CONFIG
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def _compose(
    saved: Mapping[str, Any], run: Path, files: Sequence[Path], keys: Sequence[str], trusted: Sequence[str]
) -> Composed:
    """Merge the run's own config, the overlays and the command line, reduced to the keys in `TAKEN`."""
    composed = Composed(trusted=trusted)
    composed.add(_taken(saved), str(run / CONFIG))  # reduced first: it may name plugins that are not needed here
    for file in files:
        whole = Composed(trusted=trusted)
        whole.overlay(file)
        composed.add(_taken(whole.values), str(file))
    choices, rest = class_choices(keys)
    for key, name in choices:
        composed.choose(key, name)
    for argument in rest:
        key, equals, value = argument.removeprefix("--").partition("=")
        parts = key.split(".")
        if not equals or len(parts) < 2 or parts[1] not in TAKEN.get(parts[0], ()):
            raise UserError(f"there is no option --{key}; its colorize --help names them")
        content = yaml.safe_load(value)
        for part in reversed(parts):
            content = {part: content}
        composed.add(content, COMMAND_LINE)
    return composed


def _taken(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        section: {key: value for key, value in (values.get(section) or {}).items() if key in keys}
        for section, keys in TAKEN.items()
    }


def _prepared(composed: Composed) -> Colorizer:
    """The colorizer that the config names, or where its weights can't be had the fallback's, with a loud line.

    Raises:
        UserError: there is none, or its weights can't be had.
    """
    colorizer = _instantiated(composed)
    try:
        prepare([colorizer])
        return colorizer
    except WeightsNotFound as error:
        missing = error.prefixed("model.colorizer")
    pack = registry.packs().get(composed.values["model"].get("fallback") or "")
    if pack is None:
        raise fallback.refused(missing)
    composed.replace_colorizer(pack.colorizer)
    colorizer = _instantiated(composed)
    prepare([colorizer])
    settings = "Its settings are the pack's own."
    line = fallback.warning(missing, pack, instead="demo colorizer", settings=settings)
    print(line, file=sys.stderr, flush=True)
    return colorizer


def _instantiated(composed: Composed) -> Colorizer:
    if (composed.values.get("model") or {}).get("colorizer") is None:
        raise UserError("this run has no colorizer: name one, such as --config configs/colorize.yaml")
    forbid_imports(composed.trusted)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model.colorizer", type=Colorizer)
    try:
        config = parser.parse_object({"model": {"colorizer": composed.values["model"]["colorizer"]}})
        colorizer: Colorizer = parser.instantiate_classes(config).model.colorizer
    except ArgumentError as error:
        source = composed.source_of(str(error))
        message = plain_message(str(error), ["model.colorizer"])
        raise UserError(f"{source}: {message}" if source else message) from None
    except ValueError as error:  # the part refuses its arguments
        raise UserError(f"model.colorizer: {error}") from None
    return colorizer


def _make(colorizer: Colorizer, wanted: Sequence[Colors], trainer: dict[str, Any], batch_size: int) -> set[Path]:
    """Make the pictures that are missing. Report the samples that fail, and return their folders."""
    coloring, weights = colorizer.describe(defining=True), colorizer.provenance()
    jobs = [(colors, number) for colors in wanted for number in colors.missing(coloring, weights)]
    if not jobs:
        return set()
    from lightning.fabric import Fabric

    fabric = Fabric(
        accelerator=trainer.get("accelerator") or "auto", devices=1, precision=trainer.get("precision") or "32-true"
    )
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
                    print(f"its: {colors.folder.name}: {colors.prompt}", file=sys.stderr, flush=True)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and no sample may stop the others
            failed |= {colors.folder: f"{type(error).__name__}: {error}" for colors, _ in batch}
    for folder in sorted(failed):
        print(f"its: failed: {folder.name}: {failed[folder]}", file=sys.stderr)
    return set(failed)


def _make_videos(wanted: Sequence[Colors], *, metadata: bool) -> set[Path]:
    """Make the videos that the pictures lack. Report the samples that fail, and return their folders."""

    def made(colors: Colors) -> bool:
        try:
            run, record = colors.folder.parents[1], read_record(colors.folder) or colors.record
            sample = StoredSample(run=run, folder=colors.folder, record=record)
            for picture in map(colors.path, range(1, colors.count + 1)):
                if picture.exists() and not color_video(picture).exists():
                    write_color_video_of(sample, picture, metadata=metadata)
        except (OSError, UserError, RuntimeError, KeyError) as error:
            print(f"its: failed: {colors.folder.name}: {type(error).__name__}: {error}", file=sys.stderr)
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
