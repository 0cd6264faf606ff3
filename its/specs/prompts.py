"""Data module that expands prompts and seeds into sample specs for Lightning's predict loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from its.errors import UserError, nearest
from its.media.packaged import find_file
from its.specs.material import (
    NO_INTERPOLATION,
    NUMBERS,
    Interpolation,
    Transition,
    parse_interpolation,
    parse_material,
    with_number,
)
from its.specs.media import parse_media_prompt
from its.specs.prompt_files import read_prompts
from its.specs.spec import SampleSpec, assign_ids

DEFAULT_GUIDANCE_SCALE = 10.0
"""The paper's value."""
MOST_SAMPLES = 1_000_000
"""Maximum number of samples of a run: rows x seeds x sweep points."""
LONGEST_PROMPT = 10_000
"""Maximum characters of a prompt. Text encoders use a few hundred."""

AUTO_BATCH_SIZE_CUDA, AUTO_BATCH_SIZE = 16, 2
"""Maximum automatic batch sizes. On an H100, 16 is hardly faster than 8 for the paper's canvases."""

_ROW_SETTINGS = ("guidance_scale", "negative_prompts")

Seeds = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class SeedRange:
    """`count` consecutive seeds from `start` on."""

    start: int
    count: int


class PromptGrid(LightningDataModule):
    """All combinations of prompts, seeds and sweep points.

    A row maps each expert to its prompt. It may also set `seed` (or `seeds`), `negative_prompts` and `guidance_scale`;
    CSV columns for these are named `guidance_scale.visual` and so on. Some methods accept `{image: FILE}` or
    `{audio: FILE}` in place of a prompt: see `its.specs.media`. The keys `start`, `keep`, `control` and `interpolate`
    add the user's own material: see `its.specs.material`.
    """

    def __init__(
        self,
        *,
        prompts: str | list[dict[str, Any]] | dict[str, list[Any]],
        negative_prompts: dict[str, str] | None = None,
        seeds: list[int] | SeedRange | None = None,
        guidance_scale: dict[str, float] | None = None,
        start: dict[str, Any] | None = None,
        keep: dict[str, str] | None = None,
        control: dict[str, Any] | list[dict[str, Any]] | None = None,
        interpolate: dict[str, Any] | None = None,
        sweep: dict[str, list[Any]] | None = None,
        batch_size: int | Literal["auto"] = "auto",
    ) -> None:
        """Args:
        prompts: rows; or a list of prompts for each expert, of which all combinations become rows; or a JSONL, CSV
            or YAML file with either.
        negative_prompts: by expert; the default is empty.
        seeds: a list, or `{start: 0, count: 100}`. The default is the single seed 0.
        guidance_scale: gamma by expert; the default is 10.
        start: picture or sound to start from: `{image: FILE, strength: 0.6}` or `{audio: FILE, strength: 0.6}`.
        keep: region of the start that is kept: `{mask: FILE}`, white where it is.
        control: picture for the control net of an expert: `{image: FILE, scale: 1.0, edges: false}`; a list for
            several nets.
        interpolate: transition to other prompts or another seed, as a number of samples or along one canvas:
            `{to: {visual: ..., seed: 2}, samples: 8}`, or `canvas: true`.
        sweep: lists of values by setting, for example `guidance_scale` (of all experts), `guidance_scale.visual`,
            `combiner.t.visual`, `scheduler`, `steps` or `start.strength`. All combinations are applied to all rows.
        batch_size: samples in a batch, or `auto`: at most 16 on a CUDA device and 2 elsewhere. A batch that does not
            fit into memory is halved.
        """
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a rank may have no rows
        if batch_size != "auto" and batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}; expected 1 or more, or auto")
        self.prompts = prompts
        self.negative_prompts = negative_prompts or {}
        self.seeds = seeds if seeds is not None else [0]
        self.guidance_scale = guidance_scale or {}
        self.material = {"start": start, "keep": keep, "control": control, "interpolate": interpolate}
        """Values of these keys for rows without them."""
        self.sweep = sweep or {}
        self.batch_size = batch_size
        self.largest = AUTO_BATCH_SIZE if batch_size == "auto" else batch_size
        """Maximum batch size."""
        self.rows: list[SampleSpec] | None = None
        """Specs of the run's samples; `setup` expands them if None."""
        self.open_indices: Sequence[int] | None = None
        """Indices of specs still to be sampled; None for all. Rank 0's value is used on all ranks."""
        self.by_pair = False
        """Whether each batch holds all specs of this rank with the same `SampleSpec.pair`, whatever their number."""

    def fix_batch_size(self, device_type: str, *, one_by_one: bool = False) -> None:
        """Set the maximum batch size if it is automatic; it is 1 for methods that sample one by one."""
        if self.batch_size == "auto":
            self.largest = 1 if one_by_one else AUTO_BATCH_SIZE_CUDA if device_type == "cuda" else AUTO_BATCH_SIZE

    def expand(self, experts: Sequence[str]) -> list[SampleSpec]:
        """Return the specs of all samples, ordered by sweep point, row and seed.

        Args:
            experts: names of the experts that require a prompt.

        Raises:
            UserError: a file, row or key is invalid, or the number of samples is above `MOST_SAMPLES`.
        """
        for key in _ROW_SETTINGS:
            _check_names(getattr(self, key), experts, f"data.{key}")
        rows = [self._parse_row(row, source, experts) for source, row in _read_rows(self.prompts)]
        for key, values in self.sweep.items():
            if not isinstance(values, list) or not values:
                raise UserError(f"data.sweep: {key} is {values!r:.80}; expected a list of values")
            setting, dot, name = key.partition(".")
            if setting in _ROW_SETTINGS and dot:
                _check_names({name: None}, experts, f"data.sweep: {key}")
        points = math.prod(map(len, self.sweep.values()))
        samples = sum(len(seeds) * len(transition.fractions) for _, seeds, transition in rows)
        _check_count(points * samples, f"{points} points of data.sweep x {samples} prompts and seeds")
        # Settings that prevent samples from sharing a batch vary slowest.
        keys = sorted(self.sweep, key=lambda key: key.startswith((*_ROW_SETTINGS, "combiner")))
        return [
            _interpolate(_apply_point(replace(spec, seed=seed), dict(zip(keys, values, strict=True))), to, fraction)
            for values in itertools.product(*(self.sweep[key] for key in keys))
            for spec, seeds, to in rows
            for seed in seeds
            for fraction in to.fractions
        ]

    def setup(self, stage: str) -> None:
        """Expand the specs and assign their ids, unless already done."""
        if self.rows is None and self.trainer is not None:
            method: Any = self.trainer.lightning_module
            self.rows = assign_ids(self.expand(method.expert_names), method.definition)

    def predict_dataloader(self) -> DataLoader[SampleSpec]:
        """Return the batches of this rank; a rank may have none.

        Rank 0 broadcasts `open_indices`, since the run directory may differ when other ranks read it.
        """
        specs = self.rows or []
        indices: Sequence[int] = range(len(specs)) if self.open_indices is None else self.open_indices
        rank, ranks = 0, 1
        if self.trainer is not None:
            rank, ranks = self.trainer.global_rank, self.trainer.world_size
            indices = self.trainer.strategy.broadcast(indices)
        of_rank = [specs[index] for index in indices[rank::ranks]]
        if self.by_pair:
            pairs: dict[str, list[SampleSpec]] = {}
            for spec in of_rank:
                pairs.setdefault(spec.pair, []).append(spec)
            return DataLoader(list(pairs.values()), batch_size=1, collate_fn=itemgetter(0))  # type: ignore[arg-type]
        size = self.largest
        if self.batch_size == "auto" and of_rank:  # equal batches: 18 samples as 9 + 9, not 16 + 2
            size = math.ceil(len(of_rank) / math.ceil(len(of_rank) / size))
        return DataLoader(of_rank, batch_size=size, collate_fn=list)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch unchanged, since specs hold no tensors."""
        return batch

    def _parse_row(
        self, row: Mapping[str, Any], source: str, experts: Sequence[str]
    ) -> tuple[SampleSpec, Seeds, Interpolation]:
        """Return the spec of a row with its first seed, all its seeds, and its transition."""
        prompts = dict(row)
        seeds = prompts.pop("seeds", None)
        if "seed" in prompts:
            seeds = [prompts.pop("seed")]
        own = {key: prompts.pop(key, default) for key, default in self.material.items()}
        settings = {key: prompts.pop(key, {}) for key in _ROW_SETTINGS}
        for key, values in settings.items():
            _check_names(values, experts, f"{source}: {key}")
        negative = {**self.negative_prompts, **settings["negative_prompts"]}
        scale = {**self.guidance_scale, **settings["guidance_scale"]}
        _check_names(prompts, experts, source, others=self.material)
        beside = find_file(self.prompts).parent if isinstance(self.prompts, str) else Path()
        files = {
            name: parse_media_prompt(value, beside=beside, source=f"{source}: {name}")
            for name, value in prompts.items()
            if isinstance(value, Mapping)
        }
        prompts |= {name: file.words for name, file in files.items()}
        for name in experts:
            if not isinstance(prompts.get(name), str):
                example = ", ".join(f"{expert}: ..." for expert in experts)
                raise UserError(
                    f"{source}: the prompt of expert {name} is {prompts.get(name)!r}; expected a row like {{{example}}}"
                )
            _check_text(prompts[name], f"{source}: the prompt of {name}")
            _check_text(str(negative.get(name) or ""), f"{source}: the negative prompt of {name}")
        numbers = _parse_seeds(self.seeds if seeds is None else seeds, source)
        spec = SampleSpec(
            prompts={name: prompts[name] for name in experts},
            negative_prompts={name: str(negative.get(name) or "") for name in experts},
            guidance_scale={n: _parse_scale(scale.get(n, DEFAULT_GUIDANCE_SCALE), n, source) for n in experts},
            seed=numbers[0],
            files=files,
            material=parse_material(own, beside=beside, source=source),
            source=source,
        )
        if own["interpolate"] is None:
            return spec, numbers, NO_INTERPOLATION
        return spec, numbers, _parse_interpolation(own["interpolate"], experts, source)


def _parse_interpolation(value: Any, experts: Sequence[str], source: str) -> Interpolation:
    to = parse_interpolation(value, experts, source)
    for name, text in to.prompts.items():
        _check_text(text, f"{source}: interpolate.to.{name}")
    return to


def with_material(spec: SampleSpec, own: Mapping[str, Any], source: str) -> SampleSpec:
    """Return the spec with other values of the keys `start`, `keep`, `control` and `interpolate`.

    Raises:
        UserError: a value is invalid, or the transition has several samples.
    """
    if not own:
        return spec
    material = parse_material(spec.material.row() | dict(own), beside=Path(), source=source)
    spec = replace(spec, material=material)
    if "interpolate" not in own:
        return spec
    to = _parse_interpolation(own["interpolate"], list(spec.prompts), source)
    if len(to.fractions) > 1:
        raise UserError(f"{source}: interpolate has several samples; expected a fraction, or use `generate`")
    return _interpolate(replace(spec, transition=None), to, to.fractions[0])


def _interpolate(spec: SampleSpec, to: Interpolation, fraction: float | None) -> SampleSpec:
    """Return the spec at a position of a transition, described from its nearer end. The ends are plain specs."""
    if fraction == 0:
        return spec
    end = replace(spec, prompts={**spec.prompts, **to.prompts}, seed=spec.seed if to.seed is None else to.seed)
    if fraction == 1:
        return end
    if fraction is not None and fraction > 0.5:
        spec, end, fraction = end, spec, 1 - fraction
    seed = None if to.seed is None else end.seed  # None, so that specs of other seeds have the same `pair`
    return replace(spec, transition=Transition(prompts=end.prompts, seed=seed, fraction=fraction))


def _apply_point(spec: SampleSpec, point: Mapping[str, Any]) -> SampleSpec:
    """Apply the settings of a sweep point."""
    by_expert: dict[str, dict[str, Any]] = {key: dict(getattr(spec, key)) for key in _ROW_SETTINGS}
    settings: dict[str, Any] = {}
    for key, value in point.items():
        setting, _, name = key.partition(".")
        if key in NUMBERS:
            spec = replace(spec, material=with_number(spec.material, key, value, f"{spec.source}: data.sweep"))
            continue
        if setting not in _ROW_SETTINGS:
            settings[key] = value
            continue
        for expert in [name] if name else by_expert[setting]:
            is_scale = setting == "guidance_scale"
            by_expert[setting][expert] = _parse_scale(value, expert, f"data.sweep: {key}") if is_scale else str(value)
    return replace(spec, settings=settings, **by_expert)  # type: ignore[arg-type]  # mypy does not infer the keys


def _read_rows(prompts: str | list[dict[str, Any]] | dict[str, list[Any]]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield the source and content of each row."""
    origin, content = "data.prompts", prompts
    if isinstance(content, str):
        origin, content = content, read_prompts(find_file(content))
    if isinstance(content, Mapping):
        lists = {name: value if isinstance(value, list) else [value] for name, value in content.items()}
        _check_count(math.prod(map(len, lists.values())), f"all combinations of the prompts in {origin}")
        content = [dict(zip(lists, combination, strict=True)) for combination in itertools.product(*lists.values())]
    if not isinstance(content, list) or not content:
        raise UserError(f"{origin}: expected a list of rows like {{visual: ..., audio: ...}}, got {content!r:.80}")
    for number, row in enumerate(content, start=1):
        source = f"{origin}, row {number}"
        if not isinstance(row, Mapping):
            raise UserError(f"{source}: expected a row like {{visual: ..., audio: ...}}, got {row!r:.80}")
        yield source, row


def _check_names(values: Any, experts: Sequence[str], source: str, *, others: Iterable[str] = ()) -> None:
    known = ", ".join(experts)
    if not isinstance(values, Mapping):
        raise UserError(f"{source}: expected a value for each expert ({known}), got {values!r:.80}")
    for name in values:
        if name not in experts:
            hint = nearest(str(name), [*experts, *others])
            raise UserError(f"{source}: unknown expert {name}; expected {known}.{hint}")


def _check_text(text: str, what: str) -> None:
    if len(text) > LONGEST_PROMPT:
        raise UserError(f"{what} has {len(text):,} characters; expected at most {LONGEST_PROMPT:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} can't be encoded as UTF-8: {error}") from None


def _check_count(count: int, what: str) -> None:
    if count > MOST_SAMPLES:
        raise UserError(f"{what} make {count:,} samples; expected at most {MOST_SAMPLES:,} in one run")


def _parse_seeds(seeds: Any, source: str) -> Seeds:
    if isinstance(seeds, str | int):  # a CSV cell, or a single seed
        seeds = str(seeds).split()
    try:
        if isinstance(seeds, Mapping) and seeds.keys() == {"start", "count"}:
            seeds = SeedRange(start=int(seeds["start"]), count=int(seeds["count"]))
        if isinstance(seeds, SeedRange):
            _check_count(seeds.count, f"{source}: the seeds")
            numbers: Seeds = range(seeds.start, seeds.start + seeds.count)
        else:
            numbers = [int(str(seed)) for seed in seeds]
    except (TypeError, ValueError):
        raise UserError(f"{source}: seeds are {seeds!r:.80}; expected [1, 2, 3] or {{start: 0, count: 100}}") from None
    if not numbers:
        raise UserError(f"{source}: seeds are empty; expected at least one")
    for seed in (min(numbers), max(numbers)):
        if not 0 <= seed < 2**63:
            raise UserError(f"{source}: seed {seed:.3g} is out of range; expected 0 to 2^63 - 1")
    return numbers


def _parse_scale(value: Any, expert: str, source: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{source}: guidance_scale of {expert} is {value!r}; expected a number")
    return number
