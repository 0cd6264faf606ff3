"""Colour pictures for the samples of a run, without making the samples again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from its import registry
from its.config import fallback
from its.config.allowlist import ConfigRules
from its.config.compose import Config, Layer, command_line_layers, read_layer
from its.engine.trainer import single_device
from its.errors import UserError
from its.instantiate import Instantiator, raise_faults
from its.interfaces import Colorizer
from its.media.contained import contained
from its.methods.base import Method
from its.runs.colors import ColorJob, plan_colors
from its.runs.reader import StoredSample
from its.runs.records import read_record
from its.runs.resume import CONFIG
from its.runs.videos import color_video_jobs, run_jobs
from its.weights import WeightsNotFound, prepare

logger = logging.getLogger(__name__)

KEYS = {"model": ("colorizer", "fallback"), "trainer": ("accelerator", "precision")}
"""Config keys that colorizing uses, by section. Others are ignored, so that any config of a run can be an overlay."""


def colorize_run(
    run: Path,
    files: Sequence[Path],
    keys: Sequence[str],
    *,
    prompt: str | None,
    count: int,
    batch_size: int,
    video: bool,
    trusted: Sequence[str],
) -> tuple[int, int, bool]:
    """Make the colour pictures that the samples of a run lack, and their videos.

    Args:
        run: the run directory.
        files: configs over the run's own.
        keys: config keys as `--key=value`.
        prompt: prompt for all samples; by default it is derived from each sample's prompt.
        count: number of pictures of each sample.
        batch_size: number of pictures in a batch.
        video: also make videos; always done if the run saves videos.
        trusted: additional modules to import, whose classes configs may name.

    Returns:
        Number of samples with all of their files, number of samples, and whether videos were made.

    Raises:
        UserError: a config, a key or the run is invalid; nothing was made.
    """
    registry.load_plugins()
    registry.load_modules(trusted)
    plans = plan_colors(run, prompt=prompt, count=count)
    for colors in plans:
        colors.gray()  # read all gray pictures before any is colorized
    path = contained(run, run / CONFIG)
    saved = read_layer(path) if path.is_file() else Layer(str(path), {})
    config = compose_colors([saved, *map(read_layer, files)], keys)
    colorizer = prepare_colorizer(config, trusted)
    failed = make_pictures(colorizer, plans, config.values.get("trainer") or {}, batch_size)
    video = video or "video" in (saved.values.get("save") or ())
    if video:
        failed |= _make_videos(plans, metadata=saved.values.get("metadata", True))
    return len(plans) - len(failed), len(plans), video


def compose_colors(layers: Sequence[Layer], arguments: Sequence[str]) -> Config:
    """Merge the run's own config, the overlays and the command line, reduced to the keys in `KEYS`."""
    options = command_line_layers(arguments)
    for section, values in (item for layer in options for item in layer.values.items()):
        for key in values if isinstance(values, dict) else [""]:
            if key not in KEYS.get(section, ()):
                option = f"--{section}.{key}".removesuffix(".")
                known = ", ".join(f"{name}.{each}" for name, keys in KEYS.items() for each in keys)
                raise UserError(f"unknown option {option}; expected {known}, or an option in its colorize --help")
    return Config([replace(layer, values=_select_keys(layer.values)) for layer in (*layers, *options)])


def _select_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        section: {key: value for key, value in (values.get(section) or {}).items() if key in keys}
        for section, keys in KEYS.items()
    }


def prepare_colorizer(config: Config, trusted: Sequence[str]) -> Colorizer:
    """Build the config's colorizer and prepare its weights; if they are missing, use the fallback pack's colorizer.

    Raises:
        UserError: the config names no colorizer, or its weights are missing.
    """
    colorizer = _build_colorizer(config, trusted)
    try:
        prepare([colorizer])
        return colorizer
    except WeightsNotFound as error:
        missing = error.prefixed("model.colorizer")
    instantiator = Instantiator()
    name, _ = instantiator.build(str | None, config.values["model"].get("fallback"), "model.fallback")
    raise_faults(instantiator.faults, config.source_of)
    pack = fallback.fallback_pack(missing, name)
    colorizer = _build_colorizer(fallback.with_pack_colorizer(config, pack), trusted)
    prepare([colorizer])
    settings = "The pack's settings are used."
    logger.warning(fallback.format_warning(missing, pack, instead="demo colorizer", settings=settings))
    return colorizer


def _build_colorizer(config: Config, trusted: Sequence[str]) -> Colorizer:
    value = (config.values.get("model") or {}).get("colorizer")
    if value is None:
        raise UserError("this run has no colorizer: name one, for example with --config colorize")
    instantiator = Instantiator(ConfigRules(trusted=trusted, source_of=config.source_of))
    colorizer: Colorizer
    colorizer, _ = instantiator.build(Colorizer, value, "model.colorizer")
    raise_faults(instantiator.faults, config.source_of)
    return colorizer


def make_pictures(
    colorizer: Colorizer, plans: Sequence[ColorJob], trainer: dict[str, Any], batch_size: int
) -> set[Path]:
    """Make missing pictures. Report samples that fail, and return their folders."""
    coloring, weights = colorizer.describe(identity_only=True), colorizer.provenance()
    jobs = [(colors, number) for colors in plans for number in colors.missing(coloring, weights)]
    if not jobs:
        return set()
    settings = {key: trainer.get(key) for key in ("accelerator", "precision")}
    if wrong := [key for key, value in settings.items() if not isinstance(value, str | None)]:
        raise UserError(f"trainer.{wrong[0]} is {settings[wrong[0]]!r:.80}; expected a name")
    fabric, _ = single_device(**settings, on_cuda=Method.cuda_precision)
    with fabric.init_module():
        colorizer.load()
    colorizer.to(fabric.device).eval().requires_grad_(False)
    remaining = {id(colors): sum(other is colors for other, _ in jobs) for colors, _ in jobs}
    failed: dict[Path, str] = {}
    for batch in _batches(jobs, batch_size):
        try:
            with torch.inference_mode():
                rgb = _color(colorizer, batch, fabric.device)
            for (colors, number), picture in zip(batch, rgb, strict=True):
                colors.write(number, picture)
                remaining[id(colors)] -= 1
                if remaining[id(colors)] == 0:
                    colors.finish(coloring, weights)
                    logger.info(f"{colors.folder.name}: {colors.prompt}")
        except Exception as error:  # noqa: BLE001 - plugins may raise anything; continue with other samples
            failed |= {colors.folder: f"{type(error).__name__}: {error}" for colors, _ in batch}
    for folder in sorted(failed):
        logger.error(f"failed: {folder.name}: {failed[folder]}")
    return set(failed)


def _make_videos(plans: Sequence[ColorJob], *, metadata: bool) -> set[Path]:
    """Make missing videos of the pictures. Report samples that fail, and return their folders."""
    jobs = []
    for colors in plans:
        record = read_record(colors.folder) or colors.record
        sample = StoredSample(run=colors.folder.parents[1], folder=colors.folder, record=record)
        pictures = map(colors.path, range(1, colors.count + 1))
        jobs.append((colors.folder, color_video_jobs(sample, pictures, again=False, metadata=metadata)))
    return run_jobs(jobs)


def _color(colorizer: Colorizer, batch: Sequence[tuple[ColorJob, int]], device: torch.device) -> torch.Tensor:
    gray = torch.stack([colors.gray() for colors, _ in batch]).to(device)
    sources = [colors.source(number) for colors, number in batch]
    rgb: torch.Tensor = colorizer(gray, [colors.prompt for colors, _ in batch], sources).float().cpu()
    if not rgb.isfinite().all():
        raise ValueError("the colour picture has values that are not finite")
    return rgb


def _batches(jobs: Iterable[tuple[ColorJob, int]], size: int) -> Iterator[list[tuple[ColorJob, int]]]:
    """Split jobs into batches of pictures of one size."""
    for _, group in groupby(jobs, key=lambda job: job[0].size):
        of_one_size = list(group)
        for first in range(0, len(of_one_size), size):
            yield of_one_size[first : first + size]
